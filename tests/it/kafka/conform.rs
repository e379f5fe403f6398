//! What a login pipeline's team is told of their events, on a real broker.

use serde_json::{Value, json};

use super::now_ms;
use crate::support::doorward::Doorward;
use crate::support::kafka;

/// Exit status, standard output, standard error.
fn conform(site: &Doorward, args: &[&str]) -> (Option<i32>, String, String) {
    let output = site.command(&[&["conform"], args].concat());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// A sign-in that lacks nothing.
fn login(n: usize) -> Value {
    json!({ "id": format!("e-{n}"), "type": "login", "outcome": "success",
            "time": u64::try_from(now_ms()).expect("a time"), "account": "ada",
            "ip": "192.0.2.7", "country": "NO", "method": "password", "session": "s-1",
            "locale": "en", "user_agent": "Mozilla/5.0", "email": "ada@example.org" })
}

#[test]
fn a_pipelines_team_is_told_what_its_events_lack_and_where_to_look() {
    let Some(cluster) = kafka::shared() else {
        return;
    };
    let site = Doorward::new(cluster, "");
    site.create_topics(2);
    let topic = site.topic("events");
    let (status, said, errors) = conform(&site, &[]);
    assert_eq!(status, Some(0), "{errors}");
    assert!(said.contains("no record of the pipeline's"), "{said}");

    cluster.produce(&topic, [("ada", login(1).to_string().as_str())]);
    let (status, said, errors) = conform(&site, &["--last", "10m"]);
    assert_eq!(status, Some(0), "{said}{errors}");
    assert!(said.ends_with("\nnothing must be mended\n"), "{said}");

    let mut bare = login(2);
    for field in ["session", "email"] {
        bare.as_object_mut().expect("an object").remove(field);
    }
    cluster.produce(&topic, [("not ada", bare.to_string().as_str())]);
    cluster.produce_raw(&topic, Some(0), None, Some(b"{"));
    let (status, said, _) = conform(&site, &[]);
    assert_eq!(status, Some(1), "{said}");
    for words in [
        "Must be mended",
        "no_session\n    1 of 2 successful sign-ins have no `session`",
        "no_email\n    1 of 2 events",
        "wrong_key\n    the message key of 1 of 2 events is not the account",
        "not_json\n    no events, and so in the dead-letter topic: 1 of 3 messages",
        ", event e-2]",
        "Not seen, so not judged",
        "email_changed",
        "scattered\n    on another partition than earlier ones of their account: 1 event.",
        "\n5 things must be mended\n",
    ] {
        assert!(said.contains(words), "{words:?} is not in:\n{said}");
    }
    assert!(
        said.lines().all(|line| line.chars().count() <= 120),
        "{said}"
    );

    let (status, said, _) = conform(&site, &["--output", "json"]);
    assert_eq!(status, Some(1));
    let report: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(report["report"]["events"], 2);
    let findings = report["report"]["findings"].as_array().expect("findings");
    assert!(
        findings
            .iter()
            .any(|f| f["id"] == "no_session" && f["weight"] == "must")
    );
}

#[test]
fn a_topic_whose_clock_is_the_producers_is_told_so() {
    let Some(cluster) = kafka::shared() else {
        return;
    };
    let site = Doorward::new(cluster, "");
    let topic = site.topic("events");
    cluster.create_topic(&topic, 2, &[("message.timestamp.type", "CreateTime")]);
    site.create_topics(2);
    cluster.produce(&topic, [("ada", login(1).to_string().as_str())]);
    let (status, said, errors) = conform(&site, &[]);
    assert_eq!(status, Some(0), "{said}{errors}");
    assert!(
        said.contains("message.timestamp.type is `CreateTime`"),
        "{said}"
    );
    assert!(said.contains("create_time\n"), "{said}");
}

#[test]
fn a_scenario_is_played_only_where_it_is_meant_and_shows_that_the_service_locks() {
    let Some(cluster) = kafka::shared() else {
        return;
    };
    let mut site = Doorward::new(cluster, "shards = 1");
    site.create_topics(2);
    let topic = site.topic("events");
    let (status, _, errors) = conform(&site, &["--play", "auth.events"]);
    assert_eq!(status, Some(2), "{errors}");
    assert!(errors.contains("nothing was played"), "{errors}");
    assert!(cluster.read_committed(&topic).is_empty());

    site.start();
    site.wait_until_ready();
    let (status, said, errors) = conform(&site, &["--play", &topic]);
    assert_eq!(status, Some(0), "{said}{errors}");
    for words in [
        "five failed sign-ins from five addresses: locked by failed-logins-many-ips, scope \
         unfamiliar,",
        "five failed second factors in a row: locked by two-factor-failure-streak, scope all,",
        "a sign-in from a country that is new to the account: locked by first-seen-country,",
        "a password reset asked for from a malicious address: locked by reset-from-malicious-ip",
        "no record of the pipeline's",
    ] {
        assert!(said.contains(words), "{words:?} is not in:\n{said}");
    }
    // Nothing is left of it: the accounts are forgotten, and their cases with them.
    let played = cluster.read_committed(&topic);
    let deleted = played
        .iter()
        .filter(|e| e.json()["type"] == "account_deleted");
    assert_eq!(deleted.count(), 4);
    assert!(site.terminate().success());
    let mut cases = std::collections::BTreeMap::new();
    for record in cluster.read_committed(&site.topic("cases")) {
        cases.insert(record.key.clone(), record.payload.is_some());
    }
    assert_eq!(cases.len(), 4);
    assert!(cases.values().all(|is_there| !is_there), "{cases:?}");
    assert!(cluster.read_committed(&site.topic("mail")).is_empty());
}
