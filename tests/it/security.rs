//! docs/security.md promises a test for each attack: each that it names is there.

use std::path::Path;

use doorward::metrics::Metrics;
use regex::Regex;

use crate::owner::{Broker, Pages, case, expired_token, token};
use doorward::engine::output::RecipientPart;

fn sources(folder: &Path, into: &mut String) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|end| end == "rs") {
            into.push_str(&std::fs::read_to_string(&path).expect("text"));
        }
    }
}

#[test]
fn every_test_that_the_page_about_attacks_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/security.md")).expect("the page");
    let rows = page.lines().filter(|line| line.starts_with("| "));
    let rows: Vec<&str> = rows.skip(1).collect();
    assert!(rows.len() > 20, "{}", rows.len());
    let mut code = String::new();
    sources(&root.join("tests"), &mut code);
    sources(&root.join("src"), &mut code);
    let name = Regex::new("`([a-z0-9_]{12,})`").expect("a pattern");
    for row in rows {
        let tests = row.rsplit('|').nth(1).expect("a column of tests");
        let named: Vec<&str> = name
            .captures_iter(tests)
            .map(|found| found.extract::<1>().1[0])
            .collect();
        assert!(!named.is_empty(), "no test: {row}");
        for test in named {
            let definition = format!("#[test]\nfn {test}()");
            let inner = format!("#[test]\n    fn {test}()");
            assert!(
                code.contains(&definition) || code.contains(&inner),
                "no test is called {test}"
            );
        }
    }
}

/// Everything that is logged at every level while links are opened, pressed and refused.
#[derive(Clone, Default)]
struct Log(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn tokens_stand_in_no_log_no_metric_and_no_topic() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter("doorward=trace")
        .with_writer(move || writer.clone())
        .finish();
    // Other tests of this process log too, and none of them holds these tokens.
    tracing::subscriber::set_global_default(subscriber).expect("the only one that listens");
    let broker = Broker::start();
    let metrics = std::sync::Arc::new(Metrics::new());
    let pages = Pages::start_counted(&broker, std::sync::Arc::clone(&metrics));
    broker.write_case(&case("open"));
    pages.wait_for_case(&case("open"));
    let good = token(&broker.config, &case("open"), RecipientPart::Owner);
    let expired = expired_token(&broker.config, &case("open"));
    let forged = good.replacen("v4.local.", "v4.local.A", 1);
    for token in [&good, &expired, &forged] {
        pages.get(&format!("/c/{token}"));
        pages.get(&format!("/c/{token}/status?answer=me"));
        for answer in ["me", "not-me", "rotate-keys", "cancel-recovery", "resend"] {
            pages.post(&format!("/c/{token}/{answer}"), &[("version", "1")]);
        }
    }
    let logged = String::from_utf8_lossy(&log.0.lock().expect("no panic")).into_owned();
    let counted = metrics.text();
    let written: Vec<String> = broker
        .wait_for(&broker.config.topics.events, 2)
        .iter()
        .map(|stored| String::from_utf8_lossy(&stored.payload).into_owned())
        .collect();
    assert!(counted.contains("doorward_links_total"), "{counted}");
    for token in [&good, &expired, &forged] {
        // Its middle, wherever it is cut.
        let part = &token[30..60];
        assert!(!logged.contains(part), "{logged}");
        assert!(!counted.contains(part) && !written.iter().any(|event| event.contains(part)));
    }
}
