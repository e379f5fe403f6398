//! A timeline's steps: events, answers, operators' requests, and time that passes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use serde_json::{Map, Value as Json};

use crate::document::{Diagnostics, Fields, Key, Node, SourceFile, Value, parse_duration_ms};
use crate::event::Country;

use super::expect::{self, Expected};
use super::fields::{check_field, fields_json, literal, pattern};
use super::parse::Defaults;
use super::places::{self, Kind, MAX_DIFFERENT, Places};
use super::time::parse_ms;

/// Events that one line may stand for.
pub(super) const MAX_TIMES: i64 = 1_000;

/// One thing that happens.
#[derive(Debug)]
pub struct Step {
    /// Where it is written; several steps may come from one line.
    pub span: Range<usize>,
    /// Event time, from the start.
    pub at_ms: i64,
    /// The broker's time.
    pub received_ms: i64,
    pub what: What,
    pub expected: Expected,
}

#[derive(Debug)]
pub enum What {
    /// The event's fields, but for `id` (unless the test says one) and `time`.
    Event(Map<String, Json>),
    /// The answer of an account's owner to its case.
    Answer {
        account: String,
        answer: String,
        /// `None`: every place that the case asks about.
        places: Option<Vec<String>>,
        /// `None`: as the case stands.
        version: Option<i64>,
        by: &'static str,
    },
    Operator {
        account: String,
        request: &'static str,
    },
    /// Time passes, and timers act; `account` is the one whose standing is looked at.
    Wait { account: String },
}

/// Reads the steps of one test, one after the other.
pub(super) struct Steps<'a, 'g> {
    file: &'a Arc<SourceFile>,
    rules: &'a [Arc<str>],
    defaults: &'a Defaults<'a>,
    places: &'a mut Places<'g>,
    /// The broker's clock.
    clock_ms: i64,
    /// Addresses handed out so far.
    used: BTreeMap<Option<Country>, usize>,
    done: Vec<Step>,
}

impl<'a, 'g> Steps<'a, 'g> {
    pub(super) fn new(
        file: &'a Arc<SourceFile>,
        rules: &'a [Arc<str>],
        defaults: &'a Defaults<'a>,
        places: &'a mut Places<'g>,
    ) -> Self {
        Steps {
            file,
            rules,
            defaults,
            places,
            clock_ms: 0,
            used: BTreeMap::new(),
            done: Vec::new(),
        }
    }

    pub(super) fn done(self) -> Vec<Step> {
        self.done
    }

    pub(super) fn read(&mut self, node: &Node, found: &mut Diagnostics) {
        let Some(mut fields) = Fields::of(self.file, node, "an event", found) else {
            return;
        };
        let at_ms = self.time(&mut fields, "at", found);
        let received = fields.optional("received").is_some();
        let received_ms = self.time(&mut fields, "received", found);
        let expected = expect::read(&mut fields, self.rules, found);
        if fields.optional("wait").is_some() {
            let wait = fields.duration_ms("wait", found).unwrap_or(0);
            let account = self.account(&mut fields, found);
            fields.finish(found);
            let at_ms = self.clock_ms.saturating_add(wait);
            return self.push(node, at_ms, at_ms, What::Wait { account }, expected);
        }
        if received && received_ms < self.clock_ms {
            let span = fields
                .optional("received")
                .map_or(0..0, |node| node.span.clone());
            let message = "the broker's clock does not go back";
            let help = "`received` is when the event arrives: later than the one before it";
            found.error(self.file, span, message, Some(help.into()));
        }
        let received_ms = match received {
            true => received_ms,
            false => at_ms.max(self.clock_ms),
        };
        if fields.optional("answer").is_some() {
            let what = self.answer(fields, found);
            self.push(node, at_ms, received_ms, what, expected);
        } else if fields.optional("operator").is_some() {
            let what = self.operator(fields, found);
            self.push(node, at_ms, received_ms, what, expected);
        } else {
            self.events(
                node,
                fields,
                (at_ms, received.then_some(received_ms)),
                expected,
                found,
            );
        }
    }

    fn push(&mut self, node: &Node, at_ms: i64, received_ms: i64, what: What, expected: Expected) {
        self.clock_ms = self.clock_ms.max(received_ms);
        self.done.push(Step {
            span: node.span.clone(),
            at_ms,
            received_ms,
            what,
            expected,
        });
    }

    /// `5m` from the start, or `+5m` after the one before; without it, the moment of that.
    fn time(&self, fields: &mut Fields<'_>, name: &'static str, found: &mut Diagnostics) -> i64 {
        let Some(node) = fields.optional(name) else {
            return self.clock_ms;
        };
        let written = match &node.value {
            Value::Text(text) => text.clone(),
            Value::Integer(n) => n.to_string(),
            other => other.kind().to_owned(),
        };
        let parsed = match written.strip_prefix('+') {
            Some(after) => parse_ms(after).map(|ms| self.clock_ms.saturating_add(ms)),
            None => parse_ms(&written),
        };
        parsed.unwrap_or_else(|help| {
            let message = format!("`{name}: {written}` is no time of a timeline");
            let help = format!("{help}; after the event before: `+30s`");
            found.error(self.file, node.span.clone(), message, Some(help));
            self.clock_ms
        })
    }

    fn account(&self, fields: &mut Fields<'_>, found: &mut Diagnostics) -> String {
        if let Some(account) = fields.text("account", found) {
            return account.to_owned();
        }
        let default = self
            .defaults
            .iter()
            .rev()
            .find(|(key, _)| key.name == "account");
        match default.map(|(_, node)| &node.value) {
            Some(Value::Text(account)) => account.clone(),
            _ => "anna".to_owned(),
        }
    }

    fn answer(&self, mut fields: Fields<'_>, found: &mut Diagnostics) -> What {
        const ANSWERS: &[(&str, &str)] = &[
            ("me", "me"),
            ("not_me", "not_me"),
            ("rotate_keys", "rotate_keys"),
            ("cancel_recovery", "cancel_recovery"),
            ("resend", "resend"),
        ];
        let answer = fields.choice("answer", ANSWERS, found).unwrap_or("me");
        let by = fields.choice("by", &[("owner", "owner"), ("co_owner", "co_owner")], found);
        let version = fields.integer("version", 0..=1_000_000, found);
        let account = self.account(&mut fields, found);
        let places = match fields.optional("places").map(|node| (&node.value, node)) {
            None => None,
            Some((Value::Text(text), _)) if text == "all" => None,
            Some((Value::Text(text), _)) if text == "none" => Some(Vec::new()),
            Some((Value::List(items), _)) => Some(
                items
                    .iter()
                    .filter_map(|item| self.place(item, found))
                    .collect(),
            ),
            Some((_, node)) => self.place(node, found).map(|place| vec![place]),
        };
        fields.finish(found);
        What::Answer {
            account,
            answer: answer.to_owned(),
            places,
            version,
            by: by.unwrap_or("owner"),
        }
    }

    /// A place as an answer posts it: a country by name, or the case's own word for it.
    fn place(&self, node: &Node, found: &mut Diagnostics) -> Option<String> {
        let help = match &node.value {
            Value::Text(text) if text.contains(':') => return Some(text.clone()),
            Value::Text(text) => match places::country(text) {
                Ok(country) => return Some(format!("country:{country}")),
                Err(help) => help,
            },
            _ => "write countries by name, `all` or `none`".to_owned(),
        };
        let message = "this is no place that an owner could tick";
        found.error(self.file, node.span.clone(), message, Some(help));
        None
    }

    fn operator(&self, mut fields: Fields<'_>, found: &mut Diagnostics) -> What {
        const REQUESTS: &[(&str, &str)] = &[
            ("unlock", "unlock"),
            ("undo", "undo"),
            ("resend", "resend"),
            ("release_recovery", "release_recovery"),
            ("cancel_recovery", "cancel_recovery"),
        ];
        let request = fields
            .choice("operator", REQUESTS, found)
            .unwrap_or("unlock");
        let account = self.account(&mut fields, found);
        fields.finish(found);
        What::Operator { account, request }
    }

    fn events(
        &mut self,
        node: &Node,
        mut fields: Fields<'_>,
        (at_ms, received_ms): (i64, Option<i64>),
        expected: Expected,
        found: &mut Diagnostics,
    ) {
        let times_written = fields.optional("times").map(|node| node.span.clone());
        let times = fields.integer("times", 1..=MAX_TIMES, found);
        let every = fields.optional("every");
        let every_ms = every.and_then(|node| match &node.value {
            Value::Text(text) => parse_duration_ms(text).ok().map(|ms| (ms, node)),
            _ => None,
        });
        if every.is_some() && every_ms.is_none() {
            fields.duration_ms("every", found);
        }
        let mut merged: Vec<(&Key, &Node)> = Vec::new();
        let own: Vec<(&Key, &Node)> = fields.rest().collect();
        for (key, value) in &own {
            check_field(self.file, key, value, found);
        }
        let owns = |name: &str| own.iter().any(|(key, _)| key.name == name);
        let spelled = own
            .iter()
            .any(|(key, value)| key.name == "ip" && literal(value));
        let (owns_ip, owns_from) = (owns("ip"), owns("from"));
        for (key, value) in self
            .defaults
            .iter()
            .map(|(key, value)| (key, value))
            .chain(own)
        {
            merged.retain(|(earlier, _)| earlier.name != key.name);
            merged.push((key, value));
        }
        // An address of its own is meant instead of the defaults' country, and the other way
        // round.
        merged.retain(|(key, value)| match key.name.as_str() {
            "from" => owns_from || !spelled,
            "ip" => owns_ip || !owns_from || !literal(value),
            _ => true,
        });
        let Some(addresses) = self.addresses(&merged, found) else {
            return;
        };
        let several = addresses.as_ref().map_or(1, Vec::len);
        let count = match (times, several) {
            (Some(times), 1) => usize::try_from(times).unwrap_or(1),
            (Some(times), n) if usize::try_from(times).ok() != Some(n) => {
                let message = format!("`times: {times}` does not fit {n} addresses");
                let help = "leave `times` out: one event for each address".to_owned();
                found.error(
                    self.file,
                    times_written.unwrap_or(0..0),
                    message,
                    Some(help),
                );
                return;
            }
            (_, n) => n,
        };
        if count > 1 && every.is_none() {
            let message = "several events, and it is not said how far apart";
            let help = "write `every: 10s` (or `0s`)".to_owned();
            found.error(
                self.file,
                fields.span().start..fields.span().start + 1,
                message,
                Some(help),
            );
            return;
        }
        let json = fields_json(&merged);
        if !json.contains_key("type") {
            let message = "this event has no `type`";
            let help = "write it here or in `defaults`: `type: login`".to_owned();
            found.error(self.file, first_line(self.file, node), message, Some(help));
            return;
        }
        let every_ms = every_ms.map_or(0, |(ms, _)| ms);
        for n in 0..count {
            let mut json = json.clone();
            if let Some(addresses) = &addresses {
                let ip = addresses[n % addresses.len()].to_string();
                json.insert("ip".to_owned(), Json::String(ip));
            }
            let at_ms = at_ms.saturating_add(every_ms.saturating_mul(n as i64));
            let received = received_ms.unwrap_or(at_ms.max(self.clock_ms));
            // What is expected of a line is expected of its last event; those before it are
            // to decide nothing.
            let expected = match n + 1 == count {
                true => expected.clone(),
                false => Expected::default(),
            };
            self.push(node, at_ms, received, What::Event(json), expected);
        }
    }

    /// The addresses that `ip` and `from` stand for; `Some(None)` where `ip` is spelled out
    /// or absent, `None` where a mistake was found.
    #[allow(
        clippy::option_option,
        reason = "a mistake and no address are different answers"
    )]
    fn addresses(
        &mut self,
        merged: &[(&Key, &Node)],
        found: &mut Diagnostics,
    ) -> Option<Option<Vec<IpAddr>>> {
        let field = |name: &str| {
            merged
                .iter()
                .find(|(key, node)| key.name == name && node.value != Value::Null)
                .map(|(_, node)| *node)
        };
        let (ip, from) = (field("ip"), field("from"));
        let country = match from.map(|node| (&node.value, node)) {
            Some((Value::Text(text), _)) => places::country(text).ok(),
            _ => None,
        };
        let pattern = match ip.map(|node| &node.value) {
            Some(Value::Text(text)) => pattern(text),
            _ => None,
        };
        let (count, kind) = match (pattern, ip, from) {
            (None, Some(ip), Some(from)) => {
                let message = "`ip` is spelled out, and `from` would choose another";
                let help = "keep one of them; `country` is the event's own field".to_owned();
                let at = if literal(ip) { from } else { ip };
                found.error(self.file, at.span.clone(), message, Some(help));
                return None;
            }
            (None, _, None) => return Some(None),
            (None, None, Some(from)) => {
                return self
                    .inside(country?, 0, from, found)
                    .map(|ip| Some(vec![ip]));
            }
            (Some(pattern), _, _) => pattern,
        };
        let at = ip.or(from)?;
        if from.is_some() && kind != Kind::V4 {
            let message = "`from` finds IPv4 addresses only";
            let help = "write the event's own field instead: `country: Norway`".to_owned();
            found.error(self.file, at.span.clone(), message, Some(help));
            return None;
        }
        let country = match from {
            Some(_) => Some(country?),
            None => None,
        };
        let mut addresses = Vec::with_capacity(count);
        for _ in 0..count {
            let used = self.used.entry(country).or_default();
            let nth = *used;
            *used += 1;
            addresses.push(match country {
                Some(country) => self.inside(country, nth + 1, at, found)?,
                None => Places::anywhere(kind, nth),
            });
        }
        if self
            .used
            .get(&country)
            .is_some_and(|used| *used > MAX_DIFFERENT)
        {
            let message = format!("a test has {MAX_DIFFERENT} different addresses at most");
            found.error(self.file, at.span.clone(), message, None);
            return None;
        }
        Some(Some(addresses))
    }

    fn inside(
        &mut self,
        country: Country,
        nth: usize,
        at: &Node,
        found: &mut Diagnostics,
    ) -> Option<IpAddr> {
        let ip = self.places.inside(country, nth);
        if ip.is_none() {
            let message = format!("the country database has no such address in {country}");
            let help = format!("write the event's own field instead: `country: {country}`");
            found.error(self.file, at.span.clone(), message, Some(help));
        }
        ip
    }
}

/// The first line of a node, so that a caret under a block stays readable.
fn first_line(file: &SourceFile, node: &Node) -> Range<usize> {
    let start = node.span.start.min(file.text.len());
    let end = file.text[start..]
        .find('\n')
        .map_or(file.text.len(), |at| start + at);
    start..end.min(node.span.end.max(start))
}
