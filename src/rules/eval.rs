//! Tests of one event's fields.
//!
//! A test on an absent field is false, save `exists: false` and `not` (docs/rules.md 9).

use std::borrow::Cow;
use std::cell::OnceCell;
use std::net::IpAddr;

use globset::GlobMatcher;
use ipnet::IpNet;
use regex::Regex;

use crate::enrich::iplist::ListId;
use crate::enrich::{CountryLookup, Facts};
use crate::event::{Country, Event, EventType, FieldValue, Timestamp, canonical_ip};

use super::{Field, Needs};

/// Every line must hold.
#[derive(Debug, Default)]
pub struct Condition {
    pub lines: Vec<Line>,
}

/// One line: a field and what it must be.
#[derive(Debug)]
pub struct Line {
    pub field: Field,
    pub test: Test,
    pub written: Written,
}

/// A line as its file writes it, for who asks why it did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// From 1.
    pub line: u32,
    /// The field's name.
    pub field: Box<str>,
    /// Name and test, in one line.
    pub text: Box<str>,
}

/// What one field must be.
#[derive(Debug)]
pub enum Test {
    Is(Scalar),
    AnyOf(Vec<Test>),
    AllOf(Vec<Test>),
    InList(ListId),
    NotInList(ListId),
    Cidr(Vec<IpNet>),
    Glob(GlobMatcher),
    Regex(Regex),
    Exists(bool),
    Not(Box<Test>),
}

/// A value as a rule file writes it.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    Text(String),
    Bool(bool),
    Integer(i64),
    Float(f64),
}

/// An event together with what its address tells, looked up at most once.
pub struct Enriched<'e> {
    pub event: &'e Event<'e>,
    /// Event time after docs/rules.md 2.
    pub time: Timestamp,
    pub facts: &'e Facts,
    country: OnceCell<CountryLookup>,
    asn: OnceCell<Option<u32>>,
}

/// The value of a field of an event.
enum Got<'a> {
    Text(&'a str),
    /// A test holds for it where it holds for one of them.
    Texts(&'a [Cow<'a, str>]),
    Ip(IpAddr),
    Country(Country),
    Bool(bool),
    Integer(i64),
    Float(f64),
}

impl<'e> Enriched<'e> {
    pub fn new(event: &'e Event<'e>, time: Timestamp, facts: &'e Facts) -> Self {
        Enriched {
            event,
            time,
            facts,
            country: OnceCell::new(),
            asn: OnceCell::new(),
        }
    }

    /// The event's own country, which wins over any address, else the address's.
    pub fn country_lookup(&self) -> CountryLookup {
        *self
            .country
            .get_or_init(|| match (self.event.country, self.event.ip) {
                (Some(country), _) => CountryLookup::Found(country),
                (None, Some(ip)) => self.facts.country(ip),
                (None, None) => CountryLookup::NotFound,
            })
    }

    /// A real country, or nothing (docs/rules.md 8).
    pub fn country(&self) -> Option<Country> {
        self.country_lookup().country()
    }

    /// Whether the country was looked up for this event, and what came of it; for metrics.
    pub fn looked_up(&self) -> Option<CountryLookup> {
        match self.event.country {
            None => self.country.get().copied(),
            Some(_) => None,
        }
    }

    /// The network's number: the event's own, else that of its address.
    pub fn asn(&self) -> Option<u32> {
        *self
            .asn
            .get_or_init(|| match (self.event.asn, self.event.ip) {
                (Some(number), _) => Some(number),
                (None, Some(ip)) => self.facts.asn(ip),
                (None, None) => None,
            })
    }

    /// Whether everything is at hand that a rule needs to be judged at all: without a
    /// database it does not apply, in either sense of its tests.
    pub fn has(&self, needs: Needs) -> bool {
        // Where there is none, the look-up counts that.
        (!needs.country || self.country_lookup_works())
            && (!needs.asn || self.event.asn.is_some() || self.facts.asn.is_some())
    }

    fn country_lookup_works(&self) -> bool {
        let works = self.event.country.is_some() || self.facts.geo.is_some();
        if !works {
            self.country_lookup();
        }
        works
    }

    fn get(&self, field: Field) -> Option<Got<'_>> {
        let event = self.event;
        let text = |value: &'e Option<Cow<'e, str>>| value.as_deref().map(Got::Text);
        match field {
            Field::Id => Some(Got::Text(&event.id)),
            Field::Type => Some(Got::Text(event.kind.as_str())),
            Field::Account => text(&event.account),
            Field::Outcome => event.outcome.map(|o| Got::Text(o.as_str())),
            Field::Ip => event.ip.map(Got::Ip),
            Field::Method => text(&event.method),
            Field::Reason => text(&event.reason),
            Field::User => text(&event.user),
            Field::Repeat => event.repeat.map(Got::Bool),
            Field::Actor => text(&event.actor),
            Field::Role => text(&event.role),
            Field::Email => text(&event.email),
            Field::EmailVerified => event.email_verified.map(Got::Bool),
            Field::PreviousEmail => text(&event.previous_email),
            Field::Case => text(&event.case),
            Field::Locale => text(&event.locale),
            Field::UserAgent => text(&event.user_agent),
            Field::Session => text(&event.session),
            Field::Country => self.country().map(Got::Country),
            Field::Asn => self.asn().map(|number| Got::Integer(i64::from(number))),
            Field::Owners if event.owners.is_empty() => None,
            Field::Owners => Some(Got::Texts(&event.owners)),
            Field::Extra(id) => {
                let (_, value) = event.extra.iter().find(|(at, _)| *at == id)?;
                Some(match value {
                    FieldValue::Text(text) => Got::Text(text),
                    FieldValue::Bool(value) => Got::Bool(*value),
                    FieldValue::Integer(value) => Got::Integer(*value),
                    FieldValue::Float(value) => Got::Float(*value),
                })
            }
        }
    }

    /// The field's value as people read it; `None` where absent.
    pub fn value_text(&self, field: Field) -> Option<String> {
        Some(match self.get(field)? {
            Got::Text(text) => text.to_owned(),
            Got::Texts(texts) => texts.join(" "),
            Got::Ip(ip) => ip.to_string(),
            Got::Country(country) => country.to_string(),
            Got::Bool(value) => value.to_string(),
            Got::Integer(value) => value.to_string(),
            Got::Float(value) => value.to_string(),
        })
    }

    /// The field's value as the bytes by which values are told apart; `None` where absent.
    pub fn value_bytes(&self, field: Field) -> Option<Cow<'_, [u8]>> {
        Some(match self.get(field)? {
            Got::Text(text) => Cow::Borrowed(text.as_bytes()),
            Got::Texts(texts) => Cow::Owned(texts.join("\0").into_bytes()),
            Got::Ip(IpAddr::V4(ip)) => Cow::Owned(ip.octets().to_vec()),
            Got::Ip(IpAddr::V6(ip)) => Cow::Owned(ip.octets().to_vec()),
            Got::Country(country) => Cow::Owned(country.to_bytes().to_vec()),
            Got::Bool(value) => Cow::Owned(vec![u8::from(value)]),
            Got::Integer(value) => Cow::Owned(value.to_be_bytes().to_vec()),
            Got::Float(value) => Cow::Owned(value.to_bits().to_be_bytes().to_vec()),
        })
    }
}

impl Condition {
    /// Whether every line holds, of an event that the dispatch table brought here: the type
    /// and the outcome of a known type have been looked at already.
    pub fn holds(&self, event: &Enriched<'_>) -> bool {
        let dispatched = matches!(event.event.kind, EventType::Known(_));
        self.lines.iter().all(|line| {
            dispatched && matches!(line.field, Field::Type | Field::Outcome) || line.holds(event)
        })
    }

    /// The first line that does not hold, whether the event was dispatched or not.
    pub fn first_unmet(&self, event: &Enriched<'_>) -> Option<&Line> {
        self.lines.iter().find(|line| !line.holds(event))
    }

    /// Whether some line is about `field`.
    pub fn looks_at(&self, field: Field) -> bool {
        self.lines.iter().any(|line| line.field == field)
    }
}

impl Line {
    fn holds(&self, event: &Enriched<'_>) -> bool {
        self.test.holds(event.get(self.field).as_ref(), event)
    }
}

impl Test {
    fn holds(&self, got: Option<&Got<'_>>, event: &Enriched<'_>) -> bool {
        match (self, got) {
            (Test::Exists(wanted), got) => got.is_some() == *wanted,
            (Test::Not(test), got) => !test.holds(got, event),
            (Test::AnyOf(tests), got) => tests.iter().any(|test| test.holds(got, event)),
            (Test::AllOf(tests), got) => tests.iter().all(|test| test.holds(got, event)),
            (_, None) => false,
            (Test::Is(scalar), Some(got)) => is(scalar, got),
            (Test::InList(list), Some(Got::Ip(ip))) => event.facts.lists.contains(*list, *ip),
            (Test::NotInList(list), Some(Got::Ip(ip))) => !event.facts.lists.contains(*list, *ip),
            (Test::Cidr(networks), Some(Got::Ip(ip))) => {
                networks.iter().any(|network| network.contains(ip))
            }
            (Test::Glob(glob), Some(got)) => with_text(got, |text| glob.is_match(text)),
            (Test::Regex(regex), Some(got)) => with_text(got, |text| regex.is_match(text)),
            (Test::InList(_) | Test::NotInList(_) | Test::Cidr(_), _) => false,
        }
    }

    /// The test's answer for a field whose text is known while compiling (`type`,
    /// `outcome`).
    pub fn holds_for_text(&self, text: Option<&str>) -> bool {
        let got = text.map(Got::Text);
        match (self, &got) {
            (Test::Exists(wanted), got) => got.is_some() == *wanted,
            (Test::Not(test), _) => !test.holds_for_text(text),
            (Test::AnyOf(tests), _) => tests.iter().any(|test| test.holds_for_text(text)),
            (Test::AllOf(tests), _) => tests.iter().all(|test| test.holds_for_text(text)),
            (Test::Is(scalar), Some(got)) => is(scalar, got),
            (Test::Glob(glob), Some(got)) => with_text(got, |text| glob.is_match(text)),
            (Test::Regex(regex), Some(got)) => with_text(got, |text| regex.is_match(text)),
            _ => false,
        }
    }
}

fn is(wanted: &Scalar, got: &Got<'_>) -> bool {
    match (wanted, got) {
        (Scalar::Text(wanted), Got::Texts(got)) => got.iter().any(|got| got == wanted),
        (Scalar::Text(wanted), Got::Text(got)) => wanted == got,
        (Scalar::Text(wanted), Got::Country(got)) => wanted.eq_ignore_ascii_case(got.as_str()),
        (Scalar::Text(wanted), Got::Ip(got)) => wanted
            .parse::<IpAddr>()
            .is_ok_and(|ip| canonical_ip(ip) == *got),
        (Scalar::Bool(wanted), Got::Bool(got)) => wanted == got,
        (Scalar::Integer(wanted), Got::Integer(got)) => wanted == got,
        (Scalar::Integer(wanted), Got::Float(got)) => *wanted as f64 == *got,
        (Scalar::Float(wanted), Got::Float(got)) => wanted == got,
        (Scalar::Float(wanted), Got::Integer(got)) => *wanted == *got as f64,
        _ => false,
    }
}

fn with_text(got: &Got<'_>, test: impl Fn(&str) -> bool) -> bool {
    match got {
        Got::Text(text) => test(text),
        Got::Texts(texts) => texts.iter().any(|text| test(text)),
        Got::Country(country) => test(country.as_str()),
        Got::Ip(ip) => test(&ip.to_string()),
        Got::Bool(value) => test(if *value { "true" } else { "false" }),
        Got::Integer(value) => test(&value.to_string()),
        Got::Float(value) => test(&value.to_string()),
    }
}
