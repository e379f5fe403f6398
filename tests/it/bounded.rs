//! Memory under attack: what a flood of made-up accounts, people and addresses may cost, and
//! that it costs no real account what is known of it. Small bounds here; `benches/memory.rs`
//! has the full scale.

use std::collections::HashMap;

use doorward::engine::{MAX_QUESTIONS, Partition, StateKey};
use serde_json::json;

use crate::support::story::*;

/// `doorward.state` as a broker compacts it: the last record of each key, in order.
#[derive(Default)]
struct Topic {
    records: HashMap<StateKey, (usize, Option<Vec<u8>>)>,
    written: usize,
    tombstones: usize,
}

impl Topic {
    /// One commit an event: every record that it changed.
    fn take(&mut self, story: &Story, said: &Said) {
        for key in &said.changed_keys {
            let bytes = story.engine.encode_state(&story.partition, *key);
            self.written += 1;
            self.tombstones += usize::from(bytes.is_none());
            self.records.insert(*key, (self.written, bytes));
        }
    }

    /// What another process reads back.
    fn restored(&self, story: &Story) -> Partition {
        let mut order: Vec<_> = self.records.iter().collect();
        order.sort_unstable_by_key(|(_, (written, _))| *written);
        let mut partition = Partition::default();
        for (key, (_, bytes)) in order {
            story
                .engine
                .restore_state(&mut partition, &key.0, bytes.as_deref())
                .unwrap();
        }
        partition
    }

    /// Records that are no tombstones.
    fn live(&self) -> usize {
        let records = self.records.values();
        records.filter(|(_, bytes)| bytes.is_some()).count()
    }
}

/// A story with little memory, and the state topic that it writes.
struct Flooded {
    story: Story,
    topic: Topic,
    bound: usize,
    most: usize,
}

impl Flooded {
    fn with(mut story: Story, bound: usize) -> Flooded {
        let mut settings = story.engine.settings().clone();
        settings.max_forgettable_bytes = bound;
        // Alone, a partition may lock all of the stories' accounts at once.
        settings.partitions = 1;
        story = Story::with_rules(&story, settings);
        Flooded {
            story,
            topic: Topic::default(),
            bound,
            most: 0,
        }
    }

    fn new(bound: usize) -> Flooded {
        Flooded::with(Story::new(), bound)
    }

    fn tell(&mut self, at: i64, fields: serde_json::Value) -> Said {
        let said = self.story.event(at, fields);
        self.topic.take(&self.story, &said);
        self.most = self.most.max(self.story.partition.forgettable_bytes());
        assert!(
            self.most <= self.bound,
            "{} bytes of {}",
            self.most,
            self.bound
        );
        said
    }

    fn failed_login(&mut self, at: i64, account: &str, ip: &str) -> Said {
        self.tell(
            at,
            json!({ "type": "login", "outcome": "failure", "account": account, "ip": ip,
                    "email": format!("{account}@example.org") }),
        )
    }

    fn login(&mut self, at: i64, account: &str, ip: &str) -> Said {
        self.tell(
            at,
            json!({ "type": "login", "outcome": "success", "account": account, "ip": ip,
                    "email": format!("{account}@example.org") }),
        )
    }

    fn second_factor(&mut self, at: i64, account: &str, outcome: &str) -> Said {
        self.tell(
            at,
            json!({ "type": "two_factor", "outcome": outcome, "account": account, "ip": NORWAY }),
        )
    }

    /// That the topic holds what memory holds, record for record.
    fn assert_topic_is_memory(&self) {
        // What rules have spent of their budgets has a record of its own.
        let own = self.story.engine.partition_key();
        let own = usize::from(self.topic.records.contains_key(&own));
        assert_eq!(self.topic.live() - own, self.story.partition.accounts());
        let restored = self.topic.restored(&self.story);
        assert_eq!(restored.accounts(), self.story.partition.accounts());
        assert_eq!(restored.open_cases(), self.story.partition.open_cases());
        for key in self.topic.records.keys() {
            assert_eq!(
                self.story.engine.encode_state(&restored, *key),
                self.story.engine.encode_state(&self.story.partition, *key),
            );
        }
    }
}

/// A hundred junk accounts for every one that there is room for.
const JUNK: i64 = 50_000;
const BOUND: usize = 256 * 1024;

#[test]
fn a_flood_of_made_up_accounts_costs_no_real_account_what_is_known_of_it() {
    let mut flood = Flooded::new(BOUND);
    for n in 0..100 {
        flood.login(n, &format!("owner-{n}"), NORWAY);
    }
    // One with four of five second factors failed, one with an open case, one that only
    // answered a moment ago, and one that has never signed in, with four of five addresses.
    for n in 0..4 {
        flood.second_factor(SECOND + n, "owner-1", "failure");
        flood.failed_login(SECOND + n, "newcomer", &format!("192.0.2.{n}"));
    }
    assert!(flood.login(2 * SECOND, "owner-2", BRAZIL).acted());
    assert!(flood.login(2 * SECOND, "owner-3", BRAZIL).acted());
    let answer = json!({ "type": "case_response", "account": "owner-3",
        "case": flood.story.case("owner-3"), "case_version": 1, "answer": "me",
        "places": ["country:BR"], "by": "owner" });
    flood.tell(3 * SECOND, answer);

    for n in 0..JUNK {
        // Within the five minutes of the window.
        let at = 10 * SECOND + n * 2;
        assert!(
            flood
                .failed_login(at, &format!("made-up-{n}"), "203.0.113.9")
                .is_silent()
        );
    }
    assert!(flood.story.said.counts.evicted > 45_000);
    assert!(flood.story.partition.accounts() < 1_500);
    // The map has its places for many more than those; the rest is what the bound says.
    assert!(
        flood.story.partition.bytes() < 2 * BOUND,
        "{}",
        flood.story.partition.bytes()
    );
    flood.assert_topic_is_memory();

    let later = 220 * SECOND;
    for n in 4..100 {
        let said = flood.login(later, &format!("owner-{n}"), BRAZIL);
        assert_eq!(
            said.decisions(),
            ["first-seen-country acted 1"],
            "owner-{n}"
        );
    }
    assert!(flood.second_factor(later, "owner-1", "failure").locked());
    let said = flood.login(later, "owner-2", JAPAN);
    assert_eq!(said.decisions(), ["first-seen-country case_open 1"]);
    assert!(flood.login(later, "owner-3", BRAZIL).is_silent());
    assert!(flood.failed_login(later, "newcomer", "192.0.2.9").acted());
    flood.assert_topic_is_memory();
}

#[test]
fn after_a_restart_in_a_flood_everything_goes_on_as_it_would_have() {
    let mut flood = Flooded::new(64 * 1024);
    let told = |flood: &mut Flooded, from: i64, to: i64| {
        let mut said = Vec::new();
        for n in from..to {
            let account = format!("a-{}", n * 7_919 % 400);
            let at = n * 50;
            let one = match n % 5 {
                0 => flood.login(at, &account, [NORWAY, BRAZIL][(n % 3 == 0) as usize]),
                1 => {
                    flood.second_factor(at, &account, ["failure", "success"][(n % 7 == 0) as usize])
                }
                _ => flood.failed_login(at, &account, &format!("192.0.2.{}", n % 200)),
            };
            said.extend(one.decisions());
            said.extend(one.commands().iter().map(ToString::to_string));
        }
        said
    };
    told(&mut flood, 0, 5_000);
    assert!(flood.story.said.counts.evicted > 1_000);
    let mut restarted = Flooded::new(64 * 1024);
    restarted.story.partition = flood.topic.restored(&flood.story);
    restarted.topic = Topic {
        records: flood.topic.records.clone(),
        ..Topic::default()
    };
    restarted.topic.written = flood.topic.written;
    restarted.story.offset_at(5_000);
    let ahead = told(&mut flood, 5_000, 10_000);
    assert!(ahead.len() > 10, "{ahead:?}");
    assert_eq!(told(&mut restarted, 5_000, 10_000), ahead);
    restarted.assert_topic_is_memory();
}

#[test]
fn failures_on_every_real_account_are_bounded_too_and_no_place_is_forgotten() {
    let mut flood = Flooded::new(BOUND);
    for n in 0..5_000 {
        flood.login(n, &format!("owner-{n}"), NORWAY);
    }
    for n in 0..5_000 {
        let account = format!("owner-{n}");
        flood.failed_login(10 * SECOND + n, &account, "203.0.113.9");
    }
    assert!(flood.story.said.counts.evicted > 3_000);
    assert_eq!(flood.story.partition.accounts(), 5_000);
    flood.assert_topic_is_memory();
    for n in 0..5_000 {
        let account = format!("owner-{n}");
        assert!(flood.login(60 * SECOND, &account, NORWAY).is_silent());
    }
    assert!(flood.login(61 * SECOND, "owner-0", BRAZIL).acted());
}

#[test]
fn junk_with_many_failures_each_does_not_keep_newcomers_from_being_watched() {
    let mut flood = Flooded::new(BOUND);
    for n in 0..5_000 {
        for k in 0..4 {
            flood.second_factor(n * 40 + k, &format!("made-up-{n}"), "failure");
        }
    }
    assert!(flood.story.said.counts.evicted > 1_000);
    // An attack on somebody who never signed in, between more of the same junk.
    let began = 200 * SECOND;
    let mut locked = false;
    for n in 0..5 {
        locked |= flood
            .failed_login(began + n * SECOND, "newcomer", &format!("192.0.2.{n}"))
            .locked();
        for k in 0..100 {
            let junk = format!("more-{}", n * 25 + k / 4);
            flood.second_factor(began + n * SECOND + 1 + k, &junk, "failure");
        }
    }
    assert!(locked);
}

#[test]
fn addresses_are_forgotten_whatever_they_have_seen() {
    let rule = "
schema: 1
id: an-address-meets-a-new-country
title: By address
severity: low
mode: enforce
when: { type: login, country: { exists: true } }
by: ip
detect: { first_seen: { of: country, forget_after: 30d, learn: { events: 1 } } }
";
    let mut flood = Flooded::with(Story::of_rule(rule), 64 * 1024);
    for n in 0..5_000 {
        let ip = format!("10.0.{}.{}", n / 250, n % 250);
        let event = json!({ "type": "login", "outcome": "failure", "account": "u", "ip": ip,
                            "country": "NO" });
        flood.tell(n, event);
    }
    assert!(flood.story.partition.accounts() < 500);
    assert!(flood.story.partition.accounts() > 50);
    flood.assert_topic_is_memory();
}

#[test]
fn made_up_people_of_a_shared_account_do_not_push_out_the_one_under_attack() {
    let rule = "
schema: 1
id: people
title: People who share an account
severity: low
mode: enforce
when: { type: login, outcome: failure }
by: [account, user]
detect: { count: { at_least: 5, within: 5m } }
then: [ { lock_account: { reason: trial } } ]
";
    let mut flood = Flooded::with(Story::of_rule(rule), BOUND);
    let mut fail = |at: i64, user: &str| {
        let event = json!({ "type": "login", "outcome": "failure", "account": "team",
                            "user": user });
        flood.tell(at, event)
    };
    for n in 0..4 {
        assert!(fail(n, "ann").is_silent());
    }
    for n in 0..1_000 {
        assert!(fail(10 + n, &format!("made-up-{n}")).is_silent());
    }
    assert!(fail(2_000, "ann").locked());
    assert!(flood.story.said.counts.window_full > 900);
    assert!(flood.story.partition.bytes() < 128 * 1024);
}

#[test]
fn what_has_run_out_is_cleared_a_little_at_a_time() {
    let mut flood = Flooded::new(64 * 1024 * 1024);
    for n in 0..3_000 {
        flood.failed_login(n, &format!("once-{n}"), "203.0.113.9");
    }
    flood.login(4 * SECOND, "owner", NORWAY);
    assert_eq!(flood.story.partition.accounts(), 3_001);
    let mut most_at_once = 0;
    // Two days on, an event a second.
    for n in 0..1_200 {
        let said = flood.login(2 * DAY + n * SECOND, "owner", NORWAY);
        most_at_once = most_at_once.max(said.changed);
    }
    assert_eq!(flood.story.partition.accounts(), 1);
    assert!(most_at_once <= 1_024, "{most_at_once}");
    assert_eq!(flood.topic.live(), 1);
    assert_eq!(flood.topic.tombstones, 3_000);
}

#[test]
fn one_account_with_a_flood_of_failures_stays_small_whatever_their_fields() {
    let mut flood = Flooded::new(BOUND);
    for n in 0..1_000_i64 {
        let event = json!({ "type": "login", "outcome": "failure", "account": "u".repeat(256),
            "id": format!("{n:0128}"), "ip": format!("192.0.2.{}", n % 4),
            "session": format!("{n:0256}"), "user_agent": "a".repeat(10_000),
            "email": "e".repeat(254), "locale": "l".repeat(35),
            "owners": vec!["o".repeat(254); 64] });
        flood.tell(n * 10, event);
        let outcome = ["failure", "success"][(n % 2) as usize];
        let factor = json!({ "type": "two_factor", "outcome": outcome, "account": "u".repeat(256), "id": format!("f{n:0127}"), "session": "s".repeat(256) });
        flood.tell(n * 10, factor);
    }
    assert!(
        flood.story.partition.bytes() < 64 * 1024,
        "{}",
        flood.story.partition.bytes()
    );
    let largest = flood.topic.records.values();
    let largest = largest.filter_map(|(_, bytes)| Some(bytes.as_ref()?.len()));
    assert!(largest.max().unwrap() < 64 * 1024);
}

/// docs/rules.md 13. Somebody who knows many accounts, or makes them up, asks for a reset of
/// each.
#[test]
fn rules_13_questions_to_very_many_accounts_are_bounded_and_rules_that_lock_go_on() {
    let rule = |id: &str, kind: &str, then: &str| {
        format!(
            "schema: 1\nid: {id}\ntitle: T\nseverity: low\nmode: enforce\n\
             when: {{ type: {kind}, outcome: requested }}\nby: account\ndetect: each\n\
             then: [ {then} ]\n"
        )
    };
    let asks = rule("asks", "password_reset", "email_user");
    let locks = rule(
        "locks",
        "two_factor_reset",
        "{ lock_account: { reason: trial } }",
    );
    let rules = rule_set(&[&asks, &locks]);
    let mut story = Story::with(rules, facts(), settings());
    let reset = |kind: &str, account: &str| json!({ "type": kind, "outcome": "requested", "account": account });
    for n in 0..MAX_QUESTIONS as i64 {
        let said = story.event(n, reset("password_reset", &format!("u{n}")));
        assert!(said.acted(), "{n}");
    }
    let full = story.partition.bytes();
    for n in 0..1_000 {
        let said = story.event(11_000 + n, reset("password_reset", &format!("v{n}")));
        assert_eq!(said.decisions(), ["asks held 1"]);
        assert!(said.decisions[0].case.is_none() && said.mails.is_empty());
    }
    assert_eq!(story.partition.questions(), MAX_QUESTIONS);
    assert!(story.partition.bytes() < full + full / 10);
    // What is asked already goes on, and so does what locks.
    let said = story.event(13_000, reset("password_reset", "u7"));
    assert_eq!(said.decisions(), ["asks case_open 1"]);
    assert!(
        story
            .event(13_001, reset("two_factor_reset", "v7"))
            .locked()
    );
    // One answer makes room for one question.
    story.answer(14_000, "u8", "me", &[]);
    assert!(story.event(15_000, reset("password_reset", "v8")).acted());
    let held = story.event(15_001, reset("password_reset", "v9"));
    assert_eq!(held.decisions(), ["asks held 1"]);
    // So do 72 hours without one.
    story.wait_until(15_000 + 72 * HOUR);
    assert_eq!(story.partition.questions(), 0);
    let asked = story.event(15_001 + 72 * HOUR, reset("password_reset", "v9"));
    assert!(asked.acted());
}

#[test]
fn cases_of_made_up_accounts_push_the_longest_unchanged_off_the_pages_and_no_more() {
    let bound = 64 * 1024;
    let cases = doorward::web::cases::Cases::with_room(bound);
    let write = |name: &str| {
        let mut case = crate::owner::case("open");
        case.id = name.to_owned();
        cases.apply(name.as_bytes(), Some(&serde_json::to_vec(&case).unwrap()));
    };
    write("of-an-owner");
    for n in 0..5_000 {
        write(&format!("made-up-{n}"));
        if n % 10 == 0 {
            // It is answered, grows, is answered again.
            write("of-an-owner");
        }
    }
    assert!(cases.len() > 10 && cases.len() < 200, "{}", cases.len());
    assert_eq!(cases.get("of-an-owner").unwrap().id, "of-an-owner");
    assert!(cases.get("made-up-0").is_none());
    assert!(cases.get("made-up-4999").is_some());
    cases.apply(b"of-an-owner", None);
    assert!(cases.get("of-an-owner").is_none());
}
