//! The producing half of a client: one registered transactional id.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode;

use crate::log::OutputRecord;
use crate::log::client::{Producer, TxnError};

use super::client::millis;
use super::group::SimMembership;
use super::network::{Ask, Failure};
use super::topic::{Message, Place, ProducerId};
use super::transaction::Target;
use super::world::{ProcessId, World};

/// A registered producer.
pub struct SimProducer {
    world: World,
    process: ProcessId,
    id: String,
    producer: ProducerId,
    /// Whether the coordinator heard of the transaction: one that it never heard of needs no
    /// end.
    known: Cell<bool>,
    /// What went wrong with records, in the background; the commit says so.
    trouble: RefCell<Option<Failure>>,
    /// How often connections had broken when it was registered.
    disturbances: usize,
}

impl SimProducer {
    pub(super) fn new(
        world: &World,
        process: ProcessId,
        id: String,
        producer: ProducerId,
    ) -> SimProducer {
        SimProducer {
            world: world.clone(),
            process,
            id,
            producer,
            known: Cell::new(false),
            trouble: RefCell::new(None),
            disturbances: world.disturbances(process),
        }
    }

    /// The same registration once more, as nobody should use it.
    pub fn again(&self) -> SimProducer {
        SimProducer::new(&self.world, self.process, self.id.clone(), self.producer)
    }

    /// Whether nobody has registered the id since.
    pub fn is_current(&self) -> bool {
        self.world
            .cluster(|cluster| cluster.transactions.is_current(&self.id, self.producer))
    }

    fn targets(&self, records: &[OutputRecord]) -> Vec<(Place, Message)> {
        let keyed = records.iter().map(|record| {
            let topic = record.topic.into();
            let partition = match record.partition {
                Some(partition) => partition,
                None => self.world.cluster(|c| c.place(topic, &record.key)),
            };
            let message = Message {
                key: (!record.key.is_empty()).then(|| record.key.clone()),
                payload: record.payload.clone(),
                headers: record.headers.clone(),
            };
            ((topic, partition), message)
        });
        keyed.collect()
    }

    fn deliver(&self, records: &[OutputRecord], within_ms: u64) -> Result<(), Failure> {
        let records = self.targets(records);
        let places: BTreeSet<Place> = records.iter().map(|(place, _)| *place).collect();
        let (id, producer) = (self.id.clone(), self.producer);
        let targets: Vec<Target> = places.iter().map(|place| Target::Log(*place)).collect();
        self.world.call(
            self.process,
            Ask::AddPartitions,
            within_ms,
            move |cluster, now| {
                let targets = targets.iter().copied();
                cluster.transactions.add(&id, producer, targets, now)
            },
        )?;
        self.known.set(true);
        for place in places {
            let of_place = records.iter().filter(|(at, _)| *at == place);
            let messages: Vec<Message> = of_place.map(|(_, message)| message.clone()).collect();
            let id = self.id.clone();
            // Sequence numbers keep a batch that is sent again from being appended twice, so
            // it is appended once, whatever becomes of the answer.
            let appended = Cell::new(false);
            self.world.call(
                self.process,
                Ask::Produce,
                within_ms,
                move |cluster, now| {
                    if appended.replace(true) {
                        return Ok(());
                    }
                    for message in &messages {
                        cluster.produce(&id, producer, place, message.clone(), now)?;
                    }
                    Ok(())
                },
            )?;
        }
        Ok(())
    }
}

impl Producer for SimProducer {
    type Membership = SimMembership;

    fn begin(&self) -> Result<(), TxnError> {
        self.known.set(false);
        self.trouble.replace(None);
        Ok(())
    }

    fn send_all(&self, records: &[OutputRecord], within: Duration) -> Result<(), TxnError> {
        if records.is_empty() {
            return Ok(());
        }
        match self.deliver(records, millis(within)) {
            Err(Failure::Dead) => Err(self.refused(Failure::Dead)),
            Err(failure) => {
                self.trouble.replace(Some(failure));
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn send_offsets(
        &self,
        offsets: &[(i32, i64)],
        metadata: &str,
        member: &SimMembership,
        within: Duration,
    ) -> Result<(), TxnError> {
        let (id, producer) = (self.id.clone(), self.producer);
        let (offsets, metadata, member) = (offsets.to_vec(), metadata.to_owned(), member.clone());
        let shown = offsets.clone();
        let sent = self.world.call(
            self.process,
            Ask::SendOffsets,
            millis(within),
            move |cluster, now| {
                let targets = [Target::Offsets];
                cluster.transactions.add(&id, producer, targets, now)?;
                cluster.group.offer(producer, &member, &offsets, &metadata)
            },
        );
        self.known.set(true);
        self.world.note(|| {
            let said = if sent.is_ok() { "offered" } else { "refused" };
            format!("{}: offsets {shown:?} are {said}", self.id)
        });
        sent.map_err(|failure| self.refused(failure))
    }

    fn commit(&self, within: Duration) -> Result<(), TxnError> {
        if let Some(failure) = *self.trouble.borrow() {
            // The library goes on trying to deliver until the time is over.
            self.world.wait(millis(within));
            return Err(self.refused(failure));
        }
        self.end(true, within)
    }

    fn abort(&self, within: Duration) -> Result<(), TxnError> {
        if !self.known.get() {
            return Ok(());
        }
        self.end(false, within)
    }

    fn flush(&self, _within: Duration) -> Result<(), TxnError> {
        Ok(())
    }

    fn is_disturbed(&self) -> bool {
        self.world.disturbances(self.process) != self.disturbances
    }

    fn take_failure(&self) -> Option<(String, RDKafkaErrorCode)> {
        None
    }
}

impl SimProducer {
    fn end(&self, commit: bool, within: Duration) -> Result<(), TxnError> {
        let (id, producer) = (self.id.clone(), self.producer);
        let ended = self.world.call(
            self.process,
            Ask::End,
            millis(within),
            move |cluster, now| cluster.end(&id, producer, commit, now),
        );
        let verb = if commit { "commit" } else { "abort" };
        self.world
            .note(|| format!("{}: {verb}: {ended:?}", self.id));
        ended.map_err(|failure| self.refused(failure))
    }

    /// What the client library says of a failed request.
    fn refused(&self, failure: Failure) -> TxnError {
        let (code, fatal, retriable, must_abort) = match failure {
            Failure::Dead => (RDKafkaErrorCode::Fatal, true, false, false),
            Failure::TimedOut => (RDKafkaErrorCode::OperationTimedOut, false, true, false),
            Failure::Refused(
                code @ (RDKafkaErrorCode::ProducerFenced | RDKafkaErrorCode::InvalidProducerEpoch),
            ) => (code, true, false, false),
            Failure::Refused(
                code @ (RDKafkaErrorCode::IllegalGeneration | RDKafkaErrorCode::UnknownMemberId),
            ) => (code, false, false, true),
            Failure::Refused(code) => (code, true, false, false),
        };
        TxnError {
            code,
            text: format!("{}: {code}", self.id),
            fatal,
            retriable,
            must_abort,
        }
    }
}
