//! Reads `auth.events` as one member of the consumer group, and state back from its topic.
//!
//! The protocol of reading, whatever client speaks it. Rebalances come to the shard as
//! messages ([`Wakeup`]); between an assignment and [`Ingest::start`] a partition is not
//! fetched at all, so that its state can be restored first. It knows nothing of what the
//! records mean.

mod restore;

use std::time::Duration;

use crate::log::client::{Client, Rebalance};
use crate::log::{EachState, InputRecord, LogError, Restored, Restoring, Wakeup};

use restore::Restore;

/// Records that one call of the client hands out.
const TAKE: usize = 1_024;
/// Records that one [`Ingest::poll`] hands out before the shard looks at everything else:
/// some ten milliseconds of work.
const MAX_PER_POLL: usize = 8_192;

/// The reading half of a shard's log.
pub struct Ingest<C: Client> {
    client: C,
    /// Who this member was when it last took records or answered the group.
    membership: Option<C::Membership>,
    /// The restore that is under way.
    restoring: Option<Restore<C::StateReader>>,
}

impl<C: Client> Ingest<C> {
    pub fn new(client: C) -> Ingest<C> {
        Ingest {
            client,
            membership: None,
            restoring: None,
        }
    }

    pub fn client(&self) -> &C {
        &self.client
    }

    /// As [`crate::log::Log::poll`].
    pub fn poll(
        &mut self,
        wait: Duration,
        each: &mut dyn FnMut(InputRecord<'_>),
    ) -> Result<Wakeup, LogError> {
        self.client.tend()?;
        match self.client.next_rebalance() {
            Some(step) => self.hand_on(step),
            None => self.read(wait, each),
        }
    }

    /// The same, but whatever the group asks for waits: for when a commit is under way, which
    /// speaks for what the shard holds now.
    pub fn read(
        &mut self,
        wait: Duration,
        each: &mut dyn FnMut(InputRecord<'_>),
    ) -> Result<Wakeup, LogError> {
        let mut seen = self.client.take(Duration::ZERO, TAKE, each)?;
        if seen == 0 {
            // A wait ends with the first record; what came with it is taken below.
            seen = self.client.take(wait, 1, each)?;
            if seen == 0 {
                self.client.check_reachable()?;
                return Ok(Wakeup::Records);
            }
        }
        while seen < MAX_PER_POLL {
            match self.client.take(Duration::ZERO, TAKE, each)? {
                0 => break,
                more => seen += more,
            }
        }
        self.client.set_reachable();
        self.membership = self.client.membership();
        Ok(Wakeup::Records)
    }

    /// Serves the group without taking records.
    pub fn tend(&mut self) -> Result<(), LogError> {
        self.client.tend()
    }

    /// Whether partitions are to be given or taken, and the shard has not heard of it yet.
    pub fn is_rebalancing(&mut self) -> Result<bool, LogError> {
        self.client.tend()?;
        Ok(self.client.is_rebalancing())
    }

    /// Partitions of `offsets` that belong to somebody else: they were lost and the shard has
    /// not heard of it yet, or it has given them up. The broker would take offsets of any
    /// partition from a member of the group, so nobody but this one looks.
    pub fn lost(&self, offsets: &[(i32, i64)]) -> Vec<i32> {
        let lost = self.client.lost();
        let partitions = offsets.iter().map(|(partition, _)| *partition);
        partitions
            .filter(|partition| lost.contains(partition) || !self.client.holds(*partition))
            .collect()
    }

    /// Who this member was when it last took records or was assigned partitions; asks anew
    /// where that is not known.
    pub fn membership(&mut self) -> Option<&C::Membership> {
        if self.membership.is_none() {
            self.membership = self.client.membership();
        }
        self.membership.as_ref()
    }

    /// After the broker refused the membership that it was shown.
    pub fn forget_membership(&mut self) {
        self.membership = None;
    }

    /// As [`crate::log::Log::restore`].
    pub fn restore(&mut self, partition: i32, each: EachState<'_>) -> Result<Restoring, LogError> {
        let under_way = self.restoring.take();
        let mut restore = match under_way {
            Some(restore) if restore.partition == partition => restore,
            _ => Restore::begin(&self.client, partition)?,
        };
        let state = restore.slice(&mut self.client, each)?;
        if matches!(state, Restoring::More { .. }) {
            self.restoring = Some(restore);
        }
        Ok(state)
    }

    /// As [`crate::log::Log::start`].
    pub fn start(&mut self, partition: i32, from: &Restored) -> Result<(), LogError> {
        // An assignment that was lost must not look sound again because of this call.
        if self.client.is_assignment_lost() {
            return Err(LogError::Lost(vec![partition]));
        }
        self.client.fetch(partition, from.next_offset)
    }

    /// As [`crate::log::Log::release`].
    pub fn release(&mut self, partitions: &[i32]) -> Result<(), LogError> {
        if let Some(restore) = &self.restoring
            && partitions.contains(&restore.partition)
        {
            self.restoring = None;
        }
        self.membership = None;
        self.client.give_up(partitions)
    }

    /// Gives everything up, so that dropping the client leaves the group without waiting.
    pub fn close(&mut self) {
        self.restoring = None;
        self.client.leave();
    }

    fn hand_on(&mut self, step: Rebalance) -> Result<Wakeup, LogError> {
        self.membership = None;
        match step {
            Rebalance::Assigned(partitions) => {
                self.client.agree(&partitions)?;
                Ok(Wakeup::Assigned(partitions))
            }
            Rebalance::Revoked { partitions, lost } => Ok(Wakeup::Revoked { partitions, lost }),
        }
    }
}
