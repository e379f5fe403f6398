//! Support's commands on a real broker, with the mails that they cause.

use doorward::publish::wall_clock;

use super::now_ms;
use crate::support::doorward::Doorward;
use crate::support::kafka::{self, Cluster};
use crate::support::smtp::{Behaviour, SmtpServer};
use crate::support::{PATIENCE, eventually};

/// Signs in from Norway, then from Brazil, which locks.
fn lock(cluster: &Cluster, site: &Doorward, account: &str) {
    for (n, country) in ["NO", "BR"].iter().enumerate() {
        let event = format!(
            r#"{{"id":"{account}-{n}","type":"login","outcome":"success","time":{},"account":"{account}","country":"{country}","email":"{account}@example.com","locale":"en"}}"#,
            now_ms()
        );
        cluster.produce(&site.topic("events"), [(account, event.as_str())]);
    }
}

/// The account's case, as soon as it is in this state.
#[track_caller]
fn case(cluster: &Cluster, site: &Doorward, account: &str, state: &str) -> serde_json::Value {
    eventually(&format!("{account} {state}"), PATIENCE, || {
        let cases = cluster.read_committed(&site.topic("cases"));
        let mut cases = cases.iter().rev().map(kafka::Record::json);
        let newest = cases.find(|case| case["account"] == account)?;
        (newest["state"] == state).then_some(newest)
    })
}

/// Runs a command; its status, what it printed, and its words.
fn run(site: &Doorward, args: &[&str]) -> (Option<i32>, String, String) {
    let who = ["--operator", "ann", "--reason", "spoke to the owner"];
    let output = site.command(&[args, &who[..]].concat());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[test]
fn support_unlocks_resends_and_undoes_and_it_is_recorded() {
    let (Some(cluster), Some(smtp)) = (kafka::shared(), SmtpServer::start(&Behaviour::default()))
    else {
        return;
    };
    let mut site = Doorward::at_work_with_mail(cluster, smtp.port, 3);
    let from = wall_clock().plus_ms(-60_000).to_string();
    let to = wall_clock().plus_ms(3_600_000).to_string();
    for account in ["ada", "bob", "cyd", "dee"] {
        lock(cluster, &site, account);
        case(cluster, &site, account, "open");
    }
    smtp.wait_for_mails(4, PATIENCE);

    // Without a name and a reason nothing is done.
    for (operator, reason) in [("", "why"), ("ann", " "), ("ann", "two\nlines")] {
        let output = site.command(&[
            "unlock",
            "--account",
            "ada",
            "--operator",
            operator,
            "--reason",
            reason,
        ]);
        assert_eq!(output.status.code(), Some(2), "{operator:?} {reason:?}");
    }

    // The mailbox is dead; the mail goes elsewhere.
    let ada = case(cluster, &site, "ada", "open");
    let ada = ada["id"].as_str().expect("an id");
    let (status, said, errors) = run(
        &site,
        &["resend", "--case", ada, "--to", "ada@elsewhere.example"],
    );
    assert_eq!(
        (status, &*said),
        (Some(0), &*format!("{ada}: the mail is on its way\n")),
        "{errors}"
    );
    let mails = smtp.wait_for_mails(5, PATIENCE);
    assert!(
        mails[4]
            .to
            .iter()
            .any(|to| to.contains("ada@elsewhere.example"))
    );
    let (status, _, errors) = run(&site, &["resend", "--case", "k-unknown"]);
    assert_eq!(status, Some(1), "{errors}");

    let (status, said, errors) = run(&site, &["unlock", "--account", "ada"]);
    assert_eq!(status, Some(0), "{errors}");
    assert!(said.ends_with("is unlocked\n"), "{said}");
    let unlocked = case(cluster, &site, "ada", "unlocked");
    let requests: Vec<_> = (0..2)
        .map(|n| {
            let note = &unlocked["operators"][n];
            assert_eq!(note["operator"], "ann");
            assert_eq!(note["reason"], "spoke to the owner");
            (note["request"].clone(), note["done"].clone())
        })
        .collect();
    assert_eq!(
        requests,
        [
            ("resend".into(), true.into()),
            ("unlock".into(), true.into())
        ]
    );
    let (status, said, errors) = run(&site, &["unlock", "--account", "nobody"]);
    assert_eq!(status, Some(0), "{errors}");
    assert!(said.contains("no case is open"), "{said}");

    // Bob's owner has disowned it; that stays whatever the rule's mistake was.
    let stolen = format!(
        r#"{{"id":"b-9","type":"reported_stolen","time":{},"account":"bob"}}"#,
        now_ms()
    );
    cluster.produce(&site.topic("events"), [("bob", stolen.as_str())]);
    case(cluster, &site, "bob", "secured");
    let undo = [
        "undo",
        "--rule",
        "first-seen-country",
        "--from",
        &from,
        "--to",
        &to,
    ];
    let (status, said, errors) = run(&site, &[&undo[..], &["--dry-run"]].concat());
    assert_eq!(status, Some(0), "{errors}");
    let line = |said: &str, account: &str| {
        let line = said.lines().find(|line| line.starts_with(account));
        line.unwrap_or_else(|| panic!("no {account} in\n{said}"))
            .to_owned()
    };
    assert!(
        line(&said, "ada").ends_with("leave: it is unlocked"),
        "{said}"
    );
    assert!(
        line(&said, "bob").ends_with("leave: its owner said that it was not them"),
        "{said}"
    );
    assert!(line(&said, "cyd").ends_with("  unlock"), "{said}");
    assert!(
        errors.contains("2 accounts would be unlocked; nothing was done"),
        "{errors}"
    );
    let before = [
        "undo",
        "--rule",
        "first-seen-country",
        "--from",
        "2026-01-01T00:00:00Z",
        "--to",
        &from,
    ];
    let (status, said, errors) = run(&site, &before);
    assert_eq!((status, &*said), (Some(0), ""), "{errors}");

    let (status, _, errors) = run(&site, &undo);
    assert_eq!(status, Some(0), "{errors}");
    assert!(errors.contains("2 accounts unlocked"), "{errors}");
    case(cluster, &site, "cyd", "unlocked");
    case(cluster, &site, "dee", "unlocked");
    case(cluster, &site, "bob", "secured");
    let (status, _, errors) = run(&site, &undo);
    assert_eq!(status, Some(0), "{errors}");
    assert!(errors.contains("nothing to unlock"), "{errors}");

    let commands = cluster.read_committed(&site.topic("commands"));
    let mut unlocks: Vec<(String, String, String)> = commands
        .iter()
        .map(kafka::Record::json)
        .filter(|command| command["command"] == "unlock_account")
        .map(|command| {
            let text = |value: &serde_json::Value| value.as_str().unwrap_or("").to_owned();
            let by = text(&command["operator"]["name"]);
            (text(&command["account"]), text(&command["reason"]), by)
        })
        .collect();
    unlocks.sort();
    let expected = [
        ("ada", "operator_unlock"),
        ("cyd", "operator_undo"),
        ("dee", "operator_undo"),
        ("nobody", "operator_unlock"),
    ];
    let expected = expected.map(|(account, why)| (account.into(), why.into(), "ann".into()));
    assert_eq!(unlocks, expected);
    // Four locks, one sent elsewhere, bob's report, and two apologies.
    let mails = smtp.wait_for_mails(8, PATIENCE);
    let sorry = mails.iter().filter(|mail| {
        mail.parsed()
            .subject()
            .is_some_and(|s| s.contains("our mistake"))
    });
    assert_eq!(sorry.count(), 2);
    assert!(site.terminate().success());
}
