//! Rules that a security team writes, compiled into an immutable, hashed set.

use std::sync::Arc;

use crate::document::{Diagnostics, SourceFile};
use crate::enrich::iplist::Lists;

/// What a rule's decisions do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    Enforce,
    Shadow,
    Off,
}

impl Mode {
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Enforce => "enforce",
            Mode::Shadow => "shadow",
            Mode::Off => "off",
        }
    }
}

/// All rules of one folder: immutable, and named by the hash of what they mean.
#[derive(Debug, Default)]
pub struct RuleSet {
    hash: String,
}

impl RuleSet {
    /// Reads and compiles rule files. Every mistake of every file goes to `found`; the set
    /// is `None` where one of them is an error.
    pub fn load(
        files: &[Arc<SourceFile>],
        lists: &Lists,
        found: &mut Diagnostics,
    ) -> Option<RuleSet> {
        let _ = (files, lists, found);
        None
    }

    /// `sha256:` and the hash.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Ids and titles, in order.
    pub fn rules(&self) -> impl Iterator<Item = RuleInfo<'_>> {
        std::iter::empty()
    }

    /// The decoder that extracts what these rules look at.
    pub fn decoder(&self) -> crate::event::decode::Decoder {
        crate::event::decode::Decoder::default()
    }
}

/// A rule, as people name it.
#[derive(Clone, Copy, Debug)]
pub struct RuleInfo<'a> {
    pub id: &'a str,
    pub title: &'a str,
    pub mode: Mode,
}
