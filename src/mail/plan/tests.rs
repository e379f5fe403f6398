//! Stories of the plan.

mod histories;

use std::collections::BTreeMap;

use super::*;

const RETRY_FOR_MS: i64 = 48 * 60 * 60 * 1000;

fn record(id: &str, to: &str) -> MailRecord {
    MailRecord {
        schema: 1,
        id: id.into(),
        to: to.into(),
        part: "owner".into(),
        template: "was_this_you".into(),
        locale: None,
        account_name: None,
        account: "u-1".into(),
        partition: 0,
        case: "k-1".into(),
        case_version: 1,
        rule: "r".into(),
        reason: "new_country".into(),
        locked: None,
        time: "2026-11-22T06:04:00Z".into(),
        evidence: vec![],
        device: None,
        until: None,
        not_before: None,
    }
}

fn settings() -> Settings {
    Settings {
        limits: Limits {
            mails: 8,
            bytes: 1 << 20,
            per_domain: 4,
            connections: 4,
        },
        schedule: RetrySchedule::default(),
        retry_for: Duration::from_millis(RETRY_FOR_MS.unsigned_abs()),
        per_hour: 100,
        lease: Duration::from_secs(30),
    }
}

fn at(ms: i64) -> Now {
    Now {
        wall: Timestamp(ms),
        steady_ms: ms,
    }
}

fn place(partition: i32, offset: i64) -> Place {
    Place { partition, offset }
}

/// A plan with a lease that reads mails at time 0.
struct Story {
    plan: Plan,
    next: BTreeMap<i32, i64>,
}

impl Story {
    fn new(settings: Settings) -> Story {
        let mut plan = Plan::new(settings);
        plan.renew(at(0));
        Story {
            plan,
            next: BTreeMap::new(),
        }
    }

    fn read(&mut self, partition: i32, id: &str, to: &str) -> Intake {
        let offset = *self
            .next
            .entry(partition)
            .and_modify(|o| *o += 1)
            .or_insert(0);
        self.read_at(place(partition, offset), id, to, at(0))
    }

    fn read_at(&mut self, place: Place, id: &str, to: &str, now: Now) -> Intake {
        let payload = serde_json::to_vec(&record(id, to)).expect("JSON");
        self.plan.read(place, Timestamp(0), &payload, now)
    }

    /// The attempts that begin at this time, as (mail, ticket).
    fn sends(&mut self, now: Now) -> Vec<(String, Ticket)> {
        let mut jobs = Vec::new();
        while let Some(step) = self.plan.next(now) {
            if let Step::Send(job) = step {
                jobs.push((job.record.id.clone(), job.ticket));
            }
        }
        jobs
    }

    fn finish(&mut self, ticket: Ticket, now: Now) {
        assert!(self.plan.pass(ticket, now));
        assert!(matches!(
            self.plan.settle(ticket, Outcome::Sent, now),
            Settled::Write(_)
        ));
        self.plan.recorded(ticket);
    }
}

fn ids(sends: &[(String, Ticket)]) -> Vec<&str> {
    sends.iter().map(|(id, _)| id.as_str()).collect()
}

#[test]
fn the_position_moves_only_to_the_lowest_mail_that_is_not_done() {
    let mut story = Story::new(settings());
    for (id, to) in [
        ("m-0", "a@x.example"),
        ("m-1", "b@y.example"),
        ("m-2", "c@z.example"),
    ] {
        story.read(0, id, to);
    }
    let sends = story.sends(at(0));
    assert_eq!(ids(&sends), ["m-0", "m-1", "m-2"]);
    assert_eq!(story.plan.positions(), [(0, 0)]);
    story.finish(sends[1].1, at(1));
    assert_eq!(story.plan.positions(), []);
    story.finish(sends[0].1, at(2));
    assert_eq!(story.plan.positions(), [(0, 2)]);
    story.finish(sends[2].1, at(3));
    assert_eq!(story.plan.positions(), [(0, 3)]);
    assert_eq!(story.plan.pending(), 0);
}

#[test]
fn a_mail_is_not_done_before_its_receipt_is_written() {
    let mut story = Story::new(settings());
    story.read(0, "m-0", "a@x.example");
    let ticket = story.sends(at(0))[0].1;
    assert!(story.plan.pass(ticket, at(1)));
    let settled = story.plan.settle(ticket, Outcome::Sent, at(2));
    assert!(matches!(settled, Settled::Write(_)), "{settled:?}");
    assert_eq!(story.plan.positions(), [(0, 0)]);
    story.plan.recorded(ticket);
    assert_eq!(story.plan.positions(), [(0, 1)]);
}

#[test]
fn a_refused_mail_holds_up_no_other_and_comes_back_in_its_own_time() {
    let mut story = Story::new(settings());
    story.read(0, "m-0", "a@x.example");
    story.read(0, "m-1", "b@x.example");
    let sends = story.sends(at(0));
    let refused = story
        .plan
        .settle(sends[0].1, Outcome::Later("450".into()), at(10));
    assert_eq!(refused, Settled::Again);
    story.finish(sends[1].1, at(10));
    assert_eq!(story.sends(at(11_000)), []);
    let wait = story.plan.wake_in_ms(at(10)).expect("a time");
    assert!((12_000..=18_000).contains(&wait), "{wait}");
    story.plan.renew(at(20_000));
    assert_eq!(ids(&story.sends(at(20_000))), ["m-0"]);
}

#[test]
fn nothing_is_sent_without_proof_that_the_partitions_are_still_ours() {
    let mut story = Story::new(settings());
    story.read(0, "m-0", "a@x.example");
    let ticket = story.sends(at(0))[0].1;
    // The process was frozen for as long as its session lasts.
    assert!(!story.plan.pass(ticket, at(30_000)));
    assert_eq!(
        story.plan.settle(ticket, Outcome::Withdrawn, at(30_000)),
        Settled::Again
    );
    assert_eq!(story.sends(at(30_000)), []);
    story.plan.renew(at(30_001));
    let ticket = story.sends(at(30_002))[0].1;
    // A machine that was suspended: the steady clock stood still.
    let woken = Now {
        wall: Timestamp(90_000),
        steady_ms: 30_003,
    };
    assert!(!story.plan.pass(ticket, woken));
    story.plan.expel();
    assert!(!story.plan.pass(ticket, at(30_003)));
}

#[test]
fn a_partition_that_goes_waits_only_for_what_the_server_may_have() {
    let mut story = Story::new(settings());
    for (id, to) in [
        ("m-0", "a@x.example"),
        ("m-1", "b@y.example"),
        ("m-2", "c@z.example"),
    ] {
        story.read(0, id, to);
    }
    let sends = story.sends(at(0));
    assert!(story.plan.pass(sends[0].1, at(1)));
    story.plan.revoke(&[0]);
    assert!(story.plan.awaits(&[0]));
    assert!(
        !story.plan.pass(sends[1].1, at(2)),
        "it is too late for this one"
    );
    assert_eq!(
        story.plan.settle(sends[1].1, Outcome::Withdrawn, at(2)),
        Settled::Left
    );
    let settled = story.plan.settle(sends[0].1, Outcome::Sent, at(3));
    assert!(matches!(settled, Settled::Write(_)));
    assert!(story.plan.awaits(&[0]), "its receipt is not there yet");
    story.plan.recorded(sends[0].1);
    assert!(!story.plan.awaits(&[0]));
    assert_eq!(story.plan.positions(), [(0, 1)], "the others are not done");
    story.plan.gone(&[0]);
    assert_eq!(story.plan.positions(), []);
    // The third attempt ends when nobody waits for it any more.
    assert_eq!(
        story
            .plan
            .settle(sends[2].1, Outcome::Later("450".into()), at(9)),
        Settled::Left
    );
    assert_eq!(story.plan.held(), 0);
}

#[test]
fn a_partition_that_comes_back_takes_up_what_is_still_under_way() {
    let mut story = Story::new(settings());
    story.read(0, "m-0", "a@x.example");
    let ticket = story.sends(at(0))[0].1;
    story.plan.revoke(&[0]);
    story.plan.gone(&[0]);
    assert_eq!(
        story.read_at(place(0, 0), "m-0", "a@x.example", at(1)),
        Intake::InHand
    );
    assert_eq!(story.sends(at(2)), [], "it is being sent");
    story.finish(ticket, at(3));
    assert_eq!(story.plan.positions(), [(0, 1)]);
}

#[test]
fn a_second_record_of_a_mail_is_sent_once() {
    let mut story = Story::new(settings());
    assert_eq!(story.read(0, "m-0", "a@x.example"), Intake::Taken);
    assert_eq!(story.read(0, "m-0", "a@x.example"), Intake::InHand);
    let sends = story.sends(at(0));
    assert_eq!(sends.len(), 1);
    story.finish(sends[0].1, at(1));
    assert_eq!(story.read(0, "m-0", "a@x.example"), Intake::Done);
    assert_eq!(story.plan.positions(), [(0, 3)]);
}

#[test]
fn a_receipt_of_somebody_else_ends_the_waiting() {
    let mut story = Story::new(settings());
    story.read(0, "m-0", "a@x.example");
    story.plan.receipt(MailKey::of("m-0"));
    assert_eq!(story.sends(at(0)), []);
    assert_eq!(story.plan.positions(), [(0, 1)]);
}

#[test]
fn what_its_domain_has_no_room_for_is_read_again_when_there_is() {
    let mut story = Story::new(settings());
    for n in 0..6 {
        let intake = story.read(0, &format!("m-{n}"), &format!("{n}@x.example"));
        let expected = if n < 4 {
            Intake::Taken
        } else {
            Intake::SetAside
        };
        assert_eq!(intake, expected);
    }
    assert_eq!(story.read(0, "m-6", "z@other.example"), Intake::Taken);
    assert_eq!(story.plan.pending(), 7);
    assert_eq!(story.plan.rewind(at(0)), [], "there is no room yet");
    let sends = story.sends(at(0));
    assert_eq!(
        ids(&sends),
        ["m-0", "m-1", "m-2", "m-6"],
        "one connection is for others"
    );
    for (_, ticket) in &sends {
        story.finish(*ticket, at(1));
    }
    assert_eq!(story.plan.positions(), [(0, 3)]);
    assert_eq!(story.plan.rewind(at(2)), [(0, 4)]);
    assert_eq!(story.plan.rewind(at(2)), [], "once is enough");
    let last = story.sends(at(2));
    story.finish(last[0].1, at(2));
    assert_eq!(
        story.plan.positions(),
        [(0, 4)],
        "what is set aside is not passed"
    );
    story.plan.rewound(0, 4, at(3));
    assert_eq!(
        story.plan.positions(),
        [],
        "nor what was not read again yet"
    );
    for n in 4..6 {
        let to = format!("{n}@x.example");
        let intake = story.read_at(place(0, n), &format!("m-{n}"), &to, at(4));
        assert_eq!(intake, Intake::Taken);
    }
    let intake = story.read_at(place(0, 6), "m-6", "z@other.example", at(4));
    assert_eq!(intake, Intake::Done);
    for (_, ticket) in story.sends(at(5)) {
        story.finish(ticket, at(6));
    }
    assert_eq!(story.plan.positions(), [(0, 7)]);
    assert_eq!(story.plan.pending(), 0);
}

#[test]
fn domains_that_take_no_mail_make_room_for_others() {
    let mut story = Story::new(settings());
    for n in 0..8 {
        story.read(0, &format!("m-{n}"), &format!("a@dead-{n}.example"));
    }
    while let [(_, ticket), ..] = story.sends(at(0))[..] {
        let later = Outcome::Later("451".into());
        assert_eq!(story.plan.settle(ticket, later, at(0)), Settled::Again);
        for (_, ticket) in story.sends(at(0)) {
            story
                .plan
                .settle(ticket, Outcome::Later("451".into()), at(0));
        }
        let rest: Vec<Ticket> = story.plan.out.keys().copied().collect();
        for ticket in rest {
            story
                .plan
                .settle(ticket, Outcome::Later("451".into()), at(0));
        }
    }
    assert_eq!(story.plan.held(), 8);
    assert_eq!(story.read(0, "m-8", "a@fine.example"), Intake::Taken);
    assert_eq!(story.plan.held(), 8);
    assert_eq!(story.plan.pending(), 9);
    assert_eq!(ids(&story.sends(at(1))), ["m-8"]);
}

#[test]
fn a_slow_domain_gets_one_connection_and_all_slow_ones_half() {
    let mut story = Story::new(Settings {
        limits: Limits::new(4),
        ..settings()
    });
    for domain in ["one", "two", "three"] {
        story.read(0, &format!("{domain}-0"), &format!("a@{domain}.example"));
    }
    let end = at(SLOW_MS + 1);
    for (_, ticket) in story.sends(at(0)) {
        let later = Outcome::Later("no answer".into());
        story.plan.settle(ticket, later, end);
    }
    for domain in ["one", "two", "three"] {
        for n in 1..4 {
            story.read(
                0,
                &format!("{domain}-{n}"),
                &format!("{n}@{domain}.example"),
            );
        }
    }
    for n in 0..3 {
        story.read(0, &format!("fine-{n}"), &format!("{n}@fine.example"));
    }
    assert_eq!(
        ids(&story.sends(end)),
        ["one-1", "two-1", "fine-0", "fine-1"]
    );
}

#[test]
fn retries_end_and_what_waits_behind_a_dead_domain_ends_with_them() {
    let mut story = Story::new(settings());
    story.read(0, "m-0", "a@x.example");
    story.read(0, "m-1", "b@x.example");
    let late = RETRY_FOR_MS + 1;
    story.plan.renew(at(late));
    let sends = story.sends(at(late));
    assert_eq!(sends.len(), 2, "each gets a chance, even late");
    let settled = story
        .plan
        .settle(sends[0].1, Outcome::Later("451 busy".into()), at(late));
    let Settled::Write(receipt) = settled else {
        panic!("{settled:?}");
    };
    assert_eq!(receipt.record.result, "failed");
    assert_eq!(receipt.record.detail.as_deref(), Some("451 busy"));
    assert_eq!(receipt.record.attempts, 1);
    // Its domain is known to take nothing, so the next is not kept waiting for a time-out.
    story.read(0, "m-2", "c@x.example");
    let Some(Step::GiveUp(ticket, receipt)) = story.plan.next(at(late)) else {
        panic!("it was tried");
    };
    assert_eq!(
        (receipt.record.result.as_str(), receipt.record.attempts),
        ("failed", 0)
    );
    story.plan.recorded(ticket);
}

/// The mail that a receipt says bounced, and why.
fn bounced(receipt: &Receipt) -> Option<(&str, Lost)> {
    let (mail, lost) = receipt.bounced.as_ref()?;
    Some((&mail.id, *lost))
}

#[test]
fn rules_17_what_is_given_up_bounced_and_what_is_sent_or_left_to_others_did_not() {
    let mut story = Story::new(settings());
    for (n, domain) in ["sent", "gone", "late", "moved"].iter().enumerate() {
        let to = format!("a@{domain}.example");
        story.read(i32::from(*domain == "moved"), &format!("m-{n}"), &to);
    }
    let sends = story.sends(at(0));
    let ticket = |id: &str| {
        let found = sends.iter().find(|(sent, _)| *sent == id);
        found.expect("it was handed out").1
    };
    let mut settle = |id: &str, outcome, at| story.plan.settle(ticket(id), outcome, at);
    let receipt = |settled| match settled {
        Settled::Write(receipt) => receipt,
        other => panic!("{other:?}"),
    };
    let sent = receipt(settle("m-0", Outcome::Sent, at(1)));
    assert_eq!(bounced(&sent), None);
    let gone = receipt(settle("m-1", Outcome::Never("550".into()), at(1)));
    assert_eq!(bounced(&gone), Some(("m-1", Lost::Refused)));
    assert_eq!(gone.record.result, "failed");
    let late = at(RETRY_FOR_MS + 1);
    let late = receipt(settle("m-2", Outcome::Later("450".into()), late));
    assert_eq!(bounced(&late), Some(("m-2", Lost::TimeUp)));
    // Whoever has the partition now tries it, and tells.
    story.plan.revoke(&[1]);
    let moved = story
        .plan
        .settle(ticket("m-3"), Outcome::Never("550".into()), at(2));
    assert_eq!(moved, Settled::Left);
}

#[test]
fn an_unclear_attempt_is_repeated_unless_the_partition_went() {
    let mut story = Story::new(settings());
    story.read(0, "m-0", "a@x.example");
    story.read(1, "m-1", "b@y.example");
    let sends = story.sends(at(0));
    for (_, ticket) in &sends {
        assert!(story.plan.pass(*ticket, at(0)));
    }
    story.plan.revoke(&[1]);
    let unclear = || Outcome::Unclear("cut".into());
    assert_eq!(
        story.plan.settle(sends[0].1, unclear(), at(1)),
        Settled::Again
    );
    assert_eq!(
        story.plan.settle(sends[1].1, unclear(), at(1)),
        Settled::Left
    );
}
