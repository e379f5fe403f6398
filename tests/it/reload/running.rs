//! The real program on a real broker, and files that change under it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::many_addresses;
use crate::support::doorward::Doorward;
use crate::support::kafka::{self, Cluster, Record};
use crate::support::{PATIENCE, eventually};

fn rules(site: &Doorward) -> PathBuf {
    site.config().parent().expect("a folder").join("rules")
}

/// A site whose rules are these files.
fn site(cluster: &Cluster, files: &[(&str, &str)]) -> Doorward {
    let site = Doorward::new(cluster, "shards = 1\n");
    with_rules(&site, files);
    site.reconfigure("[web]\n", "[rules]\ndir = \"rules\"\n[web]\n");
    site
}

fn with_rules(site: &Doorward, files: &[(&str, &str)]) {
    fs::create_dir(rules(site)).expect("a folder");
    for (name, text) in files {
        write(&rules(site).join(name), text);
    }
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("written");
}

/// Failed sign-ins of `account`, each from another address.
fn fail(cluster: &Cluster, site: &Doorward, account: &str, numbers: std::ops::Range<u32>) {
    for n in numbers {
        let event = json!({
            "id": format!("{account}-{n}"),
            "time": jiff::Timestamp::now().as_millisecond(),
            "type": "login", "outcome": "failure", "account": account,
            "ip": format!("192.0.2.{n}"), "email": format!("{account}@example.org"),
        });
        cluster.produce(
            &site.topic("events"),
            [(account, event.to_string().as_str())],
        );
    }
}

/// The newest decision that acted on `account`.
fn decision(cluster: &Cluster, site: &Doorward, account: &str) -> serde_json::Value {
    eventually(&format!("a decision on {account}"), PATIENCE, || {
        let records = cluster.read_committed(&site.topic("decisions"));
        let mut decisions = records.iter().map(Record::json);
        decisions.rfind(|record| record["account"] == account && record["effect"] == "acted")
    })
}

#[test]
fn rules_14_an_attack_under_way_is_judged_by_the_threshold_that_a_reload_brings() {
    let Some(cluster) = kafka::shared() else {
        return;
    };
    let mut site = site(cluster, &[("many.rule.yaml", &many_addresses(20))]);
    site.create_topics(2);
    site.start();
    site.wait_until_ready();

    fail(cluster, &site, "alice", 1..11);
    site.wait_for_metric(
        "doorward_events_total{outcome=\"failure\",type=\"login\"}",
        "10",
    );
    write(&rules(&site).join("many.rule.yaml"), &many_addresses(5));
    site.wait_for_metric("doorward_rules_reload_total{result=\"loaded\"}", "1");
    fail(cluster, &site, "alice", 11..12);
    let acted = decision(cluster, &site, "alice");
    assert_eq!(acted["value"], 11, "{acted}");
    let rule_set = acted["rule_set"].as_str().expect("a rule set").to_owned();
    site.wait_for_metric(
        &format!("doorward_rules_info{{rule_set=\"{rule_set}\"}}"),
        "1",
    );

    // A mistake keeps the rules that are at work, and so does asking for it.
    write(&rules(&site).join("many.rule.yaml"), &many_addresses(500));
    site.wait_for_metric("doorward_rules_reload_total{result=\"refused\"}", "1");
    let (status, said) = site.readiness();
    assert_eq!(status, 200, "{said}");
    assert!(said.starts_with("ready\nnote: reload: refused: "), "{said}");
    assert!(said.contains("many.rule.yaml:9:"), "{said}");
    site.signal("HUP");
    site.wait_for_metric("doorward_rules_reload_total{result=\"refused\"}", "2");
    let log = site.log();
    assert!(log.contains("the new rules are refused"), "{log}");
    fail(cluster, &site, "bob", 1..6);
    assert_eq!(
        decision(cluster, &site, "bob")["rule_set"],
        rule_set.as_str()
    );

    // SIGHUP takes what is right at once.
    write(&rules(&site).join("many.rule.yaml"), &many_addresses(3));
    site.signal("HUP");
    site.wait_for_metric("doorward_rules_reload_total{result=\"loaded\"}", "2");
    fail(cluster, &site, "carol", 1..4);
    let acted = decision(cluster, &site, "carol");
    assert_eq!(acted["value"], 3, "{acted}");
    assert_ne!(acted["rule_set"], rule_set.as_str());
    assert_eq!(site.readiness(), (200, "ready\n".to_owned()));
    assert!(site.terminate().success());
}

#[test]
fn rules_14_two_instances_with_two_rule_sets_for_a_while_lose_no_window() {
    let Some(cluster) = kafka::shared() else {
        return;
    };
    let mut old = site(cluster, &[("many.rule.yaml", &many_addresses(5))]);
    old.create_topics(1);
    let mut new = old.sibling("two", &cluster.bootstrap());
    let other = many_addresses(60).replace("id: many", "id: other");
    with_rules(&new, &[("other.rule.yaml", &other)]);

    old.start();
    old.wait_until_ready();
    fail(cluster, &old, "alice", 1..4);
    old.wait_for_metric(
        "doorward_events_total{outcome=\"failure\",type=\"login\"}",
        "3",
    );
    assert!(old.terminate().success());

    // The other one has the partition for a while, writes the account, and knows no such rule.
    new.start();
    new.wait_until_ready();
    fail(cluster, &old, "alice", 4..5);
    new.wait_for_metric(
        "doorward_events_total{outcome=\"failure\",type=\"login\"}",
        "1",
    );
    assert!(new.terminate().success());

    old.start();
    old.wait_until_ready();
    fail(cluster, &old, "alice", 5..7);
    let acted = decision(cluster, &old, "alice");
    assert_eq!(acted["value"], 5, "three before, two after: {acted}");
    assert!(old.terminate().success());
}
