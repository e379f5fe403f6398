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

/// Every text under a key of this name, wherever it stands.
fn texts_of<'j>(json: &'j serde_json::Value, name: &str, into: &mut Vec<&'j str>) {
    match json {
        serde_json::Value::Object(fields) => {
            for (key, value) in fields {
                match value.as_str() {
                    Some(text) if key == name => into.push(text),
                    _ => texts_of(value, name, into),
                }
            }
        }
        serde_json::Value::Array(items) => {
            items.iter().for_each(|item| texts_of(item, name, into));
        }
        _ => {}
    }
}

#[test]
fn the_dashboard_shows_only_what_exists_and_explains_each_panel() {
    let text = std::fs::read_to_string(shipped("dashboard.json")).expect("dashboard.json");
    let dashboard: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let mut queries = Vec::new();
    texts_of(&dashboard, "expr", &mut queries);
    assert!(queries.len() > 30, "{}", queries.len());
    let metrics = busy_metrics().text();
    let existing: BTreeSet<&str> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let alerts = std::fs::read_to_string(shipped("alerts.yml")).expect("alerts.yml");
    for query in &queries {
        let unknown: Vec<_> = names_in(query)
            .into_iter()
            .filter(|name| !existing.contains(name))
            .collect();
        assert!(unknown.is_empty(), "{query}: no such metrics: {unknown:?}");
        if let Some((recorded, _)) = query.split_once('{').filter(|(name, _)| name.contains(':')) {
            assert!(
                alerts.contains(&format!("record: {recorded}\n")),
                "{recorded}"
            );
        }
    }
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(
            ids.insert(panel["id"].as_u64()),
            "two panels are {}",
            panel["id"]
        );
        let place = &panel["gridPos"];
        let end = place["x"].as_u64().zip(place["w"].as_u64());
        assert!(end.is_some_and(|(x, w)| x + w <= 24), "{panel}");
        let about = panel["description"].as_str().unwrap_or_default();
        assert!(
            panel["type"] == "row" || !about.is_empty(),
            "{}",
            panel["title"]
        );
    }
    check_queries(&queries);
}

/// Lets Prometheus' own parser read the queries.
fn check_queries(queries: &[&str]) {
    let Some(promtool) = service("DOORWARD_PROMTOOL") else {
        return;
    };
    let rules: Vec<_> = queries
        .iter()
        .enumerate()
        .map(|(at, query)| {
            let query = query.replace("$__rate_interval", "5m");
            serde_json::json!({ "record": format!("panel:{at}"), "expr": query })
        })
        .collect();
    let file = serde_json::json!({ "groups": [{ "name": "dashboard", "rules": rules }] });
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("dashboard.yml");
    std::fs::write(&path, file.to_string()).expect("a file");
    let output = Command::new(promtool)
        .args(["check", "rules"])
        .arg(&path)
        .output()
        .expect("promtool starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
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
