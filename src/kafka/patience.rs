//! A limit for the one call of a producer that has none.
//!
//! `rd_kafka_send_offsets_to_transaction` ignores its time-out while no broker can be asked
//! for the group's coordinator (librdkafka#5456), so it lasts as long as the cluster is
//! away. It is made on a thread of its own, which can be left behind: the call returns once
//! a broker is back, is refused there since the transactional id was registered anew, and the
//! thread lets go of its producer.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::error::RDKafkaErrorCode;

use super::raw::Membership;
use crate::log::client::TxnError;

/// What is waited for beyond the call's own time-out.
const MARGIN: Duration = Duration::from_secs(1);

/// Offsets to be added to a transaction.
pub struct Offsets {
    pub list: TopicPartitionList,
    pub member: Arc<Membership>,
    pub within: Duration,
}

/// The thread on which a producer's offsets are sent.
pub struct OffsetThread {
    calls: Option<SyncSender<Offsets>>,
    answers: Receiver<Result<(), TxnError>>,
    thread: Option<JoinHandle<()>>,
}

impl OffsetThread {
    /// `send` makes the call; it holds the producer.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn start(
        name: String,
        send: impl Fn(&Offsets) -> Result<(), TxnError> + Send + 'static,
    ) -> std::io::Result<OffsetThread> {
        let (calls, called) = mpsc::sync_channel::<Offsets>(1);
        let (answer, answers) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            for offsets in called {
                if answer.send(send(&offsets)).is_err() {
                    break;
                }
            }
        })?;
        Ok(OffsetThread {
            calls: Some(calls),
            answers,
            thread: Some(thread),
        })
    }

    /// Makes the call and waits for it, a little longer than it should take. After a
    /// time-out nothing more may be sent.
    pub fn send(&mut self, offsets: Offsets) -> Result<(), TxnError> {
        let limit = offsets.within + MARGIN;
        let sent = self.calls.as_ref().map(|calls| calls.send(offsets));
        let answer = match sent {
            Some(Ok(())) => self.answers.recv_timeout(limit),
            _ => Err(RecvTimeoutError::Disconnected),
        };
        answer.unwrap_or_else(|_| {
            self.calls = None;
            // It ends when its call does; nobody waits for it.
            self.thread = None;
            Err(TxnError {
                code: RDKafkaErrorCode::OperationTimedOut,
                text: "the offsets' coordinator cannot be reached".into(),
                fatal: false,
                retriable: false,
                must_abort: false,
            })
        })
    }
}

impl Drop for OffsetThread {
    fn drop(&mut self) {
        self.calls = None;
        if let Some(thread) = self.thread.take() {
            // It is idle, and a panic there was an unsent answer here.
            let _ = thread.join();
        }
    }
}
