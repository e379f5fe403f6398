//! One event, one rule, one account: does the rule hit?

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::event::{Timestamp, network_of};
use crate::rules::eval::Enriched;
use crate::rules::{By, Detect, Field, Learn, Rule, RuleKey};

use super::account::{Account, Contact, Entry, RuleState, Seen};
use super::case::CasePlace;
use super::mailing::MAX_CO_OWNERS;
use super::output::{Counts, Evidence};
use super::seen::{Judged, SeenSpec, Verdict, country_value};
use super::streak::{self, Again, StreakSpec};
use super::window::{self, Observed, Refused, WindowSpec, lateness_ms};
use super::{Engine, Settings, StateKey};

/// Bytes of a session id and of a value's text that are kept.
const MAX_SESSION: usize = 256;
const MAX_VALUE_TEXT: usize = 128;

/// A rule's condition was reached.
#[derive(Debug)]
pub struct Hit {
    pub value: u32,
    pub evidence: Vec<Evidence>,
    pub sessions: Vec<Box<str>>,
    /// For `first_seen`: what the owner is asked about.
    pub place: Option<CasePlace>,
    /// Where mail goes, as the newest evidence said.
    pub contact: Option<Contact>,
}

/// What an event did to what one rule keeps.
#[derive(Debug)]
pub struct Detected {
    pub hit: Result<Hit, NoHit>,
    /// Whether the account's durable record changed.
    pub changed: bool,
}

/// Why an event that matches a rule was no hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoHit {
    /// The account already has as many groups as it may keep.
    NoRoom,
    /// The field that `of` names is absent.
    NoValue,
    NoCountry,
    Refused(Refused),
    /// The window says the same without it.
    Redundant,
    /// It counts, and is not enough.
    Held,
    Known,
    /// Known by the name that the previous database gives it.
    Moved,
    Learned,
    /// Nothing to judge by yet, and it must not teach.
    NotTaught,
}

impl Detected {
    fn nothing(why: NoHit) -> Detected {
        Detected {
            hit: Err(why),
            changed: false,
        }
    }

    fn kept(why: NoHit) -> Detected {
        Detected {
            hit: Err(why),
            changed: true,
        }
    }
}

/// How the rule set and settings bear on one rule and account.
pub struct Place<'a> {
    pub settings: &'a Settings,
    pub rule: &'a Rule,
    /// Whether the rule's known countries live in the account's own bytes.
    pub resident: bool,
    /// Whether the last end of the rule's runs may stand there.
    pub resident_run: bool,
    /// The user, for rules kept by account and user.
    pub group: Option<&'a str>,
    /// Whether the address stands in the list `anonymizers`.
    pub anonymized: bool,
}

/// An event that matches the rule's `when`.
pub fn matched(
    place: &Place<'_>,
    account: &mut Account,
    event: &Enriched<'_>,
    counts: &mut Counts,
) -> Detected {
    match &place.rule.detect {
        Detect::Each => Detected {
            hit: Ok(single(event, None)),
            changed: false,
        },
        Detect::Count {
            at_least,
            within_ms,
        } => {
            let spec = WindowSpec {
                distinct: false,
                at_least: *at_least,
                within_ms: *within_ms,
                lateness_ms: lateness_ms(place.settings.max_lateness_ms, *within_ms),
            };
            windowed(place, account, event, 0, spec, counts)
        }
        Detect::Distinct {
            of,
            at_least,
            within_ms,
            prefix4,
            prefix6,
        } => {
            let Some(value) = value_of(place.settings, event, *of, *prefix4, *prefix6) else {
                return Detected::nothing(NoHit::NoValue);
            };
            let spec = WindowSpec {
                distinct: true,
                at_least: *at_least,
                within_ms: *within_ms,
                lateness_ms: lateness_ms(place.settings.max_lateness_ms, *within_ms),
            };
            windowed(place, account, event, value, spec, counts)
        }
        Detect::Streak {
            at_least,
            max_gap_ms,
            ..
        } => {
            let spec = streak_spec(place.settings, *at_least, *max_gap_ms);
            let stood = account.run_end();
            unfold_end(place, account);
            let Some(state) = account.rule_mut(place.rule.key, place.group) else {
                return Detected::nothing(NoHit::NoRoom);
            };
            let observed =
                streak::lengthen(&mut state.entries, entry(event, 0, false), spec, counts);
            let mut detected = from_observed(place.rule, observed, state, event);
            fold_end(place, account);
            // Where an end stands is durable, too.
            detected.changed |= account.run_end() != stood;
            detected
        }
        Detect::FirstSeen {
            of,
            forget_after_ms,
            learn,
        } => {
            let spec = SeenSpec {
                forget_after_ms: *forget_after_ms,
                learn: *learn,
            };
            first_seen(place, account, event, *of, spec, counts)
        }
    }
}

/// An event that ends a streak of the rule.
pub fn broken(
    place: &Place<'_>,
    account: &mut Account,
    event: &Enriched<'_>,
    counts: &mut Counts,
) -> bool {
    let Detect::Streak {
        at_least,
        max_gap_ms,
        ..
    } = place.rule.detect
    else {
        return false;
    };
    let spec = streak_spec(place.settings, at_least, max_gap_ms);
    if place.resident_run && account.rule(place.rule.key, None).is_none() {
        // The ordinary case, without touching the heap: nothing but an end is held.
        let again = match account.run_end() {
            None => Again::Replaces,
            Some(held) => streak::end_again(held, event.time, spec),
        };
        match again {
            Again::Same => {
                counts.duplicate += 1;
                return false;
            }
            Again::PartsNothing => return false,
            Again::Replaces if account.put_run_end(event.time) => return true,
            Again::Replaces | Again::Both => {}
        }
    }
    let stood = account.run_end();
    unfold_end(place, account);
    let changed = account
        .rule_mut(place.rule.key, place.group)
        .is_some_and(|state| streak::end(&mut state.entries, entry(event, 0, true), spec, counts));
    fold_end(place, account);
    changed || account.run_end() != stood
}

/// Moves an end that stands in the account's own bytes to where runs are judged.
fn unfold_end(place: &Place<'_>, account: &mut Account) {
    if place.resident_run
        && let Some(at) = account.take_run_end()
        && let Some(state) = account.rule_mut(place.rule.key, None)
    {
        window::insert(&mut state.entries, Entry::end_of_run(at));
    }
}

/// Moves it back where that is possible.
fn fold_end(place: &Place<'_>, account: &mut Account) {
    if place.resident_run {
        account.fold_run_end(place.rule.key);
    }
}

pub fn streak_spec(settings: &Settings, at_least: u32, max_gap_ms: i64) -> StreakSpec {
    StreakSpec {
        at_least,
        max_gap_ms,
        lateness_ms: lateness_ms(settings.max_lateness_ms, max_gap_ms),
    }
}

fn windowed(
    place: &Place<'_>,
    account: &mut Account,
    event: &Enriched<'_>,
    value: u64,
    spec: WindowSpec,
    counts: &mut Counts,
) -> Detected {
    let Some(state) = account.rule_mut(place.rule.key, place.group) else {
        return Detected::nothing(NoHit::NoRoom);
    };
    let observed = window::observe(&mut state.entries, entry(event, value, false), spec, counts);
    from_observed(place.rule, observed, state, event)
}

fn from_observed(
    rule: &Rule,
    observed: Observed,
    state: &mut RuleState,
    event: &Enriched<'_>,
) -> Detected {
    // Nobody is mailed about an address, and its record outlives the accounts that it met.
    let told = || match rule.by {
        By::Ip => None,
        By::Account | By::AccountAndUser => contact(event),
    };
    match observed {
        Observed::Refused(why) => Detected::nothing(NoHit::Refused(why)),
        Observed::Redundant => Detected::nothing(NoHit::Redundant),
        Observed::Held => {
            state.note_contact(told());
            Detected::kept(NoHit::Held)
        }
        Observed::Hit(hit) => {
            state.note_contact(told());
            let sessions = hit
                .entries
                .iter()
                .filter_map(|entry| entry.session.clone())
                .collect();
            Detected {
                hit: Ok(Hit {
                    value: hit.value,
                    evidence: hit.entries.iter().map(Entry::evidence).collect(),
                    sessions,
                    place: None,
                    contact: state.contact.take().map(|contact| *contact),
                }),
                changed: true,
            }
        }
    }
}

fn first_seen(
    place: &Place<'_>,
    account: &mut Account,
    event: &Enriched<'_>,
    of: Field,
    spec: SeenSpec,
    counts: &mut Counts,
) -> Detected {
    if of == Field::Country {
        let Some(country) = event.country() else {
            counts.country_unknown += 1;
            return Detected::nothing(NoHit::NoCountry);
        };
        let learn = match spec.learn {
            Learn::Events(events) => events.min(u32::from(u8::MAX)) as u8,
            Learn::SpanMs(_) => u8::MAX,
        };
        if place.resident && account.knows_inline(country.to_bytes(), event.time.day(), learn) {
            return Detected::nothing(NoHit::Known);
        }
    }
    let Some((value, text)) = place_of(place.settings, event, of) else {
        return Detected::nothing(NoHit::NoValue);
    };
    let judged = Judged {
        value,
        time: event.time,
        may_teach: !place.anonymized,
    };
    let moved_on_the_map = previous_value(event, of);
    let verdict = with_seen(
        account,
        place.rule.key,
        place.group,
        place.resident,
        |seen| {
            // After a database update, new means new in the previous one too (docs/rules.md 8).
            let day = event.time.day();
            if let Some(before) = moved_on_the_map
                && before != value
                && !seen.is_known(value, day, spec)
                && seen.is_known(before, day, spec)
            {
                if judged.may_teach {
                    seen.teach(value, day);
                }
                return Verdict::Moved(judged.may_teach);
            }
            seen.judge(judged, spec)
        },
    );
    let (why, changed) = match verdict {
        Some(Verdict::New) => {
            let new = CasePlace {
                rule: place.rule.key,
                group: place.group.map(Box::from),
                value,
                text: text.into(),
                time: event.time,
                known: false,
                teach: !place.anonymized,
            };
            return Detected {
                hit: Ok(single(event, Some(new))),
                changed: false,
            };
        }
        Some(Verdict::Known(changed)) => (NoHit::Known, changed),
        Some(Verdict::Moved(changed)) => (NoHit::Moved, changed),
        Some(Verdict::Taught) => (NoHit::Learned, true),
        Some(Verdict::Ignored) => (NoHit::NotTaught, false),
        None => (NoHit::NoRoom, false),
    };
    Detected {
        hit: Err(why),
        changed,
    }
}

/// The value that the previous database gives, where the country came from an address.
fn previous_value(event: &Enriched<'_>, of: Field) -> Option<u64> {
    if of != Field::Country || event.event.country.is_some() {
        return None;
    }
    event.facts.previous_geo.as_ref()?;
    let country = event.facts.previous_country(event.event.ip?).country()?;
    Some(country_value(country.to_bytes()))
}

/// Runs `judge` on what a rule knows, wherever it is kept. `None` where the account already
/// has as many groups as it may keep.
pub fn with_seen<R>(
    account: &mut Account,
    key: RuleKey,
    group: Option<&str>,
    resident: bool,
    judge: impl FnOnce(&mut Seen) -> R,
) -> Option<R> {
    let in_box = account
        .rule(key, group)
        .is_some_and(|state| state.seen.is_some());
    if resident && !in_box {
        let mut seen = account.take_inline();
        let result = judge(&mut seen);
        if let Some(too_big) = account.put_inline(seen) {
            account.rule_mut(key, group)?.seen = Some(Box::new(too_big));
        }
        return Some(result);
    }
    let state = account.rule_mut(key, group)?;
    Some(judge(state.seen.get_or_insert_default()))
}

/// The event's value of `of` for `first_seen`, and how pages name it; `None` where it has
/// none.
pub fn place_of(settings: &Settings, event: &Enriched<'_>, of: Field) -> Option<(u64, String)> {
    if of == Field::Country {
        let country = event.country()?;
        let text = format!("country:{country}");
        return Some((country_value(country.to_bytes()), text));
    }
    let value = value_of(settings, event, of, 32, 64)?;
    Some((value, value_text(event, of, value)))
}

/// By which values of `of` are told apart; `None` where the field is absent.
pub fn value_of(
    settings: &Settings,
    event: &Enriched<'_>,
    of: Field,
    prefix4: u8,
    prefix6: u8,
) -> Option<u64> {
    let mut hash = SipHasher13::new_with_key(&settings.state_key);
    if of == Field::Ip {
        let ip = event.event.ip?;
        let prefix = if ip.is_ipv4() { prefix4 } else { prefix6 };
        match network_of(ip, prefix) {
            std::net::IpAddr::V4(ip) => hash.write(&ip.octets()),
            std::net::IpAddr::V6(ip) => hash.write(&ip.octets()),
        }
    } else {
        hash.write(&event.value_bytes(of)?);
    }
    Some(hash.finish())
}

/// What a page shows and posts back for a value that is not a country. Where it cannot show
/// all of it, the value's hash keeps it apart from others that look the same.
fn value_text(event: &Enriched<'_>, of: Field, value: u64) -> String {
    let name = match of {
        Field::Ip => "ip",
        Field::UserAgent => "device",
        _ => "value",
    };
    let whole = event.value_text(of).unwrap_or_default();
    let shown: String = whole
        .chars()
        .filter(|c| !c.is_control())
        .take(MAX_VALUE_TEXT)
        .collect();
    if shown == whole {
        format!("{name}:{shown}")
    } else {
        format!("{name}:{shown} #{value:016x}")
    }
}

/// A hit by this event alone.
fn single(event: &Enriched<'_>, place: Option<CasePlace>) -> Hit {
    let entry = entry(event, 0, false);
    Hit {
        value: 1,
        evidence: vec![entry.evidence()],
        sessions: entry.session.into_iter().collect(),
        place,
        contact: contact(event),
    }
}

pub fn entry(event: &Enriched<'_>, value: u64, is_break: bool) -> Entry {
    Entry {
        time: event.time,
        id: Box::from(&*event.event.id),
        value,
        is_break,
        ip: event.event.ip,
        country: if is_break { None } else { event.country() },
        session: event
            .event
            .session
            .as_deref()
            .filter(|session| !is_break && session.len() <= MAX_SESSION)
            .map(Box::from),
    }
}

/// Where mail goes as this event says; `None` where it says nothing.
pub fn contact(event: &Enriched<'_>) -> Option<Contact> {
    let of = event.event;
    if of.email.is_none() && of.owners.is_empty() && of.locale.is_none() {
        return None;
    }
    Some(Contact {
        time: event.time,
        email: of.email.as_deref().map(Box::from),
        verified: of.email_verified.unwrap_or(true),
        locale: of
            .locale
            .as_deref()
            .filter(|locale| locale.len() <= 35)
            .map(Box::from),
        owners: of
            .owners
            .iter()
            .take(MAX_CO_OWNERS)
            .map(|owner| Box::from(&**owner))
            .collect(),
        name: of.account_name.as_deref().map(Box::from),
    })
}

/// The key of an account in `doorward.state`.
pub fn account_key(state_key: &[u8; 16], account: &str) -> StateKey {
    keyed(state_key, b'a', account.as_bytes())
}

/// The key of an address in the records of rules kept `by: ip`.
pub fn ip_key(state_key: &[u8; 16], ip: std::net::IpAddr) -> StateKey {
    match network_of(ip, if ip.is_ipv4() { 32 } else { 64 }) {
        std::net::IpAddr::V4(ip) => keyed(state_key, b'i', &ip.octets()),
        std::net::IpAddr::V6(ip) => keyed(state_key, b'i', &ip.octets()),
    }
}

/// The key of a partition's own record.
pub fn partition_key(state_key: &[u8; 16]) -> StateKey {
    keyed(state_key, b'p', b"")
}

fn keyed(key: &[u8; 16], domain: u8, bytes: &[u8]) -> StateKey {
    use siphasher::sip128::{Hasher128, SipHasher13 as Sip128};
    let mut hash = Sip128::new_with_key(key);
    hash.write_u8(domain);
    hash.write(bytes);
    StateKey(hash.finish128().as_bytes())
}

/// Whether nothing that a rule's windows and runs hold can matter any more, by broker time
/// `now`: what a late event could still complete would be older than `act_within`, and so do
/// nothing (docs/rules.md 4). What a rule set does not know is not its to judge: see
/// [`super::Partition`].
pub fn is_spent(engine: &Engine, state: &RuleState, now: Timestamp) -> bool {
    let settings = engine.settings();
    let newest = state.entries.last().map(|entry| entry.time);
    let rules = engine.rules().rules();
    let Some(rule) = rules.iter().find(|rule| rule.key == state.key) else {
        return false;
    };
    let cooled = now.since_ms(state.last_acted) >= rule.cooldown_ms;
    let reach = match rule.detect {
        Detect::Each | Detect::FirstSeen { .. } => 0,
        Detect::Count { within_ms, .. } | Detect::Distinct { within_ms, .. } => within_ms,
        Detect::Streak {
            at_least,
            max_gap_ms,
            ..
        } => {
            let spec = streak_spec(settings, at_least, max_gap_ms);
            let only_ends = state.entries.iter().all(|entry| entry.is_break);
            if only_ends && streak::is_spent(&state.entries, spec, settings.act_within_ms, now) {
                return cooled;
            }
            max_gap_ms
        }
    };
    let old = newest.is_none_or(|newest| {
        now.since_ms(newest)
            > reach
                .saturating_add(settings.max_lateness_ms)
                .saturating_add(settings.act_within_ms)
    });
    old && cooled
}
