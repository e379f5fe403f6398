//! Reads every topic that the console shows, and makes known what it saw.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::sync::broadcast;

use crate::config::Topics;
use crate::enrich::Facts;
use crate::event::Timestamp;

use super::trace::{EventLine, Seen, What};
use crate::tail::{Record, Tail};

/// Runs on a thread of its own until `stop` is set.
///
/// # Errors
/// Where the topics can no longer be read.
pub fn run(
    tail: &Tail,
    topics: &Topics,
    facts: &Facts,
    seen: &broadcast::Sender<Arc<Seen>>,
    stop: &AtomicBool,
) -> anyhow::Result<()> {
    while !stop.load(Ordering::Relaxed) {
        let Some(record) = tail.next(Duration::from_millis(50))? else {
            continue;
        };
        let at = Timestamp(jiff::Timestamp::now().as_millisecond());
        if let Some(what) = read(&record, topics, facts) {
            // An error only says that nobody watches.
            let _ = seen.send(Arc::new(Seen { at, what }));
        }
    }
    Ok(())
}

/// What a record says; `None` for a tombstone and for what cannot be read.
fn read(record: &Record, topics: &Topics, facts: &Facts) -> Option<What> {
    if record.payload.is_empty() {
        return None;
    }
    let topic = &record.topic;
    if *topic == topics.events {
        let mut event: EventLine = parse(record)?;
        event.time = record.time;
        event.country = event
            .ip
            .as_deref()
            .and_then(|ip| ip.parse::<IpAddr>().ok())
            .and_then(|ip| facts.country(ip).country())
            .map(|country| country.to_string());
        Some(What::Event(Arc::new(event)))
    } else if *topic == topics.decisions {
        parse(record).map(|it| What::Decision(Arc::new(it)))
    } else if *topic == topics.commands {
        parse(record).map(|it| What::Command(Arc::new(it)))
    } else if *topic == topics.cases {
        parse(record).map(|it| What::Case(Arc::new(it)))
    } else {
        None
    }
}

fn parse<T: DeserializeOwned>(record: &Record) -> Option<T> {
    match serde_json::from_slice(&record.payload) {
        Ok(value) => Some(value),
        Err(error) => {
            tracing::warn!(topic = record.topic, %error, "a record that the console cannot read");
            None
        }
    }
}
