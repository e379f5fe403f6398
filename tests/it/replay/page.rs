//! The report as a page: complete in itself, and safe whatever the events hold.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::threads::traffic;
use super::{doorward, ndjson};
use crate::support::story;

fn page(args: &[&str], events: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let html = folder.path().join("report.html");
    let all = [&["replay", "--html", html.to_str().unwrap()], args].concat();
    let output = doorward(&all, events);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    std::fs::read_to_string(html).unwrap()
}

#[test]
fn the_page_loads_nothing_and_holds_everything() {
    let html = page(&["-"], &traffic(5, 3_000));
    for outside in [
        "http://", "https://", "<link", "<img", "src=", "@import", "url(",
    ] {
        assert!(!html.contains(outside), "{outside}");
    }
    for part in [
        "<h1>Whom would these rules have locked?</h1>",
        "What could not be judged",
        "Locks over time",
        "Rule by rule",
        "<h2 id=\"countries\">Countries</h2>",
        "Accounts hit most",
        "All ",
        "sha256:",
        "default-src &#39;none&#39;; style-src &#39;sha256-",
    ] {
        assert!(html.contains(part), "{part}");
    }
    // The same report, byte for byte.
    assert_eq!(html, page(&["--threads", "3", "-"], &traffic(5, 3_000)));
}

#[test]
fn hostile_text_in_events_stays_text() {
    let hostile = [
        "</script><script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "</td></table><h1>owned</h1>",
        "a\u{202e}gnp.exe",
        "' onmouseover='alert(1)",
        "{{ 7*7 }}",
    ];
    let events: Vec<_> = hostile
        .iter()
        .enumerate()
        .map(|(at, text)| {
            json!({ "id": text, "type": "password_reset", "outcome": "requested",
                    "time": story::START + at as i64, "account": text, "ip": story::MALICIOUS,
                    "user_agent": text })
        })
        .collect();
    let html = page(&["-"], &ndjson(&events));
    assert_eq!(html.matches("<script>").count(), 1);
    assert_eq!(html.matches("<h1>").count(), 1);
    assert!(!html.contains("<img"));
    assert!(!html.contains("' onmouseover='"));
    assert!(!html.contains('\u{202e}'));
    assert!(html.contains("a\\u{202e}gnp.exe"));
    assert!(html.contains("&#60;/script&#62;&#60;script&#62;alert(1)"));
}

#[test]
fn a_page_of_very_many_decisions_stays_small_and_says_so() {
    let events: Vec<_> = (0..5_000)
        .map(|n| {
            json!({ "id": n.to_string(), "type": "password_reset", "outcome": "requested",
                    "time": story::START + n * 60_000, "account": format!("u-{n}"),
                    "ip": story::MALICIOUS })
        })
        .collect();
    let html = page(&["-"], &ndjson(&events));
    assert!(html.len() < 3_000_000, "{}", html.len());
    assert!(html.contains("of 5,000 decisions are listed: the first 200 of each rule and effect"));
}

#[test]
fn a_place_where_nothing_can_be_written_is_named_before_the_work() {
    let output = doorward(
        &["replay", "--html", "no-such-folder/report.html", "-"],
        b"",
    );
    assert_eq!(output.status.code(), Some(2));
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(
        words.contains("cannot write no-such-folder/report.html"),
        "{words}"
    );
}

/// A real browser shows the page from a `file:` address: its script runs under its own
/// policy, and nothing of the events runs.
#[test]
fn a_browser_shows_it_and_filters() {
    let Some(chromium) = crate::support::service("DOORWARD_CHROMIUM") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.html");
    let mut events = traffic(6, 3_000);
    events.extend(ndjson(&[
        json!({ "id": "x", "type": "password_reset", "outcome": "requested",
        "time": story::START + 86_400_000, "account": "<script>document.title='owned'</script>",
        "ip": story::MALICIOUS }),
    ]));
    std::fs::write(&path, page(&["-"], &events)).unwrap();
    let dom = shown(
        &chromium,
        folder.path(),
        &format!("file://{}", path.display()),
    );
    assert!(
        dom.contains("<title>Whom would these rules have locked?"),
        "{dom}"
    );
    // The script has shown the filter and counted the rows; the style is at work.
    assert!(
        dom.contains("aria-live=\"polite\">"),
        "no filter in {} bytes",
        dom.len()
    );
    assert!(
        !dom.contains("aria-label=\"Filter\" hidden"),
        "the script did not run"
    );
    assert!(
        dom.contains(" rows shown</output>"),
        "the rows were not counted"
    );
}

/// The page's elements after its script has run.
fn shown(chromium: &Path, folder: &Path, url: &str) -> String {
    let output = Command::new(chromium)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"])
        .arg(format!(
            "--user-data-dir={}",
            folder.join("profile").display()
        ))
        .arg(url)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}
