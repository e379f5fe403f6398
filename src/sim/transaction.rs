//! The transaction coordinator: who may write under a transactional id, and how each
//! transaction ends.
//!
//! As brokers and clients without KIP-890 do it: the epoch rises only when the id is
//! registered anew, so a request to end a transaction that was held up on its way ends
//! whatever transaction of the same epoch it finds open.

use std::collections::{BTreeMap, BTreeSet};

use rdkafka::error::RDKafkaErrorCode;

use super::topic::{Place, ProducerId};

/// Where a marker must be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    Log(Place),
    Offsets,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// None is open; how the last one ended, if there was one.
    Idle {
        committed: Option<bool>,
    },
    Open {
        since: u64,
    },
    /// Decided, but not all markers are written.
    Ending {
        commit: bool,
    },
}

#[derive(Clone, Debug)]
struct Transactional {
    producer: ProducerId,
    timeout_ms: u64,
    phase: Phase,
    targets: BTreeSet<Target>,
}

/// Markers that must be written now, each at its own time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    pub id: String,
    pub producer: ProducerId,
    pub commit: bool,
    pub targets: Vec<Target>,
}

#[derive(Clone, Debug, Default)]
pub struct Transactions {
    ids: BTreeMap<String, Transactional>,
    next_id: i64,
}

type Done = Result<Option<Ending>, RDKafkaErrorCode>;

impl Transactions {
    /// Registers a transactional id. An open transaction is aborted, and whoever asks is
    /// told to ask again until its markers are written.
    pub fn register(
        &mut self,
        id: &str,
        timeout_ms: u64,
    ) -> (Result<ProducerId, RDKafkaErrorCode>, Option<Ending>) {
        let next_id = &mut self.next_id;
        let entry = self.ids.entry(id.to_owned()).or_insert_with(|| {
            *next_id += 1;
            Transactional {
                producer: ProducerId {
                    id: *next_id,
                    epoch: -1,
                },
                timeout_ms,
                phase: Phase::Idle { committed: None },
                targets: BTreeSet::new(),
            }
        });
        match entry.phase {
            Phase::Idle { .. } => {
                entry.producer.epoch += 1;
                entry.timeout_ms = timeout_ms;
                entry.phase = Phase::Idle { committed: None };
                (Ok(entry.producer), None)
            }
            Phase::Open { .. } => {
                // The old producer is fenced before its transaction is aborted.
                entry.producer.epoch += 1;
                let ending = entry.end(id, false);
                (Err(RDKafkaErrorCode::ConcurrentTransactions), Some(ending))
            }
            Phase::Ending { .. } => (Err(RDKafkaErrorCode::ConcurrentTransactions), None),
        }
    }

    fn find(
        &mut self,
        id: &str,
        producer: ProducerId,
    ) -> Result<&mut Transactional, RDKafkaErrorCode> {
        let entry = self.ids.get_mut(id);
        let entry = entry.ok_or(RDKafkaErrorCode::InvalidProducerIdMapping)?;
        if entry.producer.id != producer.id {
            return Err(RDKafkaErrorCode::InvalidProducerIdMapping);
        }
        if entry.producer.epoch != producer.epoch {
            return Err(RDKafkaErrorCode::ProducerFenced);
        }
        Ok(entry)
    }

    /// Adds what the transaction will write to; opens it where none is.
    pub fn add(
        &mut self,
        id: &str,
        producer: ProducerId,
        targets: impl IntoIterator<Item = Target>,
        now: u64,
    ) -> Result<(), RDKafkaErrorCode> {
        let entry = self.find(id, producer)?;
        match entry.phase {
            Phase::Ending { .. } => return Err(RDKafkaErrorCode::ConcurrentTransactions),
            Phase::Idle { .. } => entry.phase = Phase::Open { since: now },
            Phase::Open { .. } => {}
        }
        entry.targets.extend(targets);
        Ok(())
    }

    /// Whether the producer may write to `target`: brokers ask before the first record of a
    /// transaction is appended.
    pub fn verify(
        &mut self,
        id: &str,
        producer: ProducerId,
        target: Target,
    ) -> Result<(), RDKafkaErrorCode> {
        let entry = self.find(id, producer)?;
        let open = matches!(entry.phase, Phase::Open { .. });
        if open && entry.targets.contains(&target) {
            Ok(())
        } else {
            Err(RDKafkaErrorCode::InvalidTransactionalState)
        }
    }

    /// Decides the open transaction.
    pub fn end(&mut self, id: &str, producer: ProducerId, commit: bool) -> Done {
        let entry = self.find(id, producer)?;
        match entry.phase {
            Phase::Open { .. } => Ok(Some(entry.end(id, commit))),
            Phase::Ending { commit: ending } if ending == commit => {
                Err(RDKafkaErrorCode::ConcurrentTransactions)
            }
            Phase::Idle { committed } if committed == Some(commit) => Ok(None),
            _ => Err(RDKafkaErrorCode::InvalidTransactionalState),
        }
    }

    /// A marker is written; the last one ends the transaction.
    pub fn written(&mut self, id: &str, target: Target) {
        if let Some(entry) = self.ids.get_mut(id)
            && let Phase::Ending { commit } = entry.phase
        {
            entry.targets.remove(&target);
            if entry.targets.is_empty() {
                entry.phase = Phase::Idle {
                    committed: Some(commit),
                };
            }
        }
    }

    /// Aborts what is open for too long, and fences its producer.
    pub fn sweep(&mut self, now: u64) -> Vec<Ending> {
        let mut endings = Vec::new();
        for (id, entry) in &mut self.ids {
            if let Phase::Open { since } = entry.phase
                && now >= since + entry.timeout_ms
            {
                entry.producer.epoch += 1;
                endings.push(entry.end(id, false));
            }
        }
        endings
    }

    /// Whether the producer is the newest of its id.
    pub fn is_current(&self, id: &str, producer: ProducerId) -> bool {
        self.ids.get(id).is_some_and(|of| of.producer == producer)
    }

    /// Whether any transaction is open or ending.
    pub fn is_busy(&self) -> bool {
        let mut all = self.ids.values();
        all.any(|entry| !matches!(entry.phase, Phase::Idle { .. }))
    }
}

impl Transactional {
    fn end(&mut self, id: &str, commit: bool) -> Ending {
        let targets: Vec<Target> = self.targets.iter().copied().collect();
        self.phase = if targets.is_empty() {
            Phase::Idle {
                committed: Some(commit),
            }
        } else {
            Phase::Ending { commit }
        };
        Ending {
            id: id.to_owned(),
            producer: self.producer,
            commit,
            targets,
        }
    }
}
