//! The threads of the shards.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::Wake;
use crate::admin::Readiness;
use crate::cli::Status;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::engine::Settings;
use crate::link::mac_keys;
use crate::log::{KafkaLog, LogError};
use crate::metrics::Metrics;
use crate::shard::control::{Pulse, Stop};
use crate::shard::latest::Latest;
use crate::shard::{Parts, Shard, ShardError};

/// What all shards of a process have in common.
pub struct Context {
    pub config: Arc<Config>,
    pub latest: Latest,
    /// Of the input topic.
    pub partitions: u32,
    pub metrics: Arc<Metrics>,
    pub readiness: Readiness,
    pub stop: Stop,
    pub batch_prefix: String,
}

/// One shard's thread.
pub struct ShardThread {
    pub shard: usize,
    pub pulse: Pulse,
    handle: JoinHandle<anyhow::Result<()>>,
}

impl Context {
    /// Starts shard number `shard`; `waker` hears of its end.
    pub fn start(&self, shard: usize, waker: Sender<Wake>) -> anyhow::Result<ShardThread> {
        let kafka = &self.config.kafka;
        let log = KafkaLog::connect(kafka, &self.config.topics, shard, Arc::clone(&self.metrics))?;
        let pulse = Pulse::new();
        // Before the thread runs, so that nobody finds the service ready without it.
        self.readiness.set(format!("shard {shard}"), "starting");
        let parts = self.parts(shard, pulse.clone());
        let beats = pulse.clone();
        let handle = std::thread::Builder::new()
            .name(format!("shard-{shard}"))
            .spawn(move || {
                let _end = EndOfShard {
                    shard,
                    waker,
                    pulse: beats,
                };
                // Made here, so that its memory is this thread's own.
                let mut running = Shard::new(log, parts);
                let outcome = running.run();
                drop(running);
                outcome.map_err(named)
            })
            .with_context(|| format!("the thread of shard {shard}"))?;
        Ok(ShardThread {
            shard,
            pulse,
            handle,
        })
    }

    fn parts(&self, shard: usize, pulse: Pulse) -> Parts {
        let config = &self.config;
        let ms = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let settings = Settings {
            max_lateness_ms: ms(config.engine.max_lateness),
            act_within_ms: ms(config.engine.act_within),
            link_valid_ms: ms(config.web.link_valid),
            partitions: self.partitions,
            // The same wherever a partition is kept: an instance that must take over all of
            // them stays within the setting too.
            max_forgettable_bytes: config.engine.memory_bytes / self.partitions.max(1) as usize,
            state_key: config.keys.state,
            answer_keys: Some(mac_keys(&config.keys.answer)),
        };
        Parts {
            shard,
            batch_prefix: self.batch_prefix.clone(),
            latest: self.latest.clone(),
            settings,
            commit_every: config.engine.commit_every,
            commit_accounts: config.engine.commit_accounts,
            metrics: Arc::clone(&self.metrics),
            readiness: self.readiness.clone(),
            clock: Box::new(SystemClock::new()),
            stop: self.stop.clone(),
            pulse,
        }
    }
}

impl ShardThread {
    /// Waits for the thread's end until `deadline`.
    pub fn end(self, deadline: Instant) -> anyhow::Result<()> {
        let shard = self.shard;
        // A thread has no bounded join, and leaving the group may hang in librdkafka.
        while !self.handle.is_finished() {
            if Instant::now() >= deadline {
                return Err(LogError::Unavailable(format!(
                    "shard {shard} did not end in time; what it had not committed is read again"
                ))
                .into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        match self.handle.join() {
            Ok(outcome) => outcome.with_context(|| format!("shard {shard} ended")),
            Err(_) => anyhow::bail!("shard {shard} panicked"),
        }
    }
}

/// Tells the service that a shard's thread ends, by a panic too.
struct EndOfShard {
    shard: usize,
    waker: Sender<Wake>,
    pulse: Pulse,
}

impl Drop for EndOfShard {
    fn drop(&mut self) {
        self.pulse.stop();
        // Nobody listens any more only when the service is gone.
        let _ = self.waker.send(Wake::Shard(self.shard));
    }
}

/// The error with the log's own error as what it is, which tells the exit status.
fn named(error: ShardError) -> anyhow::Error {
    match error {
        ShardError::Log(error) => error.into(),
        ShardError::Overdue(why) => LogError::Unavailable(why).into(),
        // To start the same version again would not mend it.
        state @ ShardError::State { .. } => Status::Usage.error(state),
    }
}

/// What the ids of this process' batches begin with: no other process ever has the same.
pub fn batch_prefix(instance: &str) -> anyhow::Result<String> {
    let nonce = getrandom::u64().context("no random numbers from the system")?;
    Ok(format!("{instance}-{nonce:016x}"))
}
