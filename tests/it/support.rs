//! What tests share: real services, child processes, and waiting without sleeping.
//!
//! Owns everything that a test starts outside its own process, and ends it again.

#![allow(dead_code, reason = "helpers are used by some tests and not by others")]

// The paths are said, since a benchmark includes this file from another folder.
#[path = "support/browser.rs"]
pub mod browser;
#[path = "support/doorward.rs"]
pub mod doorward;
#[path = "support/kafka.rs"]
pub mod kafka;
#[path = "support/mmdb.rs"]
pub mod mmdb;
#[path = "support/oracle.rs"]
pub mod oracle;
#[path = "support/owners.rs"]
pub mod owners;
#[path = "support/process.rs"]
pub mod process;
#[path = "support/proxy.rs"]
pub mod proxy;
#[path = "support/scripted.rs"]
pub mod scripted;
#[path = "support/smtp.rs"]
pub mod smtp;
#[path = "support/stage.rs"]
pub mod stage;
#[path = "support/story.rs"]
pub mod story;
#[path = "support/traffic.rs"]
pub mod traffic;
#[path = "support/yaml.rs"]
pub mod yaml;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long a test waits for something that takes milliseconds when all is well. It is
/// long, since a loaded machine is slow and only a failing test waits it out.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What the environment names for tests, as a message calls it.
const SERVICES: [(&str, &str); 8] = [
    ("DOORWARD_CHROMIUM", "the Chromium browser"),
    ("DOORWARD_KAFKA_LIB", "the jars of a Kafka broker"),
    ("DOORWARD_SMTP_NODE", "node and its smtp-server package"),
    ("DOORWARD_PROMTOOL", "promtool"),
    ("DOORWARD_PYTHON_LIB", "a Kafka client for Python"),
    ("DOORWARD_GO_CACHE", "a Kafka client for Go"),
    ("DOORWARD_CHROMEDRIVER", "Chromium and its driver"),
    ("DOORWARD_AXE", "axe-core"),
];

/// The service that the environment variable `variable` names, or `None`, with a printed
/// line, where it is not set.
///
/// # Panics
/// Where `DOORWARD_REQUIRE_SERVICES=1` and the variable is not set, or it names nothing
/// that exists: a service test that silently does not run proves nothing.
#[track_caller]
pub fn service(variable: &str) -> Option<PathBuf> {
    let (_, what) = SERVICES
        .iter()
        .find(|(name, _)| *name == variable)
        .unwrap_or_else(|| panic!("{variable} is not in the list of services"));
    match std::env::var_os(variable).filter(|value| !value.is_empty()) {
        Some(value) => {
            let path = PathBuf::from(value);
            assert!(
                path.exists(),
                "{variable} names {}, which does not exist; `make services` installs {what}",
                path.display()
            );
            Some(path)
        }
        None => {
            assert!(
                std::env::var("DOORWARD_REQUIRE_SERVICES").as_deref() != Ok("1"),
                "{variable} is not set, and DOORWARD_REQUIRE_SERVICES=1 asks for {what}; \
                 run `make test-services`"
            );
            say_once(&format!(
                "tests skipped for want of {what}: {variable} is not set \
                 (`make test-services` sets it)"
            ));
            None
        }
    }
}

/// Prints a line once a run, past the test harness, which shows a passing test's own
/// output to nobody.
fn say_once(line: &str) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    if SAID
        .lock()
        .is_ok_and(|mut said| said.insert(line.to_owned()))
    {
        // Where standard error is closed there is nobody to tell.
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

/// What `look` finds, as soon as it finds it.
///
/// # Panics
/// Where it has found nothing after `patience`; `what` says what was waited for.
#[track_caller]
pub fn eventually<T>(what: &str, patience: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    // Short at first, since most things are there at once; longer later, since what is
    // waited for needs the processor too.
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "waited {patience:?} in vain for {what}"
        );
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
