//! The record of an account with a recovery and with cases that are over.

use doorward::engine::output::CaseState;
use serde_json::json;

use crate::support::story::*;

/// A case long closed, a recovery that was stopped, and one that is held and asked for again.
fn told() -> Story {
    let mut story = Story::new();
    story.second_factor(0, "u", "success");
    for n in 0..5 {
        story.second_factor(n * SECOND, "u", "failure");
    }
    story.answer(MINUTE, "u", "me", &[]);
    let asks = |story: &mut Story, at: i64, id: &str| {
        let request = json!({ "id": id, "type": "recovery", "outcome": "requested",
                              "account": "u", "ip": BRAZIL, "email": "u@example.org",
                              "locale": "de", "owners": ["boss@example.org"],
                              "user_agent": "Mozilla/5.0" });
        story.event(at, request);
    };
    asks(&mut story, DAY, "r-1");
    let case = story.recovery("u");
    let stop = json!({ "type": "case_response", "account": "u", "case": case,
                       "case_version": 1, "answer": "cancel_recovery", "by": "owner" });
    story.event(DAY + HOUR, stop);
    story.wait_until(4 * DAY);
    asks(&mut story, 4 * DAY, "r-2");
    asks(&mut story, 4 * DAY + HOUR, "r-3");
    story
}

fn hex(story: &Story) -> String {
    let key = story.engine.state_key("u");
    let bytes = story.engine.encode_state(&story.partition, key).unwrap();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A record that the first version with recoveries wrote. It must be read for ever.
#[test]
fn a_record_with_a_recovery_is_still_read() {
    let golden = include_str!("v1-recovery.hex").trim();
    let bytes: Vec<u8> = golden
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect();
    let mut story = Story::new();
    let key = story.engine.state_key("u");
    story
        .engine
        .restore_state(&mut story.partition, &key.0, Some(&bytes))
        .unwrap();
    let again = hex(&story);
    assert!(again.len() <= golden.len(), "it is written as it was read");
    // It is still the second one in a row, and still has its end.
    let case = story.recovery("u");
    let stop = json!({ "type": "case_response", "account": "u", "case": case,
                       "case_version": 1, "answer": "cancel_recovery", "by": "owner" });
    assert!(story.event(4 * DAY + 2 * HOUR, stop).is_silent());
    assert_eq!(story.shown(&case).state, CaseState::NeedsOperator);
    let release = json!({ "type": "operator_request", "account": "u",
                          "request": "release_recovery", "operator": "support desk",
                          "reason": "spoke to the owner" });
    story.event(4 * DAY + 3 * HOUR, release);
    assert!(story.wait_until(5 * DAY - 1).is_silent());
    let said = story.wait_until(5 * DAY);
    assert_eq!(said.commands(), ["release_recovery"]);
    assert_eq!(&*said.commands[0].evidence[0], "r-2");
    story.wait_until(40 * DAY);
    assert_eq!(story.said.dropped_cases.len(), 3);
}

/// The same with a mail that bounced, as the first version that remembers those wrote it.
#[test]
fn a_record_with_a_recovery_whose_mail_bounced_is_still_read() {
    let mut story = told();
    let case = story.recovery("u");
    let bounced = json!({ "type": "mail_bounced", "account": "u", "case": case,
                          "to": "u@example.org", "by": "owner", "reason": "refused" });
    assert_eq!(
        story.event(4 * DAY + 2 * HOUR, bounced.clone()).mails.len(),
        1
    );
    let golden = include_str!("v1-recovery-bounced.hex").trim();
    if golden.is_empty() {
        let folder = std::env::var_os("DOORWARD_WRITE_GOLDEN").expect("the record is empty");
        let path = std::path::Path::new(&folder).join("v1-recovery-bounced.hex");
        return std::fs::write(path, hex(&story) + "\n").unwrap();
    }
    assert_eq!(hex(&story), golden);
    let key = story.engine.state_key("u");
    let bytes = super::golden::bytes(golden);
    story.partition = doorward::engine::Partition::default();
    let restored = story
        .engine
        .restore_state(&mut story.partition, &key.0, Some(&bytes));
    restored.unwrap();
    assert_eq!(hex(&story), golden, "it is written as it was read");
    assert!(
        story.event(4 * DAY + 3 * HOUR, bounced).is_silent(),
        "it is known"
    );
}

/// Prints the record for `tests/it/state/`, when a field is added.
#[test]
fn the_golden_record_with_a_recovery_can_be_written_again() {
    let hex = hex(&told());
    println!("{hex}");
    if let Ok(path) = std::env::var("DOORWARD_WRITE_GOLDEN_RECOVERY") {
        std::fs::write(path, format!("{hex}\n")).unwrap();
    }
}
