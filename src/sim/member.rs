//! The background thread of a consumer: joins the group, keeps its session alive, and brings
//! what the group decides.
//!
//! It works whatever the application does, save while the process stands still; but a step
//! of a rebalance that the application was shown waits for the application's answer before
//! the member joins again.

use std::collections::{BTreeSet, VecDeque};

use super::group::{Beat, SimMembership};
use super::world::{ActorId, ProcessId, World};
use crate::log::client::Rebalance;

/// Between two heartbeats.
const HEARTBEAT_MS: u64 = 3_000;
/// Between two tries while the coordinator is away.
const TRY_MS: u64 = 200;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Out,
    Joining,
    Stable,
}

/// One consumer, as its client library keeps it.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) process: ProcessId,
    actor: ActorId,
    phase: Phase,
    membership: Option<SimMembership>,
    owned: BTreeSet<i32>,
    /// Steps that the application has not been shown.
    arrived: VecDeque<Rebalance>,
    /// Steps that it has not answered, shown or not.
    unanswered: usize,
    /// Expelled while a step was unanswered: that comes first.
    expelled: bool,
    pub(super) lost: bool,
    rejoin: bool,
    pub(super) left: bool,
    /// When the coordinator last knew this member.
    known_at: u64,
    due: u64,
    /// When the application looks for records again, where it found none.
    pub(super) resume_at: Option<u64>,
}

/// All consumers.
#[derive(Debug, Default)]
pub(super) struct Members(pub(super) Vec<Member>);

impl Members {
    /// Actors that read.
    pub(super) fn readers(&self) -> Vec<ActorId> {
        let live = self.0.iter().filter(|member| !member.left);
        live.map(|member| member.actor).collect()
    }
}

impl World {
    pub(super) fn add_member(&self, process: ProcessId, actor: ActorId) -> usize {
        let now = self.now();
        let client = {
            let mut members = self.0.members.borrow_mut();
            members.0.push(Member {
                process,
                actor,
                phase: Phase::Out,
                membership: None,
                owned: BTreeSet::new(),
                arrived: VecDeque::new(),
                unanswered: 0,
                expelled: false,
                lost: false,
                rejoin: false,
                left: false,
                known_at: now,
                due: u64::MAX,
                resume_at: None,
            });
            members.0.len() - 1
        };
        self.background_at(client, now + 1);
        client
    }

    pub(super) fn member<R>(&self, client: usize, with: impl FnOnce(&mut Member) -> R) -> R {
        with(&mut self.0.members.borrow_mut().0[client])
    }

    /// When an application that found no records looks again; `None`: at once.
    pub fn resume_at(&self, client: usize) -> Option<u64> {
        self.member(client, |member| member.resume_at.take())
    }

    fn background_at(&self, client: usize, at: u64) {
        self.member(client, |member| member.due = at);
        self.plan(at, super::world::Happening::Background(client));
    }

    /// One look of the background thread.
    pub(super) fn background(&self, client: usize) {
        let now = self.now();
        let (process, left) = self.member(client, |member| (member.process, member.left));
        if left || self.is_dead(process) {
            return;
        }
        if let Some(until) = self.frozen_until(process) {
            return self.background_at(client, until);
        }
        let session_ms = self.cluster(|cluster| cluster.setup.session_ms);
        let away = self.cluster(|cluster| cluster.group_away_until > now);
        if away || self.cut_until(process).is_some() {
            let silent = self.member(client, |member| now - member.known_at > session_ms);
            if silent {
                self.expel(client);
            }
            return self.background_at(client, now + TRY_MS);
        }
        match self.member(client, |member| member.phase) {
            Phase::Out => {
                if self.member(client, |member| member.unanswered == 0) {
                    self.join(client);
                }
            }
            Phase::Joining => self.look_for_assignment(client),
            Phase::Stable => self.heartbeat(client),
        }
    }

    /// As [`Self::background`], unless another look was planned since.
    pub(super) fn background_if_due(&self, client: usize, at: u64) {
        if self.member(client, |member| member.due == at) {
            self.background(client);
        }
    }

    fn join(&self, client: usize) {
        let now = self.now();
        let (known, owned) = self.member(client, |member| {
            let known = member.membership.as_ref().map(|m| m.member.clone());
            (known, member.owned.iter().copied().collect::<Vec<i32>>())
        });
        let id = self.cluster(|cluster| {
            let until = now + cluster.setup.rebalance_ms;
            let id = cluster
                .group
                .join(known.as_deref(), client, &owned, now, until);
            cluster.complete_round(now);
            id
        });
        self.member(client, |member| {
            member.phase = Phase::Joining;
            member.rejoin = false;
            member.known_at = now;
            let generation = member.membership.as_ref().map_or(-1, |m| m.generation);
            member.membership = Some(SimMembership {
                member: id,
                generation,
            });
        });
        self.background_at(client, now + HEARTBEAT_MS);
    }

    fn look_for_assignment(&self, client: usize) {
        let now = self.now();
        let id = self.member(client, |member| {
            member.membership.as_ref().map(|m| m.member.clone())
        });
        let id = id.unwrap_or_default();
        let (known, found) = self.cluster(|cluster| {
            let known = cluster.group.knows(&id);
            (known, cluster.group.assignment(&id))
        });
        if !known {
            return self.expel(client);
        }
        let Some((generation, assigned)) = found else {
            self.member(client, |member| member.known_at = now);
            return self.background_at(client, now + HEARTBEAT_MS);
        };
        self.note(|| {
            let process = self.member(client, |member| member.process);
            format!("process {process}: {id} has {assigned:?} in generation {generation}")
        });
        let actor = self.member(client, |member| {
            member.phase = Phase::Stable;
            member.known_at = now;
            member.membership = Some(SimMembership {
                member: id,
                generation,
            });
            let assigned: BTreeSet<i32> = assigned.into_iter().collect();
            let revoked: Vec<i32> = member.owned.difference(&assigned).copied().collect();
            let added: Vec<i32> = assigned.difference(&member.owned).copied().collect();
            if !revoked.is_empty() {
                member.rejoin = true;
                member.show(Rebalance::Revoked {
                    partitions: revoked,
                    lost: false,
                });
            }
            if !added.is_empty() {
                member.show(Rebalance::Assigned(added));
            }
            member.actor
        });
        self.wake(actor, now + 1);
        self.background_at(client, now + HEARTBEAT_MS);
    }

    fn heartbeat(&self, client: usize) {
        let now = self.now();
        let Some(who) = self.member(client, |member| member.membership.clone()) else {
            return;
        };
        match self.cluster(|cluster| cluster.group.heartbeat(&who, now)) {
            Beat::Expelled => self.expel(client),
            beat => {
                let (rejoin, waits) = self.member(client, |member| {
                    member.known_at = now;
                    let rejoin = member.rejoin || beat == Beat::Rejoin;
                    (rejoin, member.unanswered > 0)
                });
                if rejoin && !waits {
                    self.join(client);
                } else {
                    self.background_at(client, now + HEARTBEAT_MS);
                }
            }
        }
    }

    /// The group goes on without this member: what it owned may be somebody else's already.
    fn expel(&self, client: usize) {
        let now = self.now();
        self.note(|| {
            let process = self.member(client, |member| member.process);
            format!("process {process} hears that the group goes on without it")
        });
        let actor = self.member(client, |member| {
            member.phase = Phase::Out;
            member.membership = None;
            member.rejoin = false;
            member.known_at = now;
            if !member.owned.is_empty() {
                member.lost = true;
            }
            if member.unanswered > 0 {
                member.expelled = true;
            } else {
                member.show_loss();
            }
            member.actor
        });
        self.wake(actor, now + 1);
        self.background_at(client, now + 1);
    }

    /// The application answered a step.
    pub(super) fn answered(&self, client: usize) {
        let now = self.now();
        let act = self.member(client, |member| {
            member.unanswered = member.unanswered.saturating_sub(1);
            if member.unanswered > 0 {
                return false;
            }
            if member.expelled {
                member.expelled = false;
                member.show_loss();
            } else {
                member.lost = false;
            }
            member.unanswered == 0 && (member.rejoin || member.phase == Phase::Out)
        });
        if act {
            self.background_at(client, now + 1);
        }
    }

    /// Leaves the group for good.
    pub(super) fn leave_group(&self, client: usize) {
        let now = self.now();
        let (process, who) = self.member(client, |member| {
            member.left = true;
            (member.process, member.membership.take())
        });
        if let Some(who) = who
            && !self.is_dead(process)
            && self.cut_until(process).is_none()
        {
            self.cluster(|cluster| cluster.leave(&who.member, now));
        }
    }
}

impl Member {
    fn show(&mut self, step: Rebalance) {
        self.unanswered += 1;
        self.arrived.push_back(step);
    }

    fn show_loss(&mut self) {
        if self.owned.is_empty() {
            self.lost = false;
            return;
        }
        let partitions = self.owned.iter().copied().collect();
        self.show(Rebalance::Revoked {
            partitions,
            lost: true,
        });
    }

    pub(super) fn has_arrived(&self) -> bool {
        !self.arrived.is_empty()
    }

    pub(super) fn take_arrived(&mut self) -> VecDeque<Rebalance> {
        std::mem::take(&mut self.arrived)
    }

    pub(super) fn own(&mut self, partitions: &[i32]) {
        self.owned.extend(partitions);
    }

    pub(super) fn owns(&self, partition: i32) -> bool {
        self.owned.contains(&partition)
    }

    pub(super) fn disown(&mut self, partitions: &[i32]) {
        self.owned.retain(|owned| !partitions.contains(owned));
    }

    /// Who this member is; `None` while it is none.
    pub(super) fn membership(&self) -> Option<SimMembership> {
        let known = self.membership.clone();
        known.filter(|who| who.generation >= 0)
    }
}
