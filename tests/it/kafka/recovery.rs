//! A recovery on a real broker: from the request to the button in the owner's mail.

use doorward::event::Timestamp;
use doorward::event::wire::{self, MacKey, MacKeys};

use super::now_ms;
use super::visitor::{Visitor, link_in};
use crate::support::doorward::Doorward;
use crate::support::kafka::{self, Cluster};
use crate::support::smtp::{Behaviour, SmtpServer};
use crate::support::{PATIENCE, eventually};

fn commands(cluster: &Cluster, site: &Doorward) -> Vec<String> {
    let records = cluster.read_committed(&site.topic("commands"));
    let command = |record: &kafka::Record| record.json()["command"].as_str().map(str::to_owned);
    records.iter().filter_map(command).collect()
}

#[test]
fn an_owner_stops_a_recovery_by_the_link_in_the_mail_whatever_dies_in_between() {
    let (Some(cluster), Some(smtp)) = (kafka::shared(), SmtpServer::start(&Behaviour::default()))
    else {
        return;
    };
    let mut site = Doorward::at_work_with_mail(cluster, smtp.port, 2);
    let request = format!(
        r#"{{"id":"r-1","type":"recovery","outcome":"requested","time":{},"account":"ada","email":"ada@example.com"}}"#,
        now_ms()
    );
    cluster.produce(&site.topic("events"), [("ada", request.as_str())]);
    let mails = smtp.wait_for_mails(1, PATIENCE);
    let text = mails[0].parsed();
    let text = text.body_text(0).expect("a text");
    let link = link_in(&text, "?answer=cancel-recovery").expect("a link that stops it");

    site.kill();
    site.start();
    site.wait_until_ready();
    let visitor = Visitor::of(&site);
    let buttons = visitor.buttons(&link);
    let stops = |action: &&String| action.ends_with("/cancel-recovery");
    let action = buttons.iter().find(stops).expect("a button");
    assert_eq!(commands(cluster, &site), ["hold_recovery"]);
    let status = visitor.press(action, &[]);
    eventually("the recovery to be stopped", PATIENCE, || {
        let page = visitor.open(&status).ok()?;
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
