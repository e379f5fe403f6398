//! When a list was made, as feeds say it in their comments.

use jiff::fmt::{rfc2822, strtime};

use crate::event::Timestamp;

/// How much of a file's beginning is looked through.
const HEAD: usize = 8 * 1024;
/// What feeds write before the date, in small letters; the first that stands there counts.
const LABELS: [&str; 7] = [
    "source file date",
    "last-modified",
    "last modified",
    "last update",
    "generated",
    "updated",
    "date",
];
/// How they write it, beside RFC 2822 and RFC 3339.
const FORMATS: [&str; 4] = [
    "%a %b %e %H:%M:%S UTC %Y",
    "%a %b %e %H:%M:%S %Y",
    "%Y-%m-%d %H:%M:%S",
    "%Y/%m/%d %H:%M:%S",
];

/// The date in the comments at the beginning of `text`.
pub fn in_comments(text: &str) -> Option<Timestamp> {
    let comments = text.lines().take_while({
        let mut read = 0;
        move |line| {
            read += line.len();
            read <= HEAD
        }
    });
    let comments: Vec<&str> = comments
        .filter_map(|line| line.trim_start_matches('\u{feff}').strip_prefix(['#', ';']))
        .collect();
    LABELS.iter().find_map(|label| {
        comments.iter().find_map(|line| {
            let (name, date) = line.split_once(':')?;
            let name = name.trim().trim_end_matches("d on").to_ascii_lowercase();
            if !name.starts_with(label) {
                return None;
            }
            date_of(date.trim())
        })
    })
}

/// A version such as `20260117` of a MISP warning list.
pub fn of_version(version: &str) -> Option<Timestamp> {
    let digits = version.trim_matches('"');
    if digits.len() != 8 {
        return None;
    }
    let number: i32 = digits.parse().ok()?;
    let (year, month, day) = (number / 10_000, number / 100 % 100, number % 100);
    let date = jiff::civil::Date::new(
        year.try_into().ok()?,
        month.try_into().ok()?,
        day.try_into().ok()?,
    );
    in_utc(date.ok()?.at(0, 0, 0, 0))
}

fn date_of(text: &str) -> Option<Timestamp> {
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Some(Timestamp(at.as_millisecond()));
    }
    let gmt = text.replace("GMT", "+0000");
    if let Ok(at) = rfc2822::parse(&gmt) {
        return Some(Timestamp(at.timestamp().as_millisecond()));
    }
    let text = text.trim_end_matches("UTC").trim();
    let in_format = |format: &&str| {
        let parsed = strtime::parse(format, text).ok()?;
        in_utc(parsed.to_datetime().ok()?)
    };
    FORMATS.iter().find_map(in_format).or_else(|| {
        let date = text.parse::<jiff::civil::Date>().ok()?;
        in_utc(date.at(0, 0, 0, 0))
    })
}

fn in_utc(time: jiff::civil::DateTime) -> Option<Timestamp> {
    let at = jiff::tz::Offset::UTC.to_timestamp(time).ok()?;
    Some(Timestamp(at.as_millisecond()))
}
