use std::collections::BTreeMap;

use crate::demo::attack::Attack;
use crate::demo::trace::Step;
use crate::record::{EvidenceRecord, SourceRecord};

use super::*;

const ACCOUNT: &str = "u-0001";

/// A board that is told one attack on one account, a record at a time.
struct Story {
    board: Board,
    now: i64,
}

impl Story {
    fn begin() -> Story {
        let titles = BTreeMap::from([("first-seen-country".into(), "A new country".into())]);
        let mut story = Story {
            board: Board::new(3, titles),
            now: 1_000,
        };
        story.see(What::Round(Arc::new(Round {
            id: "r1".into(),
            attack: Attack::NewCountry,
            account: ACCOUNT.into(),
            email: "u-0001@mail.example".into(),
            completing: "r1-1".into(),
            started: Timestamp(1_000),
        })));
        story
    }

    /// Ten milliseconds later `what` is seen. What pages are told comes back.
    fn see(&mut self, what: What) -> Vec<Update> {
        self.now += 10;
        let mut updates = Vec::new();
        self.board.observe(
            &Seen {
                at: Timestamp(self.now),
                what,
            },
            &mut updates,
        );
        updates
    }

    fn event(&mut self, json: serde_json::Value) -> Vec<Update> {
        let mut event: EventLine = serde_json::from_value(json).unwrap_or_default();
        event.time = Timestamp(self.now);
        self.see(What::Event(Arc::new(event)))
    }

    fn command(&mut self, command: &str, reason: &str) -> Vec<Update> {
        self.see(What::Command(Arc::new(CommandRecord {
            schema: 1,
            id: format!("c-{command}"),
            seq: self.now,
            command: command.into(),
            account: ACCOUNT.into(),
            case: Some("k-1".into()),
            time: "2026-01-01T00:00:00.000Z".into(),
            rule: Some("first-seen-country".into()),
            rule_set: String::new(),
            reason: reason.into(),
            scope: Some("all".into()),
            since: None,
            sessions: Vec::new(),
            until: None,
            evidence: vec!["r1-1".into()],
            operator: None,
            source: source(),
        })))
    }

    fn decision(&mut self) -> Vec<Update> {
        self.decision_by("r1-1")
    }

    fn decision_by(&mut self, event: &str) -> Vec<Update> {
        self.see(What::Decision(Arc::new(DecisionRecord {
            schema: 1,
            id: "d-1".into(),
            time: "2026-01-01T00:00:00.000Z".into(),
            account: ACCOUNT.into(),
            rule: "first-seen-country".into(),
            mode: "enforce".into(),
            effect: "acted".into(),
            value: 1,
            event: event.into(),
            evidence: vec![EvidenceRecord {
                id: event.into(),
                time: "2026-01-01T00:00:00.000Z".into(),
                ip: Some("203.0.113.9".into()),
                country: Some("JP".into()),
            }],
            actions: vec!["lock_account".into(), "email_user".into()],
            case: Some("k-1".into()),
            exception: None,
            rule_set: String::new(),
            geoip: None,
            lists: BTreeMap::new(),
            source: source(),
        })))
    }

    fn mail(&mut self) -> Vec<Update> {
        let raw = b"Subject: Was this you?\r\n\r\nWe locked your account.\r\n".to_vec();
        let to = vec!["u-0001@mail.example".into()];
        self.see(What::Mail(Arc::new(Mail::parse(
            1,
            Timestamp(self.now),
            to,
            raw,
        ))))
    }

    fn attack_to_mail(&mut self) {
        self.event(serde_json::json!({
            "id": "r1-1", "type": "login", "account": ACCOUNT, "outcome": "success"
        }));
        self.decision();
        self.command("lock_account", "new_country");
        self.mail();
    }

    fn answer(&mut self, answer: &str) {
        self.event(serde_json::json!({
            "id": "a-1", "type": "case_response", "account": ACCOUNT, "case": "k-1",
            "answer": answer
        }));
    }

    fn round(&self) -> RoundView {
        self.board.snapshot().rounds.remove(0)
    }

    fn steps(&self) -> Vec<Step> {
        self.round().steps.iter().map(|step| step.step).collect()
    }
}

fn source() -> SourceRecord {
    SourceRecord {
        topic: "auth.events".into(),
        partition: 0,
        offset: 1,
    }
}

#[test]
fn a_round_fills_in_step_by_step_with_the_times_that_were_measured() {
    let mut story = Story::begin();
    story.attack_to_mail();
    assert_eq!(
        story.steps(),
        [Step::Attack, Step::Decision, Step::Lock, Step::Mail]
    );
    // The attack is timed by its record, the rest by when it was read.
    let ms: Vec<Option<i64>> = story.round().steps.iter().map(|step| step.ms).collect();
    assert_eq!(ms, [None, Some(20), Some(30), Some(40)]);
    assert_eq!(story.round().mail, Some(1));
    assert_eq!(story.board.snapshot().locks.len(), 1);

    // The command may be read before the answer that caused it.
    story.command("unlock_account", "owner_confirmed");
    story.answer("me");
    assert_eq!(story.steps().last(), Some(&Step::Unlocked));
    assert!(story.board.snapshot().locks.is_empty());
}

#[test]
fn what_came_of_an_attack_is_timed_from_the_event_that_completed_the_rule() {
    // A wrong password of the owner's own had counted, so the attack's first event was enough.
    let mut story = Story::begin();
    let login = |id: &str| {
        serde_json::json!({
            "id": id, "type": "login", "account": ACCOUNT, "outcome": "failure"
        })
    };
    story.event(login("r1-0"));
    story.command("lock_account", "new_country");
    story.event(login("r1-1"));
    story.decision_by("r1-0");
    let round = story.round();
    let lock = round.steps.iter().find(|step| step.step == Step::Lock);
    assert_eq!(lock.and_then(|step| step.ms), Some(20));
}

#[test]
fn an_account_is_secured_only_when_both_commands_were_seen() {
    let mut story = Story::begin();
    story.attack_to_mail();
    story.answer("not_me");
    story.command("revoke_sessions", "owner_denied");
    assert!(!story.steps().contains(&Step::Secured));
    story.command("require_password_change", "owner_denied");
    assert!(story.steps().contains(&Step::Secured));
    assert_eq!(story.board.snapshot().locks.len(), 1, "the lock stays");

    story.event(serde_json::json!({
        "id": "p-1", "type": "password_changed", "account": ACCOUNT, "case": "k-1"
    }));
    story.command("unlock_account", "password_changed");
    assert_eq!(story.steps().last(), Some(&Step::Recovered));
}

#[test]
fn what_happens_to_others_is_no_part_of_a_round() {
    let mut story = Story::begin();
    story.event(serde_json::json!({
        "id": "e1", "type": "login", "account": "u-0002", "outcome": "failure",
        "reason": "bad_password"
    }));
    assert_eq!(story.steps(), []);
    let snapshot = story.board.snapshot();
    assert_eq!(
        (snapshot.traffic.refused, snapshot.traffic.accepted),
        (1, 0)
    );
    assert_eq!(snapshot.events[0].words, "Wrong password");
    assert_eq!(snapshot.events[0].round, None);
}

#[test]
fn every_list_is_bounded() {
    let mut story = Story::begin();
    for n in 0..2_000 {
        story.event(serde_json::json!({"id": format!("e{n}"), "type": "login"}));
        story.decision();
        story.mail();
        story.board.tick();
    }
    let snapshot = story.board.snapshot();
    assert_eq!(snapshot.events.len(), EVENTS_KEPT);
    assert_eq!(snapshot.decisions.len(), DECISIONS_KEPT);
    assert_eq!(snapshot.mails.len(), mailbox::KEPT);
    assert_eq!(snapshot.seconds.len(), SECONDS_KEPT);
}
