//! What only many events together show: ids that come twice, accounts on two partitions, one
//! address before everybody.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

use super::{Finding, Place, Record, Tally, Weight, counted, finding, place};
use crate::event::{Event, KnownType, Timestamp};

/// Types of the pipeline's own that are counted.
pub const MAX_TYPES: usize = 256;
/// Accounts, ids and addresses that are remembered of each; what comes later is not.
const MAX_REMEMBERED: usize = 1_000_000;
/// So many sign-ins of so many accounts must be seen before one address is suspicious …
const ENOUGH_SIGNINS: u64 = 50;
const ENOUGH_ACCOUNTS: u64 = 20;
/// … which more than one in so many of them bear.
const SUSPICIOUS_SHARE: u64 = 2;

/// What is remembered, as hashes: a hundred-thousandth chance of one false alarm in a
/// million ids.
#[derive(Default)]
pub struct Whole {
    hasher: RandomState,
    /// The partition on which each account was first seen.
    accounts: HashMap<u64, i32>,
    accounts_seen: u64,
    scattered: Tally,
    /// The time of each id.
    ids: HashMap<u64, Timestamp>,
    repeated: Tally,
    conflicting: Tally,
    /// Sign-ins by address.
    addresses: HashMap<IpAddr, (u64, Place)>,
    signins: u64,
}

impl Whole {
    pub fn note(&mut self, record: &Record<'_>, event: &Event<'_>) {
        let here = || place(record, Some(event));
        let partition = record.source.partition;
        if let Some(account) = &event.account {
            let hash = self.hasher.hash_one(account.as_bytes());
            match self.accounts.get(&hash) {
                Some(first) => self.scattered.note(*first != partition, here),
                None => {
                    self.accounts_seen += 1;
                    self.scattered.note(false, here);
                    if self.accounts.len() < MAX_REMEMBERED {
                        self.accounts.insert(hash, partition);
                    }
                }
            }
        }
        let hash = self.hasher.hash_one(event.id.as_bytes());
        match self.ids.get(&hash) {
            Some(time) => {
                let conflicts = *time != event.time;
                self.repeated.note(!conflicts, here);
                self.conflicting.note(conflicts, here);
            }
            None => {
                self.repeated.note(false, here);
                self.conflicting.note(false, here);
                if self.ids.len() < MAX_REMEMBERED {
                    self.ids.insert(hash, event.time);
                }
            }
        }
        if let (Some(KnownType::Login), Some(ip)) = (event.kind.known(), event.ip) {
            self.signins += 1;
            if let Some((count, _)) = self.addresses.get_mut(&ip) {
                *count += 1;
            } else if self.addresses.len() < MAX_REMEMBERED {
                self.addresses.insert(ip, (1, here()));
            }
        }
    }

    /// Different ones, up to as many as are remembered; each event of a later one counts.
    pub fn accounts(&self) -> u64 {
        self.accounts_seen
    }

    pub fn report(
        &self,
        types: &BTreeMap<String, BTreeMap<&'static str, u64>>,
        findings: &mut Vec<Finding>,
    ) {
        let mut say = |id, weight, tally: &Tally, text: &str| {
            if tally.count > 0 {
                let text = text.replace("{n}", &counted(tally.count, "event"));
                findings.push(finding(id, weight, text, tally, tally.of));
            }
        };
        say(
            "scattered",
            Weight::Must,
            &self.scattered,
            "on another partition than earlier ones of their account: {n}. Either producers \
             that disagree about the key or the partitioner (librdkafka's default is not Java's; \
             set partitioner=murmur2_random), or a topic that was given more partitions",
        );
        say(
            "id_conflict",
            Weight::Must,
            &self.conflicting,
            "with the id of another event and another time: {n}. An id must be the \
             pipeline's own, and new for every event",
        );
        say(
            "repeated",
            Weight::Note,
            &self.repeated,
            "with the id and the time of an earlier one: {n}. They count once",
        );
        self.one_address(findings);
        unknown_types(types, findings);
    }

    fn one_address(&self, findings: &mut Vec<Finding>) {
        if self.signins < ENOUGH_SIGNINS || self.accounts_seen < ENOUGH_ACCOUNTS {
            return;
        }
        let most = self.addresses.values().max_by_key(|(count, _)| *count);
        let Some((count, first)) = most else { return };
        if count * SUSPICIOUS_SHARE <= self.signins {
            return;
        }
        findings.push(Finding {
            id: "one_address",
            weight: Weight::Must,
            text: format!(
                "{count} of {} sign-ins come from one address: probably a proxy's or load \
                 balancer's, where the client's is needed",
                self.signins
            ),
            count: *count,
            of: self.signins,
            example: Some(first.clone()),
        });
    }
}

fn unknown_types(
    types: &BTreeMap<String, BTreeMap<&'static str, u64>>,
    findings: &mut Vec<Finding>,
) {
    for (kind, outcomes) in types {
        if KnownType::parse(kind).is_some() {
            continue;
        }
        let known = KnownType::ALL.iter().map(|known| known.as_str());
        let near = known
            .map(|known| (strsim::normalized_damerau_levenshtein(known, kind), known))
            .filter(|(likeness, _)| *likeness >= 0.6)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let count: u64 = outcomes.values().sum();
        let shown = kind.escape_debug();
        let (weight, text) = match near {
            Some((_, near)) => (
                Weight::Must,
                format!(
                    "{} of the type `{shown}`: is `{near}` meant?",
                    counted(count, "event")
                ),
            ),
            None => (
                Weight::Note,
                format!(
                    "{} of the type `{shown}`, which rules of yours can use and doorward's own do \
                     not",
                    counted(count, "event")
                ),
            ),
        };
        findings.push(Finding {
            id: "unknown_type",
            weight,
            text,
            count,
            of: count,
            example: None,
        });
    }
}
