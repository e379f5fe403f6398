//! Rules that are well formed and mean nothing: thresholds that cannot be reached, or that
//! are reached at once.

use std::sync::Arc;

use crate::document::{Diagnostics, Kind, Node, SourceFile, Value};
use crate::rules::eval::Condition;
use crate::rules::{By, Detect, Field};

use super::key::canonical;
use super::possible;

/// Reports what cannot fire. Each part comes with where it stands.
pub(super) fn look(
    file: &Arc<SourceFile>,
    (when, when_node): (&Condition, &Node),
    by: By,
    (detect, node): (&Detect, &Node),
    found: &mut Diagnostics,
) {
    let settings = match &node.value {
        Value::Map(entries) => entries.first().map(|(_, settings)| settings),
        _ => None,
    };
    let place = |name: &str| {
        let node = settings
            .and_then(|settings| settings.get(name))
            .unwrap_or(node);
        node.first_line(file)
    };
    let mut never = |place, message: String, help: &str| {
        found.mistake(Kind::NeverFires, file, place, message, Some(help.into()));
    };
    match detect {
        Detect::Each => {}
        Detect::Distinct {
            of,
            at_least,
            prefix6,
            ..
        } if *at_least > 1 => {
            let name = settings.and_then(|s| s.get("of")).and_then(Node::as_text);
            let name = name.unwrap_or_default();
            if same_for_all(*of, by, *prefix6) {
                never(
                    place("of"),
                    format!("this rule is kept by `{name}`, so it never sees two of them together"),
                    "count another field, or keep the rule by something else",
                );
            } else if let Some(values) = possible::values(*of, when)
                && values < *at_least as usize
            {
                never(
                    place("at_least"),
                    match values {
                        1 => {
                            format!("`{name}` has one value here, so {at_least} are never reached")
                        }
                        n => {
                            format!("`{name}` has {n} values here, so {at_least} are never reached")
                        }
                    },
                    "ask for fewer, or count another field",
                );
            }
        }
        Detect::FirstSeen { of, .. } => {
            let name = settings.and_then(|s| s.get("of")).and_then(Node::as_text);
            let name = name.unwrap_or_default();
            if same_for_all(*of, by, 64) {
                never(
                    place("of"),
                    format!("this rule is kept by `{name}`, so it only ever sees one of them"),
                    "look at another field, or keep the rule by something else",
                );
            } else if possible::values(*of, when).is_some_and(|values| values < 2) {
                never(
                    place("of"),
                    format!(
                        "`when` leaves one value of `{name}` at most, and the first one only teaches"
                    ),
                    "widen `when`, or write `detect: each`",
                );
            } else if *of == Field::Id {
                found.mistake(
                    Kind::AlwaysFires,
                    file,
                    place("of"),
                    "every event has an id of its own, so each would be new",
                    Some("look at another field, or write `detect: each`".into()),
                );
            }
        }
        Detect::Streak {
            at_least,
            broken_by,
            ..
        } if *at_least > 1 && !broken_by.is_empty() => {
            let ends = settings.and_then(|settings| settings.get("broken_by"));
            let ends = ends.map_or(&[][..], Node::items);
            for end in ends.iter().filter(|end| is_part_of(end, when_node)) {
                never(
                    end.first_line(file),
                    "every event that matches `when` also ends the run, so none gets longer than 1"
                        .to_owned(),
                    "name the events that end a run, such as `{ type: login, outcome: success }`",
                );
            }
        }
        Detect::Count { .. } | Detect::Distinct { .. } | Detect::Streak { .. } => {
            if let Detect::Count { at_least: 1, .. }
            | Detect::Distinct { at_least: 1, .. }
            | Detect::Streak { at_least: 1, .. } = detect
            {
                found.doubt(
                    Kind::AlwaysFires,
                    file,
                    place("at_least"),
                    "with `at_least: 1` every matching event is a hit",
                    Some("write `detect: each`, which says so".into()),
                );
            }
        }
    }
}

/// Whether all events that a rule sees together have the same value of `of`.
fn same_for_all(of: Field, by: By, prefix6: u8) -> bool {
    match of {
        Field::Account => by != By::Ip,
        Field::User => by == By::AccountAndUser,
        // An address is kept by its /64; longer prefixes tell some of it apart.
        Field::Ip => by == By::Ip && prefix6 <= 64,
        _ => false,
    }
}

/// Whether every line of the condition `end` stands in `when` too.
fn is_part_of(end: &Node, when: &Node) -> bool {
    let Value::Map(lines) = &end.value else {
        return false;
    };
    lines.iter().all(|(key, node)| {
        when.get(&key.name)
            .is_some_and(|same| canonical(same) == canonical(node))
    })
}
