//! CSV: addresses in one column, or ranges in two, with or without a line of names.

use std::net::IpAddr;
use std::sync::Arc;

use csv::{ReaderBuilder, StringRecord, Trim};

use super::{Column, Taking, range, span_of};
use crate::document::suggest;

/// Reads every line; says as what. `None`, and an error, where no column holds addresses.
pub(super) fn read(taking: &mut Taking<'_>) -> Option<String> {
    let file = Arc::clone(taking.file);
    let text = file.text.trim_start_matches('\u{feff}');
    let skipped = file.text.len() - text.len();
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .comment(Some(b'#'))
        .delimiter(delimiter(text))
        .trim(Trim::All)
        .from_reader(text.as_bytes());
    let mut record = StringRecord::new();
    let mut columns: Option<Found> = None;
    let mut names: Option<StringRecord> = None;
    // Text that is UTF-8 already, with rows of any length, has no errors left.
    while reader.read_record(&mut record).unwrap_or(false) {
        let offset = record.position().map_or(0, csv::Position::byte) as usize;
        let start = skipped + first_text(text, offset);
        if columns.is_none() {
            match find(&taking.terms.columns, names.as_ref(), &record) {
                Ok(Some(found)) => columns = Some(found),
                Ok(None) if names.is_none() => {
                    names = Some(record.clone());
                    continue;
                }
                Ok(None) => {}
                Err(help) => {
                    let end = start + text[start - skipped..].lines().next().map_or(0, str::len);
                    let message = "this CSV has no column of that name".to_owned();
                    taking.found.error(&file, start..end, message, Some(help));
                    return None;
                }
            }
        }
        let Some(found) = &columns else {
            let line = record.iter().collect::<Vec<_>>().join(",");
            taking.refuse(&line, start..start, "no column of it is an address".into());
            continue;
        };
        match *found {
            Found::One(at, _) => taking.entry(record.get(at).unwrap_or(""), start),
            Found::Two(first, last, _) => {
                let (first, last) = (record.get(first), record.get(last));
                let shown = format!("{}-{}", first.unwrap_or(""), last.unwrap_or(""));
                let ip = |field: Option<&str>| field.and_then(|f| f.parse::<IpAddr>().ok());
                match (ip(first), ip(last)) {
                    (Some(first), Some(last)) => match range(first, last) {
                        Ok(span) => taking.take(span, &shown, start),
                        Err(help) => taking.refuse(&shown, start..start, help),
                    },
                    _ => taking.refuse(&shown, start..start, "both must be addresses".into()),
                }
            }
        }
    }
    Some(match &columns {
        Some(Found::One(_, name)) => format!("CSV, column {name}"),
        Some(Found::Two(_, _, names)) => format!("CSV, columns {names}"),
        None => "CSV".into(),
    })
}

/// Where addresses stand, and what people call it.
enum Found {
    One(usize, String),
    Two(usize, usize, String),
}

/// The columns to read, seen from `record`, the line after `names`, or the first one of all.
/// `None` where `record` is a line of names itself.
///
/// # Errors
/// Which names there are, where the wanted one is not among them.
fn find(
    wanted: &[Column],
    names: Option<&StringRecord>,
    record: &StringRecord,
) -> Result<Option<Found>, String> {
    let at = |column: &Column| match column {
        Column::Number(number) => Ok(Some((number - 1, number.to_string()))),
        Column::Name(name) => {
            let is_it = |field: &str| field.eq_ignore_ascii_case(name);
            let of = |record: &StringRecord| record.iter().position(is_it);
            match names {
                Some(names) => match of(names) {
                    Some(at) => Ok(Some((at, format!("`{name}`")))),
                    None => Err(suggest(name, &names.iter().collect::<Vec<_>>())),
                },
                // The names must stand in the first line.
                None if of(record).is_some() => Ok(None),
                None => Err(suggest(name, &record.iter().collect::<Vec<_>>())),
            }
        }
    };
    let is_entry = |at: usize| record.get(at).is_some_and(|field| span_of(field).is_ok());
    match wanted {
        [one] => Ok(at(one)?
            .filter(|(at, _)| names.is_some() || is_entry(*at))
            .map(|(at, name)| Found::One(at, name))),
        [first, last] => {
            let (first, last) = (at(first)?, at(last)?);
            Ok(first.zip(last).and_then(|((first, a), (last, b))| {
                (names.is_some() || is_entry(first))
                    .then(|| Found::Two(first, last, format!("{a} to {b}")))
            }))
        }
        _ => Ok(guess(names, record)),
    }
}

/// The first column that holds an address; two beside each other are a range.
fn guess(names: Option<&StringRecord>, record: &StringRecord) -> Option<Found> {
    let name = |at: usize| match names.and_then(|names| names.get(at)) {
        Some(name) => format!("`{name}`"),
        None => (at + 1).to_string(),
    };
    let at = record.iter().position(|field| span_of(field).is_ok())?;
    let ip = |at: usize| record.get(at)?.parse::<IpAddr>().ok();
    let is_range = ip(at)
        .zip(ip(at + 1))
        .is_some_and(|(first, last)| range(first, last).is_ok());
    Some(match is_range {
        true => Found::Two(at, at + 1, format!("{} to {}", name(at), name(at + 1))),
        false => Found::One(at, name(at)),
    })
}

/// The character that the first line has most of.
fn delimiter(text: &str) -> u8 {
    let mut lines = text.lines().map(str::trim);
    let first = lines
        .find(|line| !line.is_empty() && !line.starts_with('#'))
        .unwrap_or("");
    let count = |delimiter: &u8| first.bytes().filter(|byte| byte == delimiter).count();
    // Of equally many the first one.
    let candidates = [b'|', b'\t', b';', b','];
    candidates.into_iter().max_by_key(count).unwrap_or(b',')
}

/// Where the record that begins at or behind `offset` has its first character: comments and
/// empty lines stand before it.
fn first_text(text: &str, mut offset: usize) -> usize {
    while let Some(line) = text
        .get(offset..)
        .and_then(|rest| rest.split_inclusive('\n').next())
    {
        if !line.trim().is_empty() && !line.starts_with('#') {
            break;
        }
        offset += line.len();
    }
    offset.min(text.len())
}
