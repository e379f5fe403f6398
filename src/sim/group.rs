//! The coordinator of the consumer group: members, generations, assignments, offsets.
//!
//! Classic protocol, cooperative-sticky: a partition that moves is first taken from its
//! owner in one generation and given to the other in the next. The coordinator checks a
//! commit's member and generation, never its partitions, and neither where the member is
//! empty and the generation negative.

use std::collections::{BTreeMap, BTreeSet};

use rdkafka::error::RDKafkaErrorCode;

use super::topic::ProducerId;

/// Who a member was at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimMembership {
    pub member: String,
    pub generation: i32,
}

/// A committed offset and what stands beside it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Committed {
    pub offset: i64,
    pub metadata: String,
}

/// What a heartbeat is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beat {
    Fine,
    /// Others join or leave: join again, keeping what is owned.
    Rejoin,
    /// The coordinator knows no such member, or not of this generation.
    Expelled,
}

#[derive(Clone, Debug, Default)]
struct Member {
    /// Which client it is, to tell it of the round's end.
    client: usize,
    last_seen: u64,
    /// Whether it has joined the round that is under way.
    joined: bool,
    owned: Vec<i32>,
    assigned: Vec<i32>,
}

#[derive(Clone, Debug, Default)]
pub struct Group {
    partitions: i32,
    pub generation: i32,
    members: BTreeMap<String, Member>,
    made: u32,
    /// The end of the round under way, when whoever has not joined is left out.
    joining_until: Option<u64>,
    offsets: BTreeMap<i32, Committed>,
    /// Offsets of transactions whose marker has not come.
    pending: BTreeMap<i64, BTreeMap<i32, Committed>>,
    epochs: BTreeMap<i64, i16>,
}

impl Group {
    pub fn new(partitions: i32) -> Group {
        Group {
            partitions,
            ..Group::default()
        }
    }

    /// Joins, as a new member where `member` is unknown or `None`; the round ends at `until`
    /// at the latest. Returns the member's id.
    pub fn join(
        &mut self,
        member: Option<&str>,
        client: usize,
        owned: &[i32],
        now: u64,
        until: u64,
    ) -> String {
        let id = match member.filter(|id| self.members.contains_key(*id)) {
            Some(id) => id.to_owned(),
            None => {
                self.made += 1;
                format!("member-{}", self.made)
            }
        };
        let entry = self.members.entry(id.clone()).or_default();
        entry.client = client;
        entry.last_seen = now;
        entry.joined = true;
        entry.owned = owned.to_vec();
        self.begin_round(until);
        id
    }

    fn begin_round(&mut self, until: u64) {
        if self.joining_until.is_none() {
            self.joining_until = Some(until);
        }
    }

    /// Ends the round where everybody has joined, or its time is over. Returns the clients
    /// that must be told.
    pub fn try_complete(&mut self, now: u64) -> Vec<usize> {
        let Some(until) = self.joining_until else {
            return Vec::new();
        };
        if now >= until {
            self.members.retain(|_, member| member.joined);
        }
        if self.members.values().any(|member| !member.joined) {
            return Vec::new();
        }
        self.joining_until = None;
        self.generation += 1;
        self.assign();
        for member in self.members.values_mut() {
            member.joined = false;
            member.last_seen = now;
        }
        self.members.values().map(|member| member.client).collect()
    }

    /// As the leader's cooperative-sticky assignor does: everybody keeps what it owns up to
    /// its share; what must move is given to nobody in this generation.
    fn assign(&mut self) {
        let count = i32::try_from(self.members.len()).unwrap_or(i32::MAX);
        if count == 0 {
            return;
        }
        let mut claims: BTreeMap<i32, Vec<&str>> = BTreeMap::new();
        for (id, member) in &self.members {
            for partition in &member.owned {
                claims.entry(*partition).or_default().push(id);
            }
        }
        // Of two that say they own it, neither is believed.
        let owner = |partition: i32| match claims.get(&partition).map(Vec::as_slice) {
            Some([only]) => Some((*only).to_owned()),
            _ => None,
        };
        let owners: BTreeMap<i32, Option<String>> = (0..self.partitions)
            .map(|partition| (partition, owner(partition)))
            .collect();
        let (least, mut extra) = (self.partitions / count, self.partitions % count);
        let mut target: BTreeMap<String, Vec<i32>> = BTreeMap::new();
        let mut room: Vec<(String, i32)> = Vec::new();
        // Whoever owns more than the least share may keep one of the extra ones.
        let mut by_owned: Vec<(&String, &Member)> = self.members.iter().collect();
        by_owned.sort_by_key(|(_, member)| std::cmp::Reverse(member.owned.len()));
        for (id, _) in by_owned {
            let quota = least + i32::from(extra > 0);
            extra -= i32::from(extra > 0);
            let mut kept: Vec<i32> = owners
                .iter()
                .filter(|(_, owner)| owner.as_ref() == Some(id))
                .map(|(partition, _)| *partition)
                .collect();
            kept.truncate(usize::try_from(quota).unwrap_or(0));
            let free = quota - i32::try_from(kept.len()).unwrap_or(0);
            room.push((id.clone(), free));
            target.insert(id.clone(), kept);
        }
        let kept: BTreeSet<i32> = target.values().flatten().copied().collect();
        for (partition, owner) in owners {
            if kept.contains(&partition) {
                continue;
            }
            let Some((id, free)) = room.iter_mut().find(|(_, free)| *free > 0) else {
                continue;
            };
            *free -= 1;
            // Somebody must give it up first, and then join again.
            if owner.is_none()
                && let Some(given) = target.get_mut(id)
            {
                given.push(partition);
            }
        }
        for (id, member) in &mut self.members {
            member.assigned = target.remove(id).unwrap_or_default();
        }
    }

    /// What the member is assigned in the current generation; `None` while it takes part in
    /// a round, or is none.
    pub fn assignment(&self, member: &str) -> Option<(i32, Vec<i32>)> {
        let member = self.members.get(member)?;
        (!member.joined).then(|| (self.generation, member.assigned.clone()))
    }

    pub fn knows(&self, member: &str) -> bool {
        self.members.contains_key(member)
    }

    pub fn heartbeat(&mut self, who: &SimMembership, now: u64) -> Beat {
        let Some(member) = self.members.get_mut(&who.member) else {
            return Beat::Expelled;
        };
        if who.generation != self.generation {
            return Beat::Expelled;
        }
        member.last_seen = now;
        if self.joining_until.is_some() {
            Beat::Rejoin
        } else {
            Beat::Fine
        }
    }

    pub fn leave(&mut self, member: &str, until: u64) {
        if self.members.remove(member).is_some() && !self.members.is_empty() {
            self.begin_round(until);
        }
    }

    /// Throws out whoever was silent for longer than `session_ms`. True where somebody was.
    pub fn expire(&mut self, now: u64, session_ms: u64, until: u64) -> bool {
        let before = self.members.len();
        self.members
            .retain(|_, member| member.joined || now < member.last_seen + session_ms);
        let gone = self.members.len() < before;
        if gone && !self.members.is_empty() {
            self.begin_round(until);
        }
        gone
    }

    /// A coordinator that has just come back begins every session anew.
    pub fn refresh(&mut self, now: u64) {
        for member in self.members.values_mut() {
            member.last_seen = now;
        }
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    fn check(&self, who: &SimMembership) -> Result<(), RDKafkaErrorCode> {
        if who.member.is_empty() && who.generation < 0 {
            // A plain consumer without a group, as the broker sees it.
            return Ok(());
        }
        if !self.members.contains_key(&who.member) {
            return Err(RDKafkaErrorCode::UnknownMemberId);
        }
        if who.generation != self.generation {
            return Err(RDKafkaErrorCode::IllegalGeneration);
        }
        Ok(())
    }

    /// Offsets of an open transaction, which count when its marker comes.
    pub fn offer(
        &mut self,
        producer: ProducerId,
        who: &SimMembership,
        offsets: &[(i32, i64)],
        metadata: &str,
    ) -> Result<(), RDKafkaErrorCode> {
        self.check(who)?;
        let newest = self.epochs.entry(producer.id).or_insert(producer.epoch);
        if producer.epoch < *newest {
            return Err(RDKafkaErrorCode::InvalidProducerEpoch);
        }
        *newest = producer.epoch;
        let pending = self.pending.entry(producer.id).or_default();
        for (partition, offset) in offsets {
            let committed = Committed {
                offset: *offset,
                metadata: metadata.to_owned(),
            };
            pending.insert(*partition, committed);
        }
        Ok(())
    }

    /// The marker that ends the producer's transaction in the offsets topic.
    pub fn end(&mut self, producer: ProducerId, commit: bool) {
        let newest = self.epochs.entry(producer.id).or_insert(producer.epoch);
        if producer.epoch < *newest {
            return;
        }
        *newest = producer.epoch;
        if let Some(pending) = self.pending.remove(&producer.id)
            && commit
        {
            self.offsets.extend(pending);
        }
    }

    pub fn commit_plain(
        &mut self,
        who: &SimMembership,
        offsets: &[(i32, i64)],
        metadata: &str,
    ) -> Result<(), RDKafkaErrorCode> {
        self.check(who)?;
        for (partition, offset) in offsets {
            let committed = Committed {
                offset: *offset,
                metadata: metadata.to_owned(),
            };
            self.offsets.insert(*partition, committed);
        }
        Ok(())
    }

    /// The committed offset; an error while an open transaction holds one.
    pub fn stable(&self, partition: i32) -> Result<Option<Committed>, RDKafkaErrorCode> {
        if self.pending.values().any(|of| of.contains_key(&partition)) {
            return Err(RDKafkaErrorCode::UnstableOffsetCommit);
        }
        Ok(self.offsets.get(&partition).cloned())
    }

    /// The committed offset, whatever is pending.
    pub fn committed(&self, partition: i32) -> Option<Committed> {
        self.offsets.get(&partition).cloned()
    }
}
