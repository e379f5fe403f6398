//! A Kafka cluster in memory, and everything that can go wrong on it.
//!
//! The shard, the protocols of reading and committing, and the mailer run on it as they run
//! on a real cluster, single-threaded: one seed, one history. The model is made of what
//! brokers and the client library are known to do, and of what they are known to get wrong:
//! markers that land late and each at its own time, offsets that are not stable yet, commits
//! that nobody answers, requests that arrive when their time is over, members that freeze,
//! coordinators that move.
//!
//! [`topic`], [`group`], [`transaction`] and [`cluster`] are the brokers; `network` is the
//! way to them; [`client`], [`producer`], [`worker`] and `member` are the client library; [`world`] is
//! time. Not modelled: retention and compaction, replicas that disagree (nothing acknowledged
//! is lost), static members, KIP-890, and requests to produce that overtake each other
//! (sequence numbers forbid it).

pub mod client;
pub mod clock;
pub mod cluster;
pub mod group;
mod member;
pub mod network;
pub mod producer;
pub mod topic;
pub mod transaction;
pub mod worker;
pub mod world;
