//! Loads what the core may ask about addresses: the country database and the lists.
//!
//! A database or list that cannot be used stops nothing (the rules that need it do not
//! fire); it is a problem that `check` prints, logs and readiness name. A mistake in
//! `lists.yaml` itself is the operator's to mend before anything starts.

pub mod lists;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::admin::Readiness;
use crate::builtin;
use crate::config::GeoIp;
use crate::document::{self, Diagnostics, Kind, SourceFile};
use crate::enrich::Facts;
use crate::enrich::asn::AsnDb;
use crate::enrich::geoip::GeoDb;
use crate::enrich::iplist::parse;
use crate::event::{DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, Timestamp};
use crate::metrics::Metrics;
use crate::record::Provenance;
use crate::rules::exceptions;

/// A larger file is no list and no database.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// Facts, and what became of each file on the way.
#[derive(Debug)]
pub struct Loaded {
    pub facts: Facts,
    /// What could not be used: errors that do not keep doorward from starting.
    pub problems: Diagnostics,
    /// Component and reason, for readiness.
    pub unready: Vec<(String, String)>,
    /// Component and what is worth saying of it, though it works.
    pub notes: Vec<(String, String)>,
    /// The files that were read, or should have been.
    pub files: Vec<PathBuf>,
    pub ages: Vec<Age>,
    /// What tells its contents from others, part by part.
    parts: Vec<String>,
    /// What was loaded, one line each, for people.
    pub summary: Vec<String>,
}

/// Loads the database that `geoip` names, or the built-in one, and the lists of
/// `rules_dir`, or the built-in ones.
///
/// # Errors
/// Every mistake in `lists.yaml`.
pub fn load(geoip: &GeoIp, rules_dir: Option<&Path>) -> Result<Loaded, Diagnostics> {
    load_after(geoip, rules_dir, None)
}

/// The same where `before` is at work: a database or list that cannot be used keeps what it
/// had, and a database that is replaced becomes the previous one, unless `geoip` names that.
///
/// # Errors
/// Every mistake in `lists.yaml`.
pub fn load_after(
    geoip: &GeoIp,
    rules_dir: Option<&Path>,
    before: Option<&Facts>,
) -> Result<Loaded, Diagnostics> {
    let mut loaded = Loaded {
        facts: Facts::default(),
        problems: Diagnostics::default(),
        unready: Vec::new(),
        notes: Vec::new(),
        files: Vec::new(),
        ages: Vec::new(),
        parts: Vec::new(),
        summary: Vec::new(),
    };
    let held = before.and_then(|facts| facts.geo.as_ref());
    let held_previous = before.and_then(|facts| facts.previous_geo.as_ref());
    loaded.facts.geo = match &geoip.database {
        Some(path) => open_database(path, "geoip.database", held, &mut loaded),
        None => match held {
            Some(held) => Some(Arc::clone(held)),
            None => open_builtin(&mut loaded),
        },
    };
    loaded.facts.previous_geo = match (&geoip.previous, &loaded.facts.geo, held) {
        (Some(path), _, _) => open_database(path, "geoip.previous", held_previous, &mut loaded),
        (None, Some(new), Some(held)) if !Arc::ptr_eq(new, held) => Some(Arc::clone(held)),
        (None, _, _) => held_previous.cloned(),
    };
    if let Some(path) = &geoip.asn_database {
        let held = before.and_then(|facts| facts.asn.as_ref());
        loaded.facts.asn = open_asn(path, held, &mut loaded);
    }
    let folder = Folder(rules_dir.map(Path::to_owned));
    loaded.facts.lists = lists::load(&folder, before.map(|facts| &facts.lists), &mut loaded)?;
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
        for (component, text) in &self.notes {
            readiness.note(component, text);
        }
        for age in &self.ages {
            age.report(metrics, readiness, now);
        }
    }

    /// Takes `part` into [`Self::digest`]: what is loaded with the facts and is none.
    pub fn count_in(&mut self, part: String) {
        self.parts.push(part);
    }

    /// The same for the same contents.
    pub fn digest(&self) -> String {
        let parts: Vec<&[u8]> = self.parts.iter().map(|part| part.as_bytes()).collect();
        parse::hash(&parts)
    }
}

/// When a list was made, and how old it may become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Age {
    pub list: String,
    /// The date that its files tell, else that of the oldest of them.
    pub made: Timestamp,
    pub max_age_ms: Option<i64>,
}

impl Age {
    /// Tells operations how old the list is at `now`.
    pub fn report(&self, metrics: &Metrics, readiness: &Readiness, now: Timestamp) {
        let name = [self.list.as_str()];
        let made = self.made.0 / SECOND_MS;
        let gauge = metrics.list_made_timestamp_seconds.with_label_values(&name);
        gauge.set(made);
        let is_stale = self.is_stale(now);
        let gauge = metrics.list_stale.with_label_values(&name);
        gauge.set(i64::from(is_stale));
        let component = format!("age of list {}", self.list);
        match is_stale {
            true => readiness.note(&component, self.complaint(now)),
            false => readiness.clear_note(&component),
        }
    }

    pub fn is_stale(&self, now: Timestamp) -> bool {
        self.max_age_ms
            .is_some_and(|max| now.since_ms(self.made) > max)
    }

    /// What is wrong with it where [`Self::is_stale`].
    pub fn complaint(&self, now: Timestamp) -> String {
        format!(
            "it was made {}, {} ago, and its max_age is {}; it stays at work",
            rfc3339(Timestamp(self.made.0 / SECOND_MS * SECOND_MS)),
            rough(now.since_ms(self.made)),
            rough(self.max_age_ms.unwrap_or(0)),
        )
    }
}

/// A length of time as people say it, in whole units.
fn rough(ms: i64) -> String {
    const UNITS: [(i64, &str); 3] = [(DAY_MS, "d"), (HOUR_MS, "h"), (MINUTE_MS, "m")];
    UNITS.iter().find(|(unit, _)| ms >= *unit).map_or_else(
        || format!("{}s", ms / SECOND_MS),
        |(unit, name)| format!("{}{name}", ms / unit),
    )
}

/// RFC 3339 in whole seconds, as a database's build date is given.
fn rfc3339(time: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(time.0).map_or_else(|_| time.to_string(), |t| t.to_string())
}

fn open_builtin(loaded: &mut Loaded) -> Option<Arc<GeoDb>> {
    match builtin::geoip() {
        Ok(geo) => {
            let built = rfc3339(geo.built());
            loaded
                .summary
                .push(format!("built-in country database, built {built}"));
            Some(Arc::new(geo))
        }
        Err(error) => {
            let file = SourceFile::new("the built-in country database", "");
            refuse_database(
                &file,
                "geoip.database",
                error.to_string(),
                None,
                None,
                loaded,
            )
        }
    }
}

/// The database at `path`; where it cannot be used, the one that is `held`.
fn open_database(
    path: &Path,
    setting: &str,
    held: Option<&Arc<GeoDb>>,
    loaded: &mut Loaded,
) -> Option<Arc<GeoDb>> {
    let file = SourceFile::new(path.display().to_string(), "");
    loaded.files.push(path.to_owned());
    let bytes = match read_file(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            let help = format!("put a database there, or leave the setting `{setting}` out");
            let message = format!("cannot be read: {error}");
            return refuse_database(&file, setting, message, Some(help), held, loaded);
        }
    };
    let digest = parse::hash(&[&bytes]);
    loaded.parts.push(digest.clone());
    let opened = match held {
        Some(held) if held.digest() == Some(&digest) => Ok(Arc::clone(held)),
        _ => GeoDb::open(bytes).map(|geo| Arc::new(geo.identified_by(digest))),
    };
    match opened {
        Ok(geo) => {
            let (kind, built) = (geo.kind(), rfc3339(geo.built()));
            loaded
                .summary
                .push(format!("country database {kind}, built {built}"));
            Some(geo)
        }
        Err(error) => {
            let help = "download it again; its size should be that of the original".to_owned();
            refuse_database(&file, setting, error.to_string(), Some(help), held, loaded)
        }
    }
}

/// Where it cannot be used, the one that is `held` stays.
fn open_asn(path: &Path, held: Option<&Arc<AsnDb>>, loaded: &mut Loaded) -> Option<Arc<AsnDb>> {
    loaded.files.push(path.to_owned());
    let opened = read_file(path)
        .map_err(|error| format!("cannot be read: {error}"))
        .and_then(|bytes| {
            let digest = parse::hash(&[&bytes]);
            loaded.parts.push(digest.clone());
            match held {
                Some(held) if held.digest() == Some(&digest) => Ok(Arc::clone(held)),
                _ => AsnDb::open(bytes)
                    .map(|asn| Arc::new(asn.identified_by(digest)))
                    .map_err(|error| error.to_string()),
            }
        });
    match opened {
        Ok(asn) => {
            let (kind, built) = (asn.kind(), rfc3339(asn.built()));
            let line = format!("database of network numbers {kind}, built {built}");
            loaded.summary.push(line);
            Some(asn)
        }
        Err(message) => {
            let file = SourceFile::new(path.display().to_string(), "");
            let said = format!("{}: {message}", file.name);
            let setting = "geoip.asn_database".to_owned();
            match held {
                Some(held) => loaded.notes.push((
                    setting,
                    format!(
                        "{said}; the database built {} stays at work",
                        rfc3339(held.built())
                    ),
                )),
                None => loaded
                    .unready
                    .push((setting, format!("{said}; rules on `asn` do not fire"))),
            }
            let help = "put a database there, or leave the setting `geoip.asn_database` out";
            let help = Some(help.to_owned());
            loaded.problems.error(&file, 0..0, message, help);
            held.cloned()
        }
    }
}

/// Says that a database cannot be used, and hands back the one that is used in its place.
fn refuse_database(
    file: &Arc<SourceFile>,
    setting: &str,
    message: String,
    help: Option<String>,
    held: Option<&Arc<GeoDb>>,
    loaded: &mut Loaded,
) -> Option<Arc<GeoDb>> {
    let said = format!("{}: {message}", file.name);
    match held {
        Some(held) => loaded.notes.push((
            setting.to_owned(),
            format!(
                "{said}; the database built {} stays at work",
                rfc3339(held.built())
            ),
        )),
        None => loaded.unready.push((
            setting.to_owned(),
            format!("{said}; rules on countries do not fire"),
        )),
    }
    loaded.problems.error(file, 0..0, message, help);
    held.cloned()
}

/// The bytes of a file, which must be one: what waits for a writer would wait for ever.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let found = std::fs::metadata(path)?;
    if !found.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    if found.len() > MAX_FILE_BYTES {
        return Err(io::Error::other("it is larger than 1 GiB"));
    }
    std::fs::read(path)
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

    /// Where the file `relative` in it is, if it is on disk.
    pub fn path(&self, relative: &str) -> Option<PathBuf> {
        self.0.as_ref().map(|folder| folder.join(relative))
    }

    /// When the file `relative` in it was written, if the system tells.
    pub fn written(&self, relative: &str) -> Option<Timestamp> {
        let written = std::fs::metadata(self.path(relative)?)
            .ok()?
            .modified()
            .ok()?;
        let since = written.duration_since(std::time::UNIX_EPOCH).ok()?;
        i64::try_from(since.as_millis()).ok().map(Timestamp)
    }

    /// The bytes of the file `relative` in it.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn read(&self, relative: &str) -> io::Result<Vec<u8>> {
        match &self.0 {
            Some(folder) => read_file(&folder.join(relative)),
            None => builtin::rules_file(relative)
                .map(|text| text.as_bytes().to_vec())
                .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound)),
        }
    }

    /// Its rule files, `*.rule.yaml`, in order of name, and `exceptions.yaml` where there is
    /// one. A file that cannot be read is an error in `found`; so is a folder without rules.
    pub fn rule_files(&self, found: &mut Diagnostics) -> Vec<Arc<SourceFile>> {
        let names = match self.names(".rule.yaml") {
            Ok(names) => names,
            Err(error) => {
                let file = SourceFile::new(self.name(""), "");
                found.mistake(
                    Kind::Unreadable,
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
            found.mistake(
                Kind::NoRules,
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

    /// Its files of tests, `*.test.yaml`, in order of name. A file that cannot be read is an
    /// error in `found`.
    pub fn test_files(&self, found: &mut Diagnostics) -> Vec<Arc<SourceFile>> {
        // A folder that cannot be read was said when its rules were looked for.
        let names = self.names(".test.yaml").unwrap_or_default();
        names
            .iter()
            .filter_map(|name| read_text(self, name, found))
            .collect()
    }

    /// Names of its files that end in `ending`, in order.
    fn names(&self, ending: &str) -> io::Result<Vec<String>> {
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
        names.retain(|name: &String| name.ends_with(ending));
        names.sort();
        Ok(names)
    }
}

/// The text file `relative`; `None`, and an error in `found`, where it cannot be read.
fn read_text(folder: &Folder, relative: &str, found: &mut Diagnostics) -> Option<Arc<SourceFile>> {
    let name = folder.name(relative);
    match folder.read(relative) {
        Ok(bytes) => document::read_text(name, bytes, found),
        Err(error) => {
            let file = SourceFile::new(name, "");
            let message = format!("cannot be read: {error}");
            found.mistake(Kind::Unreadable, &file, 0..0, message, None);
            None
        }
    }
}
