//! Reads rules and facts, at the start and at each reload.

use crate::document::Diagnostics;
use crate::facts::{self, Folder, Loaded};
use crate::rules::RuleSet;
use crate::shard::latest::Knowledge;

use super::Sources;

/// Rules and facts that were read and fit together.
#[derive(Debug)]
pub struct Candidate {
    pub rules: RuleSet,
    pub loaded: Loaded,
}

/// Reads everything that `sources` names. Where `before` is at work, a list or database that
/// cannot be used keeps what it had. Every mistake goes to `found`; with an error among them
/// there may be a candidate all the same, which must not be used.
pub fn candidate(
    sources: &Sources,
    before: Option<&Knowledge>,
    found: &mut Diagnostics,
) -> Option<Candidate> {
    let dir = sources.rules_dir.as_deref();
    let files = Folder(sources.rules_dir.clone()).rule_files(found);
    let before = before.map(|known| &*known.facts);
    let loaded = match facts::load_after(&sources.geoip, dir, before) {
        Ok(loaded) => loaded,
        Err(mistakes) => {
            found.found.extend(mistakes.found);
            return None;
        }
    };
    let rules = RuleSet::load(&files, &loaded.facts.lists, found)?;
    Some(Candidate { rules, loaded })
}
