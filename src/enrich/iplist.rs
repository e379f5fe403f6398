//! Lists of addresses and networks that rules ask about by name (`lists.yaml`).
//!
//! Owns their contents and knows which of them could not be loaded: a rule that needs a
//! missing list does not apply, in either sense of its test. Reading files is the shell's;
//! [`parse`] reads their text.

pub mod parse;
pub mod ranges;

use std::net::IpAddr;
use std::sync::Arc;

use ranges::{Builder, IpSet};

/// Index of a list in [`Lists`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListId(pub u16);

/// All lists, by name.
#[derive(Debug, Default)]
pub struct Lists {
    lists: Vec<List>,
}

/// One named list.
#[derive(Debug)]
pub struct List {
    pub name: String,
    /// `None`: it could not be loaded.
    pub content: Option<Arc<Content>>,
}

/// What a loaded list holds.
#[derive(Debug)]
pub struct Content {
    pub addresses: IpSet,
    /// `sha256:` and the hash of its files, one after the other.
    pub hash: String,
}

impl Lists {
    pub fn new(lists: Vec<List>) -> Lists {
        Lists { lists }
    }

    /// Lists made of entries such as `198.51.100.7` and `2001:db8::/32`, for tests and
    /// programs that have them at hand. Their hashes are those of the entries, a line each.
    ///
    /// # Errors
    /// The first entry that is neither an address nor a network.
    pub fn from_entries(lists: &[(&str, &[&str])]) -> Result<Lists, String> {
        let list = |(name, entries): &(&str, &[&str])| {
            let mut addresses = Builder::default();
            for entry in *entries {
                addresses.insert(parse::span_of(entry).map_err(|why| format!("{entry}: {why}"))?);
            }
            let text: String = entries.iter().flat_map(|entry| [entry, "\n"]).collect();
            Ok(List {
                name: (*name).to_owned(),
                content: Some(Arc::new(Content {
                    addresses: addresses.build(),
                    hash: parse::hash(&[text.as_bytes()]),
                })),
            })
        };
        Ok(Lists::new(
            lists.iter().map(list).collect::<Result<_, String>>()?,
        ))
    }

    /// The list called `name`, loaded or not.
    pub fn id(&self, name: &str) -> Option<ListId> {
        let at = self.lists.iter().position(|list| list.name == name)?;
        u16::try_from(at).ok().map(ListId)
    }

    /// What the list called `name` holds.
    pub fn content_of(&self, name: &str) -> Option<&Arc<Content>> {
        let list = self.lists.iter().find(|list| list.name == name)?;
        list.content.as_ref()
    }

    /// Every list, in the order of `lists.yaml`.
    pub fn iter(&self) -> impl Iterator<Item = &List> {
        self.lists.iter()
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.lists.iter().map(|list| list.name.as_str())
    }

    /// Whether the list could be loaded. Where it could not, a test on it means nothing,
    /// `not_in_list` included.
    pub fn is_available(&self, list: ListId) -> bool {
        self.content(list).is_some()
    }

    /// Whether `ip` stands in the list, by itself or in a network; false where the list
    /// could not be loaded.
    pub fn contains(&self, list: ListId, ip: IpAddr) -> bool {
        self.content(list)
            .is_some_and(|content| content.addresses.contains(ip))
    }

    fn content(&self, list: ListId) -> Option<&Content> {
        self.lists.get(usize::from(list.0))?.content.as_deref()
    }
}
