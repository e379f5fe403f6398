//! The words of an explanation: times, spans, what a rule needs, and what it said.

use crate::engine::MAX_QUESTIONS;
use crate::event::{DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS};
use crate::rules::{Detect, Rule, RuleSet};

use super::record::{HitRecord, Progress, Word};

/// Characters of an id or value that are shown.
const SHOWN: usize = 80;

/// Text that somebody else wrote, as it may stand on a terminal: no control characters,
/// and not longer than a line.
pub fn shown(text: &str) -> String {
    let clean = |c: char| {
        let harmless = !c.is_control() && !is_hidden(c);
        if harmless {
            c.to_string()
        } else {
            c.escape_unicode().to_string()
        }
    };
    let short: String = text.chars().take(SHOWN).map(clean).collect();
    match text.chars().nth(SHOWN) {
        Some(_) => format!("{short}…"),
        None if text.is_empty() => "\"\"".to_owned(),
        None => short,
    }
}

/// Marks that change the direction of what follows, or show nothing.
fn is_hidden(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// A time of a record without milliseconds that are zero: `2026-11-22T06:00:04Z`.
pub fn clock(time: &str) -> String {
    match time.strip_suffix(".000Z") {
        Some(whole) => format!("{whole}Z"),
        None => time.to_owned(),
    }
}

/// `1 event`, `2 events`.
pub fn amount(number: u64, of: &str) -> String {
    match number {
        1 => format!("1 {of}"),
        n => format!("{n} {of}s"),
    }
}

/// A span of time in its two largest units: `5 min`, `1 h 30 min`.
pub fn span(ms: i64) -> String {
    let mut rest = ms.max(0);
    let mut parts = Vec::new();
    for (unit, name) in [
        (DAY_MS, "d"),
        (HOUR_MS, "h"),
        (MINUTE_MS, "min"),
        (SECOND_MS, "s"),
        (1, "ms"),
    ] {
        if rest >= unit {
            parts.push(format!("{} {name}", rest / unit));
            rest %= unit;
        }
    }
    parts.truncate(2);
    if parts.is_empty() {
        "0 s".to_owned()
    } else {
        parts.join(" ")
    }
}

/// What a rule takes to hit, without its `when`.
pub fn needs(rules: &RuleSet, rule: &Rule) -> String {
    match &rule.detect {
        Detect::Each => "each such event".to_owned(),
        Detect::Count {
            at_least,
            within_ms,
        } => format!("{at_least} such events within {}", span(*within_ms)),
        Detect::Distinct {
            of,
            at_least,
            within_ms,
            ..
        } => format!(
            "{at_least} different {} within {}",
            of_many(rules.field_name(*of)),
            span(*within_ms)
        ),
        Detect::Streak {
            at_least,
            max_gap_ms,
            ..
        } => format!(
            "{at_least} such events in a row, each at most {} after the one before",
            span(*max_gap_ms)
        ),
        Detect::FirstSeen { of, .. } => {
            format!(
                "a {} that is not known of the account",
                rules.field_name(*of)
            )
        }
    }
}

/// What is counted: `different addresses within 5 min`.
pub fn counted(rules: &RuleSet, rule: &Rule) -> String {
    match &rule.detect {
        Detect::Count { within_ms, .. } => format!("events within {}", span(*within_ms)),
        Detect::Distinct { of, within_ms, .. } => format!(
            "different {} within {}",
            of_many(rules.field_name(*of)),
            span(*within_ms)
        ),
        Detect::Streak { .. } => "in a row".to_owned(),
        Detect::Each | Detect::FirstSeen { .. } => String::new(),
    }
}

fn of_many(field: &str) -> String {
    match field {
        "ip" => "addresses".to_owned(),
        "country" => "countries".to_owned(),
        "user_agent" => "devices".to_owned(),
        "account" => "accounts".to_owned(),
        other => format!("values of `{other}`"),
    }
}

/// How far a rule has come, and what is missing.
pub fn progress(rules: &RuleSet, rule: &Rule, progress: &Progress) -> String {
    let Progress { value, needed, .. } = progress;
    let missing = needed.saturating_sub(*value);
    format!(
        "{value} of {needed} {}; {missing} more needed by {}",
        counted(rules, rule),
        clock(&progress.until)
    )
}

/// What a hit was, without what became of it: `5 of 5 different addresses within 5 min`.
pub fn hit(rules: &RuleSet, rule: &Rule, value: u32, place: Option<&str>) -> String {
    match &rule.detect {
        Detect::Each => "one such event is enough".to_owned(),
        Detect::FirstSeen { of, .. } => {
            let field = rules.field_name(*of);
            place.map_or_else(
                || format!("this {field} was not known"),
                |place| format!("{field} {place} was not known"),
            )
        }
        Detect::Count { at_least, .. }
        | Detect::Distinct { at_least, .. }
        | Detect::Streak { at_least, .. } => {
            format!("{value} of {at_least} {}", counted(rules, rule))
        }
    }
}

/// What became of a hit.
pub fn effect(rules: &RuleSet, rule: &Rule, hit: &HitRecord) -> String {
    match hit.effect {
        "acted" => "it acted".to_owned(),
        "case_open" => match &hit.case {
            Some(case) => format!("it joined the case {case}, which was open"),
            None => "it joined the open case".to_owned(),
        },
        "cooldown" => match &hit.cooling_until {
            Some(until) => format!(
                "recorded only, since the rule had acted for this account and rests until {}",
                clock(until)
            ),
            None => "recorded only, since the rule rests after it acted".to_owned(),
        },
        "stale" => "recorded only, since it was older than a day when it arrived".to_owned(),
        "shadow" => "recorded only, since the rule is in shadow".to_owned(),
        "held" if rule.lock.is_none() => format!(
            "recorded only, since {MAX_QUESTIONS} accounts of its partition were asked about \
             and had not answered"
        ),
        "held" => "recorded only, since the rule's budget of locks was used up".to_owned(),
        "excepted" => {
            let which = hit.exception.as_deref().unwrap_or("");
            format!("recorded only, since {}", exception(rules, which))
        }
        other => other.to_owned(),
    }
}

/// Which exception covers an event, who says so, why, and until when.
fn exception(rules: &RuleSet, id: &str) -> String {
    let found = rules.exceptions().iter().find(|found| *found.id == *id);
    found.map_or_else(
        || format!("the exception {} covers it", shown(id)),
        |found| {
            format!(
                "the exception {} covers it ({}, says {}, until {})",
                shown(id),
                shown(&found.reason),
                shown(&found.owner),
                clock(&found.expires.to_string())
            )
        },
    )
}

/// Why there is no country.
pub fn no_country(why: &str) -> &'static str {
    match why {
        "pseudo_country" => "what is known is no real country",
        "not_in_database" => "the address is not in the database",
        "private_address" => "the address is a private one",
        "database_broken" => "the database is broken at this address",
        "no_database" => "there is no country database",
        _ => "no country is known",
    }
}

/// The same where there is no room for a sentence.
pub fn no_country_briefly(why: &str) -> &'static str {
    match why {
        "pseudo_country" => "no real country",
        "private_address" => "private address",
        "database_broken" => "database broken here",
        "no_database" => "no country database",
        _ => "country unknown",
    }
}

/// What a rule said, in a sentence without its name.
pub fn word(rules: &RuleSet, rule: &Rule, word: &Word) -> String {
    match word {
        Word::Off { why: "mode" } => "off: its file says `mode: off`".to_owned(),
        Word::Off {
            why: "database_missing",
        } => "off: there is no database of countries or networks to ask".to_owned(),
        Word::Off { .. } => "off: a list that it names could not be loaded".to_owned(),
        Word::NotMatching {
            line,
            text,
            field,
            had,
            ..
        } => {
            let had = match had {
                Some(had) => format!("this event has {}", shown(had)),
                None => format!("this event has no {field}"),
            };
            format!("not matching, line {line}: `{text}`; {had}")
        }
        Word::Unkeyed { field } => {
            format!("not counted: the event has no {field}, which the rule counts by")
        }
        Word::Deleted => "not asked: the account was deleted with this event".to_owned(),
        Word::BeforeCut { cut } => format!(
            "not counted: an earlier case settled everything up to {}",
            clock(cut)
        ),
        Word::Ignored { exception: id } => format!("not seen: {}", exception(rules, id)),
        Word::NoValue { field } => format!("not counted: the event has no {field}"),
        Word::NoCountry { why } => format!("not judged: {}", no_country(why)),
        Word::Late { by_ms, allowed_ms } => format!(
            "not counted: {} behind the newest event that the rule holds, and it waits {} at \
             most",
            span(*by_ms),
            span(*allowed_ms)
        ),
        Word::Duplicate => {
            "not counted: the same event, by id and time, was counted already".to_owned()
        }
        Word::NoRoom => {
            "not counted: as many people share this account as a rule keeps apart".to_owned()
        }
        Word::Redundant(at) => format!(
            "adds nothing, the same value stands before and after it: {}",
            progress(rules, rule, at)
        ),
        Word::Counted(at) => format!("counted: {}", progress(rules, rule, at)),
        Word::EndedRun { length: 0 } => "would end a run, and none was under way".to_owned(),
        Word::EndedRun { length } => format!("ended a run of {length}"),
        Word::Learned { place, why } => match *why {
            "seven_days" => format!(
                "learned {}: seven days after a hit that did nothing it counts as known",
                shown(place)
            ),
            _ => format!("learned {}: the rule begins by learning", shown(place)),
        },
        Word::Known { place, last_seen } => {
            format!("{} is known, written down on {last_seen}", shown(place))
        }
        Word::Moved { place } => format!(
            "{} counts as known: the previous database calls this network by a name that is",
            shown(place)
        ),
        Word::NotTaught { place } => format!(
            "{} is neither known nor learned: the address is an anonymizer, and nothing is \
             known of the account yet",
            shown(place)
        ),
        Word::Hit(found) => {
            let what = hit(rules, rule, found.value, None);
            let known: Vec<String> = found
                .known
                .iter()
                .map(|known| format!("{} ({})", known.place, known.last_seen))
                .collect();
            let known = match known.len() {
                0 => String::new(),
                _ => format!("; known were {}", known.join(", ")),
            };
            format!("HIT: {what}{known}; {}", effect(rules, rule, found))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{clock, shown, span};

    #[test]
    fn spans_are_said_in_two_units_at_most() {
        let said = |ms| span(ms);
        assert_eq!(said(0), "0 s");
        assert_eq!(said(300_000), "5 min");
        assert_eq!(said(300_001), "5 min 1 ms");
        assert_eq!(said(90_061_000), "1 d 1 h");
    }

    #[test]
    fn what_others_wrote_cannot_move_the_cursor() {
        assert_eq!(shown("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(shown("a\u{202e}b"), "a\\u{202e}b");
        assert_eq!(shown(""), "\"\"");
        assert_eq!(shown(&"x".repeat(81)), format!("{}…", "x".repeat(80)));
    }

    #[test]
    fn a_time_loses_milliseconds_that_are_zero() {
        assert_eq!(clock("2026-11-22T06:00:04.000Z"), "2026-11-22T06:00:04Z");
        assert_eq!(
            clock("2026-11-22T06:00:04.250Z"),
            "2026-11-22T06:00:04.250Z"
        );
    }
}
