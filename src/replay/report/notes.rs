//! What a replay could not judge, in plain words.

use super::super::parallel::Counts64;
use super::super::stream::Placing;
use super::super::{Side, Totals};
use super::Report;

/// What is known beside the report.
pub struct Seen<'r> {
    /// Names of the files, in order.
    pub files: &'r [String],
    pub placing: &'r Placing,
    pub totals: &'r Totals,
    pub sides: &'r [Side],
}

/// `1 event`, `2,000 events`.
pub fn number(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(count), if count == 1 { one } else { many })
}

/// A number with a comma between thousands.
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// One sentence or two for each thing that could not be judged, the weightiest first.
pub fn notes(report: &Report, seen: &Seen<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    let no_counts = Counts64::default();
    let first = seen.sides.first();
    let counts = first.map_or(&no_counts, |side| &side.counts);
    if first.is_none_or(|side| side.engine().facts().geo.is_none()) {
        notes.push("There is no country database: rules on countries did not apply.".to_owned());
    }
    for side in &report.sides {
        for (what, list) in &side.missing_lists {
            notes.push(format!(
                "The {what} of {} is off: the list {list} could not be loaded.",
                side.name
            ));
        }
    }
    stream(&mut notes, seen);
    if report.bad > 0 {
        notes.push(format!(
            "{} no event{}, and told nothing.",
            number(report.bad, "line is", "lines are"),
            if report.bad == 1 { "" } else { "s" }
        ));
    }
    lookups(&mut notes, counts);
    events(&mut notes, counts);
    let [me, not_me] = report.answers();
    match me + not_me {
        0 => notes.push(
            "The stream holds no owner's answer: how many locks were false alarms is not known."
                .to_owned(),
        ),
        answers => notes.push(format!(
            "{} taken as {} stand{}: their MACs were not checked.",
            number(answers, "owner's answer is", "owners' answers are"),
            if answers == 1 { "it" } else { "they" },
            if answers == 1 { "s" } else { "" },
        )),
    }
    for (field, count) in &seen.totals.dropped {
        notes.push(format!(
            "The field `{field}` is invalid in {}, and was taken as absent there.",
            number(*count, "event", "events")
        ));
    }
    notes.push(
        "What was before the first event is not known: an account's first country only teaches, \
         and locks, cases and second-factor failures from before are not there."
            .to_owned(),
    );
    notes
}

fn stream(notes: &mut Vec<String>, seen: &Seen<'_>) {
    let placing = seen.placing;
    if placing.events == 0 {
        notes.push("No line is an event: is this NDJSON, one event a line?".to_owned());
        return;
    }
    let bare = placing.events - placing.recorded;
    if bare > 0 {
        let which = if placing.recorded == 0 {
            "The events bring no broker time".to_owned()
        } else {
            format!(
                "{} of {} bring no broker time",
                grouped(bare),
                number(placing.events, "event", "events")
            )
        };
        notes.push(format!(
            "{which}: the newest event time so far was the clock. What reached the broker late, \
             or in another order, cannot be seen."
        ));
    }
    if placing.behind > 0 {
        let who = match &placing.leap {
            Some(leap) => format!(
                ", which {}:{} moved from {} to {}",
                seen.files.get(leap.file).map_or("", |name| name),
                leap.line,
                leap.from,
                leap.to
            ),
            None => String::new(),
        };
        notes.push(format!(
            "{} more than a day behind the clock{who}. Nothing acts on events that old: sort the \
             files by time, or take that line out.",
            number(placing.behind, "event is", "events are")
        ));
    }
    if placing.foreign > 0 {
        notes.push(format!(
            "{} from a partition that `--partitions` does not count: lock budgets were reckoned \
             for fewer partitions than there are.",
            number(placing.foreign, "event is", "events are")
        ));
    }
}

fn lookups(notes: &mut Vec<String>, counts: &Counts64) {
    if counts.geo_failed > 0 {
        notes.push(format!(
            "{} failed, since the country database is damaged: those countries are unknown.",
            number(counts.geo_failed, "look-up", "look-ups")
        ));
    }
    if counts.geo_not_found > 0 {
        notes.push(format!(
            "{} found no country in the database.",
            number(counts.geo_not_found, "look-up", "look-ups")
        ));
    }
    if counts.country_unknown > 0 {
        notes.push(format!(
            "{} not judged by a rule on new countries, since the country is unknown, private or \
             no real one.",
            number(counts.country_unknown, "event was", "events were")
        ));
    }
}

fn events(notes: &mut Vec<String>, counts: &Counts64) {
    let mut say = |count: u64, one: &str, many: &str, rest: &str| {
        if count > 0 {
            notes.push(format!("{} {rest}", number(count, one, many)));
        }
    };
    say(
        counts.late,
        "event came",
        "events came",
        "too late to be counted by a rule's window.",
    );
    say(
        counts.future,
        "event lies",
        "events lie",
        "more than a minute ahead of the broker, and took its time.",
    );
    say(
        counts.unkeyed,
        "time an event was",
        "times an event was",
        "passed over for want of an account, user or address.",
    );
    say(
        counts.id_conflict,
        "event has",
        "events have",
        "the id of another one with another time.",
    );
    say(
        counts.evicted,
        "account was",
        "accounts were",
        "forgotten for want of memory, as the service would have.",
    );
}
