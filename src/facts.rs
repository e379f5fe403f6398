//! Loads what the core may ask about addresses: the country database and the lists.
//!
//! A database or list that cannot be used stops nothing (the rules that need it do not
//! fire); it is a problem that `check` prints, logs and readiness name. A mistake in
//! `lists.yaml` itself is the operator's to mend before anything starts.

mod lists;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::admin::Readiness;
use crate::builtin;
use crate::config::GeoIp;
use crate::document::{Diagnostics, SourceFile};
use crate::enrich::Facts;
use crate::enrich::geoip::GeoDb;
use crate::event::{SECOND_MS, Timestamp};
use crate::metrics::Metrics;
use crate::record::Provenance;
use crate::rules::exceptions;

/// Facts, and what became of each file on the way.
#[derive(Debug)]
pub struct Loaded {
    pub facts: Facts,
    /// What could not be used: errors that do not keep doorward from starting.
    pub problems: Diagnostics,
    /// Component and reason, for readiness.
    pub unready: Vec<(String, String)>,
    /// What was loaded, one line each, for people.
    pub summary: Vec<String>,
}

/// Loads the database that `geoip` names, or the built-in one, and the lists of
/// `rules_dir`, or the built-in ones.
///
/// # Errors
/// Every mistake in `lists.yaml`.
pub fn load(geoip: &GeoIp, rules_dir: Option<&Path>) -> Result<Loaded, Diagnostics> {
    let mut loaded = Loaded {
        facts: Facts::default(),
        problems: Diagnostics::default(),
        unready: Vec::new(),
        summary: Vec::new(),
    };
    loaded.facts.geo = match &geoip.database {
        Some(path) => open_database(path, "geoip.database", &mut loaded),
        None => open_builtin(&mut loaded),
    };
    if let Some(path) = &geoip.previous {
        loaded.facts.previous_geo = open_database(path, "geoip.previous", &mut loaded);
    }
    let folder = Folder(rules_dir.map(Path::to_owned));
    loaded.facts.lists = lists::load(&folder, &mut loaded)?;
    Ok(loaded)
}

impl Loaded {
    /// What every record says about where its facts came from. `rule_set` is the hash of
    /// the rules at work.
    pub fn provenance(&self, topic: &str, rule_set: &str) -> Provenance {
        let loaded = self.facts.lists.iter();
        let lists: BTreeMap<String, String> = loaded
            .filter_map(|list| Some((list.name.clone(), list.content.as_ref()?.hash.clone())))
            .collect();
        Provenance {
            topic: topic.to_owned(),
            rule_set: rule_set.to_owned(),
            geoip: self.facts.geo.as_ref().map(|geo| rfc3339(geo.built())),
            lists,
        }
    }

    /// Tells operations: metrics and readiness. `now` is when the files were loaded.
    pub fn report(&self, metrics: &Metrics, readiness: &Readiness, now: Timestamp) {
        let built = self.facts.geo.as_ref().map_or(0, |geo| geo.built().0);
        metrics.geoip_build_timestamp_seconds.set(built / SECOND_MS);
        for list in self.facts.lists.iter() {
            let name = [list.name.as_str()];
            let entries = list.content.as_ref().map_or(0, |c| c.addresses.len());
            metrics
                .list_entries
                .with_label_values(&name)
                .set(i64::try_from(entries).unwrap_or(i64::MAX));
            if list.content.is_some() {
                metrics
                    .list_loaded_timestamp_seconds
                    .with_label_values(&name)
                    .set(now.0 / SECOND_MS);
            }
        }
        for (component, reason) in &self.unready {
            readiness.set(component, reason);
        }
    }
}

/// RFC 3339 in whole seconds, as a database's build date is given.
fn rfc3339(time: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(time.0).map_or_else(|_| time.to_string(), |t| t.to_string())
}

fn open_builtin(loaded: &mut Loaded) -> Option<GeoDb> {
    match builtin::geoip() {
        Ok(geo) => {
            let built = rfc3339(geo.built());
            loaded
                .summary
                .push(format!("built-in country database, built {built}"));
            Some(geo)
        }
        Err(error) => {
            let file = SourceFile::new("the built-in country database", "");
            refuse_database(&file, "geoip.database", error.to_string(), None, loaded);
            None
        }
    }
}

fn open_database(path: &Path, setting: &str, loaded: &mut Loaded) -> Option<GeoDb> {
    let file = SourceFile::new(path.display().to_string(), "");
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            let help = format!("put a database there, or leave the setting `{setting}` out");
            let message = format!("cannot be read: {error}");
            refuse_database(&file, setting, message, Some(help), loaded);
            return None;
        }
    };
    match GeoDb::open(bytes) {
        Ok(geo) => {
            let (kind, built) = (geo.kind(), rfc3339(geo.built()));
            loaded
                .summary
                .push(format!("country database {kind}, built {built}"));
            Some(geo)
        }
        Err(error) => {
            let help = "download it again; its size should be that of the original".to_owned();
            refuse_database(&file, setting, error.to_string(), Some(help), loaded);
            None
        }
    }
}

fn refuse_database(
    file: &std::sync::Arc<SourceFile>,
    setting: &str,
    message: String,
    help: Option<String>,
    loaded: &mut Loaded,
) {
    loaded.unready.push((
        setting.to_owned(),
        format!("{}: {message}; rules on countries do not fire", file.name),
    ));
    loaded.problems.error(file, 0..0, message, help);
}

/// The folder of rules: on disk, or the built-in copy.
#[derive(Debug)]
pub struct Folder(pub Option<PathBuf>);

impl Folder {
    /// What messages call the file `relative` in it.
    pub fn name(&self, relative: &str) -> String {
        match &self.0 {
            Some(folder) => folder.join(relative).display().to_string(),
            None => format!("built-in rules/{relative}"),
        }
    }

    /// The bytes of the file `relative` in it.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn read(&self, relative: &str) -> io::Result<Vec<u8>> {
        match &self.0 {
            Some(folder) => std::fs::read(folder.join(relative)),
            None => builtin::rules_file(relative)
                .map(|text| text.as_bytes().to_vec())
                .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound)),
        }
    }

    /// Its rule files, `*.rule.yaml`, in order of name, and `exceptions.yaml` where there is
    /// one. A file that cannot be read is an error in `found`; so is a folder without rules.
    pub fn rule_files(&self, found: &mut Diagnostics) -> Vec<std::sync::Arc<SourceFile>> {
        let names = match self.rule_names() {
            Ok(names) => names,
            Err(error) => {
                let file = SourceFile::new(self.name(""), "");
                found.error(
                    &file,
                    0..0,
                    format!("the folder of rules cannot be read: {error}"),
                    None,
                );
                return Vec::new();
            }
        };
        if names.is_empty() {
            let file = SourceFile::new(self.name(""), "");
            found.error(
                &file,
                0..0,
                "this folder holds no rule",
                Some("rules stand in files whose names end in `.rule.yaml`".into()),
            );
        }
        let exceptions = self.holds(exceptions::FILE).then_some(exceptions::FILE);
        let names = names.iter().map(String::as_str);
        names
            .chain(exceptions)
            .filter_map(|name| read_text(self, name, found))
            .collect()
    }

    /// Whether there is a file `relative` in it, be it readable or not.
    fn holds(&self, relative: &str) -> bool {
        match &self.0 {
            Some(folder) => folder.join(relative).symlink_metadata().is_ok(),
            None => builtin::rules_file(relative).is_some(),
        }
    }

    fn rule_names(&self) -> io::Result<Vec<String>> {
        let mut names = match &self.0 {
            None => builtin::rules_file_names().map(str::to_owned).collect(),
            Some(folder) => {
                let mut names = Vec::new();
                for entry in std::fs::read_dir(folder)? {
                    names.extend(entry?.file_name().into_string().ok());
                }
                names
            }
        };
        names.retain(|name: &String| name.ends_with(".rule.yaml"));
        names.sort();
        Ok(names)
    }
}

/// The text file `relative`; `None`, and an error in `found`, where it cannot be read.
fn read_text(
    folder: &Folder,
    relative: &str,
    found: &mut Diagnostics,
) -> Option<std::sync::Arc<SourceFile>> {
    let name = folder.name(relative);
    let text = folder.read(relative).and_then(|bytes| {
        String::from_utf8(bytes)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text"))
    });
    match text {
        Ok(text) => Some(SourceFile::new(name, text)),
        Err(error) => {
            let file = SourceFile::new(name, "");
            found.error(&file, 0..0, format!("cannot be read: {error}"), None);
            None
        }
    }
}
