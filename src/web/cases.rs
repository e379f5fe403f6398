//! The cases that the pages show, read from their compacted topic.
//!
//! Every process reads every partition, so that any instance can show any case. Pages never
//! write here: what an owner answers is seen once the engine has acted on it.
//!
//! Whoever knows an account's name can have a case opened for it, so memory for them has a
//! bound. Past it the longest unchanged are let go: their pages are then the general one,
//! which takes the same answers.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::config;
use crate::follow::{FollowError, Follower};
use crate::logging::Complaint;
use crate::record::CaseRecord;

/// How often partitions that were added are looked for.
const LOOK_FOR_PARTITIONS: Duration = Duration::from_secs(30);
/// How often Kafka is asked after it was found to be away.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Bytes of cases that are kept: some 200,000 of them.
const MAX_BYTES: usize = 256 * 1024 * 1024;
/// Bytes of a case beside its record: names, places in the map and in the queue.
const BESIDE: usize = 256;

/// Every case of the last 30 days, by id, as long as there is memory for them.
pub struct Cases {
    cases: DashMap<String, Kept>,
    /// Taken by the one thread that reads the topic, and never while something is awaited.
    order: Mutex<Order>,
    max_bytes: usize,
    changes: watch::Sender<u64>,
    caught_up: AtomicBool,
    behind: AtomicBool,
}

/// A case as it was read: records are much smaller than what they are parsed into, and few
/// are ever asked for.
struct Kept {
    record: Box<[u8]>,
    changed_at: u64,
}

/// In which order cases changed.
#[derive(Default)]
struct Order {
    /// Ids and [`Kept::changed_at`]; one that has changed since stands further behind too.
    queue: VecDeque<(Box<str>, u64)>,
    changes: u64,
    bytes: usize,
    has_told: bool,
}

impl Default for Cases {
    fn default() -> Self {
        Cases::with_room(MAX_BYTES)
    }
}

impl Cases {
    /// Cases of which at most `max_bytes` are kept.
    pub fn with_room(max_bytes: usize) -> Cases {
        Cases {
            cases: DashMap::new(),
            order: Mutex::default(),
            max_bytes,
            changes: watch::Sender::new(0),
            caught_up: AtomicBool::new(false),
            behind: AtomicBool::new(false),
        }
    }

    pub fn get(&self, id: &str) -> Option<Arc<CaseRecord>> {
        let kept = self.cases.get(id)?;
        // It was read once before it was kept.
        serde_json::from_slice(&kept.record).ok().map(Arc::new)
    }

    /// The case, waited for up to `patience`: its mail may be faster than this reader.
    pub async fn wait_for(&self, id: &str, patience: Duration) -> Option<Arc<CaseRecord>> {
        let mut changes = self.changes.subscribe();
        let found = tokio::time::timeout(patience, async {
            loop {
                changes.mark_unchanged();
                if let Some(case) = self.get(id) {
                    return Some(case);
                }
                // Fails when the reader has gone, which ends the wait.
                changes.changed().await.ok()?;
            }
        });
        found.await.unwrap_or_else(|_| self.get(id))
    }

    /// Cases held.
    pub fn len(&self) -> usize {
        self.cases.len()
    }

    pub fn is_empty(&self) -> bool {
        self.cases.is_empty()
    }

    /// Whether the topic was read to its end since the start: a reason to be ready.
    pub fn has_caught_up(&self) -> bool {
        self.caught_up.load(Ordering::Relaxed)
    }

    /// Whether Kafka could not be read when it was last tried: what is known may be old.
    pub fn is_behind(&self) -> bool {
        self.behind.load(Ordering::Relaxed)
    }

    fn set_behind(&self, behind: bool) {
        self.behind.store(behind, Ordering::Relaxed);
    }

    /// Takes one record of the topic; `None` is a tombstone. What is no case is passed over.
    pub fn apply(&self, key: &[u8], value: Option<&[u8]>) {
        match value {
            None => {
                if let Ok(id) = std::str::from_utf8(key) {
                    self.let_go(id, &mut self.order());
                }
            }
            Some(value) => match serde_json::from_slice::<CaseRecord>(value) {
                Ok(case) => self.keep(case.id, value),
                Err(error) => warn!(%error, "a record of the cases topic is no case"),
            },
        }
        self.changes.send_modify(|changes| *changes += 1);
    }

    fn order(&self) -> std::sync::MutexGuard<'_, Order> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, id: String, record: &[u8]) {
        let mut order = self.order();
        let order = &mut *order;
        self.let_go(&id, order);
        order.changes += 1;
        order.bytes += weight(&id, record);
        order.queue.push_back((id.as_str().into(), order.changes));
        self.cases.insert(
            id,
            Kept {
                record: record.into(),
                changed_at: order.changes,
            },
        );
        let is_latest = |id: &str, at: u64| self.cases.get(id).is_some_and(|k| k.changed_at == at);
        while order.bytes > self.max_bytes {
            let Some((oldest, at)) = order.queue.pop_front() else {
                break;
            };
            if is_latest(&oldest, at) {
                self.let_go(&oldest, order);
                if !std::mem::replace(&mut order.has_told, true) {
                    warn!(
                        bytes = self.max_bytes,
                        "more cases than there is memory for: the longest unchanged are shown \
                         without what happened"
                    );
                }
            }
        }
        if order.queue.len() > 2 * self.cases.len() + 1_024 {
            order.queue.retain(|(id, at)| is_latest(id, *at));
        }
    }

    fn let_go(&self, id: &str, order: &mut Order) {
        if let Some((id, gone)) = self.cases.remove(id) {
            order.bytes -= weight(&id, &gone.record);
        }
    }
}

fn weight(id: &str, record: &[u8]) -> usize {
    id.len() + record.len() + BESIDE
}

/// The thread that reads the topic. Dropping it lets the thread end by itself.
pub struct CaseReader {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// Why cases cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CaseReaderError {
    #[error(transparent)]
    Follow(#[from] FollowError),
    #[error("cannot start the case reader's thread: {0}")]
    Thread(#[from] std::io::Error),
}

impl CaseReader {
    /// Begins to fill `cases`. Brokers that are away are waited for.
    ///
    /// # Errors
    /// Where librdkafka refuses the settings or the system has no thread to give.
    pub fn start(
        kafka: &config::Kafka,
        topic: &str,
        cases: Arc<Cases>,
    ) -> Result<CaseReader, CaseReaderError> {
        let mut follower = Follower::new(kafka, topic)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("cases".into())
            .spawn(move || {
                let mut looked: Option<Instant> = None;
                let mut complaint = Complaint::new("cases cannot be read for now");
                while !stopped.load(Ordering::Relaxed) {
                    let every = match cases.is_behind() {
                        true => LOOK_AGAIN,
                        false => LOOK_FOR_PARTITIONS,
                    };
                    if looked.is_none_or(|at| at.elapsed() > every) {
                        match follower.find_partitions() {
                            Ok(()) => {
                                looked = Some(Instant::now());
                                cases.set_behind(false);
                            }
                            Err(error) => {
                                cases.set_behind(true);
                                complaint.hear(&error);
                            }
                        }
                    }
                    let polled = follower.poll(Duration::from_millis(100), &mut |key, value| {
                        cases.apply(key, value);
                    });
                    if let Err(error) = polled {
                        cases.set_behind(true);
                        complaint.hear(&error);
                    }
                    if !cases.has_caught_up() && follower.has_caught_up() {
                        cases.caught_up.store(true, Ordering::Relaxed);
                        info!(cases = cases.len(), "cases are read");
                    }
                }
            })?;
        Ok(CaseReader {
            stop,
            thread: Some(thread),
        })
    }

    /// Ends the thread and waits for it; call it where blocking is allowed.
    pub fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("the case reader's thread ended by a panic");
        }
    }
}

impl Drop for CaseReader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
