//! A recovery on a real broker: from the request to the button in the owner's mail.

use doorward::event::Timestamp;
use doorward::event::wire::{self, MacKey, MacKeys};

use super::now_ms;
use crate::support::doorward::Doorward;
use crate::support::kafka::{self, Cluster};
use crate::support::smtp::{Behaviour, SmtpServer};
use crate::support::{PATIENCE, eventually};

fn commands(cluster: &Cluster, site: &Doorward) -> Vec<String> {
    let records = cluster.read_committed(&site.topic("commands"));
    let command = |record: &kafka::Record| record.json()["command"].as_str().map(str::to_owned);
    records.iter().filter_map(command).collect()
}

/// Where the running process shows its pages.
#[track_caller]
pub fn pages(site: &Doorward) -> String {
    eventually("the pages' address", PATIENCE, || {
        let log = site.log();
        let (_, rest) = log.split_once("\"web\":\"")?;
        let (address, _) = rest.split_once('"')?;
        Some(format!("http://{address}"))
    })
}

#[test]
fn an_owner_stops_a_recovery_by_the_link_in_the_mail_whatever_dies_in_between() {
    let (Some(cluster), Some(smtp)) = (kafka::shared(), SmtpServer::start(&Behaviour::default()))
    else {
        return;
    };
    let mut site = Doorward::new(cluster, "shards = 1");
    site.reconfigure("port = 9\n", &format!("port = {}\n", smtp.port));
    site.create_topics(2);
    site.start();
    site.wait_until_ready();
    let request = format!(
        r#"{{"id":"r-1","type":"recovery","outcome":"requested","time":{},"account":"ada","email":"ada@example.com"}}"#,
        now_ms()
    );
    cluster.produce(&site.topic("events"), [("ada", request.as_str())]);
    let mails = smtp.wait_for_mails(1, PATIENCE);
    let text = mails[0].parsed();
    let text = text.body_text(0).expect("a text");
    let link = text
        .split_whitespace()
        .find(|word| word.ends_with("?answer=cancel-recovery"))
        .and_then(|link| link.strip_prefix("https://login.example.com"))
        .expect("a link that stops it")
        .to_owned();

    site.kill();
    site.start();
    site.wait_until_ready();
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .max_redirects(0)
        .timeout_global(Some(PATIENCE))
        .build()
        .into();
    let address = pages(&site);
    let page = agent.get(format!("{address}{link}")).call();
    let page = page.expect("a page").body_mut().read_to_string();
    let page = page.expect("text");
    let action = page
        .split("action=\"")
        .filter_map(|part| part.split('"').next())
        .find(|action| action.ends_with("/cancel-recovery"))
        .expect("a button");
    assert_eq!(commands(cluster, &site), ["hold_recovery"]);
    let answer = agent.post(format!("{address}{action}")).send_empty();
    let answer = answer.expect("an answer");
    assert_eq!(answer.status().as_u16(), 303);
    let status = answer.headers()["location"].to_str().expect("a path");
    eventually("the recovery to be stopped", PATIENCE, || {
        let page = agent.get(format!("{address}{status}")).call().ok()?;
        let page = page.into_body().read_to_string().ok()?;
        page.contains("The recovery is stopped").then_some(())
    });
    assert_eq!(
        commands(cluster, &site),
        ["hold_recovery", "cancel_recovery"]
    );
    assert!(site.terminate().success());
    assert_eq!(smtp.mails().len(), 1, "one mail, whatever died");
}

#[test]
fn an_operator_decides_a_recovery_that_was_stopped_twice_in_a_row() {
    let Some(cluster) = kafka::shared() else {
        return;
    };
    let mut site = Doorward::new(cluster, "shards = 1");
    site.create_topics(2);
    site.start();
    site.wait_until_ready();
    let keys = MacKeys(vec![MacKey {
        id: "1".into(),
        bytes: vec![0x22; 32],
    }]);
    // The recovery whose request has this id, as soon as it is in this state.
    let recovery = |request: &str, state: &str| {
        eventually(&format!("{request} {state}"), PATIENCE, || {
            let cases = cluster.read_committed(&site.topic("cases"));
            let mut cases = cases.iter().rev().map(kafka::Record::json);
            cases.find(|case| case["evidence"][0]["id"] == request && case["state"] == state)
        })
    };
    for request in ["r-1", "r-2"] {
        let event = format!(
            r#"{{"id":"{request}","type":"recovery","outcome":"requested","time":{},"account":"ada"}}"#,
            now_ms()
        );
        cluster.produce(&site.topic("events"), [("ada", event.as_str())]);
        let case = recovery(request, "held");
        let stop = wire::case_response(
            &wire::CaseResponse {
                id: &format!("a-{request}"),
                account: Some("ada"),
                case: case["id"].as_str().expect("an id"),
                case_version: 1,
                answer: "cancel_recovery",
                places: &[],
                by: "owner",
                time: Timestamp(i64::try_from(now_ms()).expect("a time")),
            },
            &keys,
        );
        let stop = String::from_utf8(stop).expect("text");
        cluster.produce(&site.topic("events"), [("ada", stop.as_str())]);
        let stopped = ["cancelled", "needs_operator"][usize::from(request == "r-2")];
        recovery(request, stopped);
    }
    let case = recovery("r-2", "needs_operator");
    let case = case["id"].as_str().expect("an id");
    let decide = |request: &str, case: &str| {
        let who = ["--operator", "ann", "--reason", "spoke to the owner"];
        let output = site.command(&[&["recovery", request, "--case", case], &who[..]].concat());
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said, errors)
    };
    let (status, _, errors) = decide("cancel", "k-unknown");
    assert_eq!(status, Some(1), "{errors}");
    let (status, said, errors) = decide("release", case);
    assert_eq!(status, Some(0), "{errors}");
    assert!(said.contains("held, and goes through at"), "{said}");
    let (status, _, errors) = decide("release", case);
    assert_eq!(status, Some(1));
    assert!(errors.contains("nobody disputes it"), "{errors}");
    let (status, said, errors) = decide("cancel", case);
    assert_eq!(status, Some(0), "{errors}");
    assert_eq!(said, format!("{case}: cancelled\n"));
    assert_eq!(
        commands(cluster, &site),
        [
            "hold_recovery",
            "cancel_recovery",
            "hold_recovery",
            "cancel_recovery"
        ]
    );
    assert!(site.terminate().success());
}
