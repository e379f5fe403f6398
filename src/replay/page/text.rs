//! Numbers, times and other people's text, as the page and tables show them.

use crate::event::Timestamp;
use crate::replay::report::answers::{Given, Tie, Verdict};
use crate::replay::report::notes::grouped;

/// Bytes of a text from an event that are shown.
const TEXT: usize = 200;

/// How many owners said what, and of how many it is not known.
pub fn owners(verdicts: &[Option<Given>]) -> String {
    let count = |wanted: fn(&Given) -> bool| {
        verdicts
            .iter()
            .flatten()
            .filter(|given| wanted(given))
            .count() as u64
    };
    let me = count(|given| given.tie > Tie::Near && given.verdict == Verdict::Me);
    let not_me = count(|given| given.tie > Tie::Near && given.verdict == Verdict::NotMe);
    let near = count(|given| given.tie == Tie::Near);
    let unknown = verdicts.len() as u64 - me - not_me - near;
    let mut text = format!(
        "Owners: {} “this was me”, {} “this wasn't me”",
        grouped(me),
        grouped(not_me)
    );
    if near > 0 {
        text.push_str(&format!(
            ", {} answered about something else near in time",
            grouped(near)
        ));
    }
    text.push_str(&format!(", {} not known.", grouped(unknown)));
    text
}

/// What an owner said, in words.
pub fn given(given: Option<Given>) -> String {
    match given {
        None => "not known".to_owned(),
        Some(Given { tie, verdict }) => match tie {
            Tie::Case => verdict.words().to_owned(),
            Tie::Event => format!("{} (of a case with the same event)", verdict.words()),
            Tie::Near => format!("{} (of something else near in time)", verdict.words()),
        },
    }
}

pub fn dash(count: u64) -> String {
    match count {
        0 => "–".to_owned(),
        count => grouped(count),
    }
}

pub fn beyond(all: usize, shown: usize, what: &str) -> String {
    match all.saturating_sub(shown) {
        0 => String::new(),
        more => format!("and {} more {what}", grouped(more as u64)),
    }
}

pub fn percent(rate: f64) -> String {
    format!("{:.0} %", rate * 100.0)
}

/// Text from an event, as one line that nothing hides in: control characters and those that
/// turn the direction of writing are shown by their codes.
pub fn short(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars() {
        if shown.len() >= TEXT {
            shown.push('…');
            break;
        }
        let hides = c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        if hides {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

pub fn minute(time: Timestamp) -> String {
    cut(time, 16)
}

pub fn second(time: Timestamp) -> String {
    cut(time, 19)
}

/// `2026-11-22 06:04`, and more of it.
fn cut(time: Timestamp, length: usize) -> String {
    let text = time.to_string();
    text.get(..length).unwrap_or(&text).replace('T', " ")
}
