//! The files of one list: whether it is used as it is, or keeps what it had.

use std::sync::Arc;

use super::Written;
use crate::document::SourceFile;
use crate::enrich::iplist::ranges::Builder;
use crate::enrich::iplist::{Content, Lists, parse};
use crate::event::Timestamp;
use crate::facts::{Age, Folder, Loaded};

/// A shorter list is kept by hand: that half of it goes means little.
const SHORT: usize = 20;

/// What the list holds. Where any of its files cannot be used, what `before` held: half a
/// list is worse than the last whole one, and than none that says so.
pub fn list(
    folder: &Folder,
    list: &Written<'_>,
    before: Option<&Lists>,
    loaded: &mut Loaded,
) -> Option<Arc<Content>> {
    let problems_before = loaded.problems.found.len();
    let held = before.and_then(|lists| lists.content_of(list.name));
    if let Some(content) = read(folder, list, held, loaded) {
        return Some(content);
    }
    let component = format!("list {}", list.name);
    let reason = loaded.problems.found[problems_before..]
        .last()
        .map_or("it cannot be used", |problem| problem.message.as_str());
    if let Some(held) = held {
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
    None
}

/// The list as its files have it; `None`, and a problem, where they cannot be used.
fn read(
    folder: &Folder,
    list: &Written<'_>,
    held: Option<&Arc<Content>>,
    loaded: &mut Loaded,
) -> Option<Arc<Content>> {
    let mut whole = Builder::default();
    let mut contents = Vec::new();
    let mut shapes: Vec<String> = Vec::new();
    let mut made: Option<Timestamp> = None;
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
        match parse::read(&file, &list.terms, &mut loaded.problems) {
            Some(read) => {
                whole.extend(read.entries);
                if !shapes.contains(&read.shape) {
                    shapes.push(read.shape);
                }
                let of_file = read.made.or_else(|| folder.written(path));
                made = [made, of_file].into_iter().flatten().min();
            }
            None => usable = false,
        }
        contents.push(bytes);
    }
    if !usable {
        return None;
    }
    let addresses = whole.build();
    let entries = addresses.len();
    if let Some(held) = held
        && let Some(message) = shrinks(list, held.addresses.len(), entries)
    {
        let path = list.files.first().copied().unwrap_or_default();
        let file = SourceFile::new(folder.name(path), "");
        let help = "if that is right, raise `max_shrink` of this list in lists.yaml, or restart \
                    doorward";
        loaded
            .problems
            .error(&file, 0..0, message, Some(help.to_owned()));
        return None;
    }
    loaded.summary.push(summary(list, entries, &shapes));
    let parts: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
    let hash = parse::hash(&parts);
    loaded.parts.push(hash.clone());
    if let Some(made) = made {
        loaded.ages.push(Age {
            list: list.name.to_owned(),
            made,
            max_age_ms: list.max_age_ms,
        });
    }
    Some(Arc::new(Content { addresses, hash }))
}

/// What is wrong where a list shrinks by more than it may: mostly half a download.
fn shrinks(list: &Written<'_>, before: usize, now: usize) -> Option<String> {
    let gone = before.saturating_sub(now) * 100;
    (before >= SHORT && gone > before * usize::from(list.max_shrink_percent)).then(|| {
        format!(
            "the list `{}` shrinks from {before} to {now} entries, by {}%; its max_shrink is {}%",
            list.name,
            gone / before,
            list.max_shrink_percent,
        )
    })
}

fn summary(list: &Written<'_>, entries: usize, shapes: &[String]) -> String {
    let title = list.title.unwrap_or("without a title");
    let source = match list.source {
        Some(source) => format!(", from {source}"),
        None => String::new(),
    };
    let shapes: Vec<&str> = shapes
        .iter()
        .map(String::as_str)
        .filter(|shape| *shape != parse::PLAIN)
        .collect();
    let read = match shapes.is_empty() {
        true => String::new(),
        false => format!(", read as {}", shapes.join(" and ")),
    };
    format!(
        "list {} ({title}{source}), {entries} {}{read}",
        list.name,
        if entries == 1 { "entry" } else { "entries" },
    )
}
