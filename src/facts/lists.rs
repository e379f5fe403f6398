//! `lists.yaml`: which lists there are, and their files.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use super::{Age, Folder, Loaded};
use crate::document::{Diagnostics, Fields, Node, SourceFile, Value, parse_yaml};
use crate::enrich::iplist::{Content, IpSet, List, Lists, parse};
use crate::event::Timestamp;

/// The file that names the lists, in the folder of rules.
pub const FILE: &str = "lists.yaml";

/// One list, as `lists.yaml` describes it.
struct Written<'a> {
    name: &'a str,
    files: Vec<&'a str>,
    title: Option<&'a str>,
    required: bool,
    may_be_empty: bool,
}

/// Reads `lists.yaml` and every list that it names. No such file: no lists.
/// Where `before` is at work, a list that cannot be used keeps what it had.
pub(super) fn load(
    folder: &Folder,
    before: Option<&Lists>,
    loaded: &mut Loaded,
) -> Result<Lists, Diagnostics> {
    let text = match folder.read(FILE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Lists::default()),
        other => other.and_then(|bytes| {
            String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8 text"))
        }),
    };
    let mut found = Diagnostics::default();
    let file = match text {
        Ok(text) => SourceFile::new(folder.name(FILE), text),
        Err(error) => {
            let file = SourceFile::new(folder.name(FILE), "");
            found.error(&file, 0..0, format!("cannot be read: {error}"), None);
            return Err(found);
        }
    };
    let root = parse_yaml(&file, &mut found);
    let written = root
        .as_ref()
        .map(|root| read_file(&file, root, &mut found))
        .unwrap_or_default();
    if found.has_errors() {
        return Err(found);
    }
    loaded.files.extend(folder.path(FILE));
    loaded.parts.push(file.text.clone());
    let lists = written
        .iter()
        .map(|list| List {
            name: list.name.to_owned(),
            content: load_list(folder, list, before, loaded),
        })
        .collect();
    Ok(Lists::new(lists))
}

fn read_file<'a>(
    file: &Arc<SourceFile>,
    root: &'a Node,
    found: &mut Diagnostics,
) -> Vec<Written<'a>> {
    let Some(mut top) = Fields::of(file, root, "lists.yaml", found) else {
        return Vec::new();
    };
    if top.required("schema", found).is_some() {
        top.integer("schema", 1..=1, found);
    }
    let lists = top.required("lists", found);
    top.finish(found);
    let Some(lists) = lists.and_then(|node| Fields::of(file, node, "`lists`", found)) else {
        return Vec::new();
    };
    lists
        .rest()
        .filter_map(|(name, node)| {
            if !is_name(&name.name) {
                found.error(
                    file,
                    name.span.clone(),
                    format!("`{}` cannot be a list's name", name.name),
                    Some("use small letters, digits, `_` and `-`, 64 at most".into()),
                );
            }
            read_list(file, &name.name, node, found)
        })
        .collect()
}

fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c);
    (1..=64).contains(&name.len()) && name.chars().all(allowed)
}

fn read_list<'a>(
    file: &Arc<SourceFile>,
    name: &'a str,
    node: &'a Node,
    found: &mut Diagnostics,
) -> Option<Written<'a>> {
    let mut fields = Fields::of(file, node, format!("the list `{name}`"), found)?;
    let one = fields.text("file", found);
    let several = fields.optional("files");
    let list = Written {
        name,
        files: read_files(file, several, one, found),
        title: fields.text("title", found),
        required: fields.bool("required", found).unwrap_or(true),
        may_be_empty: fields.bool("may_be_empty", found).unwrap_or(false),
    };
    match (one, several) {
        (None, None) => found.error(
            file,
            fields.span(),
            format!("the list `{name}` names no file"),
            Some("say `file: lists/addresses.txt`, relative to lists.yaml".into()),
        ),
        (Some(_), Some(several)) => found.error(
            file,
            several.span.clone(),
            format!("the list `{name}` has both `file` and `files`"),
            Some("put all of them into `files`".into()),
        ),
        _ => {}
    }
    fields.finish(found);
    Some(list)
}

fn read_files<'a>(
    file: &Arc<SourceFile>,
    several: Option<&'a Node>,
    one: Option<&'a str>,
    found: &mut Diagnostics,
) -> Vec<&'a str> {
    let Some(several) = several else {
        return one.into_iter().collect();
    };
    let Value::List(items) = &several.value else {
        found.error(
            file,
            several.span.clone(),
            format!(
                "`files` must be a list of paths, not {}",
                several.value.kind()
            ),
            Some("write `files: [lists/one.txt, lists/two.txt]`".into()),
        );
        return Vec::new();
    };
    let path = |item: &'a Node| match &item.value {
        Value::Text(path) => Some(path.as_str()),
        other => {
            found.error(
                file,
                item.span.clone(),
                format!("a path must be text, not {}", other.kind()),
                None,
            );
            None
        }
    };
    items.iter().filter_map(path).collect()
}

/// Where any of its files cannot be used, what `before` held: half a list is worse than the
/// last whole one, and than none that says so.
fn load_list(
    folder: &Folder,
    list: &Written<'_>,
    before: Option<&Lists>,
    loaded: &mut Loaded,
) -> Option<Arc<Content>> {
    let problems_before = loaded.problems.found.len();
    let mut made: Option<Timestamp> = None;
    let mut whole = IpSet::default();
    let mut contents = Vec::new();
    let mut usable = true;
    for path in &list.files {
        loaded.files.extend(folder.path(path));
        let bytes = match folder.read(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                let file = SourceFile::new(folder.name(path), "");
                let message = format!("the list `{}` cannot be read: {error}", list.name);
                let help = "paths are relative to lists.yaml".to_owned();
                loaded.problems.error(&file, 0..0, message, Some(help));
                usable = false;
                continue;
            }
        };
        // An address is ASCII; whatever else a feed has in its comments does no harm.
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let file = SourceFile::new(folder.name(path), text);
        if let Some(written) = folder.written(path) {
            made = Some(made.map_or(written, |made| made.min(written)));
        }
        match parse::read(&file, list.may_be_empty, &mut loaded.problems) {
            Some(set) => whole.extend(set),
            None => usable = false,
        }
        contents.push(bytes);
    }
    let title = list.title.unwrap_or("without a title");
    if !usable {
        let component = format!("list {}", list.name);
        let reason = loaded.problems.found[problems_before..]
            .last()
            .map_or("it cannot be used", |problem| problem.message.as_str());
        if let Some(held) = before.and_then(|lists| lists.content_of(list.name)) {
            let entries = match held.addresses.len() {
                1 => "the entry from before stays".to_owned(),
                n => format!("the {n} entries from before stay"),
            };
            let text = format!("{reason}; {entries} at work");
            loaded.parts.push(held.hash.clone());
            loaded.notes.push((component, text));
            return Some(Arc::clone(held));
        }
        if list.required {
            let text = format!("{reason}; rules that need it do not fire");
            loaded.unready.push((component, text));
        }
        return None;
    }
    let parts: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
    let entries = whole.len();
    loaded.summary.push(format!(
        "list {} ({title}), {entries} {}",
        list.name,
        if entries == 1 { "entry" } else { "entries" }
    ));
    let hash = parse::hash(&parts);
    loaded.parts.push(hash.clone());
    if let Some(made) = made {
        loaded.ages.push(Age {
            list: list.name.to_owned(),
            made,
            max_age_ms: None,
        });
    }
    Some(Arc::new(Content {
        addresses: whole,
        hash,
    }))
}

/// The entry of the list `name` in which `ip` stands: its file, the line from 1, and the line
/// itself. Looked for in the text, line by line, since a list of a million entries does not
/// remember where each came from.
pub fn entry_of(folder: &Folder, name: &str, ip: IpAddr) -> Option<(String, u64, String)> {
    let text = String::from_utf8(folder.read(FILE).ok()?).ok()?;
    let file = SourceFile::new(folder.name(FILE), text);
    let mut found = Diagnostics::default();
    let root = parse_yaml(&file, &mut found)?;
    let lists = read_file(&file, &root, &mut found);
    let list = lists.iter().find(|list| list.name == name)?;
    for path in &list.files {
        let Ok(bytes) = folder.read(path) else {
            continue;
        };
        let text = String::from_utf8_lossy(&bytes);
        for (at, line) in text.lines().enumerate() {
            let one = SourceFile::new("", line);
            let set = parse::read(&one, true, &mut Diagnostics::default());
            if set.is_some_and(|set| set.contains(ip)) {
                return Some((folder.name(path), at as u64 + 1, line.trim().to_owned()));
            }
        }
    }
    None
}
