//! Two mailers, of which one has the outbox at a time, around the real plan.
//!
//! The plan decides; this reads, sends, writes receipts and commits as the mailer's shell
//! does, and lets it be killed or frozen between any two of these. Who has the outbox is
//! decided by sessions alone: a mailer that was frozen for too long has lost it, and hears of
//! it when it next commits.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use doorward::mail::plan::{
    Job, Limits, Lost, MailKey, Now, Outcome, Place, Plan, Receipt, Settings, Settled, Step, Ticket,
};
use doorward::mail::{RetrySchedule, bounce};
use doorward::record::MailRecord;
use doorward::sim::network::Ask;
use doorward::sim::topic::{Isolation, Message, Topic};
use doorward::sim::world::{Actor, ProcessId, World};

use super::bug::Bug;
use super::fate::Server;
use super::host::answer_keys;
use super::people::{Delivered, Mailbox, mint};
use super::tale::Smtp;

const SESSION_MS: u64 = 10_000;
/// A commit proves for so long that the outbox is still this mailer's.
const LEASE: Duration = Duration::from_millis(SESSION_MS / 4 * 3);
const COMMIT_EVERY_MS: u64 = SESSION_MS / 4;
const TURN_MS: u64 = 400;

/// What the mailers' group and the world outside know.
#[derive(Default)]
pub struct Post {
    owner: Option<ProcessId>,
    seen_at: u64,
    committed: BTreeMap<i32, i64>,
    /// By mail: how often it may have been taken without a receipt coming of it.
    pub excuses: BTreeMap<String, usize>,
    /// Mails that the server will never take.
    refused: BTreeSet<String>,
    pub complaints: Vec<String>,
    /// The processes of the mailers, as misfortune finds them.
    pub processes: Vec<ProcessId>,
}

pub type SharedPost = Rc<RefCell<Post>>;

enum Stage {
    Prepared(Job),
    HandedOver(Job, Outcome),
    Writing(Ticket, Receipt),
}

struct Flight {
    at: u64,
    stage: Stage,
}

pub struct Mailer {
    number: usize,
    process: ProcessId,
    plan: Plan,
    post: SharedPost,
    mailbox: Mailbox,
    server: Server,
    /// A mailbox that takes nothing.
    dead: Option<String>,
    bug: Option<Bug>,
    has_outbox: bool,
    read_to: BTreeMap<i32, i64>,
    receipts_to: BTreeMap<i32, i64>,
    flights: Vec<Flight>,
    committed_at: u64,
}

impl Mailer {
    pub fn new(
        world: &World,
        post: &SharedPost,
        mailbox: &Mailbox,
        server: &Server,
        dead: Option<u8>,
        bug: Option<Bug>,
    ) -> Mailer {
        let process = world.add_process();
        let mut shared = post.borrow_mut();
        shared.processes.push(process);
        Mailer {
            number: shared.processes.len() - 1,
            process,
            plan: plan(),
            post: Rc::clone(post),
            mailbox: Rc::clone(mailbox),
            server: Rc::clone(server),
            dead: dead.map(|account| format!("u-{account}@example.org")),
            bug,
            has_outbox: false,
            read_to: BTreeMap::new(),
            receipts_to: BTreeMap::new(),
            flights: Vec::new(),
            committed_at: 0,
        }
    }

    fn now(&self, world: &World) -> Now {
        Now {
            wall: world.time().plus_ms(world.wall_off(self.process)),
            steady_ms: i64::try_from(world.elapsed()).expect("a short history"),
        }
    }

    /// The supervisor starts it anew, knowing nothing.
    fn restart(&mut self, world: &World) {
        self.excuse();
        self.process = world.add_process();
        self.post.borrow_mut().processes[self.number] = self.process;
        self.plan = plan();
        self.flights.clear();
        self.has_outbox = false;
        self.receipts_to.clear();
        world.note(|| format!("mailer {} starts as process {}", self.number, self.process));
    }

    /// Mails that may have been taken, and of which nobody will hear from this mailer.
    fn excuse(&self) {
        let mut post = self.post.borrow_mut();
        for flight in &self.flights {
            let mail = match &flight.stage {
                Stage::Prepared(_) => continue,
                Stage::HandedOver(job, _) => &job.record.id,
                Stage::Writing(_, receipt) => &receipt.record.id,
            };
            *post.excuses.entry(mail.clone()).or_default() += 1;
        }
    }

    /// Takes the outbox where nobody has it.
    fn join(&mut self, world: &World) {
        let now = world.now();
        let mut post = self.post.borrow_mut();
        if let Some(owner) = post.owner
            && !world.is_dead(owner)
            && world.frozen_until(owner).is_none()
            && now <= post.seen_at + SESSION_MS
        {
            // Sessions are kept alive in the background, whatever the mailer does.
            post.seen_at = now;
        }
        let is_free = post.owner.is_none() || now > post.seen_at + SESSION_MS;
        if self.has_outbox || !is_free {
            return;
        }
        world.note(|| format!("mailer {} gets the outbox", self.number));
        post.owner = Some(self.process);
        post.seen_at = now;
        self.read_to = post.committed.clone();
        self.has_outbox = true;
        drop(post);
        self.follow_receipts(world);
        self.commit(world);
    }

    fn follow_receipts(&mut self, world: &World) {
        let (plan, read) = (&mut self.plan, &mut self.receipts_to);
        world.cluster(|cluster| {
            for partition in 0..cluster.partitions(Topic::Receipts) {
                let next = read.entry(partition).or_default();
                for record in cluster.log((Topic::Receipts, partition)).committed(*next) {
                    *next = record.offset + 1;
                    let key = record.message.key.as_deref().unwrap_or_default();
                    plan.receipt(MailKey::of_bytes(key));
                }
            }
        });
    }

    fn read(&mut self, world: &World) {
        let now = self.now(world);
        let isolation = match self.bug {
            Some(Bug::MailUncommitted) => Isolation::Uncommitted,
            _ => Isolation::Committed,
        };
        let (plan, read) = (&mut self.plan, &mut self.read_to);
        world.cluster(|cluster| {
            for partition in 0..cluster.partitions(Topic::Mail) {
                let next = read.entry(partition).or_default();
                for record in cluster.log((Topic::Mail, partition)).read(*next, isolation) {
                    *next = record.offset + 1;
                    let place = Place {
                        partition,
                        offset: record.offset,
                    };
                    let payload = record.message.payload.as_deref().unwrap_or_default();
                    plan.read(place, record.time, payload, now);
                }
            }
        });
        for (partition, offset) in self.plan.rewind(now) {
            self.read_to.insert(partition, offset);
            self.plan.rewound(partition, offset, now);
        }
    }

    /// Says how far it is, which the group accepts from whoever has the outbox alone.
    fn commit(&mut self, world: &World) {
        let asked = self.now(world);
        let mut positions = self.plan.positions();
        if self.bug == Some(Bug::MailForgotten) {
            positions = self.read_to.clone().into_iter().collect();
        }
        self.committed_at = world.now();
        let mut post = self.post.borrow_mut();
        if post.owner == Some(self.process) {
            post.seen_at = world.now();
            post.committed.extend(positions);
            self.plan.renew(asked);
            return;
        }
        drop(post);
        world.note(|| format!("mailer {} has lost the outbox", self.number));
        self.excuse();
        let all: Vec<i32> = self.read_to.keys().copied().collect();
        self.plan.expel();
        self.plan.revoke(&all);
        self.plan.gone(&all);
        self.has_outbox = false;
    }

    fn start_attempts(&mut self, world: &World) {
        while let Some(step) = self.plan.next(self.now(world)) {
            let stage = match step {
                Step::Send(job) => Stage::Prepared(job),
                Step::GiveUp(ticket, receipt) => Stage::Writing(ticket, receipt),
                Step::Delayed => continue,
            };
            // Some mail servers take their time to answer a call.
            let ms = if world.draw(4) == 0 { 4_000 } else { 50 };
            let at = world.now() + world.draw(ms);
            self.flights.push(Flight { at, stage });
            // Between what is prepared and what is sent, much can happen.
            if !world.live(self.process) {
                return;
            }
        }
    }

    fn land(&mut self, world: &World) {
        let now = world.now();
        let due: Vec<Flight> = self
            .flights
            .extract_if(.., |flight| flight.at <= now)
            .collect();
        for flight in due {
            match flight.stage {
                Stage::Prepared(job) => self.pass(world, job),
                Stage::HandedOver(job, outcome) => {
                    let now = self.now(world);
                    if let Settled::Write(receipt) = self.plan.settle(job.ticket, outcome, now) {
                        self.write(world, job.ticket, receipt);
                    }
                }
                Stage::Writing(ticket, receipt) => self.write(world, ticket, receipt),
            }
        }
    }

    fn pass(&mut self, world: &World, job: Job) {
        let passes = self.plan.pass(job.ticket, self.now(world));
        if !passes && self.bug != Some(Bug::GateIgnored) {
            self.plan
                .settle(job.ticket, Outcome::Withdrawn, self.now(world));
            return;
        }
        let mut server = self.server.borrow_mut();
        let answer = if self.dead.as_deref() == Some(&*job.record.to) {
            Some(Smtp::Never)
        } else if server.is_empty() {
            None
        } else {
            Some(server.remove(0))
        };
        drop(server);
        let (outcome, ms) = match answer {
            None => (Outcome::Sent, 40),
            Some(Smtp::Slow { ms }) => (Outcome::Sent, ms),
            Some(Smtp::Unanswered) => {
                let mut post = self.post.borrow_mut();
                *post.excuses.entry(job.record.id.clone()).or_default() += 1;
                (Outcome::Unclear("no answer".into()), 40)
            }
            Some(Smtp::Later) => (Outcome::Later("greylisted".into()), 40),
            Some(Smtp::Never) => {
                let mut post = self.post.borrow_mut();
                post.refused.insert(job.record.id.clone());
                (Outcome::Never("no such mailbox".into()), 40)
            }
        };
        if matches!(outcome, Outcome::Sent | Outcome::Unclear(_)) {
            self.deliver(world, &job);
        }
        let at = world.now() + ms;
        let stage = Stage::HandedOver(job, outcome);
        self.flights.push(Flight { at, stage });
    }

    fn deliver(&self, world: &World, job: &Job) {
        let mail = (*job.record).clone();
        world.note(|| format!("mail {} arrives", mail.id));
        if !committed(world).contains_key(&mail.id) {
            let what = format!("mail {} was sent before it was committed", mail.id);
            self.post.borrow_mut().complaints.push(what);
        }
        let token = mint(&mail, world.time());
        self.mailbox.borrow_mut().push(Delivered {
            at: world.now(),
            mail,
            token,
        });
    }

    fn write(&mut self, world: &World, ticket: Ticket, receipt: Receipt) {
        let early = self.bug == Some(Bug::MailBeforeReceipt);
        if early {
            self.plan.recorded(ticket);
            self.commit(world);
        }
        let message = Message {
            key: Some(receipt.record.id.clone().into_bytes()),
            payload: serde_json::to_vec(&receipt.record).ok(),
            headers: Vec::new(),
        };
        let place = (Topic::Receipts, receipt.partition);
        let mail = receipt.record.id.clone();
        let bounced = receipt.bounced.clone();
        // Until it is written, a death leaves the mail without one.
        let at = world.now() + 1_000;
        let stage = Stage::Writing(ticket, receipt);
        self.flights.push(Flight { at, stage });
        if let Some(bounced) = &bounced
            && !self.tell(world, bounced)
        {
            return;
        }
        let written = self.publish(world, place, message);
        if written {
            let mut post = self.post.borrow_mut();
            if self.has_outbox && post.owner != Some(self.process) {
                // Whoever took over could not know of it.
                *post.excuses.entry(mail).or_default() += 1;
            }
            drop(post);
            self.flights
                .retain(|flight| !matches!(flight.stage, Stage::Writing(of, _) if of == ticket));
            if !early {
                self.plan.recorded(ticket);
            }
        }
    }

    /// Tells the account's partition that a mail bounced.
    fn tell(&self, world: &World, (mail, lost): &(Arc<MailRecord>, Lost)) -> bool {
        let now = self.now(world).wall;
        let message = Message {
            key: Some(mail.account.clone().into_bytes()),
            payload: Some(bounce::event(mail, *lost, now, &answer_keys())),
            headers: Vec::new(),
        };
        world.note(|| format!("mail {} bounces", mail.id));
        self.publish(world, (Topic::Events, mail.partition), message)
    }

    fn publish(&self, world: &World, place: (Topic, i32), message: Message) -> bool {
        let written = world.call(self.process, Ask::Publish, 5_000, move |cluster, now| {
            Ok(cluster.publish(place, message.clone(), now))
        });
        written.is_ok()
    }
}

impl Actor for Mailer {
    fn step(&mut self, world: &World) -> Option<u64> {
        if world.is_dead(self.process) {
            if world.is_over() {
                return None;
            }
            self.restart(world);
            return Some(world.now() + 500);
        }
        if let Some(until) = world.frozen_until(self.process) {
            return Some(until);
        }
        self.join(world);
        self.land(world);
        if self.has_outbox {
            self.follow_receipts(world);
            self.read(world);
            self.start_attempts(world);
            if world.now() >= self.committed_at + COMMIT_EVERY_MS {
                self.commit(world);
            }
        }
        let soonest = self.flights.iter().map(|flight| flight.at).min();
        let turn = world.now() + TURN_MS;
        Some(soonest.map_or(turn, |at| at.min(turn)))
    }
}

fn plan() -> Plan {
    Plan::new(Settings {
        limits: Limits::new(2),
        schedule: RetrySchedule {
            first: Duration::from_secs(3),
            longest: Duration::from_secs(30),
        },
        retry_for: Duration::from_secs(48 * 3_600),
        per_hour: 1_000,
        lease: LEASE,
    })
}

/// Committed mails by id, and whether a receipt of each is there.
fn committed(world: &World) -> BTreeMap<String, bool> {
    world.cluster(|cluster| {
        let mut mails = BTreeMap::new();
        for partition in 0..cluster.partitions(Topic::Mail) {
            for record in cluster.log((Topic::Mail, partition)).committed(0) {
                let payload = record.message.payload.as_deref().unwrap_or_default();
                let mail: serde_json::Value = serde_json::from_slice(payload).expect("a mail");
                mails.insert(mail["id"].as_str().expect("its id").to_owned(), false);
            }
        }
        for partition in 0..cluster.partitions(Topic::Receipts) {
            for record in cluster.log((Topic::Receipts, partition)).committed(0) {
                let key = record.message.key.clone().unwrap_or_default();
                let id = String::from_utf8(key).expect("a mail's id");
                mails.entry(id).and_modify(|has| *has = true);
            }
        }
        mails
    })
}

/// Whether every mail has its receipt.
pub fn is_done(world: &World) -> bool {
    committed(world).values().all(|has_receipt| *has_receipt)
}

/// Every mail once; as often again as nobody could know that it was taken.
pub fn judge(world: &World, mailbox: &[Delivered], post: &Post) -> Vec<String> {
    let mut complaints = post.complaints.clone();
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for delivered in mailbox {
        *times.entry(&delivered.mail.id).or_default() += 1;
    }
    for (id, has_receipt) in committed(world) {
        let arrived = times.remove(id.as_str()).unwrap_or(0);
        let excuses = post.excuses.get(&id).copied().unwrap_or(0);
        let least = usize::from(!post.refused.contains(&id));
        if arrived < least || arrived > 1 + excuses {
            complaints.push(format!(
                "mail {id} arrived {arrived} times; {excuses} times nobody could know"
            ));
        }
        if !has_receipt {
            complaints.push(format!("mail {id} has no receipt"));
        }
    }
    for id in times.keys() {
        complaints.push(format!("mail {id} arrived and nobody wrote it"));
    }
    complaints.extend(judge_bounces(world, post));
    complaints
}

/// What was given up was told on the account's partition, and nothing else was.
fn judge_bounces(world: &World, post: &Post) -> Vec<String> {
    let (mut told, mut failed) = (BTreeMap::new(), BTreeSet::new());
    let mut homes = BTreeMap::new();
    world.cluster(|cluster| {
        let each = |topic, look: &mut dyn FnMut(i32, serde_json::Value)| {
            for partition in 0..cluster.partitions(topic) {
                for record in cluster.log((topic, partition)).committed(0) {
                    let payload = record.message.payload.as_deref().unwrap_or_default();
                    // Some of the events are junk.
                    if let Ok(json) = serde_json::from_slice(payload) {
                        look(partition, json);
                    }
                }
            }
        };
        each(Topic::Events, &mut |partition, event| {
            if event["type"] == "mail_bounced" {
                told.insert(text(&event["id"]).replacen("b-", "m-", 1), partition);
            }
        });
        each(Topic::Receipts, &mut |_, receipt| {
            if receipt["result"] == "failed" {
                failed.insert(text(&receipt["id"]));
            }
        });
        each(Topic::Mail, &mut |_, mail| {
            homes.insert(text(&mail["id"]), mail["partition"].as_i64());
        });
    });
    let mut complaints = Vec::new();
    for id in failed.iter().filter(|id| !told.contains_key(*id)) {
        complaints.push(format!("mail {id} bounced and nobody was told"));
    }
    for (id, partition) in &told {
        if !post.refused.contains(id) {
            complaints.push(format!("mail {id} did not bounce, as was told"));
        }
        if homes.get(id) != Some(&Some(i64::from(*partition))) {
            complaints.push(format!("mail {id} bounced on another account's partition"));
        }
    }
    complaints
}

fn text(json: &serde_json::Value) -> String {
    json.as_str().unwrap_or_default().to_owned()
}
