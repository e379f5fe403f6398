//! What is left of an account that the pipeline deleted, and what logs and metrics say of
//! people.

use std::collections::BTreeMap;

use super::{failed_login, now_ms};
use crate::support::doorward::Doorward;
use crate::support::kafka::{self, Cluster};
use crate::support::{PATIENCE, eventually};

/// A topic as it is once it was compacted: the last record of each key that is no tombstone.
fn compacted(cluster: &Cluster, topic: &str) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut kept = BTreeMap::new();
    for record in cluster.read_committed(topic) {
        let key = record.key.unwrap_or_default();
        match record.payload {
            Some(payload) => kept.insert(key, payload),
            None => kept.remove(&key),
        };
    }
    kept
}

#[test]
fn a_deleted_account_leaves_nothing_in_the_compacted_topics_and_nobody_stands_in_logs() {
    let Some(cluster) = kafka::shared() else {
        return;
    };
    let mut site = Doorward::new(cluster, "shards = 1\ncommit_every = \"100ms\"");
    site.create_topics(1);
    site.start();
    site.wait_until_ready();
    let events = site.topic("events");
    // One that is deleted while its case is open, and one that stays.
    for (at, account) in ["ada-lovelace", "grace-hopper"].into_iter().enumerate() {
        for n in 0..5 {
            let event = failed_login(&format!("e-{at}-{n}"), account, &format!("203.0.113.{n}"));
            cluster.produce(&events, [(account, event.as_str())]);
        }
    }
    eventually("both cases", PATIENCE, || {
        (compacted(cluster, &site.topic("cases")).len() == 2).then_some(())
    });
    let before = compacted(cluster, &site.topic("state"));
    let deleted = format!(
        r#"{{"id":"gone","type":"account_deleted","time":{},"account":"ada-lovelace"}}"#,
        now_ms()
    );
    cluster.produce(&events, [("ada-lovelace", deleted.as_str())]);
    let cases = eventually("the end of one case", PATIENCE, || {
        let cases = compacted(cluster, &site.topic("cases"));
        (cases.len() == 1).then_some(cases)
    });
    let case = cases.values().next().expect("one case");
    assert!(String::from_utf8_lossy(case).contains("grace-hopper"));
    let after = compacted(cluster, &site.topic("state"));
    assert_eq!(after.len(), before.len() - 1, "one account's state is gone");
    for (key, bytes) in cases.iter().chain(&after) {
        for kept in [key, bytes] {
            let kept = String::from_utf8_lossy(kept);
            assert!(!kept.contains("ada-lovelace"), "{kept:?}");
        }
    }

    let said = site.log() + &site.metrics();
    for personal in ["ada-lovelace", "grace-hopper", "@example.com", "203.0.113."] {
        assert!(
            !said.contains(personal),
            "{personal} is in the log or the metrics"
        );
    }
    assert!(site.terminate().success());
}
