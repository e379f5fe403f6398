//! Rules, lists and databases that a command's arguments name. A service that runs goes on
//! without a broken database; a command that was given one says so and ends.

use std::path::Path;
use std::sync::Arc;

use super::Status;
use crate::config::GeoIp;
use crate::document::{Diagnostics, SourceFile};
use crate::facts::{self, Folder, Loaded};
use crate::rules::RuleSet;

/// What a command read, before it makes something of the rules.
pub struct Sources {
    pub folder: Folder,
    /// The rules' files, and that of the exceptions.
    pub files: Vec<Arc<SourceFile>>,
    pub loaded: Loaded,
    /// What is wrong so far.
    pub found: Diagnostics,
}

/// Files and lists of `rules_dir`, or the built-in ones, and the databases of `geoip`.
///
/// # Errors
/// With status 2: mistakes in lists, together with files that cannot be read, and a database
/// that was named and cannot be used.
pub fn sources(rules_dir: Option<&Path>, geoip: &GeoIp) -> anyhow::Result<Sources> {
    let mut found = Diagnostics::default();
    let folder = Folder(rules_dir.map(Path::to_owned));
    let files = folder.rule_files(&mut found);
    let loaded = facts::load(geoip, rules_dir).map_err(|wrong| {
        found.found.extend(wrong.found);
        super::refused(&found)
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
    Ok(Sources {
        folder,
        files,
        loaded,
        found,
    })
}

impl Sources {
    /// The rules, with the lists that were loaded.
    ///
    /// # Errors
    /// With status 2: every mistake.
    pub fn rules(&mut self) -> anyhow::Result<RuleSet> {
        let rules = RuleSet::load(&self.files, &self.loaded.facts.lists, &mut self.found);
        rules
            .filter(|_| !self.found.has_errors())
            .ok_or_else(|| super::refused(&self.found))
    }
}
