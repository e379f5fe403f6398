//! A log in memory whose commits go wrong by a script: for stories about the shard's loop
//! that say which commit it is. What a cluster really does, `doorward::sim` models.
//!
//! [`SimBroker`] is what survives a crash: input partitions, committed outputs, state, and
//! the group's offsets. [`SimLog`] is one shard's view of it. A transaction appears whole
//! or not at all, and a script of [`Fault`]s says which commits go wrong and how.

#[path = "scripted/clock.rs"]
pub mod clock;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use doorward::engine::ahead::Held;
use doorward::event::Timestamp;
use doorward::log::{
    AHEAD, EachState, InputRecord, Log, LogError, OutputRecord, OutputTopic, Restored, Restoring,
    StateRecord, Transaction, Wakeup,
};

/// What goes wrong with one commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process ends before the broker has seen anything.
    CrashBefore,
    /// The process ends after the commit, before it knows.
    CrashAfter,
    /// The log is away for this try.
    Unavailable,
    /// The commit lands, but the answer does not; the next try finds out.
    Unclear,
    /// The shard's partitions were given to somebody else.
    Lost,
}

/// The words of the error with which a crash shows: a test stops using the shard then.
pub const CRASHED: &str = "the simulated process crashed";

/// One message of an input partition.
#[derive(Clone, Debug)]
struct Message {
    broker_time: Timestamp,
    key: Option<Vec<u8>>,
    payload: Option<Vec<u8>>,
}

/// The newest record of an account.
#[derive(Clone)]
struct Kept {
    value: Option<Vec<u8>>,
    ahead: Option<Held>,
}

#[derive(Default)]
struct State {
    input: Vec<Vec<Message>>,
    /// Everything committed, in order.
    output: Vec<OutputRecord>,
    /// Of each partition: the compacted state topic.
    state: Vec<BTreeMap<Vec<u8>, Kept>>,
    committed: BTreeMap<i32, (i64, String)>,
    owners: BTreeMap<i32, usize>,
    /// Per member: rebalance steps to hand out.
    news: BTreeMap<usize, VecDeque<Wakeup>>,
    faults: VecDeque<Option<Fault>>,
    members: usize,
    now: Timestamp,
}

/// The broker. Clones share it.
#[derive(Clone, Default)]
pub struct SimBroker(Rc<RefCell<State>>);

impl SimBroker {
    /// A broker with empty partitions, whose clock stands at `now`.
    pub fn new(partitions: usize, now: Timestamp) -> SimBroker {
        let state = State {
            input: vec![Vec::new(); partitions],
            state: vec![BTreeMap::new(); partitions],
            now,
            ..State::default()
        };
        SimBroker(Rc::new(RefCell::new(state)))
    }

    /// Moves the broker's clock.
    pub fn set_now(&self, now: Timestamp) {
        self.0.borrow_mut().now = now;
    }

    /// Appends a message to an input partition, at the broker's time.
    pub fn produce(&self, partition: i32, key: Option<&[u8]>, payload: Option<&[u8]>) {
        let mut state = self.0.borrow_mut();
        let broker_time = state.now;
        state.input[index(partition)].push(Message {
            broker_time,
            key: key.map(<[u8]>::to_vec),
            payload: payload.map(<[u8]>::to_vec),
        });
    }

    /// Says what becomes of the next commits, in order; `None` lets one succeed. Commits
    /// after the last one succeed.
    pub fn script(&self, faults: impl IntoIterator<Item = Option<Fault>>) {
        self.0.borrow_mut().faults.extend(faults);
    }

    /// A new member, which is given every partition that nobody owns.
    pub fn join(&self) -> SimLog {
        let mut state = self.0.borrow_mut();
        let member = state.members;
        state.members += 1;
        let free: Vec<i32> = (0..state.input.len() as i32)
            .filter(|partition| !state.owners.contains_key(partition))
            .collect();
        for partition in &free {
            state.owners.insert(*partition, member);
        }
        state
            .news
            .entry(member)
            .or_default()
            .push_back(Wakeup::Assigned(free));
        SimLog {
            broker: self.clone(),
            member,
            positions: BTreeMap::new(),
            unclear: None,
            ended: None,
            slow: 0,
        }
    }

    /// Frees every partition, as if all members had crashed.
    pub fn expel_all(&self) {
        self.0.borrow_mut().owners.clear();
    }

    /// Takes all partitions from their owners: politely, or as lost.
    pub fn revoke_all(&self, lost: bool) {
        let owners = self.0.borrow().owners.clone();
        let members: BTreeSet<usize> = owners.values().copied().collect();
        for member in members {
            let of_member = owners.iter().filter(|(_, owner)| **owner == member);
            let partitions: Vec<i32> = of_member.map(|(partition, _)| *partition).collect();
            self.revoke(member, &partitions, lost);
        }
    }

    fn revoke(&self, member: usize, partitions: &[i32], lost: bool) {
        let mut state = self.0.borrow_mut();
        if lost {
            state.owners.retain(|p, _| !partitions.contains(p));
        }
        let news = state.news.entry(member).or_default();
        news.push_back(Wakeup::Revoked {
            partitions: partitions.to_vec(),
            lost,
        });
    }

    /// Everything committed to `topic`, in order.
    pub fn output(&self, topic: OutputTopic) -> Vec<OutputRecord> {
        let state = self.0.borrow();
        let of_topic = state.output.iter().filter(|record| record.topic == topic);
        of_topic.cloned().collect()
    }

    /// The input topic is deleted and made anew: offsets begin again, and the group has
    /// committed none. State stays.
    pub fn make_input_anew(&self) {
        let mut state = self.0.borrow_mut();
        state.input.iter_mut().for_each(Vec::clear);
        state.committed.clear();
    }

    /// The committed offset of an input partition.
    pub fn committed(&self, partition: i32) -> Option<i64> {
        let state = self.0.borrow();
        state.committed.get(&partition).map(|(offset, _)| *offset)
    }

    /// Records of the compacted state of a partition.
    pub fn state_of(&self, partition: i32) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let state = self.0.borrow();
        let kept = state.state[index(partition)].iter();
        kept.filter_map(|(key, kept)| Some((key.clone(), kept.value.clone()?)))
            .collect()
    }

    /// Partitions that somebody owns.
    pub fn owned(&self) -> BTreeSet<i32> {
        self.0.borrow().owners.keys().copied().collect()
    }

    fn expel_member(&self, member: usize) {
        let mut state = self.0.borrow_mut();
        state.owners.retain(|_, owner| *owner != member);
    }

    fn apply(&self, transaction: &Transaction) {
        let mut state = self.0.borrow_mut();
        for record in &transaction.records {
            match (record.topic, record.partition) {
                (OutputTopic::State, Some(partition)) => {
                    let compacted = &mut state.state[index(partition)];
                    let ahead = record.headers.iter().find(|(name, _)| *name == AHEAD);
                    let kept = Kept {
                        value: record.payload.clone(),
                        ahead: ahead.map(|(_, held)| held.parse().expect("what is held")),
                    };
                    compacted.insert(record.key.clone(), kept);
                }
                (OutputTopic::Events, Some(partition)) => {
                    let broker_time = state.now;
                    state.input[index(partition)].push(Message {
                        broker_time,
                        key: Some(record.key.clone()),
                        payload: record.payload.clone(),
                    });
                }
                _ => {}
            }
            state.output.push(record.clone());
        }
        for (partition, offset) in &transaction.offsets {
            let batch = transaction.batch_id.clone();
            state.committed.insert(*partition, (*offset, batch));
        }
    }
}

/// One shard's view of the broker.
pub struct SimLog {
    broker: SimBroker,
    member: usize,
    /// Of started partitions: the offset of the next record.
    positions: BTreeMap<i32, i64>,
    /// The batch whose commit went unanswered.
    unclear: Option<String>,
    /// What became of the commit that was begun, and how often it was asked for in vain.
    ended: Option<(u32, Result<(), LogError>)>,
    /// How often each commit must be asked for before it has ended.
    pub slow: u32,
}

/// Records that one poll hands out of one partition.
const PER_POLL: usize = 500;

impl Log for SimLog {
    fn poll(
        &mut self,
        _wait: Duration,
        each: &mut dyn FnMut(InputRecord<'_>),
    ) -> Result<Wakeup, LogError> {
        let mut state = self.broker.0.borrow_mut();
        if let Some(news) = state.news.get_mut(&self.member)
            && !news.is_empty()
        {
            let is_committing = self.ended.is_some();
            let next = if is_committing {
                None
            } else {
                news.pop_front()
            };
            return Ok(next.unwrap_or(Wakeup::Records));
        }
        for (partition, position) in &mut self.positions {
            let messages = &state.input[index(*partition)];
            let rest = messages.iter().skip(index64(*position)).take(PER_POLL);
            for message in rest {
                each(InputRecord {
                    partition: *partition,
                    offset: *position,
                    broker_time: message.broker_time,
                    key: message.key.as_deref(),
                    payload: message.payload.as_deref(),
                });
                *position += 1;
            }
        }
        Ok(Wakeup::Records)
    }

    fn restore(&mut self, partition: i32, each: EachState<'_>) -> Result<Restoring, LogError> {
        let state = self.broker.0.borrow();
        let committed = state.committed.get(&partition);
        let position = committed.map(|(offset, _)| *offset);
        for (key, Kept { value, ahead }) in &state.state[index(partition)] {
            each(StateRecord {
                key,
                value: value.as_deref(),
                ahead: ahead.filter(|held| held.is_ahead_of(position)),
            });
        }
        Ok(Restoring::Done(Restored {
            next_offset: position,
            batch_id: committed.map(|(_, batch)| batch.clone()),
        }))
    }

    fn start(&mut self, partition: i32, from: &Restored) -> Result<(), LogError> {
        if self.broker.0.borrow().owners.get(&partition) != Some(&self.member) {
            return Err(LogError::Lost(vec![partition]));
        }
        let position = from.next_offset.unwrap_or(0);
        self.positions.insert(partition, position);
        Ok(())
    }

    fn release(&mut self, partitions: &[i32]) -> Result<(), LogError> {
        let mut state = self.broker.0.borrow_mut();
        for partition in partitions {
            self.positions.remove(partition);
            if state.owners.get(partition) == Some(&self.member) {
                state.owners.remove(partition);
            }
        }
        Ok(())
    }

    fn begin_commit(&mut self, transaction: &Arc<Transaction>) -> Result<(), LogError> {
        assert!(self.ended.is_none(), "one commit at a time");
        self.ended = Some((self.slow, self.try_commit(transaction)));
        Ok(())
    }

    fn poll_commit(&mut self, _wait: Duration) -> Option<Result<(), LogError>> {
        match &mut self.ended {
            Some((left, _)) if *left > 0 => {
                *left -= 1;
                None
            }
            ended => ended.take().map(|(_, ended)| ended),
        }
    }

    fn high_watermark(&self, partition: i32) -> Option<i64> {
        let state = self.broker.0.borrow();
        i64::try_from(state.input[index(partition)].len()).ok()
    }

    fn close(&mut self) {
        self.broker.expel_member(self.member);
    }
}

impl SimLog {
    fn try_commit(&mut self, transaction: &Transaction) -> Result<(), LogError> {
        if self.unclear.take().as_ref() == Some(&transaction.batch_id) {
            // It did land; the offset's metadata says so.
            return Ok(());
        }
        let lost: Vec<i32> = {
            let state = self.broker.0.borrow();
            let of_others = |p: &&(i32, i64)| state.owners.get(&p.0) != Some(&self.member);
            let offsets = transaction.offsets.iter();
            offsets.filter(of_others).map(|(p, _)| *p).collect()
        };
        if !lost.is_empty() {
            return Err(LogError::Lost(lost));
        }
        let fault = self.broker.0.borrow_mut().faults.pop_front().flatten();
        match fault {
            None => {
                self.broker.apply(transaction);
                Ok(())
            }
            Some(Fault::CrashBefore) => Err(LogError::Fatal(CRASHED.into())),
            Some(Fault::CrashAfter) => {
                self.broker.apply(transaction);
                Err(LogError::Fatal(CRASHED.into()))
            }
            Some(Fault::Unavailable) => Err(LogError::Unavailable("no broker answers".into())),
            Some(Fault::Unclear) => {
                self.broker.apply(transaction);
                self.unclear = Some(transaction.batch_id.clone());
                Err(LogError::Unavailable(
                    "the commit's outcome is unclear".into(),
                ))
            }
            Some(Fault::Lost) => {
                let all: Vec<i32> = transaction.offsets.iter().map(|(p, _)| *p).collect();
                self.broker.revoke(self.member, &all, true);
                Err(LogError::Lost(all))
            }
        }
    }
}

fn index(partition: i32) -> usize {
    usize::try_from(partition).unwrap_or(usize::MAX)
}

fn index64(offset: i64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}
