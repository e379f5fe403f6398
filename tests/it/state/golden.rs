//! Records that earlier versions wrote, one of each kind of content. They must be read for
//! ever, and mean what they meant: a change that breaks one of these loses people's state.
//!
//! `DOORWARD_WRITE_GOLDEN=FOLDER` writes today's; a file that is there already is never
//! replaced, a new kind or version gets a new one.

use doorward::engine::{Partition, StateKey};
use doorward::event::Timestamp;
use serde_json::json;

use crate::support::story::*;

/// The bytes of a golden file: hexadecimal, in lines.
pub fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

macro_rules! goldens {
    ($($name:literal),+ $(,)?) => {
        /// Every golden record, by its name.
        pub fn all() -> Vec<(&'static str, Vec<u8>)> {
            vec![$(($name, bytes(include_str!(concat!($name, ".hex"))))),+]
        }
    };
}

goldens!(
    "v1-open-case",
    "v1-two-countries",
    "v1-window",
    "v1-streak",
    "v1-seen",
    "v1-people",
    "v1-asked-case",
    "v1-closed-case",
    "v1-secured-case",
    "v1-email-changed",
    "v1-address",
    "v1-locked-case",
    "v1-noted-case",
    "v1-steps",
    "v1-bounced",
);

/// Records of a program that kept less of the same story: neither mails that ask nothing, nor
/// since when a case is secured.
const KEPT_LESS: [&str; 2] = ["v1-closed-case", "v1-secured-case"];

const PLACES: &str = "
schema: 1
id: new-device
title: A device that the account has not used before
severity: low
mode: shadow
when: { type: login, outcome: success }
by: account
detect: { first_seen: { of: user_agent, forget_after: 90d, learn: { for: 1h } } }
";

const PEOPLE: &str = "
schema: 1
id: people
title: People who share an account
severity: low
mode: enforce
when: { type: login, outcome: failure }
by: [account, user]
detect: { count: { at_least: 2, within: 5m } }
cooldown: 2h
";

const ASK: &str = "
schema: 1
id: second-factor-switched-off
title: The second factor was switched off
severity: medium
mode: enforce
when: { type: two_factor_disabled }
by: account
detect: each
then: [ email_user ]
";

const ADDRESS: &str = "
schema: 1
id: busy-address
title: Many failures from one address
severity: low
mode: enforce
when: { type: login, outcome: failure }
by: ip
detect: { count: { at_least: 5, within: 5m } }
";

/// What made a record: its story, and its key.
struct Written {
    story: Story,
    key: StateKey,
}

impl Written {
    fn record(&self) -> Vec<u8> {
        self.story
            .engine
            .encode_state(&self.story.partition, self.key)
            .unwrap()
    }
}

fn login(country: &str) -> serde_json::Value {
    json!({ "type": "login", "outcome": "success", "account": "u", "country": country,
            "session": format!("session of {country}"), "email": "u@example.org",
            "user_agent": format!("browser of {country}"), "locale": "de" })
}

fn failure(ip: &str) -> serde_json::Value {
    json!({ "type": "login", "outcome": "failure", "account": "u", "ip": ip,
            "session": "s", "email": "u@example.org", "email_verified": false,
            "owners": ["co@example.org"], "user": "ann" })
}

fn second_factor(outcome: &str) -> serde_json::Value {
    json!({ "type": "two_factor", "outcome": outcome, "account": "u", "ip": "2001:db8::1" })
}

fn answer(story: &Story, answer: &str) -> serde_json::Value {
    json!({ "type": "case_response", "account": "u", "case": story.case("u"),
            "case_version": story.version("u"), "answer": answer, "places": ["country:BR"],
            "by": "owner" })
}

/// The story that each golden record tells, told again.
fn told(name: &str) -> Written {
    let mut story = match name {
        "v1-seen" => Story::of_rule(PLACES),
        "v1-people" => Story::of_rule(PEOPLE),
        "v1-asked-case" => Story::of_rule(ASK),
        "v1-address" => Story::of_rule(ADDRESS),
        _ => Story::new(),
    };
    let mut keys = Vec::new();
    let mut tell = |story: &mut Story, at: i64, event: serde_json::Value| {
        keys.extend(story.event(at, event).changed_keys);
    };
    match name {
        "v1-two-countries" | "v1-closed-case" => {
            tell(&mut story, 0, login("NO"));
            tell(&mut story, MINUTE, login("BR"));
            let me = answer(&story, "me");
            tell(&mut story, 2 * MINUTE, me);
            if name == "v1-two-countries" {
                // Long after the case is forgotten, and its record has gone.
                story.wait_until(39 * DAY);
                for n in 0..1_000 {
                    tell(&mut story, 40 * DAY + n * SECOND, login("NO"));
                }
            }
        }
        "v1-window" => {
            for n in 0..4 {
                tell(&mut story, n * SECOND, failure(&format!("192.0.2.{n}")));
            }
        }
        "v1-streak" => {
            for (at, outcome) in [
                (0, "failure"),
                (1, "success"),
                (2, "failure"),
                (3, "failure"),
            ] {
                tell(&mut story, at * SECOND, second_factor(outcome));
            }
        }
        "v1-seen" => {
            for (at, country) in [(0, "A"), (MINUTE, "B"), (2 * MINUTE, "C"), (3 * HOUR, "D")] {
                tell(&mut story, at, login(country));
            }
        }
        "v1-people" => {
            for n in 0..3 {
                let mut event = failure("192.0.2.1");
                event["user"] = json!(["ann", "bob", "ann"][n]);
                tell(&mut story, n as i64 * SECOND, event);
            }
        }
        "v1-asked-case" => {
            let off = json!({ "type": "two_factor_disabled", "account": "u", "ip": NORWAY,
                              "email": "u@example.org", "user_agent": "a browser" });
            tell(&mut story, 0, off);
        }
        "v1-bounced" => {
            for (at, country) in [(0, "NO"), (MINUTE, "BR")] {
                let mut event = login(country);
                event["owners"] = json!(["co@example.org"]);
                tell(&mut story, at, event);
            }
            for to in ["co@example.org", "u@example.org"] {
                let event = json!({ "type": "mail_bounced", "account": "u",
                    "case": story.case("u"), "to": to, "by": "owner", "reason": "refused" });
                tell(&mut story, 2 * MINUTE, event);
            }
        }
        "v1-secured-case" | "v1-locked-case" | "v1-noted-case" => {
            tell(&mut story, 0, login("NO"));
            tell(&mut story, MINUTE, login("BR"));
            if name == "v1-locked-case" {
                return Written {
                    key: keys[0],
                    story,
                };
            }
            if name == "v1-noted-case" {
                let request = json!({ "type": "operator_request", "account": "u",
                    "case": story.case("u"), "request": "resend", "operator": "ann",
                    "reason": "the first one was lost" });
                tell(&mut story, 2 * MINUTE, request);
                return Written {
                    key: keys[0],
                    story,
                };
            }
            let not_me = answer(&story, "not_me");
            tell(&mut story, 2 * MINUTE, not_me);
        }
        "v1-steps" => {
            let name = json!("ann");
            for (at, country) in [(0, "NO"), (MINUTE, "BR")] {
                let mut event = login(country);
                event["account_name"] = name.clone();
                tell(&mut story, at, event);
            }
            for (at, verb) in [(2, "not_me"), (3, "rotate_keys")] {
                let answer = answer(&story, verb);
                tell(&mut story, at * MINUTE, answer);
            }
            let on = json!({ "type": "two_factor_enabled", "account": "u" });
            tell(&mut story, 4 * MINUTE, on);
            let new = json!({ "type": "password_changed", "account": "u",
                              "case": story.case("u") });
            tell(&mut story, 5 * MINUTE, new);
        }
        "v1-email-changed" => {
            let change = json!({ "type": "email_changed", "account": "u",
                "email": "new@example.org", "previous_email": "old@example.org" });
            tell(&mut story, 0, change);
        }
        "v1-address" => {
            for n in 0..2 {
                tell(&mut story, n * SECOND, failure("198.51.100.1"));
            }
        }
        other => panic!("no story is told of {other}"),
    }
    Written {
        story,
        key: keys[0],
    }
}

/// The record in `bytes`, read by the program that tells `written`'s story.
fn read(written: &Written, bytes: &[u8]) -> Partition {
    let mut partition = Partition::default();
    written
        .story
        .engine
        .restore_state(&mut partition, &written.key.0, Some(bytes))
        .unwrap();
    partition
}

#[test]
fn every_kind_of_record_that_an_earlier_version_wrote_is_read_as_it_was_meant() {
    for (name, golden) in all() {
        // That one has a story of its own, older than this file.
        if name == "v1-open-case" {
            continue;
        }
        let written = told(name);
        if golden.is_empty() {
            assert!(
                std::env::var_os("DOORWARD_WRITE_GOLDEN").is_some(),
                "{name} is empty"
            );
            continue;
        }
        let partition = read(&written, &golden);
        assert_eq!(partition.accounts(), 1, "{name}");
        if name == "v1-two-countries" {
            // Its story has gone on since then; what it knew is known.
            let mut story = written.story;
            story.partition = partition;
            for country in ["NO", "BR"] {
                assert!(
                    story.event(41 * DAY, login(country)).is_silent(),
                    "{country}"
                );
            }
            assert!(story.event(41 * DAY, login("DE")).acted());
            continue;
        }
        if matches!(name, "v1-closed-case" | "v1-secured-case") {
            // From before cases told which rules asked for their lock.
            let case = written.story.engine.case_of(&partition, "u");
            assert_eq!(
                case,
                written.story.engine.case_of(&written.story.partition, "u")
            );
            continue;
        }
        // Written again it is what the same story writes today.
        let again = written.story.engine.encode_state(&partition, written.key);
        let mut today = written.record();
        if KEPT_LESS.contains(&name) {
            let mut less = read(&written, &today);
            less.update(written.key, true, Timestamp(START), |account| {
                let rest = account.rest_mut();
                rest.calm = None;
                rest.case.as_mut().unwrap().secured_at = None;
                true
            });
            let less = written.story.engine.encode_state(&less, written.key);
            today = less.unwrap();
        }
        assert_eq!(again.as_ref(), Some(&today), "{name}");
        // Room that lists grew by is not read back.
        let (back, before) = (&partition, &written.story.partition);
        assert!(
            back.forgettable_bytes() <= before.forgettable_bytes(),
            "{name}"
        );
    }
}

#[test]
fn golden_records_can_be_written() {
    let Some(folder) = std::env::var_os("DOORWARD_WRITE_GOLDEN") else {
        return;
    };
    for (name, golden) in all() {
        if golden.is_empty() {
            let record = told(name).record();
            let mut hex = String::new();
            for line in record.chunks(40) {
                hex.extend(line.iter().map(|byte| format!("{byte:02x}")));
                hex.push('\n');
            }
            let path = std::path::Path::new(&folder).join(format!("{name}.hex"));
            std::fs::write(path, hex).unwrap();
        }
    }
}

/// The partition's own record is none of an account: it has a golden record of its own.
#[test]
fn the_partitions_own_record_is_read_as_it_was_meant() {
    let golden = bytes(include_str!("v1-partition.hex"));
    let mut story = Story::new();
    story.login(0, "u", NORWAY);
    story.login(1, "u", BRAZIL);
    let key = story.engine.partition_key();
    let today = story.engine.encode_state(&story.partition, key);
    if golden.is_empty() {
        let folder = std::env::var_os("DOORWARD_WRITE_GOLDEN").expect("the record is empty");
        let hex: String = today.unwrap().iter().map(|b| format!("{b:02x}")).collect();
        let path = std::path::Path::new(&folder).join("v1-partition.hex");
        return std::fs::write(path, hex + "\n").unwrap();
    }
    assert_eq!(today.as_ref(), Some(&golden));
    let mut partition = Partition::default();
    let restored = story
        .engine
        .restore_state(&mut partition, &key.0, Some(&golden));
    restored.unwrap();
    let rules = story.engine.rules().rules();
    let rule = rules.iter().find(|rule| &*rule.id == "first-seen-country");
    let now = Timestamp(START + 2);
    let left = |partition: &Partition| story.engine.lock_budget_left(partition, rule.unwrap(), now);
    assert_eq!((left(&partition), left(&Partition::default())), (49, 50));
}
