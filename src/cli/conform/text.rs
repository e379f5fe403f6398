//! What `doorward conform` found, for people.

use std::fmt::Write as _;

use crate::conform::{Finding, Report, Weight, counted};
use crate::event::Outcome;

/// Columns of a line.
const WIDTH: usize = 88;

/// The whole report. `topic` is what it is about.
pub fn report(report: &Report, topic: &str) -> String {
    let mut text = String::new();
    headline(&mut text, report, topic);
    if report.records > 0 {
        table(&mut text, report);
        for (weight, title) in [
            (Weight::Must, "Must be mended"),
            (Weight::Should, "Should be mended"),
            (Weight::Note, "Worth knowing"),
        ] {
            let findings = report.findings.iter();
            let of_weight: Vec<&Finding> = findings.filter(|f| f.weight == weight).collect();
            if !of_weight.is_empty() {
                let _ = writeln!(text, "\n{title}");
                for finding in of_weight {
                    say(&mut text, finding, topic);
                }
            }
        }
        not_seen(&mut text, report);
    }
    let musts = report
        .findings
        .iter()
        .filter(|f| f.weight == Weight::Must)
        .count();
    let end = match (report.records, musts) {
        (0, _) => "nothing to judge",
        (_, 0) => "nothing must be mended",
        (_, 1) => "1 thing must be mended",
        (_, n) => {
            let _ = writeln!(text, "\n{n} things must be mended");
            return text;
        }
    };
    let _ = writeln!(text, "\n{end}");
    text
}

fn headline(text: &mut String, report: &Report, topic: &str) {
    let _ = match (report.first, report.last) {
        (Some(first), Some(last)) => writeln!(
            text,
            "{topic}, {first} to {last}: {} of {}",
            counted(report.events, "event"),
            counted(report.accounts, "account")
        ),
        _ => writeln!(
            text,
            "{topic}: no record of the pipeline's in this stretch. Sign in once, or look further \
             back with --last"
        ),
    };
}

fn table(text: &mut String, report: &Report) {
    let outcomes: Vec<&str> = Outcome::ALL
        .iter()
        .map(|outcome| outcome.as_str())
        .chain(["-"])
        .filter(|outcome| report.types.values().any(|of| of.contains_key(outcome)))
        .collect();
    let name = |kind: &String| kind.escape_debug().take(32).collect::<String>();
    let wide = report.types.keys().map(|kind| name(kind).len()).max();
    let wide = wide.unwrap_or(0).max(4);
    let _ = write!(text, "\n{:<wide$}", "type");
    for outcome in &outcomes {
        let _ = write!(text, "  {outcome:>9}");
    }
    text.push('\n');
    for (kind, counts) in &report.types {
        let _ = write!(text, "{:<wide$}", name(kind));
        for outcome in &outcomes {
            let _ = match counts.get(outcome) {
                Some(count) => write!(text, "  {count:>9}"),
                None => write!(text, "  {:>9}", ""),
            };
        }
        let end = text.trim_end_matches(' ').len();
        text.truncate(end);
        text.push('\n');
    }
}

fn say(text: &mut String, finding: &Finding, topic: &str) {
    let mut said = finding.text.clone();
    if let Some(example) = &finding.example {
        let _ = write!(
            said,
            " [{topic} partition {}, offset {}",
            example.partition, example.offset
        );
        if let Some(event) = &example.event {
            let _ = write!(said, ", event {}", event.escape_debug());
        }
        said.push(']');
    }
    let _ = writeln!(text, "  {}", finding.id);
    wrap(text, &said, "    ");
}

fn not_seen(text: &mut String, report: &Report) {
    if report.not_seen.is_empty() {
        return;
    }
    let _ = writeln!(text, "\nNot seen, so not judged");
    let said = format!(
        "{}. Do each once with a test account, then look again.",
        report.not_seen.join(", ")
    );
    wrap(text, &said, "    ");
}

/// Breaks `said` at blanks, each line after `indent`.
pub fn wrap(text: &mut String, said: &str, indent: &str) {
    let mut column = 0;
    for word in said.split_whitespace() {
        let length = word.chars().count();
        if column == 0 || column + 1 + length > WIDTH {
            if column > 0 {
                text.push('\n');
            }
            text.push_str(indent);
            column = indent.len();
        } else {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += length;
    }
    text.push('\n');
}
