//! A hundred made-up histories in which mailers die, hand over partitions, run out of room
//! and meet servers of every kind.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// How long mails are retried in a history.
const HISTORY: Duration = Duration::from_secs(4 * 60 * 60);

/// A history: one log, mailers that come and go on it, and servers that misbehave.
struct History {
    random: fastrand::Rng,
    log: BTreeMap<i32, Vec<MailRecord>>,
    committed: BTreeMap<i32, i64>,
    receipts: BTreeSet<String>,
    sent: BTreeMap<String, u32>,
    /// Mails that were out when their mailer died after the server had taken them.
    excused: BTreeSet<String>,
    now: i64,
}

/// One life of a mailer.
struct Life {
    plan: Plan,
    cursor: BTreeMap<i32, i64>,
    out: Vec<(Job, bool)>,
    records: Vec<Ticket>,
}

impl History {
    fn new(seed: u64) -> History {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut log = BTreeMap::new();
        let mut number = 0;
        for partition in 0..3 {
            let mut mails = Vec::new();
            for _ in 0..random.usize(5..40) {
                number += 1;
                let domain = ["dead", "slow", "grey", "cut", "fine"][random.usize(0..5)];
                mails.push(record(
                    &format!("m-{number}"),
                    &format!("{number}@{domain}.example"),
                ));
                if random.u8(0..10) == 0 {
                    mails.push(mails[random.usize(0..mails.len())].clone());
                }
            }
            log.insert(partition, mails);
        }
        History {
            random,
            log,
            committed: BTreeMap::new(),
            receipts: BTreeSet::new(),
            sent: BTreeMap::new(),
            excused: BTreeSet::new(),
            now: 0,
        }
    }

    fn now(&self) -> Now {
        at(self.now)
    }

    fn begin(&self) -> Life {
        let mut plan = Plan::new(Settings {
            retry_for: HISTORY,
            ..settings()
        });
        for id in &self.receipts {
            plan.receipt(MailKey::of(id));
        }
        plan.renew(self.now());
        let from = |partition: &i32| self.committed.get(partition).copied().unwrap_or(0);
        let cursor = self.log.keys().map(|p| (*p, from(p))).collect();
        Life {
            plan,
            cursor,
            out: Vec::new(),
            records: Vec::new(),
        }
    }

    fn commit(&mut self, life: &mut Life) {
        for (partition, position) in life.plan.positions() {
            let (passed, kept) = self.log[&partition].split_at(position as usize);
            for mail in passed {
                let stands_again = kept.iter().any(|other| other.id == mail.id);
                assert!(
                    self.receipts.contains(&mail.id) || stands_again,
                    "the position passed {} which is not done",
                    mail.id
                );
            }
            self.committed.insert(partition, position);
        }
    }

    fn turn(&mut self, life: &mut Life) {
        self.now += self.random.i64(0..30_000);
        life.plan.renew(self.now());
        let now = self.now();
        match self.random.u8(0..10) {
            0..=2 => {
                let partition = self.random.i32(0..3);
                let cursor = life.cursor.get_mut(&partition).expect("a cursor");
                if let Some(mail) = self.log[&partition].get(*cursor as usize) {
                    let payload = serde_json::to_vec(mail).expect("JSON");
                    let place = place(partition, *cursor);
                    *cursor += 1;
                    life.plan.read(place, Timestamp(0), &payload, now);
                }
            }
            3..=4 => match life.plan.next(now) {
                Some(Step::Send(job)) => life.out.push((job, false)),
                Some(Step::GiveUp(ticket, receipt)) => self.record(life, ticket, &receipt),
                _ => {}
            },
            5..=7 if !life.out.is_empty() => {
                let at = self.random.usize(0..life.out.len());
                if life.out[at].1 {
                    let (job, _) = life.out.swap_remove(at);
                    self.end(life, job);
                } else if life.plan.pass(life.out[at].0.ticket, now) {
                    life.out[at].1 = true;
                } else {
                    let (job, _) = life.out.swap_remove(at);
                    life.plan.settle(job.ticket, Outcome::Withdrawn, now);
                }
            }
            8 if !life.records.is_empty() => {
                let at = self.random.usize(0..life.records.len());
                life.plan.recorded(life.records.swap_remove(at));
            }
            _ => {
                for (partition, from) in life.plan.rewind(now) {
                    life.cursor.insert(partition, from);
                    life.plan.rewound(partition, from, now);
                }
            }
        }
        let limits = settings().limits;
        assert!(life.plan.held() <= limits.mails + limits.connections);
        self.commit(life);
    }

    /// The server answers an attempt that it may take.
    fn end(&mut self, life: &mut Life, job: Job) {
        let id = job.record.id.clone();
        let chance = self.random.u8(0..4);
        let outcome = match job.record.to.split('@').next_back() {
            Some("dead.example") => Outcome::Later("451".into()),
            Some("grey.example") if chance > 0 => Outcome::Later("450".into()),
            Some("cut.example") if chance == 0 => {
                *self.sent.entry(id.clone()).or_default() += 1;
                self.excused.insert(id);
                Outcome::Unclear("cut".into())
            }
            _ => {
                *self.sent.entry(id).or_default() += 1;
                Outcome::Sent
            }
        };
        if job.record.to.ends_with("slow.example") {
            self.now += 6_000;
        }
        let settled = life.plan.settle(job.ticket, outcome, self.now());
        if let Settled::Write(receipt) = settled {
            self.record(life, job.ticket, &receipt);
        }
    }

    /// The receipt reaches the log; that it did is heard of later, or never.
    fn record(&mut self, life: &mut Life, ticket: Ticket, receipt: &Receipt) {
        self.receipts.insert(receipt.record.id.clone());
        life.records.push(ticket);
    }

    /// A partition goes to somebody else and comes back.
    fn rebalance(&mut self, life: &mut Life) {
        let partition = self.random.i32(0..3);
        life.plan.revoke(&[partition]);
        while life.plan.awaits(&[partition]) {
            if let Some(at) = life.out.iter().position(|(_, passed)| *passed) {
                let (job, _) = life.out.swap_remove(at);
                self.end(life, job);
            } else if let Some(ticket) = life.records.pop() {
                life.plan.recorded(ticket);
            }
        }
        self.commit(life);
        life.plan.gone(&[partition]);
        for id in &self.receipts {
            life.plan.receipt(MailKey::of(id));
        }
        let from = self.committed.get(&partition).copied().unwrap_or(0);
        life.cursor.insert(partition, from);
    }

    fn run(&mut self) {
        let ids: BTreeSet<String> = self.log.values().flatten().map(|m| m.id.clone()).collect();
        let mut life = self.begin();
        for turn in 0.. {
            self.turn(&mut life);
            match self.random.u16(0..400) {
                0 => {
                    // Whatever the server was taking may have been taken.
                    for (job, passed) in &life.out {
                        if *passed {
                            *self.sent.entry(job.record.id.clone()).or_default() += 1;
                            self.excused.insert(job.record.id.clone());
                        }
                    }
                    life = self.begin();
                }
                1..=3 => self.rebalance(&mut life),
                _ => {}
            }
            let done: BTreeSet<&String> = self.receipts.iter().collect();
            if done.len() == ids.len() && life.records.is_empty() {
                break;
            }
            assert!(
                turn < 2_000_000,
                "it never ends: {} of {}",
                done.len(),
                ids.len()
            );
        }
        for id in &ids {
            let times = self.sent.get(id).copied().unwrap_or(0);
            let dead = self
                .log
                .values()
                .flatten()
                .any(|m| m.id == *id && m.to.contains("dead"));
            assert!(
                times > 0 || dead || self.now > millis(HISTORY),
                "{id} was not sent"
            );
            assert!(
                times <= 1 || self.excused.contains(id),
                "{id} was sent {times} times"
            );
        }
    }
}

#[test]
fn every_mail_is_sent_once_in_a_hundred_histories() {
    for seed in 0..100 {
        let result = std::panic::catch_unwind(|| History::new(seed).run());
        assert!(result.is_ok(), "history {seed} failed");
    }
}
