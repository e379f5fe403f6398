//! Time, and who moves when.
//!
//! One queue of events, one thread, one seed. Whoever waits (for an answer, for a pause to
//! end) lets the world go on underneath it: [`World::wait_until`] runs other actors, on top
//! of the waiting one's stack, until its time has come. A process that was frozen or that
//! waits for long therefore wakes to a world that went on without it.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;

use super::cluster::{Cluster, Errand, Setup};
use super::member::Members;
use super::network::Network;
use crate::event::Timestamp;

/// Something that acts by itself: a shard, a mailer, the login pipeline, misfortune.
pub trait Actor {
    /// Acts, and says when it acts again; `None`: never, unless it is woken.
    fn step(&mut self, world: &World) -> Option<u64>;
}

/// An actor's number.
pub type ActorId = usize;
/// A process' number: what dies, freezes, and has a clock of its own.
pub type ProcessId = usize;

#[derive(Clone, Debug, Default)]
struct Process {
    dead: bool,
    frozen_until: u64,
    /// How far its time of day is off.
    wall_off_ms: i64,
    /// Calls of its clients until it dies.
    dies_in: Option<u32>,
    /// Calls until it freezes, and for how long.
    freezes_in: Option<(u32, u64)>,
}

struct Slot {
    /// `None` while it acts.
    actor: Option<Box<dyn Actor>>,
    due: u64,
}

pub(super) enum Happening {
    Actor(ActorId),
    Errand(Errand),
    /// The background thread of a client.
    Background(usize),
    /// A request that was held up on its way.
    Late(Box<dyn FnOnce(&mut Cluster, u64)>),
}

struct Event {
    at: u64,
    order: u64,
    what: Happening,
}

impl PartialEq for Event {
    fn eq(&self, other: &Event) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Event {}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Event) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Event {
    fn cmp(&self, other: &Event) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

pub(super) struct Inner {
    now: Cell<u64>,
    order: Cell<u64>,
    depth: Cell<u32>,
    doom: Cell<u64>,
    start: Timestamp,
    /// Time that passed all at once.
    leapt: Cell<u64>,
    leaps: RefCell<Vec<(Timestamp, Timestamp)>>,
    queue: RefCell<BinaryHeap<Reverse<Event>>>,
    pub(super) cluster: RefCell<Cluster>,
    pub(super) members: RefCell<Members>,
    pub(super) network: RefCell<Network>,
    processes: RefCell<Vec<Process>>,
    actors: RefCell<Vec<Slot>>,
    /// What happened, in words, where somebody wants to read it.
    diary: RefCell<Option<Vec<(u64, String)>>>,
}

/// A handle on the world; clones share it.
#[derive(Clone)]
pub struct World(pub(super) Rc<Inner>);

impl World {
    /// An empty cluster. With a `diary`, everything that happens is also written down.
    pub fn new(setup: Setup, seed: u64, diary: bool) -> World {
        let world = World(Rc::new(Inner {
            now: Cell::new(0),
            order: Cell::new(0),
            depth: Cell::new(0),
            doom: Cell::new(u64::MAX),
            start: setup.start,
            leapt: Cell::new(0),
            leaps: RefCell::default(),
            queue: RefCell::default(),
            cluster: RefCell::new(Cluster::new(setup, seed ^ 0x5eed)),
            members: RefCell::default(),
            network: RefCell::new(Network::new(seed)),
            processes: RefCell::default(),
            actors: RefCell::default(),
            diary: RefCell::new(diary.then(Vec::new)),
        }));
        world.plan_errands();
        world
    }

    /// Milliseconds since the history began.
    pub fn now(&self) -> u64 {
        self.0.now.get()
    }

    /// Looks at the brokers, or does something to them.
    pub fn cluster<R>(&self, with: impl FnOnce(&mut Cluster) -> R) -> R {
        let (result, changed, errands) = {
            let mut cluster = self.0.cluster.borrow_mut();
            let before = cluster.changes;
            let result = with(&mut cluster);
            (result, cluster.changes != before, cluster.has_errands())
        };
        if errands {
            self.plan_errands();
        }
        if changed {
            self.wake_readers();
        }
        result
    }

    fn plan_errands(&self) {
        let errands = self.0.cluster.borrow_mut().take_errands();
        for (at, errand) in errands {
            self.plan(at, Happening::Errand(errand));
        }
    }

    /// Whoever waits for records looks again soon.
    fn wake_readers(&self) {
        let readers = self.0.members.borrow().readers();
        let soon = self.now() + 1;
        for actor in readers {
            self.wake(actor, soon);
        }
    }

    /// A new process; it lives.
    pub fn add_process(&self) -> ProcessId {
        let mut processes = self.0.processes.borrow_mut();
        processes.push(Process::default());
        processes.len() - 1
    }

    /// Adds an actor that first acts at `at`.
    pub fn add_actor(&self, actor: Box<dyn Actor>, at: u64) -> ActorId {
        let id = {
            let mut actors = self.0.actors.borrow_mut();
            actors.push(Slot {
                actor: Some(actor),
                due: u64::MAX,
            });
            actors.len() - 1
        };
        self.wake(id, at);
        id
    }

    /// The number that the next actor gets.
    pub fn next_actor(&self) -> ActorId {
        self.0.actors.borrow().len()
    }

    /// Lets an actor act at `at`, unless it does so earlier.
    pub fn wake(&self, id: ActorId, at: u64) {
        let at = at.max(self.now());
        let mut actors = self.0.actors.borrow_mut();
        if let Some(slot) = actors.get_mut(id)
            && at < slot.due
        {
            slot.due = at;
            drop(actors);
            self.plan(at, Happening::Actor(id));
        }
    }

    pub(super) fn plan(&self, at: u64, what: Happening) {
        let order = self.0.order.get();
        self.0.order.set(order + 1);
        let event = Event { at, order, what };
        self.0.queue.borrow_mut().push(Reverse(event));
    }

    /// Lets the world go on until `until`.
    pub fn wait_until(&self, until: u64) {
        loop {
            let event = {
                let mut queue = self.0.queue.borrow_mut();
                match queue.peek() {
                    Some(Reverse(event)) if event.at <= until => queue.pop(),
                    _ => None,
                }
            };
            let Some(Reverse(event)) = event else { break };
            self.0.now.set(self.now().max(event.at));
            self.happen(event.at, event.what);
        }
        self.0.now.set(self.now().max(until));
    }

    pub fn wait(&self, ms: u64) {
        self.wait_until(self.now() + ms);
    }

    fn happen(&self, at: u64, what: Happening) {
        match what {
            Happening::Actor(id) => self.act(id, at),
            Happening::Errand(Errand::Tell { client }) => self.background(client),
            Happening::Errand(errand) => {
                let now = self.now();
                self.cluster(|cluster| cluster.run(errand, now));
            }
            Happening::Background(client) => self.background_if_due(client, at),
            Happening::Late(request) => {
                let now = self.now();
                self.cluster(|cluster| request(cluster, now));
            }
        }
    }

    fn act(&self, id: ActorId, at: u64) {
        let actor = {
            let mut actors = self.0.actors.borrow_mut();
            let slot = &mut actors[id];
            if slot.due != at {
                return;
            }
            slot.due = u64::MAX;
            slot.actor.take()
        };
        // Whoever acts already, further down the stack, goes on by itself.
        let Some(mut actor) = actor else { return };
        self.0.depth.set(self.0.depth.get() + 1);
        let next = actor.step(self);
        self.0.depth.set(self.0.depth.get() - 1);
        self.0.actors.borrow_mut()[id].actor = Some(actor);
        if let Some(next) = next {
            // Time passes for everybody, or nobody else would ever move.
            self.wake(id, next.max(self.now() + 1));
        }
    }

    /// How many actors are acting, one on top of the other.
    pub fn depth(&self) -> u32 {
        self.0.depth.get()
    }

    /// Lets `ms` pass at once for every clock, while nobody does anything.
    pub fn leap(&self, ms: u64) {
        self.note(|| format!("{} minutes pass", ms / 60_000));
        let before = self.time();
        self.0.leapt.set(self.0.leapt.get() + ms);
        self.0.leaps.borrow_mut().push((before, self.time()));
        self.0.cluster.borrow_mut().leapt_ms += ms;
    }

    /// From when to when time leapt.
    pub fn leaps(&self) -> Vec<(Timestamp, Timestamp)> {
        self.0.leaps.borrow().clone()
    }

    /// Milliseconds since the history began, by clocks that leap.
    pub fn elapsed(&self) -> u64 {
        self.now() + self.0.leapt.get()
    }

    /// The right time of day.
    pub fn time(&self) -> Timestamp {
        let elapsed = i64::try_from(self.elapsed()).unwrap_or(i64::MAX);
        self.0.start.plus_ms(elapsed)
    }

    /// Ends every actor; each is dropped while the world still stands.
    pub fn end(&self) {
        let actors: Vec<Option<Box<dyn Actor>>> = {
            let mut slots = self.0.actors.borrow_mut();
            slots.iter_mut().map(|slot| slot.actor.take()).collect()
        };
        drop(actors);
        self.0.queue.borrow_mut().clear();
    }

    /// Writes something into the diary.
    pub fn note(&self, what: impl FnOnce() -> String) {
        if let Some(diary) = &mut *self.0.diary.borrow_mut() {
            diary.push((self.now(), what()));
        }
    }

    /// The diary, a line each with its time in milliseconds.
    pub fn take_diary(&self) -> Vec<(u64, String)> {
        self.0.diary.borrow_mut().take().unwrap_or_default()
    }

    fn process<R>(&self, id: ProcessId, with: impl FnOnce(&mut Process) -> R) -> R {
        with(&mut self.0.processes.borrow_mut()[id])
    }

    /// The process is gone: nothing of it reaches a broker any more.
    pub fn kill(&self, id: ProcessId) {
        self.process(id, |process| process.dead = true);
        self.note(|| format!("process {id} dies"));
    }

    pub fn is_dead(&self, id: ProcessId) -> bool {
        self.now() >= self.0.doom.get() || self.process(id, |process| process.dead)
    }

    /// Whether everything has died, and nothing is started again.
    pub fn is_over(&self) -> bool {
        self.now() >= self.0.doom.get()
    }

    /// When everything dies, so that a history ends in which somebody tries for ever.
    pub fn set_doom(&self, at: u64) {
        self.0.doom.set(at);
    }

    /// Lets the process die at the `calls`-th call that its clients make from now on.
    pub fn kill_in(&self, id: ProcessId, calls: u32) {
        self.process(id, |process| process.dies_in = Some(calls));
    }

    /// Lets the process stand still for `ms`, from the `calls`-th call on.
    pub fn freeze_in(&self, id: ProcessId, calls: u32, ms: u64) {
        self.process(id, |process| process.freezes_in = Some((calls, ms)));
    }

    /// Lets the process stand still for `ms`, now.
    pub fn freeze(&self, id: ProcessId, ms: u64) {
        self.note(|| format!("process {id} freezes for {} s", ms / 1_000));
        let until = self.now() + ms;
        self.process(id, |process| process.frozen_until = until);
    }

    /// When a frozen process goes on.
    pub fn frozen_until(&self, id: ProcessId) -> Option<u64> {
        let until = self.process(id, |process| process.frozen_until);
        (until > self.now()).then_some(until)
    }

    /// Sets the process' time of day off by `ms`.
    pub fn set_wall_off(&self, id: ProcessId, ms: i64) {
        self.process(id, |process| process.wall_off_ms = ms);
    }

    pub fn wall_off(&self, id: ProcessId) -> i64 {
        self.process(id, |process| process.wall_off_ms)
    }

    /// One step of a process, after which it may be dead, or wake much later. `false`: dead.
    pub fn live(&self, id: ProcessId) -> bool {
        let (dies, freezes) = self.process(id, |process| {
            let dies = match &mut process.dies_in {
                Some(0) => true,
                Some(left) => {
                    *left -= 1;
                    false
                }
                None => false,
            };
            let freezes = match &mut process.freezes_in {
                Some((0, ms)) => Some(*ms),
                Some((left, _)) => {
                    *left -= 1;
                    None
                }
                None => None,
            };
            if dies {
                process.dies_in = None;
            }
            if freezes.is_some() {
                process.freezes_in = None;
            }
            (dies, freezes)
        });
        if self.is_dead(id) {
            return false;
        }
        if dies {
            self.kill(id);
            return false;
        }
        if let Some(ms) = freezes {
            self.freeze(id, ms);
        }
        if let Some(until) = self.frozen_until(id) {
            self.wait_until(until);
            self.note(|| format!("process {id} goes on"));
        }
        !self.is_dead(id)
    }
}
