//! One history from its first event to the judgement.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use doorward::sim::clock;
use doorward::sim::cluster::{Cluster, Setup};
use doorward::sim::topic::Topic;
use doorward::sim::world::World;

use siphasher::sip::SipHasher13;

use super::START;
use super::bug::Bug;
use super::fate::{Fate, Server};
use super::host::{self, Hosts, TRANSACTION_MS};
use super::judge;
use super::mailer::{self, Mailer, SharedPost};
use super::people::{Mailbox, People};
use super::tale::{SPAN_MS, Tale, What};

/// How long everything may take to settle once nothing goes wrong any more.
const SETTLE_MS: u64 = 180_000;

/// What stands in a decision that a lock budget held.
const HELD: &[u8] = br#""effect":"held""#;

/// What stands in a timer of a question that nobody answered.
const UNANSWERED: &[u8] = br#""kind":"case_asked""#;

/// How a history ended.
pub struct Ending {
    /// A number for everything that brokers and mailboxes saw, and when.
    pub digest: u64,
    pub complaints: Vec<String>,
    pub diary: Vec<(u64, String)>,
    pub commands: usize,
    /// Decisions that a lock budget held.
    pub held: usize,
    /// Timers of questions that nobody answered.
    pub unanswered: usize,
    pub mails: usize,
}

/// Plays a tale; with `diary`, what happens is written down.
pub fn play(tale: &Tale, bug: Option<Bug>, diary: bool) -> Ending {
    let setup = Setup {
        partitions: tale.partitions,
        output_partitions: 3,
        session_ms: 10_000,
        rebalance_ms: 30_000,
        transaction_ms: TRANSACTION_MS,
        start: START,
    };
    let world = World::new(setup, tale.seed, diary);
    let _clocks = clock::show(&world);
    let hosts = Hosts::new(&world, tale.partitions, tale.shards, bug);
    for host in 0..tale.hosts {
        host::add(&hosts, format!("host{host}"));
    }
    let mailbox: Mailbox = Rc::default();
    let server: Server = Rc::new(RefCell::new(Vec::new()));
    let post: SharedPost = Rc::default();
    for mailer in 0..2 {
        let mailer_at = 10 + mailer * 50;
        let mailer = Mailer::new(&world, &post, &mailbox, &server, tale.dead, bug);
        world.add_actor(Box::new(mailer), mailer_at);
    }
    let people = People {
        traffic: tale.traffic.clone(),
        next: 0,
        web: world.add_process(),
        mailbox: Rc::clone(&mailbox),
        bug,
        sent: BTreeMap::new(),
        requests: 0,
    };
    world.add_actor(Box::new(people), 50);
    let fate = Fate {
        faults: tale.faults.clone(),
        next: 0,
        hosts: Rc::clone(&hosts),
        server,
        later: Vec::new(),
        guests: 0,
        post: Rc::clone(&post),
    };
    world.add_actor(Box::new(fate), 60);
    let mut complaints = run(&world, tale);
    let (now, leaps) = (world.now(), world.leaps());
    complaints.extend(std::mem::take(&mut hosts.borrow_mut().complaints));
    if complaints.is_empty() {
        complaints.extend(world.cluster(|cluster| judge::judge(cluster, now, &leaps)));
        complaints.extend(mailer::judge(&world, &mailbox.borrow(), &post.borrow()));
    }
    world.end();
    let holds = |payload: &[u8], what: &[u8]| payload.windows(what.len()).any(|part| part == what);
    let (written, commands, held, unanswered) = world.cluster(|cluster| {
        (
            cluster.digest(),
            count(cluster, Topic::Commands, |_| true),
            count(cluster, Topic::Decisions, |payload| holds(payload, HELD)),
            count(cluster, Topic::Events, |payload| holds(payload, UNANSWERED)),
        )
    });
    let mut digest = SipHasher13::new();
    written.hash(&mut digest);
    for delivered in mailbox.borrow().iter() {
        (delivered.at, &delivered.mail.id).hash(&mut digest);
    }
    let mails = mailbox.borrow().len();
    Ending {
        digest: digest.finish(),
        complaints,
        diary: world.take_diary(),
        commands,
        held,
        unanswered,
        mails,
    }
}

/// Lets everything happen, then lets everything settle, twice: once as it is, and once after
/// a day, when locks have ended and recoveries are released. Complains where something does not.
fn run(world: &World, tale: &Tale) -> Vec<String> {
    let leaps = tale.traffic.iter().filter_map(|moment| match moment.what {
        What::Leap { minutes } => Some((moment.at, minutes)),
        _ => None,
    });
    world.set_doom(SPAN_MS + 3 * SETTLE_MS);
    for (at, minutes) in leaps {
        world.wait_until(at);
        world.leap(minutes * 60_000);
    }
    world.wait_until(SPAN_MS + 1_000);
    world.note(|| "nothing goes wrong any more".into());
    world.disarm();
    if let Some(stuck) = settle(world) {
        return vec![stuck];
    }
    if world.leaps().is_empty() {
        let complaints = world.cluster(|cluster| judge::state(cluster));
        if !complaints.is_empty() {
            return complaints;
        }
    }
    world.leap(25 * 3_600_000);
    settle(world).into_iter().collect()
}

/// Waits until everything is done; what is not, where that takes too long.
fn settle(world: &World) -> Option<String> {
    let until = world.now() + SETTLE_MS;
    let mut calm = 0;
    let mut why = None;
    while world.now() < until {
        world.wait(1_000);
        why = world.cluster(|cluster| unsettled(cluster));
        if why.is_none() && !mailer::is_done(world) {
            why = Some("a mail has no receipt".into());
        }
        calm = if why.is_none() { calm + 1 } else { 0 };
        if calm >= 3 {
            return None;
        }
    }
    let why = why.unwrap_or_else(|| "there is no rest".into());
    Some(format!("nothing goes wrong any more, and still: {why}"))
}

/// What is not done yet.
fn unsettled(cluster: &Cluster) -> Option<String> {
    if cluster.transactions.is_busy() {
        return Some("a transaction is open".into());
    }
    for topic in Topic::ALL {
        for partition in 0..cluster.partitions(topic) {
            let log = cluster.log((topic, partition));
            if log.last_stable_offset() < log.high_watermark() {
                return Some(format!("{topic:?} {partition} is held back"));
            }
        }
    }
    for partition in 0..cluster.partitions(Topic::Events) {
        let log = cluster.log((Topic::Events, partition));
        let end = log
            .committed(0)
            .last()
            .map_or(0, |record| record.offset + 1);
        let committed = cluster.group.committed(partition);
        let committed = committed.map_or(0, |committed| committed.offset);
        if committed < end {
            return Some(format!(
                "partition {partition} is committed to {committed} of {end}"
            ));
        }
    }
    None
}

/// Committed records of `topic` whose payload `which` wants.
fn count(cluster: &Cluster, topic: Topic, which: impl Fn(&[u8]) -> bool) -> usize {
    let mut count = 0;
    for partition in 0..cluster.partitions(topic) {
        for record in cluster.log((topic, partition)).committed(0) {
            count += usize::from(record.message.payload.as_deref().is_some_and(&which));
        }
    }
    count
}
