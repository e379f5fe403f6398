//! What librdkafka tells the consumer, kept until the shard's loop asks.
//!
//! The callback only records: the loop commits, restores and answers the group in its own
//! time. librdkafka waits for `incremental_assign` or `incremental_unassign` meanwhile and
//! goes on sending heartbeats (`rdkafka_cgrp.c`, join states `WAIT_ASSIGN_CALL` and
//! `WAIT_UNASSIGN_CALL`).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;

use crate::log::client::Rebalance;

/// The consumer's context.
#[derive(Default)]
pub struct Context {
    // Written and read by the shard's own thread, inside `poll` and after it; a lock
    // because librdkafka's callback has the context by shared reference only.
    rebalances: Mutex<VecDeque<Rebalance>>,
    closing: AtomicBool,
    unreachable: AtomicBool,
}

impl Context {
    pub fn next_rebalance(&self) -> Option<Rebalance> {
        self.lock().pop_front()
    }

    pub fn is_rebalancing(&self) -> bool {
        !self.lock().is_empty()
    }

    /// Partitions that were taken away by force and not handed on to the shard yet.
    pub fn lost(&self) -> Vec<i32> {
        self.lock()
            .iter()
            .filter_map(|step| match step {
                Rebalance::Revoked {
                    partitions,
                    lost: true,
                } => Some(partitions.as_slice()),
                _ => None,
            })
            .flatten()
            .copied()
            .collect()
    }

    /// Says that these partitions are lost, as the first that the shard hears of.
    pub fn report_lost(&self, partitions: Vec<i32>) {
        self.lock().push_front(Rebalance::Revoked {
            partitions,
            lost: true,
        });
    }

    /// From now on rebalances are agreed to without asking: nobody polls any longer.
    pub fn begin_close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// Whether librdkafka said that no broker answers, since [`Self::set_reachable`].
    pub fn is_unreachable(&self) -> bool {
        self.unreachable.load(Ordering::Relaxed)
    }

    pub fn set_reachable(&self) {
        self.unreachable.store(false, Ordering::Relaxed);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Rebalance>> {
        self.rebalances
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Context {
    fn error(&self, error: KafkaError, _: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.unreachable.store(true, Ordering::Relaxed);
        }
    }
}

impl ConsumerContext for Context {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        code: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let assigned = code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::Relaxed) {
            // What was assigned has been given up before the close began.
            let none = TopicPartitionList::new();
            let agreed = if assigned {
                consumer.incremental_assign(&none)
            } else {
                consumer.incremental_unassign(&none)
            };
            if let Err(error) = agreed {
                tracing::warn!(%error, "a rebalance during the close was refused");
            }
            return;
        }
        let partitions = partitions
            .elements()
            .iter()
            .map(rdkafka::topic_partition_list::TopicPartitionListElem::partition)
            .collect();
        self.lock().push_back(if assigned {
            Rebalance::Assigned(partitions)
        } else {
            Rebalance::Revoked {
                partitions,
                lost: consumer.assignment_lost(),
            }
        });
    }
}
