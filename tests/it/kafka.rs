//! The service on a real broker: nothing lost and nothing twice, whatever happens to it.

mod bounces;
mod conform;
mod operators;
mod privacy;
mod record;
mod recovery;
mod visitor;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::doorward::Doorward;
use crate::support::kafka::{self, Cluster, Record};
use crate::support::{PATIENCE, eventually};

fn now_ms() -> u128 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("a clock after 1970").as_millis()
}

fn failed_login(id: &str, account: &str, ip: &str) -> String {
    format!(
        r#"{{"id":"{id}","type":"login","outcome":"failure","time":{},"account":"{account}","ip":"{ip}","email":"{account}@example.com"}}"#,
        now_ms()
    )
}

fn failed_second_factor(id: &str, account: &str) -> String {
    format!(
        r#"{{"id":"{id}","type":"two_factor","outcome":"failure","time":{},"account":"{account}"}}"#,
        now_ms()
    )
}

/// How often each account was locked, for a reader that sees committed records only.
fn locks(cluster: &Cluster, site: &Doorward) -> BTreeMap<String, usize> {
    let mut locks = BTreeMap::new();
    for record in cluster.read_committed(&site.topic("commands")) {
        if record.json()["command"] == "lock_account" {
            *locks.entry(record.key_text()).or_default() += 1;
        }
    }
    locks
}

fn header<'a>(record: &'a Record, name: &str) -> &'a str {
    let found = record.headers.iter().find(|(key, _)| key == name);
    found.map_or("", |(_, value)| value)
}

#[test]
fn kills_in_the_middle_of_attacks_lose_no_lock_and_repeat_none() {
    let Some(cluster) = kafka::shared() else {
        return;
    };
    let mut site = Doorward::new(cluster, "shards = 2");
    site.create_topics(4);
    let topic = site.topic("events");
    let accounts: Vec<String> = (0..150).map(|n| format!("victim-{n}")).collect();

    // Three of the five failures that a streak needs, before anything goes wrong.
    site.start();
    site.wait_until_ready();
    for n in 0..3 {
        let event = failed_second_factor(&format!("streak-{n}"), "patient");
        cluster.produce(&topic, [("patient", event.as_str())]);
    }
    eventually("the streak in the state topic", PATIENCE, || {
        (!cluster.read_committed(&site.topic("state")).is_empty()).then_some(())
    });

    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for (n, account) in accounts.iter().enumerate() {
                let events: Vec<String> = (0..5)
                    .map(|one| {
                        let ip = format!("198.51.{n}.{one}");
                        failed_login(&format!("{account}-{one}"), account, &ip)
                    })
                    .collect();
                let messages = events
                    .iter()
                    .map(|event| (account.as_str(), event.as_str()));
                cluster.produce(&topic, messages);
            }
            done.store(true, Ordering::Release);
        });
        // Each kill falls wherever the service is at that moment.
        for pause_ms in [130, 310, 50] {
            std::thread::sleep(Duration::from_millis(pause_ms));
            site.kill();
            site.start();
            site.wait_until_ready();
        }
    });
    assert!(done.load(Ordering::Acquire));
    site.kill();
    for n in 3..5 {
        let event = failed_second_factor(&format!("streak-{n}"), "patient");
        cluster.produce(&topic, [("patient", event.as_str())]);
    }
    site.start();
    site.wait_until_ready();

    let expected: BTreeMap<String, usize> = accounts
        .iter()
        .cloned()
        .chain(["patient".to_owned()])
        .map(|account| (account, 1))
        .collect();
    eventually("a lock for every account under attack", PATIENCE, || {
        (locks(cluster, &site).len() >= expected.len()).then_some(())
    });
    assert!(site.terminate().success());
    assert_eq!(locks(cluster, &site), expected);
    let decisions = cluster.read_committed(&site.topic("decisions"));
    let acted = decisions.iter().filter(|d| d.json()["effect"] == "acted");
    assert_eq!(acted.count(), expected.len());
}

#[test]
fn the_end_of_the_process_commits_what_it_has_and_leaves_with_status_zero() {
    let Some(cluster) = kafka::shared() else {
        return;
    };
    // It would wait a minute with what is not urgent.
    let mut site = Doorward::new(cluster, "shards = 1\ncommit_every = \"1m\"");
    site.create_topics(2);
    site.start();
    site.wait_until_ready();
    let event = failed_second_factor("one", "quiet");
    let topic = site.topic("events");
    cluster.produce(&topic, [("quiet", event.as_str()), ("loud", "no event")]);
    site.wait_for_metric("doorward_events_total{outcome=\"failure\"", "1");
    site.wait_for_metric("doorward_events_rejected_total", "1");
    for role in ["state", "dead_letters"] {
        assert!(
            cluster.read_committed(&site.topic(role)).is_empty(),
            "{role}"
        );
    }
    assert_eq!(site.terminate().code(), Some(0));
    for role in ["state", "dead_letters"] {
        assert_eq!(cluster.read_committed(&site.topic(role)).len(), 1, "{role}");
    }
}

#[test]
fn of_two_processes_with_one_name_one_ends_and_nothing_is_locked_twice() {
    let Some(cluster) = kafka::shared() else {
        return;
    };
    let mut older = Doorward::new(cluster, "shards = 1");
    older.create_topics(2);
    older.start();
    older.wait_until_ready();
    let mut twin = older.twin();
    twin.start();
    twin.wait_until_ready();
    // The twin takes the name when it is given partitions, and the older notices with its
    // next commit: so there is always something to commit. Fenced once, a process takes the
    // name back, for it may have been late itself; fenced again, it ends.
    let mut attacked = 0;
    let older_ended = eventually("the end of one process", PATIENCE, || {
        let account = format!("victim-{attacked}");
        attacked += 1;
        let events: Vec<String> = (0..5)
            .map(|n| failed_second_factor(&format!("{account}-{n}"), &account))
            .collect();
        let messages = events
            .iter()
            .map(|event| (account.as_str(), event.as_str()));
        cluster.produce(&older.topic("events"), messages);
        if older.has_ended() {
            return Some(true);
        }
        twin.has_ended().then_some(false)
    });
    let (mut ended, mut other) = match older_ended {
        true => (older, twin),
        false => (twin, older),
    };
    let (status, said) = ended.wait(PATIENCE);
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(said.contains("`kafka.instance`"), "{said}");
    eventually("every lock by the other", PATIENCE, || {
        (locks(cluster, &other).len() == attacked).then_some(())
    });
    assert!(other.terminate().success());
    assert!(locks(cluster, &other).values().all(|count| *count == 1));
}

#[test]
fn what_is_no_event_lands_in_the_dead_letter_topic_with_its_reason() {
    let Some(cluster) = kafka::shared() else {
        return;
    };
    let mut site = Doorward::new(cluster, "shards = 1\ncommit_every = \"100ms\"");
    site.create_topics(1);
    let events = site.topic("events");
    let huge = "x".repeat(999_000);
    for payload in ["", "{\"id\":", "[]", "{\"id\":7}", &huge] {
        cluster.produce_raw(&events, Some(0), Some(b"who"), Some(payload.as_bytes()));
    }
    cluster.produce_raw(&events, Some(0), None, None);
    for n in 0..5 {
        let event = failed_login(&format!("e{n}"), "victim", &format!("203.0.113.{n}"));
        cluster.produce(&events, [("victim", event.as_str())]);
    }
    site.start();
    let letters = eventually("six dead letters", PATIENCE, || {
        let letters = cluster.read_committed(&site.topic("dead_letters"));
        (letters.len() >= 6).then_some(letters)
    });
    let mut offsets: Vec<&str> = letters
        .iter()
        .map(|letter| {
            assert_eq!(header(letter, "doorward.topic"), events);
            assert_eq!(header(letter, "doorward.partition"), "0");
            assert!(!header(letter, "doorward.reason").is_empty());
            header(letter, "doorward.offset")
        })
        .collect();
    offsets.sort_unstable();
    assert_eq!(offsets, ["0", "1", "2", "3", "4", "5"]);
    let longest = letters
        .iter()
        .max_by_key(|l| l.payload.as_ref().map_or(0, Vec::len));
    assert_eq!(
        header(longest.expect("six"), "doorward.truncated_from"),
        "999000"
    );
    eventually("the lock behind the rubbish", PATIENCE, || {
        (locks(cluster, &site).get("victim") == Some(&1)).then_some(())
    });
    assert!(site.terminate().success());
}

#[test]
fn run_refuses_state_with_other_partitions_than_events_and_check_says_so() {
    let Some(cluster) = kafka::shared() else {
        return;
    };
    let mut site = Doorward::new(cluster, "");
    cluster.create_topic(&site.topic("state"), 3, &[("cleanup.policy", "compact")]);
    site.create_topics(4);

    let checked = site.command(&["topics", "check"]);
    assert_eq!(checked.status.code(), Some(1));
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(said.contains("has 3 partitions"), "{said}");
    assert!(
        said.contains(&format!("{}: good, 4 partitions", site.topic("events"))),
        "{said}"
    );

    site.start();
    let (status, errors) = site.wait(PATIENCE);
    assert_eq!(status.code(), Some(2), "{errors}");
    assert!(errors.contains("has 3 partitions"), "{errors}");
}

#[test]
fn topics_that_were_created_are_good_and_are_left_alone_the_second_time() {
    let Some(cluster) = kafka::shared() else {
        return;
    };
    let site = Doorward::new(cluster, "");
    site.create_topics(3);
    let again = site.command(&["topics", "create", "--partitions", "5"]);
    assert!(again.status.success());
    let said = String::from_utf8_lossy(&again.stdout).into_owned();
    assert_eq!(said.matches(": exists").count(), 8, "{said}");
    let checked = site.command(&["topics", "check"]);
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert_eq!(checked.status.code(), Some(0), "{said}");
    assert_eq!(said.matches(": good, 3 partitions").count(), 8, "{said}");
}

#[test]
fn rules_2_a_service_whose_clock_is_the_producers_says_which_guards_are_off() {
    let Some(cluster) = kafka::shared() else {
        return;
    };
    let told = |kind: &str| {
        let mut site = Doorward::new(cluster, "shards = 1");
        let topic = site.topic("events");
        cluster.create_topic(&topic, 2, &[("message.timestamp.type", kind)]);
        site.create_topics(2);
        site.start();
        site.wait_until_ready();
        for one in 0..2 {
            let id = format!("{kind}-{one}");
            let event = failed_login(&id, "ada", "192.0.2.1");
            cluster.produce(&topic, [("ada", event.as_str())]);
            site.wait_for_metric(
                "doorward_events_total{outcome=\"failure\",type=\"login\"}",
                &(one + 1).to_string(),
            );
        }
        let log = site.log();
        let lines: Vec<&str> = log.lines().collect();
        let of_clock = lines.iter().filter(|line| line.contains("producers' time"));
        of_clock.map(|&line| line.to_owned()).collect::<Vec<_>>()
    };
    let said = told("CreateTime");
    assert_eq!(said.len(), 1, "{said:?}");
    for guard in [
        "future",
        "past",
        "cooldowns",
        "deadlines",
        "budgets",
        "holds",
    ] {
        assert!(said[0].contains(guard), "{guard}: {}", said[0]);
    }
    assert!(told("LogAppendTime").is_empty());
}

#[test]
fn commands_that_need_a_cluster_say_that_it_is_unreachable() {
    let Some(cluster) = kafka::shared() else {
        return;
    };
    let site = Doorward::new(cluster, "");
    site.reconfigure(&cluster.bootstrap(), "127.0.0.1:1");
    let checked = site.command(&["topics", "check"]);
    assert_eq!(checked.status.code(), Some(3));
}

/// A producer that takes its own beginning for a lost connection registers its transactional
/// id anew for every commit, which costs twenty times the commit.
#[test]
fn a_producer_whose_brokers_are_all_there_is_not_disturbed() {
    use doorward::kafka::producer::Producer;
    use doorward::log::client::Producer as _;
    use doorward::log::{OutputRecord, OutputTopic};

    let Some(cluster) = kafka::shared() else {
        return;
    };
    let site = Doorward::new(cluster, "");
    site.create_topics(1);
    let settings = doorward::config::Kafka {
        brokers: cluster.bootstrap(),
        group: cluster.unique("undisturbed"),
        instance: "one".into(),
        properties: BTreeMap::new(),
        secrets: BTreeMap::new(),
        session_timeout: Duration::from_secs(10),
        transaction_timeout: Duration::from_secs(5),
        transactions: true,
    };
    let topics = doorward::config::Topics {
        commands: site.topic("commands"),
        ..doorward::config::Topics::default()
    };
    let producer = Producer::register(&settings, &topics, 0).expect("a producer");
    let record = OutputRecord {
        topic: OutputTopic::Commands,
        key: b"u".to_vec(),
        payload: Some(b"{}".to_vec()),
        partition: None,
        headers: Vec::new(),
    };
    for _ in 0..3 {
        producer.begin().expect("begun");
        producer
            .send_all(std::slice::from_ref(&record), PATIENCE)
            .expect("sent");
        producer.commit(PATIENCE).expect("committed");
        assert!(!producer.is_disturbed());
    }
}
