//! Plays the scenario of [`crate::conform::play`] and watches for its locks.

use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use serde::Serialize;

use super::super::{OrStatus, Status};
use crate::config::Config;
use crate::conform::play::{Scene, deleted, scenes};
use crate::facts;
use crate::kafka::settings::common;
use crate::publish::{Publisher, Record, wall_clock};
use crate::record::CommandRecord;
use crate::tail::Tail;

/// How long the cluster may take to take an event, and the service to lock.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long one look for commands waits.
const LOOK: Duration = Duration::from_millis(100);
/// In the list of malicious addresses as it is shipped (RFC 5737).
const MALICIOUS: [u8; 4] = [198, 51, 100, 7];

/// What became of one scene.
#[derive(Debug, Serialize)]
pub struct Played {
    pub label: &'static str,
    pub title: &'static str,
    pub rule: &'static str,
    pub account: String,
    /// The lock that was seen.
    pub locked: Option<Lock>,
}

#[derive(Debug, Serialize)]
pub struct Lock {
    pub command: String,
    pub rule: Option<String>,
    pub scope: Option<String>,
    /// From the acknowledgement of the attack's last event.
    pub after_ms: u128,
}

/// Publishes the scenes into `topic`, waits for their locks, and has doorward forget the
/// accounts again.
///
/// # Errors
/// Where `topic` is not the configuration's events topic, or the cluster does not answer.
pub fn play(config: &Config, topic: &str) -> anyhow::Result<Vec<Played>> {
    let events = &config.topics.events;
    if topic != events {
        let error = anyhow!(
            "--play names the topic {topic}, and the configuration's events topic is {events}: \
             nothing was played"
        );
        return Err(Status::Usage.error(error));
    }
    let random = getrandom::u64().context("no random numbers from the system")?;
    let run = format!("{random:016x}");
    let scenes = scenes(&run, wall_clock(), malicious(config));
    let client = common(&config.kafka, "conform");
    let tail = Tail::start(&client, &[&config.topics.commands]).or_status(Status::Unreachable)?;
    let publisher = Publisher::new(&config.kafka, PATIENCE).or_status(Status::Usage)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let send = |scene: &Scene, event: &serde_json::Value| {
        runtime
            .block_on(publisher.publish(Record {
                topic: events,
                partition: None,
                key: Some(scene.account.as_bytes()),
                payload: event.to_string().as_bytes(),
            }))
            .or_status(Status::Unreachable)
    };
    let mut ends = Vec::new();
    for scene in &scenes {
        for event in &scene.events {
            send(scene, event)?;
        }
        ends.push(Instant::now());
    }
    let locks = watch(&tail, &scenes, &ends)?;
    for scene in &scenes {
        send(scene, &deleted(scene, &run, wall_clock()))?;
    }
    let played = scenes.into_iter().zip(locks);
    Ok(played
        .map(|(scene, locked)| Played {
            label: scene.label,
            title: scene.title,
            rule: scene.rule,
            account: scene.account,
            locked,
        })
        .collect())
}

/// The shipped list's own address, where this site's rules know it.
fn malicious(config: &Config) -> Option<std::net::IpAddr> {
    let loaded = facts::load(&config.geoip, config.rules_dir.as_deref()).ok()?;
    let lists = &loaded.facts.lists;
    let ip = MALICIOUS.into();
    lists.contains(lists.id("malicious_ips")?, ip).then_some(ip)
}

/// The lock of each scene, as soon as all are there or the time is over.
fn watch(tail: &Tail, scenes: &[Scene], ends: &[Instant]) -> anyhow::Result<Vec<Option<Lock>>> {
    let mut locks: Vec<Option<Lock>> = scenes.iter().map(|_| None).collect();
    let deadline = Instant::now() + PATIENCE;
    while locks.iter().any(Option::is_none) && Instant::now() < deadline {
        let Some(record) = tail.next(LOOK).or_status(Status::Unreachable)? else {
            continue;
        };
        // The topic is everybody's: what is no command of ours is passed over.
        let Ok(command) = serde_json::from_slice::<CommandRecord>(&record.payload) else {
            continue;
        };
        let at = scenes
            .iter()
            .position(|scene| scene.account == command.account);
        if let Some(at) = at.filter(|_| command.command == "lock_account") {
            locks[at].get_or_insert(Lock {
                command: command.id,
                rule: command.rule,
                scope: command.scope,
                after_ms: ends[at].elapsed().as_millis(),
            });
        }
    }
    Ok(locks)
}

/// For people, a line each.
pub fn text(played: &[Played]) -> String {
    let mut text = String::from("Played\n");
    for scene in played {
        let became = match &scene.locked {
            Some(lock) => format!(
                "locked by {}, scope {}, {} ms after its last event",
                lock.rule.as_deref().unwrap_or("-"),
                lock.scope.as_deref().unwrap_or("-"),
                lock.after_ms
            ),
            None => format!(
                "no lock within {} s. Does `doorward run` run with this configuration, and is \
                 {} in `enforce`?",
                PATIENCE.as_secs(),
                scene.rule
            ),
        };
        text.push_str(&format!("  {}: {became}\n", scene.title));
    }
    text
}
