//! How much memory what can be forgotten takes, and what goes first (docs/rules.md 15).
//!
//! Every account with a box stands in one queue, by what forgetting it would cost; within a
//! queue the longest unchanged is first. When room must be made, the queue that takes most
//! loses its first: so a flood pushes out itself, whatever it consists of, and not the few
//! that stand in other queues. Entering, moving and leaving take the same few steps however
//! many accounts there are, so that no event waits for a search.

use super::StateKey;
use super::account::Account;

/// Bytes of a node, and of a place in the map at its worst load.
const NODE_BYTES: usize = size_of::<Node>();
const PLACE_BYTES: usize = 94;

/// What forgetting an account would cost: how many entries stand in its fullest window, and
/// whether it knows a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rank(u8);

/// From this many entries on, more make no difference.
const MOST_ENTRIES: u8 = 4;
const RANKS: usize = 2 * (MOST_ENTRIES as usize + 1) + 1;

impl Rank {
    /// Nothing of it may be forgotten: an open or closed case, a change of address, or
    /// nothing but places.
    const KEPT: Rank = Rank(RANKS as u8 - 1);
    const FREE: Rank = Rank(u8::MAX);

    fn of(account: &Account) -> Rank {
        let Some(rest) = &account.rest else {
            return Rank::KEPT;
        };
        let known = account.has_learned();
        if rest.is_kept() || known && !rest.rules.iter().any(|state| state.is_forgettable()) {
            return Rank::KEPT;
        }
        let entries = rest.rules.iter().map(|state| {
            let counted = state.entries.iter().filter(|entry| !entry.is_break);
            // A rule that acted lately is worth as much as a full window.
            match state.last_acted.0 {
                0 => counted.take(usize::from(MOST_ENTRIES)).count() as u8,
                _ => MOST_ENTRIES,
            }
        });
        Rank(entries.max().unwrap_or(0) + u8::from(known) * (MOST_ENTRIES + 1))
    }

    /// Accounts that know a place have real owners: four times as much room is theirs.
    fn weigh(self, bytes: usize) -> usize {
        match self.0 <= MOST_ENTRIES {
            true => bytes.saturating_mul(4),
            false => bytes,
        }
    }
}

/// Where an account stands in its queue. It says nothing of the account, so that two
/// accounts that differ in it alone hold the same.
#[derive(Clone, Copy, Debug, Default)]
pub struct Slot(Option<std::num::NonZeroU32>);

impl PartialEq for Slot {
    fn eq(&self, _: &Slot) -> bool {
        true
    }
}

/// What an account weighs.
#[derive(Clone, Copy, Debug)]
pub struct Weight {
    heap: usize,
    forgettable: usize,
    rank: Rank,
    slot: Slot,
}

impl Weight {
    /// Of an account without a box.
    pub const NONE: Weight = Weight {
        heap: 0,
        forgettable: 0,
        rank: Rank::KEPT,
        slot: Slot(None),
    };

    pub fn of(account: &Account) -> Weight {
        let Some(rest) = &account.rest else {
            return Weight::NONE;
        };
        let rank = Rank::of(account);
        let heap = account.heap_bytes() + NODE_BYTES;
        let forgettable = match (rank, account.has_learned()) {
            (Rank::KEPT, _) => 0,
            (_, true) => heap,
            (_, false) => heap + PLACE_BYTES,
        };
        Weight {
            heap,
            forgettable,
            rank,
            slot: rest.slot,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Node {
    key: StateKey,
    /// Neighbours in the queue, or the next free node. Zero is none: node 0 is never used.
    before: u32,
    after: u32,
    rank: Rank,
}

#[derive(Clone, Copy, Debug, Default)]
struct Queue {
    first: u32,
    last: u32,
    /// Bytes that forgetting all of it would give back.
    forgettable: usize,
}

/// The queues of one partition, and the sum of what stands in them.
#[derive(Debug)]
pub struct Room {
    nodes: Vec<Node>,
    queues: [Queue; RANKS],
    free: u32,
    /// Nodes that are not free.
    used: usize,
    heap: usize,
    forgettable: usize,
    /// The node that is looked at next.
    looked_at: usize,
}

impl Default for Room {
    fn default() -> Self {
        let unused = Node {
            key: StateKey([0; 16]),
            before: 0,
            after: 0,
            rank: Rank::FREE,
        };
        Room {
            nodes: vec![unused],
            queues: [Queue::default(); RANKS],
            free: 0,
            used: 0,
            heap: 0,
            forgettable: 0,
            looked_at: 1,
        }
    }
}

impl Room {
    /// Bytes that hang on accounts, their nodes included.
    pub fn bytes(&self) -> usize {
        // Nodes in use are counted with their accounts.
        self.heap + (self.nodes.capacity() - self.used) * NODE_BYTES
    }

    /// Bytes that [`Self::victim`]s can give back.
    pub fn forgettable(&self) -> usize {
        self.forgettable
    }

    /// Calls of [`Self::look`] that make one round.
    pub fn round(&self) -> usize {
        self.nodes.len() - 1
    }

    /// Takes note of what `account` weighs after something was done to it; `before` is what
    /// it weighed. `changed`: it moves behind those that have not changed since.
    pub fn settle(&mut self, account: &mut Account, before: Weight, changed: bool) {
        if let Some(rest) = account.rest.as_mut() {
            // What was done may have put another box in the place of the first.
            rest.slot = before.slot;
        }
        let after = Weight::of(account);
        self.heap = self.heap + after.heap - before.heap;
        self.weigh_out(before);
        self.forgettable += after.forgettable;
        self.queues[usize::from(after.rank.0)].forgettable += after.forgettable;
        match (account.rest.as_mut(), before.slot.0) {
            (None, None) => {}
            (None, Some(slot)) => self.leave(slot.get()),
            (Some(rest), None) => rest.slot = self.enter(account.key, after.rank),
            (Some(_), Some(slot)) => {
                if changed || after.rank != before.rank {
                    self.unlink(slot.get());
                    self.link(slot.get(), after.rank);
                }
            }
        }
    }

    /// Forgets an account that was taken out of the map.
    pub fn removed(&mut self, weight: Weight) {
        self.heap -= weight.heap;
        self.weigh_out(weight);
        if let Some(slot) = weight.slot.0 {
            self.leave(slot.get());
        }
    }

    /// The account to forget next.
    pub fn victim(&self) -> Option<StateKey> {
        let largest = (0..Rank::KEPT.0).max_by_key(|rank| {
            let bytes = self.queues[usize::from(*rank)].forgettable;
            (Rank(*rank).weigh(bytes), std::cmp::Reverse(*rank))
        })?;
        match self.queues[usize::from(largest)].first {
            0 => None,
            first => Some(self.nodes[first as usize].key),
        }
    }

    /// The next account to look at on a round over all that have a box; `None` for a node
    /// that is free at the moment.
    pub fn look(&mut self) -> Option<StateKey> {
        if self.looked_at >= self.nodes.len() {
            self.looked_at = 1;
        }
        let node = self.nodes.get(self.looked_at)?;
        self.looked_at += 1;
        (node.rank != Rank::FREE).then_some(node.key)
    }

    fn weigh_out(&mut self, weight: Weight) {
        self.forgettable -= weight.forgettable;
        self.queues[usize::from(weight.rank.0)].forgettable -= weight.forgettable;
    }

    fn enter(&mut self, key: StateKey, rank: Rank) -> Slot {
        let node = Node {
            key,
            before: 0,
            after: 0,
            rank: Rank::FREE,
        };
        let at = match self.free {
            0 => {
                self.nodes.push(node);
                self.nodes.len() as u32 - 1
            }
            free => {
                self.free = self.nodes[free as usize].after;
                self.nodes[free as usize] = node;
                free
            }
        };
        self.used += 1;
        self.link(at, rank);
        Slot(std::num::NonZeroU32::new(at))
    }

    fn leave(&mut self, at: u32) {
        self.unlink(at);
        let node = &mut self.nodes[at as usize];
        node.rank = Rank::FREE;
        node.after = self.free;
        self.free = at;
        self.used -= 1;
    }

    fn link(&mut self, at: u32, rank: Rank) {
        let ends = &mut self.queues[usize::from(rank.0)];
        let last = std::mem::replace(&mut ends.last, at);
        match last {
            0 => ends.first = at,
            last => self.nodes[last as usize].after = at,
        }
        let node = &mut self.nodes[at as usize];
        node.before = last;
        node.after = 0;
        node.rank = rank;
    }

    fn unlink(&mut self, at: u32) {
        let node = self.nodes[at as usize];
        let ends = &mut self.queues[usize::from(node.rank.0)];
        match node.before {
            0 => ends.first = node.after,
            before => self.nodes[before as usize].after = node.after,
        }
        match node.after {
            0 => ends.last = node.before,
            after => self.nodes[after as usize].before = node.before,
        }
    }
}
