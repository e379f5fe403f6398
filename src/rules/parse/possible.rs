//! Whether some event can satisfy a test at all, and whether all of them do.
//!
//! A field's values are an open set, so it is tried with those that matter: every value that
//! the test names, for addresses both ends of every network and their neighbours, a value
//! that the test does not name, and none. Patterns and lists may say yes or no of a value
//! whose text is not known, each in both ways. What this finds impossible is impossible;
//! it does not find everything.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::event::fields::{countries, outcomes};
use crate::event::{KnownType, Outcome, canonical_ip};
use crate::rules::Field;
use crate::rules::eval::{Condition, Scalar, Test};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sense {
    Sometimes,
    Never,
    Always,
}

/// Patterns and lists of one test past which it is not looked into: each doubles the work.
const MAX_OPEN: usize = 10;

/// A value to try.
enum Try {
    Absent,
    Value(Scalar),
    Ip(IpAddr),
    /// A value that is none of those that the test names.
    Other,
}

/// Whether `test` can hold for the values that `field` may have.
pub fn sense(field: Field, test: &Test) -> Sense {
    let mut named = Named::default();
    named.collect(test);
    // Several owners can satisfy tests that one value could not.
    if named.open.len() > MAX_OPEN || field == Field::Owners {
        return Sense::Sometimes;
    }
    let text = |text: &str| Try::Value(Scalar::Text(text.to_owned()));
    let mut tries: Vec<Try> = match field {
        Field::Outcome => Outcome::ALL.iter().map(|o| text(o.as_str())).collect(),
        Field::Country => countries().map(|c| text(c.as_str())).collect(),
        Field::Repeat | Field::EmailVerified => [true, false]
            .map(|flag| Try::Value(Scalar::Bool(flag)))
            .into(),
        Field::Ip => named.addresses().into_iter().map(Try::Ip).collect(),
        Field::Type => KnownType::ALL
            .iter()
            .map(|kind| text(kind.as_str()))
            .collect(),
        _ => Vec::new(),
    };
    let closed = matches!(
        field,
        Field::Outcome | Field::Country | Field::Repeat | Field::EmailVerified
    );
    if !closed {
        if field != Field::Ip {
            tries.extend(named.values.iter().cloned().map(Try::Value));
        }
        tries.push(Try::Other);
    }
    if !matches!(field, Field::Type | Field::Id) {
        tries.push(Try::Absent);
    }
    let (mut some, mut all) = (false, true);
    for value in &tries {
        for answers in 0..(1_u32 << named.open.len()) {
            let holds = holds(test, value, &named.open, answers);
            some |= holds;
            all &= holds;
        }
    }
    match (some, all) {
        (false, _) => Sense::Never,
        (true, true) => Sense::Always,
        (true, false) => Sense::Sometimes,
    }
}

/// How many values of `field` events can have that satisfy `condition`; `None` where there
/// is no bound.
pub fn values(field: Field, condition: &Condition) -> Option<usize> {
    let lines = || {
        let lines = condition.lines.iter().filter(|line| line.field == field);
        lines.map(|line| &line.test)
    };
    let mut named = Named::default();
    lines().for_each(|test| named.collect(test));
    let may_hold = |value: &Try| {
        let open = named.open.len().min(MAX_OPEN);
        (0..(1_u32 << open))
            .any(|answers| lines().all(|test| holds(test, value, &named.open, answers)))
    };
    let text = |text: &str| Scalar::Text(text.to_owned());
    let all: Vec<Scalar> = match field {
        Field::Outcome => Outcome::ALL.iter().map(|o| text(o.as_str())).collect(),
        Field::Country => countries().map(|c| text(c.as_str())).collect(),
        Field::Repeat | Field::EmailVerified => [true, false].map(Scalar::Bool).into(),
        Field::Ip | Field::Owners => return None,
        _ if may_hold(&Try::Other) => return None,
        _ => named.values.clone(),
    };
    let mut possible: Vec<Scalar> = Vec::new();
    for value in all {
        if may_hold(&Try::Value(value.clone())) && !possible.contains(&value) {
            possible.push(value);
        }
    }
    Some(possible.len())
}

/// Whether no event's type and outcome together satisfy `condition`, although each line can
/// hold by itself.
pub fn no_type_and_outcome(condition: &Condition) -> bool {
    let holds = |wanted: Field, text: Option<&str>| {
        condition
            .lines
            .iter()
            .filter(|line| line.field == wanted)
            .all(|line| line.test.holds_for_text(text))
    };
    let known = KnownType::ALL.iter().map(|kind| Some(*kind));
    let possible = known.chain([None]).any(|kind| {
        // Types that are not known beforehand can be anything that the line asks for.
        let type_holds = match kind {
            Some(kind) => holds(Field::Type, Some(kind.as_str())),
            None => other_type_holds(condition),
        };
        let (allowed, required) = outcomes(kind);
        let outcome_holds = allowed
            .iter()
            .any(|outcome| holds(Field::Outcome, Some(outcome.as_str())))
            || !required && holds(Field::Outcome, None);
        type_holds && outcome_holds
    });
    !possible
}

/// Whether some type that is not known beforehand can satisfy the type line.
fn other_type_holds(condition: &Condition) -> bool {
    condition
        .lines
        .iter()
        .filter(|line| line.field == Field::Type)
        .all(|line| {
            let test = &line.test;
            let mut named = Named::default();
            named.collect(test);
            let own = |value: &Scalar| {
                matches!(value, Scalar::Text(text) if KnownType::parse(text).is_none())
            };
            let tries = named.values.iter().filter(|value| own(value)).cloned();
            let open = named.open.len().min(MAX_OPEN);
            tries.map(Try::Value).chain([Try::Other]).any(|value| {
                (0..(1_u32 << open)).any(|answers| holds(test, &value, &named.open, answers))
            })
        })
}

/// What a test names.
#[derive(Default)]
struct Named {
    values: Vec<Scalar>,
    networks: Vec<IpNet>,
    /// Patterns and lists, whose answer about a value may not be known.
    open: Vec<String>,
}

impl Named {
    fn collect(&mut self, test: &Test) {
        match test {
            Test::Is(value) => self.values.push(value.clone()),
            Test::AnyOf(tests) | Test::AllOf(tests) => {
                tests.iter().for_each(|test| self.collect(test));
            }
            Test::Not(test) => self.collect(test),
            Test::Cidr(networks) => self.networks.extend(networks),
            Test::Exists(_) => {}
            Test::InList(_) | Test::NotInList(_) | Test::Glob(_) | Test::Regex(_) => {
                if let Some(name) = open_name(test)
                    && !self.open.contains(&name)
                {
                    self.open.push(name);
                }
            }
        }
    }

    /// The addresses at which some answer can change.
    fn addresses(&self) -> Vec<IpAddr> {
        let mut found = Vec::new();
        let single = self.values.iter().filter_map(|value| match value {
            Scalar::Text(text) => text.parse::<IpAddr>().ok().map(canonical_ip),
            _ => None,
        });
        for network in single.map(IpNet::from).chain(self.networks.iter().copied()) {
            found.push(network.network());
            found.extend(after(network.broadcast()));
        }
        found
    }
}

fn after(ip: IpAddr) -> Option<IpAddr> {
    match ip {
        IpAddr::V4(ip) => ip
            .to_bits()
            .checked_add(1)
            .map(|bits| IpAddr::V4(bits.into())),
        IpAddr::V6(ip) => ip
            .to_bits()
            .checked_add(1)
            .map(|bits| IpAddr::V6(bits.into())),
    }
}

fn open_name(test: &Test) -> Option<String> {
    Some(match test {
        Test::InList(list) | Test::NotInList(list) => format!("list {}", list.0),
        Test::Glob(glob) => format!("glob {}", glob.glob().glob()),
        Test::Regex(regex) => format!("regex {}", regex.as_str()),
        _ => return None,
    })
}

/// Whether `test` holds for `value`, where the bits of `answers` are what each of `open`
/// says of a value that it cannot be asked about.
fn holds(test: &Test, value: &Try, open: &[String], answers: u32) -> bool {
    let open_answer = || {
        let name = open_name(test);
        open.iter()
            .position(|known| Some(known) == name.as_ref())
            .is_some_and(|at| answers & (1 << at) != 0)
    };
    match (test, value) {
        (Test::Exists(wanted), Try::Absent) => !wanted,
        (Test::Exists(wanted), _) => *wanted,
        (Test::Not(test), _) => !holds(test, value, open, answers),
        (Test::AnyOf(tests), _) => tests.iter().any(|test| holds(test, value, open, answers)),
        (Test::AllOf(tests), _) => tests.iter().all(|test| holds(test, value, open, answers)),
        (_, Try::Absent) => false,
        (Test::Is(wanted), Try::Value(value)) => wanted == value,
        (Test::Is(Scalar::Text(wanted)), Try::Ip(ip)) => wanted
            .parse()
            .is_ok_and(|wanted| canonical_ip(wanted) == *ip),
        (Test::Is(_), _) => false,
        (Test::Cidr(networks), Try::Ip(ip)) => networks.iter().any(|network| network.contains(ip)),
        (Test::Cidr(_), _) => false,
        (Test::InList(_), _) => open_answer(),
        (Test::NotInList(_), _) => !open_answer(),
        (Test::Glob(_) | Test::Regex(_), Try::Value(Scalar::Text(text))) => {
            test.holds_for_text(Some(text))
        }
        (Test::Glob(_) | Test::Regex(_), Try::Ip(ip)) => test.holds_for_text(Some(&ip.to_string())),
        (Test::Glob(_) | Test::Regex(_), Try::Value(Scalar::Bool(flag))) => {
            test.holds_for_text(Some(if *flag { "true" } else { "false" }))
        }
        (Test::Glob(_) | Test::Regex(_), Try::Value(Scalar::Integer(number))) => {
            test.holds_for_text(Some(&number.to_string()))
        }
        (Test::Glob(_) | Test::Regex(_), _) => open_answer(),
    }
}
