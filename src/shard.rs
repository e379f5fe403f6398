//! The loop: records in, transactions out.
//!
//! One shard is one thread with its own consumer, its own transactional producer and its
//! own accounts; nothing is shared on the way of an event. The loop owns order: one batch is
//! on its way at a time, while the next one grows, and it is sent again as it was until it is
//! known to be committed, so that memory never has to roll back. It touches the log through
//! [`Log`] alone and knows no Kafka.

mod batch;
pub mod control;
mod core;
pub mod latest;
pub mod output;
mod restore;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::admin::Readiness;
use crate::engine::{Settings, StateError};
use crate::log::{Log, LogError, Restoring, Wakeup};
use crate::metrics::Metrics;

use self::batch::{Flight, Limits};
use self::control::{Pulse, Ready, Stop};
use self::core::Core;
use self::latest::Latest;
use self::restore::Restore;
use crate::clock::Clock;

/// Longest wait of one turn: how late a rebalance, a timer or the end is noticed.
const TURN: Duration = Duration::from_millis(100);
/// How often timers are looked for and gauges are set.
const ROUND: Duration = Duration::from_millis(500);
/// Pauses between tries while the log is away: the first, doubling up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LAST_PAUSE: Duration = Duration::from_secs(2);

/// What a shard is made of, beside its log.
pub struct Parts {
    /// Its number within the process, from 0.
    pub shard: usize,
    /// Distinguishes this process' batches from those of any other, for ever.
    pub batch_prefix: String,
    /// Rules and facts to begin with, and all that follow.
    pub latest: Latest,
    pub settings: Settings,
    pub commit_every: Duration,
    pub commit_accounts: usize,
    pub metrics: Arc<Metrics>,
    pub readiness: Readiness,
    pub clock: Box<dyn Clock>,
    pub stop: Stop,
    pub pulse: Pulse,
}

/// Why a shard ended that was not asked to.
#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("the state of partition {partition} cannot be used: {error}")]
    State { partition: i32, error: StateError },
    /// The time to finish was over before the last batch was committed; whoever reads next
    /// handles its events again.
    #[error("the log could not be reached in time to commit the last events: {0}")]
    Overdue(String),
}

/// One shard.
pub struct Shard<L: Log> {
    log: L,
    core: Core,
    /// The batch that is on its way, and must land before the next one leaves.
    flight: Option<Flight>,
    /// Assigned, but not restored yet.
    waiting: VecDeque<i32>,
    /// The first of them, where its restore is under way.
    restoring: Option<Restore>,
    /// Not before this time is a failed restore begun again.
    restore_at: Duration,
    restore_pause: Pause,
    joined: bool,
    shard: usize,
    batch_prefix: String,
    batches: u64,
    limits: Limits,
    next_round: Duration,
    pause: Pause,
    ready: Ready,
    stop: Stop,
    pulse: Pulse,
}

impl<L: Log> Shard<L> {
    pub fn new(log: L, parts: Parts) -> Shard<L> {
        Shard {
            log,
            core: Core::new(parts.latest, parts.settings, parts.metrics, parts.clock),
            flight: None,
            waiting: VecDeque::new(),
            restoring: None,
            restore_at: Duration::ZERO,
            restore_pause: Pause::default(),
            joined: false,
            shard: parts.shard,
            batch_prefix: parts.batch_prefix,
            batches: 0,
            limits: Limits {
                every: parts.commit_every,
                accounts: parts.commit_accounts,
            },
            next_round: Duration::ZERO,
            pause: Pause::default(),
            ready: Ready::new(parts.readiness, parts.shard, "joining the consumer group"),
            stop: parts.stop,
            pulse: parts.pulse,
        }
    }

    /// Works until it is asked to stop, then commits what it has and gives its partitions
    /// up. Dropping it leaves the group, which may take a while.
    ///
    /// # Errors
    /// Where it cannot go on; the log is closed then, too.
    pub fn run(&mut self) -> Result<(), ShardError> {
        let outcome = self.run_to_end();
        self.core.report(|_, _| None);
        self.log.close();
        outcome
    }

    fn run_to_end(&mut self) -> Result<(), ShardError> {
        while !self.stop.is_requested() || self.is_committing() {
            self.turn()?;
        }
        self.commit()
    }

    /// Whether a batch is on its way.
    pub fn is_committing(&self) -> bool {
        self.flight.is_some()
    }

    /// One turn of the loop: waits for records at most as long as nothing else is due,
    /// handles them, and commits what must be.
    ///
    /// # Errors
    /// Where the shard cannot go on.
    pub fn turn(&mut self) -> Result<(), ShardError> {
        if self.flight.is_none() {
            self.pulse.beat();
        }
        let is_full = self.core.batch.is_full(self.limits.accounts);
        // With two full batches in memory, nothing is read.
        let wait = if is_full { TURN } else { Duration::ZERO };
        self.land(wait)?;
        if !is_full || self.flight.is_none() {
            self.read()?;
        }
        self.restore_next()?;
        self.round();
        let now = self.core.clock().monotonic();
        let is_due = self.core.batch.is_due(now, self.limits);
        if is_due && self.flight.is_none() && !self.stop.is_requested() {
            self.launch(Some(self.limits))?;
        }
        Ok(())
    }

    /// Reads and decides, and does what the group asks for.
    fn read(&mut self) -> Result<(), ShardError> {
        self.core.before_poll();
        let wait = self.wait();
        let core = &mut self.core;
        match self.log.poll(wait, &mut |record| core.handle(record)) {
            Ok(Wakeup::Records) => self.reached(),
            Ok(Wakeup::Assigned(partitions)) => {
                tracing::info!(shard = self.shard, ?partitions, "partitions assigned");
                self.joined = true;
                self.waiting.extend(partitions);
            }
            Ok(Wakeup::Revoked { partitions, lost }) => self.give_up(&partitions, lost)?,
            Err(LogError::Unavailable(why)) => self.rest(&why),
            Err(LogError::Lost(partitions)) => self.forget(&partitions),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn wait(&self) -> Duration {
        let now = self.core.clock().monotonic();
        let mut wait = TURN;
        if !self.waiting.is_empty() {
            wait = self.restore_at.saturating_sub(now).min(TURN);
        }
        match self.core.batch.due_in(now, self.limits.every) {
            Some(due) if self.flight.is_none() => wait.min(due),
            _ => wait,
        }
    }

    /// Restores a slice of the first waiting partition, and starts it when it is whole: the
    /// others go on meanwhile.
    fn restore_next(&mut self) -> Result<(), ShardError> {
        let Some(partition) = self.waiting.front().copied() else {
            return Ok(());
        };
        let now = self.core.clock().monotonic();
        if now < self.restore_at {
            return Ok(());
        }
        match self.restore(partition) {
            Ok(is_done) => {
                if is_done {
                    self.waiting.pop_front();
                }
                self.restore_pause.reset();
                Ok(())
            }
            Err(ShardError::Log(LogError::Unavailable(why))) => {
                self.abandon_restore();
                if self.ready.lost(&why) {
                    tracing::warn!(shard = self.shard, partition, why, "restoring; trying on");
                }
                self.restore_at = now + self.restore_pause.next();
                Ok(())
            }
            Err(ShardError::Log(LogError::Lost(partitions))) => {
                self.forget(&partitions);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// One slice; whether it was the last one.
    fn restore(&mut self, partition: i32) -> Result<bool, ShardError> {
        let now = self.core.clock().monotonic();
        if !matches!(&self.restoring, Some(under_way) if under_way.partition == partition) {
            self.core.adopt(partition);
            self.restoring = Some(Restore::new(partition, now));
        }
        let (core, Some(under_way)) = (&mut self.core, &mut self.restoring) else {
            return Ok(false);
        };
        let mut refused = None;
        let state = self.log.restore(partition, &mut |record| {
            under_way.records += 1;
            match core.restore(partition, record) {
                Ok(()) => {}
                // One account that starts afresh is better than a partition that stands.
                Err(StateError::Damaged(what)) => {
                    tracing::error!(partition, what, "a damaged state record is passed over");
                }
                Err(error) => refused = Some(error),
            }
        })?;
        if let Some(error) = refused {
            return Err(ShardError::State { partition, error });
        }
        let restored = match state {
            Restoring::More { read, of } => {
                under_way.tell(self.shard, now, read, of);
                return Ok(false);
            }
            Restoring::Done(restored) => restored,
        };
        let (records, began) = (under_way.records, under_way.began);
        self.restoring = None;
        self.core.resume(partition, restored.next_offset);
        self.log.start(partition, &restored)?;
        let took = self.core.clock().monotonic().saturating_sub(began);
        self.core
            .metrics()
            .state_restore_seconds
            .observe(took.as_secs_f64());
        tracing::info!(
            shard = self.shard,
            partition,
            records,
            next_offset = restored.next_offset,
            seconds = took.as_secs_f64(),
            "partition restored",
        );
        Ok(true)
    }

    /// Forgets what was restored so far of a partition that could not be read to its end.
    fn abandon_restore(&mut self) {
        if let Some(under_way) = self.restoring.take() {
            self.core.forget(under_way.partition);
        }
    }

    /// Commits what there is of revoked partitions, unless somebody else owns them already,
    /// and lets go of them. Nothing is on its way: the log has waited for it.
    fn give_up(&mut self, partitions: &[i32], lost: bool) -> Result<(), ShardError> {
        tracing::info!(shard = self.shard, ?partitions, lost, "partitions revoked");
        if !lost {
            self.commit()?;
        }
        self.forget(partitions);
        self.log.release(partitions)?;
        Ok(())
    }

    fn forget(&mut self, partitions: &[i32]) {
        let is_gone = |restore: &mut Restore| partitions.contains(&restore.partition);
        self.restoring.take_if(is_gone);
        for partition in partitions {
            self.core.forget(*partition);
        }
        self.waiting.retain(|waiting| !partitions.contains(waiting));
    }

    /// Timers and gauges, now and then.
    fn round(&mut self) {
        let now = self.core.clock().monotonic();
        if now < self.next_round {
            return;
        }
        self.next_round = now + ROUND;
        self.core.publish_timers();
        self.report();
    }

    fn report(&mut self) {
        let log = &self.log;
        self.core
            .report(|partition, next| Some((log.high_watermark(partition)? - next).max(0)));
    }

    /// Commits the batch, and waits for it.
    fn commit(&mut self) -> Result<(), ShardError> {
        if self.core.batch.is_empty() {
            return Ok(());
        }
        self.launch(None)?;
        while self.flight.is_some() {
            self.land(TURN)?;
        }
        Ok(())
    }

    /// Sends the batch on its way, or what of it should go first.
    fn launch(&mut self, first: Option<Limits>) -> Result<(), ShardError> {
        self.pulse.beat();
        let id = self.next_batch_id();
        let flight = self.core.close_batch(id, first);
        let begun = self.log.begin_commit(&flight.transaction);
        self.flight = Some(flight);
        match begun {
            Ok(()) => Ok(()),
            Err(error) => self.try_again(error),
        }
    }

    /// Waits at most `wait` for the batch that is on its way, if there is one.
    fn land(&mut self, wait: Duration) -> Result<(), ShardError> {
        if self.flight.is_none() {
            return Ok(());
        }
        match self.log.poll_commit(wait) {
            None => Ok(()),
            Some(Ok(())) => {
                self.landed();
                Ok(())
            }
            Some(Err(error)) => self.try_again(error),
        }
    }

    /// Commits what is on its way after all, however often it must be tried; until then
    /// nothing else is done.
    fn try_again(&mut self, mut error: LogError) -> Result<(), ShardError> {
        while let Some(flight) = self.flight.take() {
            self.pulse.beat();
            let flight = match error {
                LogError::Unavailable(why) if self.stop.is_overdue() => {
                    return Err(ShardError::Overdue(why));
                }
                LogError::Unavailable(why) => {
                    self.rest(&why);
                    flight
                }
                LogError::Lost(lost) => match self.without(flight, &lost) {
                    Some(rest) => rest,
                    None => return Ok(()),
                },
                error => return Err(error.into()),
            };
            let committed = self.log.commit(&flight.transaction);
            self.flight = Some(flight);
            match committed {
                Ok(()) => {
                    self.landed();
                    return Ok(());
                }
                Err(failed) => error = failed,
            }
        }
        Ok(())
    }

    /// What was on its way is committed.
    fn landed(&mut self) {
        self.pulse.beat();
        self.reached();
        let Some(flight) = self.flight.take() else {
            return;
        };
        let now = self.core.clock().monotonic();
        let latency = &self.core.metrics().decision_latency_seconds;
        for received in flight.commands {
            latency.observe(now.saturating_sub(received).as_secs_f64());
        }
    }

    fn without(&mut self, flight: Flight, lost: &[i32]) -> Option<Flight> {
        tracing::warn!(
            shard = self.shard,
            partitions = ?lost,
            "partitions lost before the commit; whoever owns them now handles their events",
        );
        self.forget(lost);
        let id = self.next_batch_id();
        flight.without(lost, id)
    }

    fn next_batch_id(&mut self) -> String {
        self.batches += 1;
        format!("{}-{}-{}", self.batch_prefix, self.shard, self.batches)
    }

    /// The log is away: says so once and waits a little.
    fn rest(&mut self, why: &str) {
        if self.ready.lost(why) {
            tracing::warn!(shard = self.shard, why, "the log cannot be used; trying on");
        }
        self.core.clock().sleep(self.pause.next());
    }

    /// The log answered.
    fn reached(&mut self) {
        if !self.waiting.is_empty() {
            return;
        }
        self.pause.reset();
        if self.joined && self.ready.regained() {
            tracing::info!(
                shard = self.shard,
                partitions = self.core.owned().count(),
                "ready"
            );
        }
    }
}

/// Growing pauses between tries.
#[derive(Debug, Default)]
struct Pause {
    last: Duration,
}

impl Pause {
    fn next(&mut self) -> Duration {
        self.last = (self.last * 2).clamp(FIRST_PAUSE, LAST_PAUSE);
        self.last
    }

    fn reset(&mut self) {
        self.last = Duration::ZERO;
    }
}
