//! Lists of addresses and networks that rules ask about by name (`lists.yaml`).
//!
//! Owns their contents and knows which of them could not be loaded: a rule that needs a
//! missing list does not apply, in either sense of its test. Reading files is the shell's;
//! [`parse`] reads their text.

pub mod parse;

use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashSet;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixSet;

use crate::event::canonical_ip;

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
            let mut addresses = IpSet::default();
            for entry in *entries {
                addresses.insert(parse::network(entry).map_err(|why| format!("{entry}: {why}"))?);
            }
            let text: String = entries.iter().flat_map(|entry| [entry, "\n"]).collect();
            Ok(List {
                name: (*name).to_owned(),
                content: Some(Arc::new(Content {
                    addresses,
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

/// Addresses and networks. Single addresses, most of any feed, are one hash away; networks
/// stand in a trie for each family.
#[derive(Debug, Default)]
pub struct IpSet {
    single: HashSet<IpAddr>,
    v4: PrefixSet<Ipv4Net>,
    v6: PrefixSet<Ipv6Net>,
}

impl IpSet {
    /// Host bits beyond the prefix are ignored.
    pub fn insert(&mut self, network: IpNet) {
        match network {
            net if net.prefix_len() == net.max_prefix_len() => {
                self.single.insert(net.addr());
            }
            IpNet::V4(net) => {
                self.v4.insert(net.trunc());
            }
            IpNet::V6(net) => {
                self.v6.insert(net.trunc());
            }
        }
    }

    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = canonical_ip(ip);
        self.single.contains(&ip)
            || match ip {
                IpAddr::V4(v4) => self.v4.get_lpm(&Ipv4Net::from(v4)).is_some(),
                IpAddr::V6(v6) => self.v6.get_lpm(&Ipv6Net::from(v6)).is_some(),
            }
    }

    /// Everything in `other` too.
    pub fn extend(&mut self, other: IpSet) {
        self.single.extend(other.single);
        for net in other.v4 {
            self.v4.insert(net);
        }
        for net in other.v6 {
            self.v6.insert(net);
        }
    }

    /// Distinct addresses and networks.
    pub fn len(&self) -> usize {
        self.single.len() + self.v4.len() + self.v6.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
