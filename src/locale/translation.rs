//! A site's own translations: one file a language, with the keys of `templates/locale/en.toml`.
//!
//! What a file says is checked as the built-in languages are by a test, and every mistake is
//! named at its place. What it leaves out stays in the built-in words of its language, where
//! there are some, else in English, and is listed.

use std::path::Path;
use std::sync::Arc;

use super::{FILES, Languages, Words, holes};
use crate::document::{Diagnostics, Node, SourceFile, Value, parse_toml};
use crate::enrich::iplist::parse::hash;

/// Keys that a message lists at most.
const LISTED: usize = 8;

/// What a folder of translations holds.
#[derive(Debug, Default)]
pub struct Translations {
    /// Words, each with what tells its file's content from others.
    pub(super) files: Vec<(String, Words)>,
}

impl Translations {
    /// The same for the same files.
    pub fn digest(&self) -> String {
        digest_of(self.files.iter().map(|(digest, _)| digest.as_str()))
    }
}

/// One digest for those of all files.
pub(super) fn digest_of<'a>(files: impl Iterator<Item = &'a str>) -> String {
    let parts: Vec<&[u8]> = files.map(str::as_bytes).collect();
    hash(&parts)
}

/// The built-in languages and those in `folder`: files such as `fr.toml`.
pub fn load(folder: &Path, found: &mut Diagnostics) -> Languages {
    Languages::translated(folder, read_folder(folder, found))
}

/// The translations in `folder`. Those of files with a mistake are not among them.
pub fn read_folder(folder: &Path, found: &mut Diagnostics) -> Translations {
    let mut translations = Translations::default();
    let whole = SourceFile::new(folder.display().to_string(), "");
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            found.error(&whole, 0..0, format!("cannot be read: {error}"), None);
            return translations;
        }
    };
    let mut paths: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "toml"))
        .collect();
    paths.sort();
    if paths.is_empty() {
        let help = "a translation is one file named after its language, as in `fr.toml`".into();
        found.warning(&whole, 0..0, "holds no translation", Some(help));
    }
    for path in paths {
        let name = path.display().to_string();
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let tag = path.file_stem().and_then(|stem| stem.to_str());
                let file = SourceFile::new(name, text);
                let tag = tag.unwrap_or_default();
                if let Some(words) = read(tag, &file, found) {
                    let digest = hash(&[tag.as_bytes(), file.text.as_bytes()]);
                    translations.files.push((digest, words));
                }
            }
            Err(error) => {
                let file = SourceFile::new(name, "");
                found.error(&file, 0..0, format!("cannot be read: {error}"), None);
            }
        }
    }
    translations
}

/// The words of one file, filled up where it says nothing. `None` where something is wrong.
pub fn read(tag: &str, file: &Arc<SourceFile>, found: &mut Diagnostics) -> Option<Words> {
    let before = found.error_count();
    if !matches!(tag.len(), 2..=3) || !tag.bytes().all(|c| c.is_ascii_lowercase()) {
        let message = format!("`{tag}` is no language: a file is named by two or three letters");
        found.error(file, 0..0, message, Some("as in `fr.toml`".into()));
    }
    let root = parse_toml(file, found)?;
    let built_in = FILES.iter().find(|(name, _)| *name == tag);
    let (_, base) = built_in.unwrap_or(&FILES[0]);
    let mut filled: toml::Table = toml::from_str(base).ok()?;
    let english: toml::Table = toml::from_str(FILES[0].1).ok()?;
    let mut left = Vec::new();
    Overlay { file, found }.table("", &root, &english, &mut filled, &mut left);
    filled.insert("language".into(), toml::Value::String(tag.into()));
    left.retain(|key| key != "language");
    if found.error_count() > before {
        return None;
    }
    if !left.is_empty() {
        let more = match left.len() > LISTED {
            true => format!(", and {} more", left.len() - LISTED),
            false => String::new(),
        };
        let stay = match built_in {
            Some(_) => "stay as they are built in",
            None => "stay English",
        };
        let shown = left[..left.len().min(LISTED)].join(", ");
        let message = format!("{} texts are missing and {stay}: {shown}{more}", left.len());
        found.warning(file, 0..0, message, None);
    }
    match filled.try_into() {
        Ok(words) => Some(words),
        Err(error) => {
            found.error(file, 0..0, format!("cannot be used: {error}"), None);
            None
        }
    }
}

struct Overlay<'a> {
    file: &'a Arc<SourceFile>,
    found: &'a mut Diagnostics,
}

impl Overlay<'_> {
    fn error(&mut self, node: &Node, message: String, help: Option<String>) {
        self.found
            .error(self.file, node.span.clone(), message, help);
    }

    /// Puts the texts of `node` over `into`. What `english` has and `node` does not goes to
    /// `left`.
    fn table(
        &mut self,
        prefix: &str,
        node: &Node,
        english: &toml::Table,
        into: &mut toml::Table,
        left: &mut Vec<String>,
    ) {
        let Value::Map(entries) = &node.value else {
            let message = format!("`{prefix}` is a table of texts");
            return self.error(node, message, None);
        };
        for (key, value) in entries {
            let path = path(prefix, &key.name);
            let other = match (english.get(&key.name), prefix) {
                (Some(other), _) => other.clone(),
                // Rules of the site's own have reasons of their own.
                (None, "reasons") => english["other"].clone(),
                (None, "countries") => toml::Value::String(String::new()),
                (None, _) if prefix.starts_with("reasons.") && key.name == "avoid" => {
                    toml::Value::String(String::new())
                }
                (None, _) => {
                    let known: Vec<&str> = english.keys().map(String::as_str).collect();
                    let help = crate::document::suggest(&key.name, &known);
                    let node = Node {
                        span: key.span.clone(),
                        value: Value::Null,
                    };
                    self.error(&node, format!("there is no text `{path}`"), Some(help));
                    continue;
                }
            };
            match &other {
                toml::Value::Table(other) => {
                    let slot = into
                        .entry(key.name.clone())
                        .or_insert_with(|| toml::Value::Table(other.clone()));
                    if let toml::Value::Table(slot) = slot {
                        self.table(&path, value, other, slot, left);
                    }
                }
                other => {
                    if let Some(text) = self.text(&path, value, other) {
                        into.insert(key.name.clone(), text);
                    }
                }
            }
        }
        let said = |name: &String| entries.iter().any(|(key, _)| key.name == *name);
        for (name, value) in english.iter().filter(|(name, _)| !said(name)) {
            match value {
                toml::Value::Table(table) => {
                    let inner = table
                        .keys()
                        .map(|key| format!("{}.{key}", path(prefix, name)));
                    left.extend(inner);
                }
                _ => left.push(path(prefix, name)),
            }
        }
    }

    /// A text, or a list of as many as in English.
    fn text(&mut self, path: &str, node: &Node, english: &toml::Value) -> Option<toml::Value> {
        match (&node.value, english) {
            (Value::Text(text), toml::Value::String(english)) => {
                if text.trim().is_empty() {
                    self.error(node, format!("`{path}` is empty"), None);
                    return None;
                }
                let (ours, theirs) = (holes(text), holes(english));
                if ours != theirs {
                    let message = format!("`{path}` must fill in the same values as in English");
                    let help = match theirs.is_empty() {
                        true => "there it fills in none".to_owned(),
                        false => format!("there it fills in {{{}}}", theirs.join("}, {")),
                    };
                    self.error(node, message, Some(help));
                    return None;
                }
                Some(toml::Value::String(text.clone()))
            }
            (Value::List(items), toml::Value::Array(english)) if items.len() == english.len() => {
                let texts = items.iter().zip(english);
                let texts: Option<Vec<_>> = texts
                    .map(|(item, _)| self.text(path, item, &toml::Value::String(String::new())))
                    .collect();
                texts.map(toml::Value::Array)
            }
            (_, toml::Value::Array(english)) => {
                let message = format!("`{path}` is a list of {} texts", english.len());
                self.error(node, message, None);
                None
            }
            _ => {
                self.error(node, format!("`{path}` is a text"), None);
                None
            }
        }
    }
}

fn path(prefix: &str, name: &str) -> String {
    match prefix {
        "" => name.to_owned(),
        prefix => format!("{prefix}.{name}"),
    }
}
