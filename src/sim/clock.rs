//! The clocks of a simulated process.

use std::cell::RefCell;
use std::time::Duration;

use super::client::millis;
use super::world::{ProcessId, World};
use crate::clock::Clock;
use crate::event::Timestamp;

thread_local! {
    // A clock must be `Send`, because a shard's parts are made on another thread than its
    // own; a world is not. It stays on one thread, so the clock finds it there.
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

/// Makes `world` the one that the clocks of this thread show, until the guard is dropped.
pub fn show(world: &World) -> Shown {
    WORLD.set(Some(world.clone()));
    Shown(())
}

/// While it lives, clocks show a world's time.
#[must_use]
pub struct Shown(());

impl Drop for Shown {
    fn drop(&mut self) {
        WORLD.set(None);
    }
}

/// A process' clocks: one that never goes back, and one that can be set wrong.
#[derive(Clone, Copy, Debug)]
pub struct SimClock {
    process: ProcessId,
}

impl SimClock {
    pub fn of(process: ProcessId) -> SimClock {
        SimClock { process }
    }
}

fn with<R: Default>(read: impl FnOnce(&World) -> R) -> R {
    let world = WORLD.with_borrow(Clone::clone);
    world.as_ref().map(read).unwrap_or_default()
}

impl Clock for SimClock {
    fn monotonic(&self) -> Duration {
        with(|world| Duration::from_millis(world.elapsed()))
    }

    fn wall(&self) -> Timestamp {
        with(|world| world.time().plus_ms(world.wall_off(self.process)))
    }

    fn sleep(&self, pause: Duration) {
        with(|world| {
            if !world.is_dead(self.process) {
                world.wait(millis(pause));
            }
        });
    }
}
