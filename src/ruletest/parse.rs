//! One `*.test.yaml` to its tests, with every mistake that can be seen in it.

use std::ops::Range;
use std::sync::Arc;

use crate::document::{Diagnostics, Fields, Key, Node, SourceFile, Value, parse_yaml, suggest};
use crate::enrich::iplist::parse::span_of;

use super::places::Places;
use super::step::Steps;
use super::{Known, Test, TestFile};

/// What a test's `defaults` say, those of the file first.
pub(super) type Defaults<'a> = Vec<&'a (Key, Node)>;

/// The tests in `file`; `None` where a mistake was found.
pub fn read(
    file: &Arc<SourceFile>,
    known: &Known<'_>,
    found: &mut Diagnostics,
) -> Option<TestFile> {
    let errors_before = found.error_count();
    let node = parse_yaml(file, found)?;
    let mut fields = Fields::of(file, &node, "a file of tests", found)?;
    if let Some(schema) = fields.required("schema", found)
        && schema.value != Value::Integer(1)
    {
        found.error(
            file,
            schema.span.clone(),
            "this version of doorward reads tests of `schema: 1` only",
            Some("write `schema: 1`".into()),
        );
    }
    let rules = match (fields.optional("rule"), fields.optional("rules")) {
        (Some(one), None) => ids(file, one, "rule", known, found),
        (None, Some(several)) => ids(file, several, "rules", known, found),
        (Some(_), Some(both)) => {
            let help = "keep `rules`, with all of them".to_owned();
            let message = "`rule` and `rules` say the same";
            found.error(file, both.span.clone(), message, Some(help));
            Vec::new()
        }
        (None, None) => {
            fields.required("rule", found);
            Vec::new()
        }
    };
    let lists = lists(file, fields.optional("lists"), known, found);
    let defaults = defaults(file, fields.optional("defaults"), found);
    let tests = fields.required("tests", found);
    fields.finish(found);

    let mut places = Places::new(known.geo);
    let mut read = Vec::new();
    for node in items(file, tests, "tests", found) {
        let inherited = Inherited {
            rules: &rules,
            lists: &lists,
            defaults: &defaults,
        };
        read.extend(test(file, node, known, &inherited, &mut places, found));
    }
    let mut names: Vec<&str> = Vec::new();
    for test in &read {
        if names.contains(&test.name.as_str()) {
            let message = format!("there are two tests called `{}`", test.name);
            let help = "say in the name what is different".to_owned();
            found.error(file, test.span.clone(), message, Some(help));
        }
        names.push(&test.name);
    }
    (found.error_count() == errors_before).then(|| TestFile {
        file: Arc::clone(file),
        tests: read,
    })
}

/// What the file says for all of its tests.
struct Inherited<'a, 'n> {
    rules: &'a [Arc<str>],
    lists: &'a [(String, Vec<String>)],
    defaults: &'a Defaults<'n>,
}

fn test(
    file: &Arc<SourceFile>,
    node: &Node,
    known: &Known<'_>,
    inherited: &Inherited<'_, '_>,
    places: &mut Places<'_>,
    found: &mut Diagnostics,
) -> Option<Test> {
    let mut fields = Fields::of(file, node, "a test", found)?;
    let name_node = fields.required("name", found);
    let name = fields.text("name", found).unwrap_or_default().to_owned();
    let rules = match fields.optional("rules") {
        Some(node) => ids(file, node, "rules", known, found),
        None => inherited.rules.to_vec(),
    };
    let mut lists = lists(file, fields.optional("lists"), known, found);
    for (name, entries) in inherited.lists {
        if !lists.iter().any(|(own, _)| own == name) {
            lists.push((name.clone(), entries.clone()));
        }
    }
    let mut defaults_here = inherited.defaults.clone();
    defaults_here.extend(defaults(file, fields.optional("defaults"), found));
    let events = fields.required("events", found);
    fields.finish(found);

    let mut steps = Steps::new(file, &rules, &defaults_here, places);
    for node in items(file, events, "events", found) {
        steps.read(node, found);
    }
    Some(Test {
        name,
        span: name_node.map_or(node.span.clone(), |name| name.span.clone()),
        steps: steps.done(),
        rules,
        lists,
    })
}

/// The ids in `node`, each of which must be a rule's.
fn ids(
    file: &Arc<SourceFile>,
    node: &Node,
    name: &str,
    known: &Known<'_>,
    found: &mut Diagnostics,
) -> Vec<Arc<str>> {
    let mut ids = Vec::new();
    for (text, span) in texts(file, node, name, found) {
        match known.shelf.ids().find(|id| ***id == *text) {
            Some(id) => ids.push(Arc::clone(id)),
            None if !known.shelf.complete => ids.push(Arc::from(text)),
            None => {
                let all: Vec<&str> = known.shelf.ids().map(|id| &**id).collect();
                let message = format!("there is no rule `{text}`");
                found.error(file, span, message, Some(suggest(&text, &all)));
            }
        }
    }
    ids
}

fn lists(
    file: &Arc<SourceFile>,
    node: Option<&Node>,
    known: &Known<'_>,
    found: &mut Diagnostics,
) -> Vec<(String, Vec<String>)> {
    let Some(fields) = node.and_then(|node| Fields::of(file, node, "`lists`", found)) else {
        return Vec::new();
    };
    let names: Vec<&str> = known.shelf.lists.iter().map(String::as_str).collect();
    let mut lists = Vec::new();
    for (key, node) in fields.rest() {
        if known.shelf.complete && !names.contains(&key.name.as_str()) {
            let message = format!("there is no list `{}`", key.name);
            let help = match names.is_empty() {
                true => "name it in lists.yaml".to_owned(),
                false => suggest(&key.name, &names),
            };
            found.error(file, key.span.clone(), message, Some(help));
            continue;
        }
        let mut entries = Vec::new();
        for (text, span) in texts(file, node, &key.name, found) {
            match span_of(&text) {
                Ok(_) => entries.push(text),
                Err(why) => {
                    found.error(file, span, format!("`{text}` is no network"), Some(why));
                }
            }
        }
        lists.push((key.name.clone(), entries));
    }
    lists
}

fn defaults<'n>(
    file: &Arc<SourceFile>,
    node: Option<&'n Node>,
    found: &mut Diagnostics,
) -> Defaults<'n> {
    match node.map(|node| (&node.value, node)) {
        None => Vec::new(),
        Some((Value::Map(entries), _)) => {
            for (key, node) in entries {
                super::fields::check_field(file, key, node, found);
            }
            entries.iter().collect()
        }
        Some((other, node)) => {
            let message = format!("`defaults` must be a block of fields, not {}", other.kind());
            found.error(file, node.span.clone(), message, None);
            Vec::new()
        }
    }
}

/// A text, or a list of them.
fn texts(
    file: &Arc<SourceFile>,
    node: &Node,
    name: &str,
    found: &mut Diagnostics,
) -> Vec<(String, Range<usize>)> {
    let items = match &node.value {
        Value::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    let mut texts = Vec::new();
    for item in items {
        match &item.value {
            Value::Text(text) => texts.push((text.clone(), item.span.clone())),
            other => {
                let message = format!("`{name}` must be text, not {}", other.kind());
                found.error(file, item.span.clone(), message, None);
            }
        }
    }
    texts
}

/// The items of a list that may not be empty.
fn items<'n>(
    file: &Arc<SourceFile>,
    node: Option<&'n Node>,
    name: &str,
    found: &mut Diagnostics,
) -> &'n [Node] {
    match node.map(|node| (&node.value, node)) {
        None => &[],
        Some((Value::List(items), _)) if !items.is_empty() => items,
        Some((other, node)) => {
            let message = match other {
                Value::List(_) => format!("`{name}` is empty"),
                other => format!("`{name}` must be a list, not {}", other.kind()),
            };
            let help = format!("begin each of the {name} with a hyphen");
            found.error(file, node.span.clone(), message, Some(help));
            &[]
        }
    }
}
