//! The answer for people: a sentence, then what it rests on, 80 columns wide.

use std::fmt::Write;

use crate::rules::RuleSet;

use super::record::{Asked, CaseStory, Deed, Explanation, Listed, Moment, Origin, Word};
use super::words::{amount, clock, no_country_briefly, shown, word};

const WIDTH: usize = 80;
/// Moments that are shown; the record has all of them.
const MOMENTS: usize = 60;

/// Writes the explanation. `color` makes headings bold.
pub fn render(told: &Explanation, rules: &RuleSet, color: bool) -> String {
    let mut page = Page {
        text: String::new(),
        color,
    };
    page.heading(&told.answer);
    for story in &told.cases {
        page.text.push('\n');
        case(&mut page, story);
    }
    page.text.push('\n');
    moments(&mut page, told, rules);
    let of_account = matches!(told.question, Asked::Account(_));
    // The answer has named the nearest, where nothing else happened.
    let mut words = told.moments.iter().flat_map(|moment| &moment.rules);
    let named = told.cases.is_empty() && !words.any(|said| matches!(said.word, Word::Hit(_)));
    let misses = told.near_misses.get(usize::from(named)..).unwrap_or(&[]);
    if of_account && !misses.is_empty() {
        page.text.push('\n');
        page.heading("How near other rules came");
        for miss in misses {
            page.item(2, &super::story::miss_words(rules, miss));
        }
    }
    page.text.push('\n');
    judged_by(&mut page, told);
    page.text
}

struct Page {
    text: String,
    color: bool,
}

impl Page {
    fn heading(&mut self, text: &str) {
        let lines = wrap(text, WIDTH);
        for line in lines {
            let line = match self.color {
                true => format!("\u{1b}[1m{line}\u{1b}[0m"),
                false => line,
            };
            let _ = writeln!(self.text, "{line}");
        }
    }

    /// A paragraph whose lines after the first stand two further in.
    fn item(&mut self, indent: usize, text: &str) {
        let lines = wrap(text, WIDTH.saturating_sub(indent + 2));
        for (at, line) in lines.iter().enumerate() {
            let indent = if at == 0 { indent } else { indent + 2 };
            let _ = writeln!(self.text, "{}{line}", " ".repeat(indent));
        }
    }
}

/// Breaks `text` at spaces into lines of at most `width` characters; a longer word stands on
/// a line of its own.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let length = word.chars().count();
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + length <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn case(page: &mut Page, story: &CaseStory) {
    page.heading(&format!(
        "The case {} ({}), version {}",
        story.id, story.state, story.version
    ));
    for chapter in &story.chapters {
        let time = clock(&chapter.time);
        page.item(2, &format!("{time}  {}: {}", chapter.state, chapter.what));
        for deed in &chapter.did {
            page.item(6, &deed_words(deed));
        }
    }
    if !story.evidence.is_empty() {
        page.item(2, "What it rests on:");
        for evidence in story.evidence.iter().rev() {
            let at = [evidence.country.as_deref(), evidence.ip.as_deref()];
            let at: Vec<&str> = at.into_iter().flatten().collect();
            page.item(
                6,
                &format!(
                    "{}  {}  {}",
                    clock(&evidence.time),
                    shown(&evidence.id),
                    at.join(" ")
                ),
            );
        }
    }
    for place in &story.places {
        let known = match place.known {
            true => "is known now",
            false => "is not known",
        };
        page.item(2, &format!("{} {known}", shown(&place.value)));
    }
}

fn deed_words(deed: &Deed) -> String {
    let mut text = deed.action.clone();
    if let Some(detail) = &deed.detail {
        let _ = match deed.action.as_str() {
            "lock_account" => write!(text, ", scope {detail}"),
            _ => write!(text, ", {}", shown(detail)),
        };
    }
    let _ = write!(text, ", reason {}", shown(&deed.reason));
    if let Some(until) = &deed.until {
        let _ = write!(text, ", until {}", clock(until));
    }
    text
}

fn moments(page: &mut Page, told: &Explanation, rules: &RuleSet) {
    let all = matches!(told.question, Asked::Event(_));
    let title = match all {
        true => "What each rule said",
        false => "What happened, in the order in which it arrived",
    };
    page.heading(title);
    let left_out = told.moments.len().saturating_sub(MOMENTS);
    if left_out > 0 {
        page.item(
            2,
            &format!(
                "({} before these; --output json has all of them)",
                amount(left_out as u64, "more event")
            ),
        );
    }
    for moment in told.moments.iter().skip(left_out) {
        one_moment(page, moment, rules, all);
    }
}

fn one_moment(page: &mut Page, moment: &Moment, rules: &RuleSet, all: bool) {
    let mut head = vec![clock(&moment.time), moment.kind.clone()];
    head.extend(moment.outcome.clone());
    head.extend(
        moment
            .reason
            .as_deref()
            .map(|why| format!("({})", shown(why))),
    );
    head.extend(moment.ip.clone());
    head.extend(moment.country.as_ref().map(origin));
    if !moment.event.is_empty() {
        head.push(format!("id {}", shown(&moment.event)));
    }
    page.item(2, &head.join(" "));
    if let (Some(file), Some(line), true) = (&moment.file, moment.line, all) {
        page.item(6, &format!("read from {}, line {line}", shown(file)));
    }
    if moment.from_the_future {
        page.item(
            6,
            "ahead of the broker by more than a minute: it took the broker's time",
        );
    } else if moment.arrived != moment.time {
        page.item(6, &format!("arrived {}", clock(&moment.arrived)));
    }
    for listed in &moment.lists {
        page.item(6, &list_words(listed));
    }
    if let Some(steered) = &moment.steered {
        page.item(6, &steered.what);
    }
    let mut silent = 0;
    for said in &moment.rules {
        let elsewhere = matches!(
            &said.word,
            Word::NotMatching { field, .. } if field == "type" || field == "outcome"
        );
        if elsewhere && !all {
            silent += 1;
            continue;
        }
        if let Some(rule) = rules.rules().iter().find(|rule| *rule.id == *said.rule) {
            let text = word(rules, rule, &said.word);
            page.item(6, &format!("{}: {text}", said.rule));
        }
    }
    if silent > 0 && silent == moment.rules.len() && moment.steered.is_none() {
        page.item(6, "no rule is about such events");
    }
    for deed in &moment.did {
        page.item(6, &format!("→ {}", deed_words(deed)));
    }
    if let (Some(case), true) = (&moment.case, all) {
        page.item(
            6,
            &format!(
                "left the case {} {}, version {}",
                case.id, case.state, case.version
            ),
        );
    }
}

fn origin(origin: &Origin) -> String {
    let text = match (&origin.country, origin.why) {
        (Some(country), None) if origin.from == "event" => format!("{country} (its own word)"),
        (Some(country), None) => country.clone(),
        (Some(country), Some(_)) => format!("{country} (no real country)"),
        (None, why) => format!("({})", no_country_briefly(why.unwrap_or(""))),
    };
    match &origin.previously {
        Some(before) => format!("{text}, {before} in the previous database"),
        None => text,
    }
}

fn list_words(listed: &Listed) -> String {
    let entry = listed.entry.as_deref().map(shown);
    match (&entry, &listed.file, listed.line) {
        (Some(entry), Some(file), Some(line)) => format!(
            "the address is in the list {}: {entry}, {} line {line}",
            listed.list,
            shown(file)
        ),
        _ => format!("the address is in the list {}", listed.list),
    }
}

fn judged_by(page: &mut Page, told: &Explanation) {
    page.heading("Judged by");
    let stream = &told.stream;
    let from = match (&stream.first, &stream.last) {
        (Some(first), Some(last)) => format!(" from {} to {}", clock(first), clock(last)),
        _ => String::new(),
    };
    let files: Vec<String> = stream.files.iter().map(|file| shown(file)).collect();
    page.item(
        2,
        &format!(
            "{}{from}, of {}",
            amount(stream.events, "event"),
            files.join(", ")
        ),
    );
    if stream.bad_lines > 0 {
        page.item(
            2,
            &format!("{} that are no events", amount(stream.bad_lines, "line")),
        );
    }
    for rule in &told.judged_by.rules {
        let mode = match rule.mode {
            "enforce" => String::new(),
            mode => format!(" ({mode})"),
        };
        page.item(
            2,
            &format!("{}{mode}: {} [{}]", rule.id, rule.needs, shown(&rule.file)),
        );
    }
    match &told.judged_by.geoip {
        Some(database) => {
            let built = clock(&database.built);
            let text = format!("country database: {}, built {built}", database.kind);
            page.item(2, &text);
            if let Some(before) = &told.judged_by.previous_geoip {
                let built = clock(&before.built);
                page.item(
                    2,
                    &format!("the one before: {}, built {built}", before.kind),
                );
            }
        }
        None => page.item(2, "no country database"),
    }
    page.item(2, "All times are UTC.");
}

#[cfg(test)]
mod tests {
    use super::wrap;

    #[test]
    fn lines_break_at_spaces_and_no_word_is_lost() {
        assert_eq!(wrap("a bb ccc dddd", 6), ["a bb", "ccc", "dddd"]);
        assert_eq!(wrap("a verylongword b", 6), ["a", "verylongword", "b"]);
        assert!(wrap("  ", 6).is_empty());
    }
}
