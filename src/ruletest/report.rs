//! What became of tests, for people and for their CI.

use std::fmt::Write as _;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use serde::Serialize;

use super::expect::ExpectedDecision;
use super::play::{Played, Row};
use super::{Test, TestFile, time};

/// Columns of a timeline's events and expectations; longer ones are cut.
const EVENT_WIDTH: usize = 52;
const WORD_WIDTH: usize = 24;

/// A test and what became of it.
#[derive(Debug)]
pub struct Tested<'a> {
    pub file: &'a TestFile,
    pub test: &'a Test,
    pub played: Played,
}

/// What became of all of them.
#[derive(Debug, Default)]
pub struct Results<'a> {
    pub tested: Vec<Tested<'a>>,
    /// Rules that no test names.
    pub untested: Vec<String>,
}

impl Results<'_> {
    pub fn failed(&self) -> usize {
        self.tested
            .iter()
            .filter(|tested| !tested.played.passed())
            .count()
    }

    /// A line for each test, and the timeline of each that failed.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut file = None;
        for tested in &self.tested {
            let name = &tested.file.file.name;
            if file != Some(name) {
                let _ = writeln!(text, "{name}");
                file = Some(name);
            }
            match tested.played.passed() {
                true => {
                    let _ = writeln!(text, "  ok    {}", tested.test.name);
                }
                false => {
                    let line = tested.line();
                    let _ = writeln!(text, "  FAIL  {} (line {line})", tested.test.name);
                    text += &tested.timeline("        ");
                }
            }
        }
        if !text.is_empty() {
            text.push('\n');
        }
        let count = self.tested.len();
        let _ = writeln!(
            text,
            "{count} {}, {}",
            if count == 1 { "test" } else { "tests" },
            match self.failed() {
                0 => "all passed".to_owned(),
                failed => format!("{failed} failed"),
            }
        );
        if !self.untested.is_empty() {
            let _ = writeln!(text, "without a test: {}", self.untested.join(", "));
        }
        text
    }

    /// The same as one JSON object.
    ///
    /// # Errors
    /// Where it cannot be written, which only memory could cause.
    pub fn json(&self) -> serde_json::Result<String> {
        #[derive(Serialize)]
        struct Results<'a> {
            tests: Vec<One<'a>>,
            failed: usize,
            untested: &'a [String],
        }
        #[derive(Serialize)]
        struct One<'a> {
            file: &'a str,
            line: usize,
            name: &'a str,
            rules: Vec<&'a str>,
            passed: bool,
            problems: Vec<Problem<'a>>,
        }
        #[derive(Serialize)]
        struct Problem<'a> {
            line: usize,
            at_ms: i64,
            event: &'a str,
            problem: &'a str,
        }
        let one = |tested: &'_ Tested<'_>| -> Vec<(usize, usize)> {
            let rows = tested.played.rows.iter().enumerate();
            rows.flat_map(|(at, row)| (0..row.problems.len()).map(move |n| (at, n)))
                .collect()
        };
        let results = Results {
            failed: self.failed(),
            untested: &self.untested,
            tests: self
                .tested
                .iter()
                .map(|tested| One {
                    file: &tested.file.file.name,
                    line: tested.line(),
                    name: &tested.test.name,
                    rules: tested.test.rules.iter().map(|rule| &**rule).collect(),
                    passed: tested.played.passed(),
                    problems: one(tested)
                        .into_iter()
                        .map(|(at, n)| {
                            let row = &tested.played.rows[at];
                            Problem {
                                line: tested.line_of(row),
                                at_ms: row.at_ms,
                                event: &row.what,
                                problem: &row.problems[n],
                            }
                        })
                        .collect(),
                })
                .collect(),
        };
        serde_json::to_string(&results)
    }

    /// JUnit's XML: a suite for each file.
    ///
    /// # Errors
    /// Where it cannot be written, which only memory could cause.
    pub fn junit(&self) -> Result<String, quick_junit::SerializeError> {
        let mut report = Report::new("doorward test");
        let mut suites: Vec<TestSuite> = Vec::new();
        for tested in &self.tested {
            let name = &tested.file.file.name;
            if suites
                .last()
                .is_none_or(|suite| suite.name.as_str() != name)
            {
                suites.push(TestSuite::new(name.as_str()));
            }
            let mut status = TestCaseStatus::success();
            if !tested.played.passed() {
                status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                let problems: Vec<String> = tested.problems().collect();
                status.set_message(problems.join("; "));
                status.set_description(tested.timeline(""));
            }
            let mut case = TestCase::new(tested.test.name.as_str(), status);
            case.set_classname(tested.test.rules.join(" "));
            case.extra.insert("file".into(), name.as_str().into());
            case.extra
                .insert("line".into(), tested.line().to_string().into());
            if let Some(suite) = suites.last_mut() {
                suite.add_test_case(case);
            }
        }
        report.add_test_suites(suites);
        report.to_string()
    }
}

impl Tested<'_> {
    fn line(&self) -> usize {
        self.file.file.line_column(self.test.span.start).0
    }

    fn line_of(&self, row: &Row) -> usize {
        self.file.file.line_column(row.span.start).0
    }

    fn problems(&self) -> impl Iterator<Item = String> {
        self.played.rows.iter().flat_map(|row| {
            let line = self.line_of(row);
            row.problems
                .iter()
                .map(move |problem| format!("line {line}: {problem}"))
        })
    }

    /// Every step beside what was expected of it and what happened, then the problems.
    fn timeline(&self, indent: &str) -> String {
        let mut text = String::new();
        let mut rows: Vec<[String; 5]> =
            vec![["line", "at", "event", "expected", "happened"].map(str::to_owned)];
        let mut marks = vec![false];
        let mut at = 0;
        while let Some(row) = self.played.rows.get(at) {
            let like = self.played.rows[at..]
                .iter()
                .take_while(|next| row.is_like(next))
                .count();
            let times = match like {
                0 | 1 => String::new(),
                n => format!("{n} × "),
            };
            rows.push([
                self.line_of(row).to_string(),
                row.time(),
                cut(&format!("{times}{}", row.what), EVENT_WIDTH),
                self.expected(row),
                self.happened(row),
            ]);
            marks.push(!row.problems.is_empty());
            at += like.max(1);
        }
        let width = |column: usize, most: usize| {
            let longest = rows.iter().map(|row| row[column].chars().count()).max();
            longest.unwrap_or(0).min(most)
        };
        let widths = [
            width(0, 6),
            width(1, WORD_WIDTH),
            width(2, EVENT_WIDTH),
            width(3, WORD_WIDTH * 2),
        ];
        for (row, marked) in rows.iter().zip(marks) {
            let [line, time, event, expected, happened] = row;
            let [w0, w1, w2, w3] = widths;
            let mark = if marked { '!' } else { ' ' };
            let _ = writeln!(
                text,
                "{indent}{mark} {line:>w0$}  {time:>w1$}  {event:w2$}  {expected:w3$}  {happened}"
            );
        }
        for problem in self.problems() {
            let _ = writeln!(text, "{indent}{problem}");
        }
        text
    }

    fn expected(&self, row: &Row) -> String {
        let expected = &row.expected;
        let mut words: Vec<String> = expected
            .decisions
            .iter()
            .map(|decision| self.with_rule(&decision.rule, &wanted(decision)))
            .collect();
        let near = expected.near.iter();
        words.extend(near.map(|(rule, why)| self.with_rule(rule, &format!("({why})"))));
        words.extend(expected.commands.iter().flatten().cloned());
        words.extend(
            expected
                .mails
                .iter()
                .flatten()
                .map(|to| format!("mail to {to}")),
        );
        words.extend(expected.account_is.map(|is| is.as_str().to_owned()));
        shown(words)
    }

    fn happened(&self, row: &Row) -> String {
        let happened = &row.happened;
        let mut words: Vec<String> = happened
            .decisions
            .iter()
            .map(|(rule, effect, value)| {
                self.with_rule(rule, &format!("{} {value}", effect.as_str()))
            })
            .collect();
        // Where it is asked for, or would have been needed.
        let expected = &row.expected;
        let asked = |rule: &std::sync::Arc<str>| {
            expected.near.iter().any(|(near, _)| near == rule)
                || expected.decisions.iter().any(|wanted| wanted.rule == *rule)
        };
        for (rule, why) in happened.whys.iter().filter(|(rule, _)| asked(rule)) {
            words.push(self.with_rule(rule, &format!("({why})")));
        }
        if row.expected.commands.is_some() {
            words.extend(happened.commands.iter().cloned());
        }
        if row.expected.mails.is_some() {
            words.extend(
                happened
                    .mails
                    .iter()
                    .map(|(part, to)| format!("mail to {part} {to}")),
            );
        }
        if row.expected.account_is.is_some() {
            words.extend(happened.account_is.map(|is| is.as_str().to_owned()));
        }
        shown(words)
    }

    fn with_rule(&self, rule: &str, what: &str) -> String {
        match self.test.rules.len() {
            1 => what.to_owned(),
            _ => format!("{rule} {what}"),
        }
    }
}

impl Row {
    fn time(&self) -> String {
        match self.received_ms {
            None => time::show(self.at_ms),
            Some(received) => {
                format!(
                    "{}, there at {}",
                    time::show(self.at_ms),
                    time::show(received)
                )
            }
        }
    }

    /// Whether `next` adds nothing to look at: the same line, and nothing decided.
    fn is_like(&self, next: &Row) -> bool {
        let quiet = |row: &Row| {
            row.problems.is_empty()
                && row.happened.decisions.is_empty()
                && row.expected == super::Expected::default()
        };
        self.span == next.span && quiet(self) && quiet(next)
    }
}

/// `acted 5`.
pub(super) fn wanted(decision: &ExpectedDecision) -> String {
    match decision.value {
        Some(value) => format!("{} {value}", decision.effect.as_str()),
        None => decision.effect.as_str().to_owned(),
    }
}

fn shown(words: Vec<String>) -> String {
    match words.is_empty() {
        true => "-".to_owned(),
        false => words.join(", "),
    }
}

fn cut(text: &str, width: usize) -> String {
    // What a test's file holds may hold anything.
    let clean = text.chars().map(|c| if c.is_control() { '?' } else { c });
    match text.chars().count() > width {
        true => clean.take(width.saturating_sub(1)).chain(['…']).collect(),
        false => clean.collect(),
    }
}
