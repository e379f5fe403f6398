//! Rules, lists and databases that a command's arguments name. A service that runs goes on
//! without a broken database; a command that was given one says so and ends.

use std::path::Path;
use std::sync::Arc;

use super::Status;
use crate::config::GeoIp;
use crate::document::{Diagnostics, SourceFile};
use crate::facts::{self, Loaded};
use crate::rules::RuleSet;

/// Lists of `rules_dir`, or the built-in ones, and the databases of `geoip`.
///
/// # Errors
/// With status 2: mistakes in lists, together with those in `found`, and a database that was
/// named and cannot be used.
pub fn facts(
    rules_dir: Option<&Path>,
    geoip: &GeoIp,
    found: &mut Diagnostics,
) -> anyhow::Result<Loaded> {
    let loaded = facts::load(geoip, rules_dir).map_err(|wrong| {
        found.found.extend(wrong.found);
        super::refused(found)
    })?;
    for (path, opened) in [
        (&geoip.database, &loaded.facts.geo),
        (&geoip.previous, &loaded.facts.previous_geo),
    ] {
        if let (Some(path), None) = (path, opened) {
            let why = loaded.problems.found.first();
            return Err(Status::Usage.error(anyhow::anyhow!(
                "the country database {} cannot be used: {}",
                path.display(),
                why.map_or("unreadable", |problem| &problem.message)
            )));
        }
    }
    Ok(loaded)
}

/// The rules in `files`, with the lists that were loaded.
///
/// # Errors
/// With status 2: every mistake, those in `found` too.
pub fn rules(
    files: &[Arc<SourceFile>],
    loaded: &Loaded,
    found: &mut Diagnostics,
) -> anyhow::Result<RuleSet> {
    let rules = RuleSet::load(files, &loaded.facts.lists, found);
    rules
        .filter(|_| !found.has_errors())
        .ok_or_else(|| super::refused(found))
}
