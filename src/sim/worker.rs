//! Attempts to commit that go on while the shard's loop does.
//!
//! The attempt is an actor of its own. Where it waits for an answer the loop goes on, on top
//! of its stack; so the loop cannot wait for an attempt that has begun to wait itself, and
//! looks again when it is woken.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::client::millis;
use super::clock::SimClock;
use super::producer::SimProducer;
use super::world::{Actor, ActorId, ProcessId, World};
use crate::deliver::{Attempt, Attempted};
use crate::log::LogError;
use crate::log::client::Worker;

/// What goes from hand to hand.
#[derive(Default)]
struct Desk {
    begun: Option<Attempt<SimProducer>>,
    ended: Option<Attempted<SimProducer>>,
}

/// Whoever makes a shard's attempts.
pub struct SimWorker {
    world: World,
    actor: ActorId,
    /// The shard's number among all members.
    member: usize,
    desk: Rc<RefCell<Desk>>,
}

impl SimWorker {
    /// A worker of `process` for the shard whose loop is `shard`.
    pub(super) fn new(
        world: &World,
        process: ProcessId,
        shard: ActorId,
        member: usize,
    ) -> SimWorker {
        let desk = Rc::<RefCell<Desk>>::default();
        let hand = Hand {
            clock: SimClock::of(process),
            shard,
            desk: Rc::clone(&desk),
        };
        SimWorker {
            world: world.clone(),
            actor: world.add_actor(Box::new(hand), u64::MAX),
            member,
            desk,
        }
    }
}

impl Worker for SimWorker {
    type Producer = SimProducer;

    fn begin(&mut self, attempt: Attempt<SimProducer>) {
        self.desk.borrow_mut().begun = Some(attempt);
        self.world.wake(self.actor, self.world.now());
    }

    fn wait(&mut self, wait: Duration) -> Result<bool, LogError> {
        let until = self.world.now() + millis(wait);
        let (waits, ended) = (
            |desk: &RefCell<Desk>| desk.borrow().begun.is_some(),
            |desk: &RefCell<Desk>| desk.borrow().ended.is_some(),
        );
        while waits(&self.desk) && self.world.now() < until {
            self.world.wait(1);
        }
        if !ended(&self.desk) && self.world.now() < until {
            self.world
                .member(self.member, |member| member.resume_at = Some(until));
        }
        Ok(ended(&self.desk))
    }

    fn take(&mut self) -> Option<Attempted<SimProducer>> {
        self.desk.borrow_mut().ended.take()
    }
}

/// The actor behind it.
struct Hand {
    clock: SimClock,
    shard: ActorId,
    desk: Rc<RefCell<Desk>>,
}

impl Actor for Hand {
    fn step(&mut self, world: &World) -> Option<u64> {
        let attempt = self.desk.borrow_mut().begun.take()?;
        let ended = attempt.run(&self.clock);
        self.desk.borrow_mut().ended = Some(ended);
        world.wake(self.shard, world.now());
        None
    }
}
