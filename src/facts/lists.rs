//! `lists.yaml`: which lists there are, where they come from, and what they may hold.

pub mod form;
mod load;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::{Folder, Loaded};
use crate::document::{Diagnostics, Fields, Node, SourceFile, Value, parse_yaml};
use crate::enrich::iplist::parse::{self, Allow, Column, Format, Terms};
use crate::enrich::iplist::{List, Lists};

/// The file that names the lists, in the folder of rules.
pub const FILE: &str = "lists.yaml";

/// A longer line of a list is not shown whole.
const SHOWN: usize = 160;

/// By how much a list may shrink where `max_shrink` says nothing.
const MAX_SHRINK_PERCENT: u8 = 50;

/// One list, as `lists.yaml` describes it.
struct Written<'a> {
    name: &'a str,
    files: Vec<&'a str>,
    title: Option<&'a str>,
    source: Option<&'a str>,
    required: bool,
    max_age_ms: Option<i64>,
    max_shrink_percent: u8,
    terms: Terms,
}

/// Reads `lists.yaml` and every list that it names. No such file: no lists. Where `before` is
/// at work, a list that cannot be used keeps what it had.
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
            content: load::list(folder, list, before, loaded),
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
    let own = top.optional("own_networks");
    let own = own.map_or_else(Vec::new, |node| networks(file, node, found));
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
            read_list(file, &name.name, node, &own, found)
        })
        .collect()
}

fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c);
    (1..=64).contains(&name.len()) && name.chars().all(allowed)
}

fn networks(file: &Arc<SourceFile>, node: &Node, found: &mut Diagnostics) -> Vec<IpNet> {
    let mut networks = Vec::new();
    for (text, item) in texts(file, "own_networks", node, found) {
        let network = text
            .parse::<IpNet>()
            .or_else(|_| text.parse().map(|ip: IpAddr| IpNet::from(ip)));
        match network {
            Ok(network) => networks.push(network),
            Err(_) => found.error(
                file,
                item.span.clone(),
                format!("`{text}` is no network"),
                Some("write `own_networks: [203.0.113.0/24, \"2001:db8::/32\"]`".into()),
            ),
        }
    }
    networks
}

fn read_list<'a>(
    file: &Arc<SourceFile>,
    name: &'a str,
    node: &'a Node,
    own: &[IpNet],
    found: &mut Diagnostics,
) -> Option<Written<'a>> {
    let mut fields = Fields::of(file, node, format!("the list `{name}`"), found)?;
    let one = fields.text("file", found);
    let several = fields.optional("files");
    let files = match several {
        Some(node) => texts(file, "files", node, found)
            .into_iter()
            .map(|(path, _)| path)
            .collect(),
        None => one.into_iter().collect(),
    };
    let title = fields.text("title", found);
    let source = fields.text("source", found);
    let required = fields.bool("required", found).unwrap_or(true);
    let may_be_empty = fields.bool("may_be_empty", found).unwrap_or(false);
    let format = fields.choice(
        "format",
        &[
            ("auto", Format::Auto),
            ("plain", Format::Plain),
            ("csv", Format::Csv),
            ("json", Format::Json),
            ("json_lines", Format::JsonLines),
        ],
        found,
    );
    let columns = fields.optional("column");
    let columns = columns.map_or_else(Vec::new, |node| read_columns(file, node, found));
    let max_age_ms = fields.duration_ms("max_age", found);
    let max_shrink_percent = fields
        .text("max_shrink", found)
        .map_or(Some(MAX_SHRINK_PERCENT), percent);
    let max_shrink_percent = max_shrink_percent.unwrap_or_else(|| {
        let span = fields
            .optional("max_shrink")
            .map_or(fields.span(), |n| n.span.clone());
        found.error(
            file,
            span,
            "`max_shrink` must be 0% to 100%",
            Some("write `max_shrink: 50%`: a list that loses more than half is refused".into()),
        );
        MAX_SHRINK_PERCENT
    });
    let allow = fields.optional("allow");
    let allow = allow.map_or_else(Allow::default, |node| read_allow(file, node, found));
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
    Some(Written {
        name,
        files,
        title,
        source,
        required,
        max_age_ms,
        max_shrink_percent,
        terms: Terms {
            format: format.unwrap_or_default(),
            columns,
            may_be_empty,
            allow,
            own: own.to_vec(),
        },
    })
}

fn percent(text: &str) -> Option<u8> {
    let number = text.trim().strip_suffix('%')?.trim().parse().ok()?;
    (number <= 100).then_some(number)
}

fn read_columns(file: &Arc<SourceFile>, node: &Node, found: &mut Diagnostics) -> Vec<Column> {
    let one = |node: &Node| match &node.value {
        Value::Text(name) => Some(Column::Name(name.clone())),
        Value::Integer(number @ 1..=1_000) => Some(Column::Number(*number as usize)),
        _ => None,
    };
    let columns: Option<Vec<Column>> = match &node.value {
        Value::List(items) if items.len() == 2 => items.iter().map(one).collect(),
        _ => one(node).map(|column| vec![column]),
    };
    columns.unwrap_or_else(|| {
        found.error(
            file,
            node.span.clone(),
            "`column` must be a name, a number from 1, or two of them",
            Some("write `column: ip`, `column: 2`, or `column: [start, end]` for ranges".into()),
        );
        Vec::new()
    })
}

fn read_allow(file: &Arc<SourceFile>, node: &Node, found: &mut Diagnostics) -> Allow {
    let mut allow = Allow::default();
    for (text, item) in texts(file, "allow", node, found) {
        match text {
            "private" => allow.private = true,
            "own" => allow.own = true,
            "wide" => allow.wide = true,
            other => found.error(
                file,
                item.span.clone(),
                format!("a list cannot be allowed `{other}`"),
                Some("it can be allowed `private`, `own` and `wide`".into()),
            ),
        }
    }
    allow
}

/// The texts of a list of texts, each with its node.
fn texts<'a>(
    file: &Arc<SourceFile>,
    what: &str,
    node: &'a Node,
    found: &mut Diagnostics,
) -> Vec<(&'a str, &'a Node)> {
    let Value::List(items) = &node.value else {
        let kind = node.value.kind();
        let (message, help) = match what {
            "files" => (
                format!("`files` must be a list of paths, not {kind}"),
                "write `files: [lists/one.txt, lists/two.txt]`",
            ),
            _ => (
                format!("`{what}` must be a list, not {kind}"),
                "put it into square brackets",
            ),
        };
        found.error(file, node.span.clone(), message, Some(help.into()));
        return Vec::new();
    };
    let mut texts = Vec::new();
    for item in items {
        match &item.value {
            Value::Text(text) => texts.push((text.as_str(), item)),
            other => {
                let thing = match what {
                    "files" => "a path",
                    _ => "each of them",
                };
                let message = format!("{thing} must be text, not {}", other.kind());
                found.error(file, item.span.clone(), message, None);
            }
        }
    }
    texts
}

/// The entry of the list `name` in which `ip` stands: its file, the line from 1, and the line
/// itself, or of a long one what it says of the address. Looked for in the text, since a list
/// of a million entries does not remember where each came from.
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
        let file = SourceFile::new("", String::from_utf8_lossy(&bytes).into_owned());
        let Some((start, entry)) = parse::find(&file, &list.terms, ip) else {
            continue;
        };
        let before = file.text.get(..start)?;
        let begun = before.rfind('\n').map_or(0, |end| end + 1);
        let line = file.text[begun..].lines().next()?.trim();
        let said = match line.chars().count() <= SHOWN {
            true => line.trim_end_matches(',').to_owned(),
            false => entry,
        };
        let number = before.matches('\n').count() + 1;
        return Some((folder.name(path), number as u64, said));
    }
    None
}
