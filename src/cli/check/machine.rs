//! What `check` found, for programs: JSON of our own, and SARIF 2.1.0, which code hosts show
//! beside the lines of a change.

use serde_json::{Value, json};

use super::Checked;
use crate::VERSION;
use crate::document::{Diagnostic, Kind, Severity};

/// One JSON object, described in docs/contract.md section 5.
pub fn json(checked: &Checked) -> String {
    let mistakes: Vec<Value> = checked.found.found.iter().map(mistake).collect();
    let all = json!({
        "schema": 1,
        "mistakes": mistakes,
        "good": checked.good,
        "errors": checked.found.error_count(),
        "warnings": checked.warnings(),
    });
    format!("{all:#}\n")
}

fn mistake(found: &Diagnostic) -> Value {
    let place = Place::of(found);
    json!({
        "id": found.kind.id(),
        "severity": match found.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        },
        "file": found.file.name,
        "line": place.as_ref().map(|place| place.start.0),
        "column": place.as_ref().map(|place| place.start.1),
        "end_line": place.as_ref().map(|place| place.end.0),
        "end_column": place.as_ref().map(|place| place.end.1),
        "message": found.message,
        "help": found.help,
    })
}

/// A SARIF log with one run.
pub fn sarif(checked: &Checked) -> String {
    let rules: Vec<Value> = Kind::ALL
        .iter()
        .map(|kind| json!({ "id": kind.id(), "shortDescription": { "text": kind.about() } }))
        .collect();
    let results: Vec<Value> = checked.found.found.iter().map(result).collect();
    let log = json!({
        "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/\
                    sarif-schema-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": "doorward", "version": VERSION, "rules": rules } },
            "columnKind": "unicodeCodePoints",
            "invocations": [{ "executionSuccessful": true }],
            "results": results,
        }],
    });
    format!("{log:#}\n")
}

fn result(found: &Diagnostic) -> Value {
    let text = match &found.help {
        Some(help) => format!("{}\nHelp: {help}", found.message),
        None => found.message.clone(),
    };
    let mut physical = json!({ "artifactLocation": { "uri": uri(&found.file.name) } });
    if let Some(place) = Place::of(found) {
        physical["region"] = json!({
            "startLine": place.start.0,
            "startColumn": place.start.1,
            "endLine": place.end.0,
            "endColumn": place.end.1,
        });
    }
    json!({
        "ruleId": found.kind.id(),
        "ruleIndex": Kind::ALL.iter().position(|kind| *kind == found.kind),
        "level": match found.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        },
        "message": { "text": text },
        "locations": [{ "physicalLocation": physical }],
    })
}

/// Line and column of both ends, from 1, the end excluded.
struct Place {
    start: (usize, usize),
    end: (usize, usize),
}

impl Place {
    /// `None` where only the file as a whole can be named.
    fn of(found: &Diagnostic) -> Option<Place> {
        if found.file.text.is_empty() {
            return None;
        }
        let start = found.file.line_column(found.span.start);
        let end = found.file.line_column(found.span.end.max(found.span.start));
        // A caret is a character wide even where nothing stands.
        let end = if end == start {
            (end.0, end.1 + 1)
        } else {
            end
        };
        Some(Place { start, end })
    }
}

/// A path as a URI reference: relative ones stay relative to where `check` ran.
fn uri(path: &str) -> String {
    let kept = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let mut uri = String::new();
    if path.starts_with('/') {
        uri += "file://";
    }
    for byte in path.bytes() {
        if kept(byte) {
            uri.push(char::from(byte));
        } else {
            uri += &format!("%{byte:02X}");
        }
    }
    uri
}
