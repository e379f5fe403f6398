//! JSON: MISP warning lists, plain arrays, and an object a line as Spamhaus has it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::{Column, Taking, made};
use crate::event::{SECOND_MS, Timestamp};

/// Names under which objects have their address, where `column` names none.
const NAMES: [&str; 6] = ["cidr", "ip", "network", "prefix", "address", "range"];

type Object<'a> = BTreeMap<String, &'a RawValue>;

/// Reads an array, or an object whose `list` is one. `None`, and an error, where it is none.
pub(super) fn read(taking: &mut Taking<'_>) -> Option<(String, Option<Timestamp>)> {
    let file = Arc::clone(taking.file);
    let text = file.text.trim_start_matches('\u{feff}');
    if text.trim_start().starts_with('[') {
        let items = parsed::<Vec<&RawValue>>(taking, text, text)?;
        items.into_iter().for_each(|item| take(taking, item));
        return Some(("a JSON array".into(), None));
    }
    let object = parsed::<Object<'_>>(taking, text, text)?;
    let Some(list) = object.get("list") else {
        taking.whole(
            "this is JSON without a `list`".into(),
            Some("an object must have its addresses in `list`, as MISP warning lists do".into()),
        );
        return None;
    };
    let items = parsed::<Vec<&RawValue>>(taking, text, list.get())?;
    items.into_iter().for_each(|item| take(taking, item));
    let version = object
        .get("version")
        .and_then(|version| made::of_version(version.get()));
    Some(("a JSON warning list".into(), version))
}

/// Reads an object a line. `None`, and an error, where one of them is not.
pub(super) fn read_lines(taking: &mut Taking<'_>) -> Option<(String, Option<Timestamp>)> {
    let file = Arc::clone(taking.file);
    let text = file.text.trim_start_matches('\u{feff}');
    let mut made = None;
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let object = parsed::<Object<'_>>(taking, text, line)?;
        if object
            .get("type")
            .is_some_and(|kind| kind.get() == "\"metadata\"")
        {
            let seconds = object
                .get("timestamp")
                .and_then(|at| at.get().parse::<i64>().ok());
            made = seconds.map(|seconds| Timestamp(seconds.saturating_mul(SECOND_MS)));
            continue;
        }
        if object.contains_key("list") && object.len() < 16 && address_in(taking, &object).is_none()
        {
            // A warning list on one line.
            return read(taking);
        }
        let start = offset(taking, line);
        match address_in(taking, &object) {
            Some(address) => take(taking, address),
            None => {
                let help = format!("it has none of {}", wanted(taking).join(", "));
                taking.refuse(line, start..start + line.len(), help);
            }
        }
    }
    Some(("JSON lines".into(), made))
}

fn take(taking: &mut Taking<'_>, item: &RawValue) {
    let start = offset(taking, item.get());
    if let Ok(text) = serde_json::from_str::<String>(item.get()) {
        // Behind the quotation mark.
        taking.entry(&text, start + 1);
        return;
    }
    let object = serde_json::from_str::<Object<'_>>(item.get()).unwrap_or_default();
    match address_in(taking, &object) {
        Some(address) if serde_json::from_str::<String>(address.get()).is_ok() => {
            take(taking, address);
        }
        _ => {
            let help = "an entry is text, or an object with an address in it".to_owned();
            taking.refuse(item.get(), start..start + item.get().len(), help);
        }
    }
}

fn wanted(taking: &Taking<'_>) -> Vec<String> {
    match taking.terms.columns.first() {
        Some(Column::Name(name)) => vec![name.clone()],
        _ => NAMES.map(str::to_owned).to_vec(),
    }
}

fn address_in<'a>(taking: &Taking<'_>, object: &Object<'a>) -> Option<&'a RawValue> {
    match taking.terms.columns.first() {
        Some(Column::Name(name)) => object.get(name).copied(),
        _ => NAMES.iter().find_map(|name| object.get(*name).copied()),
    }
}

/// `part` of `text` as a `T`; where it is none, an error at the place.
fn parsed<'a, T: serde::Deserialize<'a>>(
    taking: &mut Taking<'_>,
    text: &str,
    part: &'a str,
) -> Option<T> {
    match serde_json::from_str(part) {
        Ok(parsed) => Some(parsed),
        Err(error) => {
            let start = offset(taking, part);
            let before: usize = part
                .split_inclusive('\n')
                .take(error.line().saturating_sub(1))
                .map(str::len)
                .sum();
            let at = (start + before + error.column().saturating_sub(1)).min(text.len());
            let file = Arc::clone(taking.file);
            let message = format!("this is no JSON list: {error}");
            taking.found.error(&file, at..at, message, None);
            None
        }
    }
}

/// Where `part`, which is one of the file's text, begins in it.
fn offset(taking: &Taking<'_>, part: &str) -> usize {
    let offset = (part.as_ptr() as usize).wrapping_sub(taking.file.text.as_ptr() as usize);
    offset.min(taking.file.text.len())
}
