//! The rules and facts at work, and how a shard hears of new ones.
//!
//! Whoever reloads publishes them whole; each shard looks once a turn, between two polls, and
//! takes them for the next event on. Nothing waits for anything.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::enrich::Facts;
use crate::record::Provenance;
use crate::rules::RuleSet;

/// What shards decide by, and what their records say of it.
#[derive(Debug)]
pub struct Knowledge {
    pub rules: Arc<RuleSet>,
    pub facts: Arc<Facts>,
    pub provenance: Provenance,
}

/// The newest [`Knowledge`]. Clones share it.
#[derive(Clone, Debug)]
pub struct Latest {
    // Written a few times a day and read once a turn by every shard: a lock would be waited
    // for, a channel each would have to be kept.
    shared: Arc<ArcSwap<Knowledge>>,
}

impl Latest {
    pub fn new(knowledge: Knowledge) -> Latest {
        Latest {
            shared: Arc::new(ArcSwap::from_pointee(knowledge)),
        }
    }

    pub fn get(&self) -> Arc<Knowledge> {
        self.shared.load_full()
    }

    /// What is newer than `held`, where something is.
    pub fn newer_than(&self, held: &Arc<Knowledge>) -> Option<Arc<Knowledge>> {
        let latest = self.shared.load();
        (!Arc::ptr_eq(&latest, held)).then(|| Arc::clone(&latest))
    }

    /// Makes `knowledge` the latest; what was so far is handed back.
    pub fn publish(&self, knowledge: Knowledge) -> Arc<Knowledge> {
        self.shared.swap(Arc::new(knowledge))
    }
}
