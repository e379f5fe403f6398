//! What a shard does with records, apart from where they come from and go to.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::{HashMap, HashSet};

use super::batch::{Batch, Durable, Flight, Limits};
use super::latest::{Knowledge, Latest};
use super::output;
use crate::clock::Clock;
use crate::engine::output::Outputs;
use crate::engine::{Engine, Partition, Settings, StateError, StateKey};
use crate::event::decode::{Decoder, Dropped};
use crate::event::{Event, Source, Timestamp};
use crate::log::{InputRecord, StateRecord};
use crate::metrics::Metrics;
use crate::metrics::least::Left;
use crate::metrics::local::ShardCounters;
use crate::rules::{Mode, Rule};

/// One input partition that this shard owns.
#[derive(Default)]
pub struct Owned {
    accounts: Partition,
    /// Offset of the next record; `None` until the first was read or restored.
    next_offset: Option<i64>,
    /// The broker time of the last record, and when it came by the shard's own clock.
    newest: Option<(Timestamp, Duration)>,
    /// The highest broker time of all records so far.
    highest: Timestamp,
}

impl Owned {
    /// A guess at the broker's clock: good enough to publish a timer, which acts only when
    /// it is read back.
    fn broker_time(&self, clock: &dyn Clock) -> Timestamp {
        match self.newest {
            Some((time, at)) => {
                let since = clock.monotonic().saturating_sub(at);
                time.plus_ms(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
            }
            None => clock.wall(),
        }
    }
}

/// Engine, accounts and the batch that they fill.
pub struct Core {
    engine: Engine,
    decoder: Decoder,
    latest: Latest,
    /// What engine and decoder are made of.
    known: Arc<Knowledge>,
    counters: ShardCounters,
    clock: Box<dyn Clock>,
    partitions: HashMap<i32, Owned>,
    pub batch: Batch,
    outputs: Outputs,
    dropped: Dropped,
    /// Expired exceptions that the log has told of.
    told_expired: HashSet<Arc<str>>,
    /// When the records at hand came: asked once per poll, and only where one came.
    received: Option<Duration>,
}

impl Core {
    pub fn new(
        latest: Latest,
        settings: Settings,
        metrics: Arc<Metrics>,
        clock: Box<dyn Clock>,
    ) -> Core {
        let known = latest.get();
        let (rules, facts) = (Arc::clone(&known.rules), Arc::clone(&known.facts));
        Core {
            decoder: rules.decoder(),
            engine: Engine::new(rules, facts, settings),
            latest,
            known,
            counters: ShardCounters::new(metrics),
            clock,
            partitions: HashMap::new(),
            batch: Batch::default(),
            outputs: Outputs::default(),
            dropped: Dropped::default(),
            told_expired: HashSet::new(),
            received: None,
        }
    }

    pub fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    pub fn metrics(&self) -> &Arc<Metrics> {
        self.counters.metrics()
    }

    /// Before each poll: the next record starts a new "received".
    pub fn before_poll(&mut self) {
        self.received = None;
        // An idle shard must let go of what is old, too.
        self.take_latest();
    }

    /// The next record meets the newest rules. What the batch holds so far was decided by
    /// those before, and says so.
    fn take_latest(&mut self) {
        if let Some(newer) = self.latest.newer_than(&self.known) {
            let (rules, facts) = (Arc::clone(&newer.rules), Arc::clone(&newer.facts));
            self.decoder = rules.decoder();
            self.engine.replace(rules, facts);
            self.known = newer;
        }
    }

    /// Handles one record; what it causes goes to the batch. Records of partitions that are
    /// not owned, or that were handled before, are passed over.
    pub fn handle(&mut self, record: InputRecord<'_>) {
        if self.received.is_none() {
            // The poll may have waited for it while rules were loaded.
            self.take_latest();
        }
        let Some(owned) = self.partitions.get_mut(&record.partition) else {
            return;
        };
        if owned.next_offset.is_some_and(|next| record.offset < next) {
            return;
        }
        let received = *self.received.get_or_insert_with(|| self.clock.monotonic());
        owned.next_offset = Some(record.offset + 1);
        owned.newest = Some((record.broker_time, received));
        owned.highest = owned.highest.max(record.broker_time);
        let source = Source {
            partition: record.partition,
            offset: record.offset,
        };
        self.batch.handled(source, received);
        self.dropped.clear();
        match self
            .decoder
            .decode(record.payload.unwrap_or_default(), &mut self.dropped)
        {
            Ok(event) => {
                self.counters.event(&event.kind, event.outcome);
                if !key_matches(&record, &event) {
                    self.counters.key_mismatch();
                }
                self.engine.handle(
                    &mut owned.accounts,
                    &event,
                    source,
                    record.broker_time,
                    &mut self.outputs,
                );
                self.collect(source, record.broker_time, received);
            }
            Err(rejected) => {
                self.counters.rejected(rejected.kind);
                let letter = output::dead_letter(&record, &rejected, &self.known.provenance.topic);
                self.batch.push(source, None, letter, received);
            }
        }
        if !self.dropped.is_empty() {
            self.counters.dropped(&self.dropped);
        }
    }

    /// Moves what the engine said into the batch.
    fn collect(&mut self, source: Source, now: Timestamp, received: Duration) {
        let outputs = &mut self.outputs;
        self.counters.engine(&outputs.counts);
        for key in &outputs.changed {
            self.batch.changed(source, *key, received);
        }
        for (rule, answer) in &outputs.answers {
            let answers = &self.counters.metrics().owner_answers_total;
            answers.with_label_values(&[rule, *answer]).inc();
        }
        for (rule, answer) in &outputs.shadow_answers {
            let answers = &self.counters.metrics().shadow_answers_total;
            answers.with_label_values(&[rule, *answer]).inc();
        }
        for at in &outputs.exceptions_hit {
            let exception = &self.engine.rules().exceptions()[*at];
            let hits = &self.counters.metrics().exception_hits_total;
            hits.with_label_values(&[&*exception.id]).inc();
        }
        for at in &outputs.exceptions_expired {
            let exception = &self.engine.rules().exceptions()[*at];
            let expired = &self.counters.metrics().exception_expired_total;
            expired.with_label_values(&[&*exception.id]).inc();
            if self.told_expired.insert(Arc::clone(&exception.id)) {
                tracing::warn!(
                    exception = &*exception.id,
                    expired = %exception.expires,
                    owner = exception.owner,
                    "an exception has expired: the rules judge what it covered",
                );
            }
        }
        for spent in &outputs.budgets_spent {
            tracing::warn!(
                rule = &*spent.rule,
                partition = spent.partition,
                locks = spent.limit,
                until = %spent.until,
                "lock budget used up: until then the rule's further hits are held, and lock nobody",
            );
        }
        for case in &outputs.unreached {
            tracing::warn!(
                %case,
                "every mail about this case bounced: nobody was reached, and only support can help",
            );
        }
        let said_something = !outputs.decisions.is_empty() || outputs.is_urgent();
        if said_something {
            for decision in &outputs.decisions {
                self.counters.decision(decision, now);
            }
            for command in &outputs.commands {
                self.counters.command(command.kind);
                self.batch.command(source.partition, received);
            }
            let is_urgent = outputs.is_urgent();
            output::records(outputs, &self.known.provenance, |key, record| {
                self.batch.push(source, key, record, received);
                if let Some(key) = key.filter(|_| is_urgent) {
                    self.batch.urgent(source.partition, key);
                }
            });
            if is_urgent {
                // What was pushed out or cleared by the way goes along; it is little.
                for key in &outputs.changed {
                    self.batch.urgent(source.partition, *key);
                }
            }
        }
        outputs.clear();
    }

    /// Publishes the timers of every partition that its clock, as far as it can be guessed,
    /// has reached.
    pub fn publish_timers(&mut self) {
        let now = self.clock.monotonic();
        for (partition, owned) in &mut self.partitions {
            let Some(deadline) = self.engine.next_deadline(&owned.accounts) else {
                continue;
            };
            let guess = owned.broker_time(&*self.clock);
            // Without a place in the log there is nothing to commit the timer with.
            let (true, Some(offset)) = (deadline <= guess, owned.next_offset) else {
                continue;
            };
            let source = Source {
                partition: *partition,
                offset,
            };
            for due in self.engine.due_timers(&mut owned.accounts, guess) {
                let record = output::timer(&due, *partition, guess);
                self.batch.push_unprompted(source, record, now);
            }
        }
    }

    /// Begins to own `partition`, empty.
    pub fn adopt(&mut self, partition: i32) {
        self.partitions.insert(partition, Owned::default());
    }

    /// Takes one record of the partition's durable state back.
    pub fn restore(&mut self, partition: i32, record: StateRecord<'_>) -> Result<(), StateError> {
        let owned = self.partitions.entry(partition).or_default();
        let StateRecord { key, value, ahead } = record;
        self.engine.restore_state(&mut owned.accounts, key, value)?;
        if let (Some(held), Ok(key)) = (ahead, key.try_into()) {
            owned.accounts.ahead_mut().note(StateKey(key), held);
        }
        Ok(())
    }

    /// Where reading goes on after the restore.
    pub fn resume(&mut self, partition: i32, next_offset: Option<i64>) {
        self.partitions.entry(partition).or_default().next_offset = next_offset;
    }

    /// Drops a partition with all its accounts and whatever of it is not committed.
    pub fn forget(&mut self, partition: i32) {
        self.partitions.remove(&partition);
        self.batch.drop_partition(partition);
    }

    pub fn owned(&self) -> impl Iterator<Item = i32> {
        self.partitions.keys().copied()
    }

    /// Freezes the batch, or, where `first` says when it must go, what should go first.
    pub fn close_batch(&mut self, batch_id: String, first: Option<Limits>) -> Flight {
        let now = self.clock.monotonic();
        let (engine, partitions) = (&self.engine, &self.partitions);
        let encode = |partition, key| {
            let owned: Option<&Owned> = partitions.get(&partition);
            Durable {
                value: owned.and_then(|owned| engine.encode_state(&owned.accounts, key)),
                newest: owned.map_or(Timestamp(0), |owned| owned.highest),
                ahead: owned.and_then(|owned| owned.accounts.ahead().of(key)),
            }
        };
        match first {
            Some(limits) => self.batch.close_first(batch_id, now, limits, encode),
            None => self.batch.close(batch_id, encode),
        }
    }

    /// Adds what was counted to the shared metrics; `lag` tells how far behind a partition
    /// is, given its next offset.
    pub fn report(&mut self, lag: impl Fn(i32, i64) -> Option<i64>) {
        self.counters.flush();
        let (mut accounts, mut bytes, mut cases) = (0, 0, 0);
        for (partition, owned) in &self.partitions {
            accounts += owned.accounts.accounts();
            bytes += owned.accounts.bytes();
            cases += owned.accounts.open_cases();
            if let Some(lag) = owned.next_offset.and_then(|next| lag(*partition, next)) {
                self.metrics()
                    .consumer_lag
                    .with_label_values(&[partition.to_string()])
                    .set(lag);
            }
        }
        self.counters.state(accounts, bytes, cases);
        self.counters.lock_budgets(self.locks_left());
        for rule in self.engine.rules().rules() {
            let acts = rule.lock.is_some() || rule.email.is_some();
            if acts && rule.mode == Mode::Enforce && rule.usable {
                self.counters.may_hold(&rule.id);
            }
        }
    }

    /// What each rule may still lock in the partition where that is least.
    fn locks_left(&self) -> Left {
        let rules = self.engine.rules().rules().iter();
        let locking = rules.filter(|rule| rule.lock.is_some() && rule.mode == Mode::Enforce);
        let of = |rule: &Rule| {
            let owned = self.partitions.values();
            let left = owned.map(|owned| {
                let now = owned.broker_time(&*self.clock);
                self.engine.lock_budget_left(&owned.accounts, rule, now)
            });
            Some((Arc::clone(&rule.id), i64::from(left.min()?)))
        };
        locking.filter(|rule| rule.usable).filter_map(of).collect()
    }
}

/// Whether the message's key is the event's account, as the contract asks.
fn key_matches(record: &InputRecord<'_>, event: &Event<'_>) -> bool {
    match event.account.as_deref() {
        Some(account) => record.key == Some(account.as_bytes()),
        None => true,
    }
}
