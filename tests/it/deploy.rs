//! What `deploy/` ships for operations is right about this version of doorward.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::service;
use crate::watch::busy_metrics;

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("deploy")
        .join(name)
}

#[test]
fn alerts_are_valid_and_each_fires_when_what_it_watches_goes_wrong() {
    let Some(promtool) = service("DOORWARD_PROMTOOL") else {
        return;
    };
    for arguments in [
        ["check", "rules", "alerts.yml"],
        ["test", "rules", "alerts.test.yml"],
        ["test", "rules", "alerts-days.test.yml"],
    ] {
        let output = Command::new(&promtool)
            .args(arguments)
            .current_dir(shipped(""))
            .output()
            .expect("promtool starts");
        assert!(
            output.status.success(),
            "promtool {arguments:?}:\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn alerts_name_only_metrics_that_exist() {
    let metrics = busy_metrics().text();
    let existing: BTreeSet<&str> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let alerts = std::fs::read_to_string(shipped("alerts.yml")).expect("alerts.yml");
    let named = names_in(&alerts);
    assert!(named.len() > 10, "{named:?}");
    let unknown: Vec<_> = named
        .iter()
        .filter(|name| !existing.contains(*name))
        .collect();
    assert!(unknown.is_empty(), "no such metrics: {unknown:?}");
}

/// The metrics that `text` names, histograms by their own name.
fn names_in(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("doorward_"))
        .map(|word| {
            ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|part| word.strip_suffix(part))
                .unwrap_or(word)
        })
        .collect()
}
