//! Mailers that die, freeze and hand over, on a real Kafka and a real SMTP server.
//!
//! The one repeat that is allowed: the server took a mail while its mailer died or froze, so
//! that no receipt was there when the next one looked.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use doorward::mail::plan::Limits;
use doorward::mail::transport::Transport;
use doorward::record::MailRecord;
use tokio::runtime::Runtime;

use super::{Running, to};
use crate::owner;
use crate::support::doorward::Doorward;
use crate::support::kafka::{self, Cluster, Record};
use crate::support::proxy::Mode;
use crate::support::smtp::{Behaviour, ReceivedMail, SmtpServer};
use crate::support::{PATIENCE, eventually};

/// A mailer takes part in a group again only after the session of the dead one has ended.
const LONG: Duration = Duration::from_secs(90);
/// Mails that one mailer sends at once, and so the most that its death can repeat.
const CONNECTIONS: usize = 4;
/// The server's pause before each 250, so that a mailer dies with mails under way.
const ANSWER: Duration = Duration::from_millis(150);

/// How long after its mailer's end a mail may arrive that was sent before: the server has
/// little of the processor. Nobody takes a dead one's partitions before half a session.
const ON_ITS_WAY_MS: i64 = 2_000;

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(since.expect("a clock after 1970").as_millis()).expect("a time")
}

/// Two instances with an outbox and a server of their own.
struct Stage<C> {
    cluster: C,
    server: SmtpServer,
    one: Doorward,
    two: Doorward,
    written: usize,
}

impl Stage<&'static Cluster> {
    /// On the broker that all tests share, before a server that takes its time to answer.
    fn new() -> Option<Self> {
        Stage::before(
            kafka::shared()?,
            &Behaviour {
                delay: ANSWER,
                ..Behaviour::default()
            },
        )
    }
}

impl<C: Deref<Target = Cluster>> Stage<C> {
    fn before(cluster: C, behaviour: &Behaviour) -> Option<Self> {
        let server = SmtpServer::start(behaviour)?;
        let one = Doorward::new(&cluster, "shards = 1");
        one.reconfigure("port = 9\n", &format!("port = {}\n", server.port));
        one.create_topics(6);
        // A broker that was asked a moment later may not know them yet.
        eventually("the topics", PATIENCE, || {
            let checked = one.command(&["topics", "check"]);
            checked.status.success().then_some(())
        });
        let two = one.sibling("two", &cluster.bootstrap());
        Some(Stage {
            cluster,
            server,
            one,
            two,
            written: 0,
        })
    }

    /// Puts mails to so many further people into the outbox.
    fn write(&mut self, mails: usize) {
        let records: Vec<(String, String)> = (self.written..self.written + mails)
            .map(|n| {
                let address = format!("person-{n:03}@example.org");
                let record = to(&format!("m-{n:03}"), &address);
                (address, serde_json::to_string(&record).expect("JSON"))
            })
            .collect();
        self.written += mails;
        let topic = self.one.topic("mail");
        let messages = records
            .iter()
            .map(|(to, text)| (to.as_str(), text.as_str()));
        self.cluster.produce(&topic, messages);
    }

    fn wait_until_accepted(&self, mails: usize) {
        eventually(&format!("{mails} people's mails"), LONG, || {
            (by_person(&self.server.mails()).len() >= mails).then_some(())
        });
    }

    fn receipts(&self) -> BTreeMap<String, Vec<Record>> {
        let mut receipts: BTreeMap<String, Vec<Record>> = BTreeMap::new();
        for record in self.cluster.read_committed(&self.one.topic("receipts")) {
            assert_eq!(record.json()["result"], "sent");
            receipts.entry(record.key_text()).or_default().push(record);
        }
        receipts
    }

    /// Waits until every mail was taken and has its receipt, and returns those that were
    /// taken more than once, each with its receipts.
    fn repeats(&self) -> Vec<(Vec<ReceivedMail>, Vec<Record>)> {
        self.wait_until_accepted(self.written);
        let receipts = eventually("all receipts", LONG, || {
            Some(self.receipts()).filter(|receipts| receipts.len() == self.written)
        });
        let repeats: Vec<_> = by_person(&self.server.mails())
            .into_iter()
            .filter(|(_, mails)| mails.len() > 1)
            .map(|(person, mails)| {
                let id = person.replace("person", "m");
                let id = id.trim_end_matches("@example.org");
                (mails, receipts[id].clone())
            })
            .collect();
        for (mails, _) in &repeats {
            assert_eq!(mails.len(), 2, "{mails:?}");
            let ids = [mails[0].parsed(), mails[1].parsed()]
                .map(|mail| mail.message_id().expect("a Message-ID").to_owned());
            assert_eq!(ids[0], ids[1]);
        }
        println!("{} of {} mails were repeated", repeats.len(), self.written);
        repeats
    }
}

fn by_person(mails: &[ReceivedMail]) -> BTreeMap<String, Vec<ReceivedMail>> {
    let mut people: BTreeMap<String, Vec<ReceivedMail>> = BTreeMap::new();
    for mail in mails {
        people
            .entry(mail.to[0].clone())
            .or_default()
            .push(mail.clone());
    }
    people
}

#[test]
fn mailers_that_come_and_go_hand_over_every_mail_once() {
    let Some(mut stage) = Stage::new() else {
        return;
    };
    stage.one.start();
    stage.one.wait_until_ready();
    stage.write(150);
    stage.wait_until_accepted(20);
    stage.two.start();
    stage.two.wait_until_ready();
    stage.write(100);
    stage.wait_until_accepted(120);
    assert!(stage.one.terminate().success());
    stage.write(20);
    assert_eq!(stage.repeats().len(), 0);
    let receipts = stage.receipts();
    assert!(receipts.values().all(|receipts| receipts.len() == 1));
    assert!(stage.two.terminate().success());
}

#[test]
fn a_mailer_that_is_killed_repeats_only_what_the_server_was_just_taking() {
    let Some(mut stage) = Stage::new() else {
        return;
    };
    stage.one.start();
    stage.two.start();
    stage.one.wait_until_ready();
    stage.two.wait_until_ready();
    stage.write(200);
    stage.wait_until_accepted(40);
    stage.one.kill();
    let killed_ms = now_ms();
    let repeats = stage.repeats();
    assert!(repeats.len() <= CONNECTIONS, "{}", repeats.len());
    for (mails, receipts) in repeats {
        let [first, second] = [0, 1].map(|at| mails[at].at_ms - killed_ms);
        assert!(first <= ON_ITS_WAY_MS, "it was sent {first} ms after");
        assert!(second > ON_ITS_WAY_MS, "the other one did not wait");
        assert_eq!(receipts.len(), 1, "the first had no receipt");
        assert!(receipts[0].timestamp_ms >= mails[1].at_ms, "{receipts:?}");
    }
    assert!(stage.two.terminate().success());
}

#[test]
fn a_mailer_that_wakes_up_after_others_took_over_sends_nothing_of_theirs() {
    // Most of the time of an attempt is before the gate, so that is where it freezes.
    let behaviour = Behaviour {
        recipient: ANSWER,
        ..Behaviour::default()
    };
    let stage = kafka::shared().and_then(|cluster| Stage::before(cluster, &behaviour));
    let Some(mut stage) = stage else {
        return;
    };
    stage.one.start();
    stage.two.start();
    stage.one.wait_until_ready();
    stage.two.wait_until_ready();
    stage.write(200);
    stage.wait_until_accepted(40);
    // The last mails were just taken; the next ones are half way to the gate by then.
    std::thread::sleep(ANSWER / 2);
    stage.one.signal("STOP");
    let frozen_ms = now_ms();
    stage.wait_until_accepted(stage.written);
    stage.one.signal("CONT");
    stage.write(60);
    let repeats = stage.repeats();
    assert!(repeats.len() <= CONNECTIONS, "{}", repeats.len());
    for (mails, _) in repeats {
        // Its text was on its way to the server when the process froze.
        let first = mails[0].at_ms - frozen_ms;
        assert!(first <= ON_ITS_WAY_MS, "it was sent {first} ms after");
    }
    assert!(stage.two.terminate().success());
}

#[test]
fn a_mailer_that_is_cut_off_from_kafka_stops_until_it_is_back() {
    let Some(cluster) = kafka::start_cluster_with_doors(1, 1) else {
        return;
    };
    let behaviour = Behaviour {
        delay: ANSWER,
        ..Behaviour::default()
    };
    let Some(mut stage) = Stage::before(Box::new(cluster), &behaviour) else {
        return;
    };
    let door = stage.cluster.door(0).bootstrap();
    stage.two = stage.one.sibling("two", &door);
    stage.one.start();
    stage.two.start();
    stage.one.wait_until_ready();
    stage.two.wait_until_ready();
    stage.write(200);
    stage.wait_until_accepted(40);
    let cut_ms = now_ms();
    stage.cluster.door(0).set(Mode::Cut);
    stage.wait_until_accepted(stage.written);
    stage.cluster.door(0).heal();
    stage.write(60);
    // Each attempt kept its connection until its receipt was written.
    let repeats = stage.repeats();
    assert!(repeats.len() <= CONNECTIONS, "{}", repeats.len());
    for (mails, receipts) in repeats {
        assert!(mails[1].at_ms > cut_ms);
        assert_eq!(receipts.len(), 2, "both write theirs in the end");
    }
    assert!(stage.one.terminate().success());
}

#[test]
fn what_was_set_aside_is_read_again_from_a_real_log() {
    let Some(cluster) = kafka::shared() else {
        return;
    };
    let Some(server) = SmtpServer::start(&Behaviour::default()) else {
        return;
    };
    let mut config = owner::config(&cluster.bootstrap());
    config.mail.port = server.port;
    config.kafka.group = cluster.unique("mailers");
    config.topics.mail = cluster.unique("mail");
    config.topics.receipts = cluster.unique("receipts");
    for topic in [&config.topics.mail, &config.topics.receipts] {
        cluster.create_topic(topic, 3, &[]);
    }
    let records: Vec<(String, String)> = (0..400)
        .map(|n| {
            let domain = ["one", "two", "three"][n % 3];
            let address = format!("person-{n:03}@{domain}.example");
            let record = to(&format!("m-{n:03}"), &address);
            (address, serde_json::to_string(&record).expect("JSON"))
        })
        .collect();
    let messages = records
        .iter()
        .map(|(to, text)| (to.as_str(), text.as_str()));
    cluster.produce(&config.topics.mail, messages);
    let runtime = Runtime::new().expect("a runtime");
    let transport = Transport::smtp(&config.mail).expect("a transport");
    let limits = Limits {
        mails: 50,
        per_domain: 20,
        ..Limits::new(8)
    };
    let mailer = Running::on(&runtime, &config, transport, limits);
    eventually("all mails", LONG, || {
        let pending = mailer.metrics.mail_pending.get();
        (mailer.count("sent") >= 400 && pending == 0).then_some(())
    });
    assert!(mailer.count("set_aside") > 300);
    mailer.stop_on(&runtime);
    let people = by_person(&server.attempts());
    assert_eq!(people.len(), 400);
    assert!(people.values().all(|mails| mails.len() == 1));
    assert_eq!(cluster.read_committed(&config.topics.receipts).len(), 400);
}

#[test]
fn a_receipt_is_written_when_kafka_is_back() {
    let Some(mut cluster) = kafka::start_cluster(1) else {
        return;
    };
    let Some(server) = SmtpServer::start(&Behaviour {
        delay: Duration::from_secs(4),
        ..Behaviour::default()
    }) else {
        return;
    };
    let mut config = owner::config(&cluster.bootstrap());
    config.mail.port = server.port;
    for topic in [&config.topics.mail, &config.topics.receipts] {
        cluster.create_topic(topic, 1, &[]);
    }
    let runtime = Runtime::new().expect("a runtime");
    let transport = Transport::smtp(&config.mail).expect("a transport");
    let mailer = Running::on(&runtime, &config, transport, Limits::new(4));
    let record = serde_json::to_string(&MailRecord {
        partition: 0,
        ..owner::mail()
    });
    let record = record.expect("JSON");
    cluster.produce(
        &config.topics.mail,
        [("owner@example.org", record.as_str())],
    );
    eventually("the server to be at it", PATIENCE, || {
        (server.begun() == 1).then_some(())
    });
    cluster.kill_broker(0);
    server.wait_for_mails(1, PATIENCE);
    eventually("the mail to be counted", PATIENCE, || {
        (mailer.count("sent") == 1).then_some(())
    });
    assert_eq!(
        mailer.metrics.mail_pending.get(),
        1,
        "it has no receipt yet"
    );
    cluster.restart_brokers();
    eventually("the receipt", LONG, || {
        (mailer.metrics.mail_pending.get() == 0).then_some(())
    });
    let receipts = cluster.read_committed(&config.topics.receipts);
    assert_eq!(receipts.len(), 1);
    assert_eq!(receipts[0].json()["result"], "sent");
    assert_eq!(mailer.metrics.mail_delay_seconds.get_sample_count(), 1);
    mailer.stop_on(&runtime);
    assert_eq!(server.attempts().len(), 1);
}
