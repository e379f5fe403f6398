//! Mails that will not arrive: the account's partition hears of it before the receipt is
//! written (docs/rules.md 17).

use std::time::Duration;

use doorward::event::Timestamp;
use doorward::event::decode::{Decoder, Dropped};
use doorward::event::wire::{Signed, details};
use doorward::link::mac_keys;
use doorward::record::MailRecord;

use super::{Refusing, Reply, Running, receipts, to};
use crate::owner::{Broker, Stored};
use crate::support::smtp::{Behaviour, SmtpServer};
use crate::support::{PATIENCE, eventually};

/// The bounces on the events topic, once there are so many.
fn bounces(broker: &Broker, count: usize) -> Vec<Stored> {
    broker.wait_for(&broker.config.topics.events, count)
}

/// Whether the engine would take it for one of ours.
fn is_genuine(broker: &Broker, stored: &Stored) -> bool {
    let mut dropped = Dropped::new();
    let event = Decoder::default()
        .decode(&stored.payload, &mut dropped)
        .expect("an event");
    let control = event.control.as_deref().expect("doorward's own fields");
    let signed = Signed {
        kind: "mail_bounced",
        id: &event.id,
        account: event.account.as_deref().expect("an account"),
        case: event.case.as_deref().expect("a case"),
        case_version: control.case_version.expect("a version"),
        verb: "",
        places: &details(None, control.to.as_deref()),
        by: control.by.as_deref().expect("a part"),
        reason: event.reason.as_deref().expect("a reason"),
        time: event.time,
    };
    let (key, mac) = (control.key_id.as_deref(), control.mac.as_deref());
    let keys = mac_keys(&broker.config.keys.answer);
    keys.verify(&signed, key.expect("a key"), mac.expect("a MAC"))
}

#[test]
fn rules_17_a_refused_mail_is_told_on_the_accounts_partition_and_a_delayed_one_is_not() {
    let server = Refusing::start(|to, before| match (to, before) {
        ("gone@example.org", _) => Reply::Say("550 5.1.1 <gone@example.org> is unknown"),
        ("boss@example.org", _) => Reply::Say("552 5.2.2 full"),
        ("grey@example.org", 0..2) => Reply::Say("451 4.7.1 come back later"),
        _ => Reply::Take,
    });
    let broker = server.broker();
    let mailer = Running::by_smtp(&broker);
    broker.write_mail(&to("m-grey", "grey@example.org"));
    broker.write_mail(&MailRecord {
        account: "u-7".into(),
        partition: 1,
        case: "k-7".into(),
        case_version: 3,
        ..to("m-gone", "gone@example.org")
    });
    broker.write_mail(&MailRecord {
        part: "co_owner".into(),
        ..to("m-boss", "boss@example.org")
    });
    // What is no address at all does not arrive either.
    broker.write_mail(&to("m-junk", "owner at example"));
    let receipts = receipts(&broker, 4);
    let failed = receipts.iter().filter(|receipt| receipt.result == "failed");
    assert_eq!(failed.count(), 3);
    let mut told = bounces(&broker, 3);
    assert_eq!(
        told.len(),
        3,
        "a receipt never stands there before its bounce"
    );
    told.sort_by_key(|stored| stored.json()["id"].to_string());
    let ids: Vec<String> = told
        .iter()
        .map(|stored| stored.json()["id"].to_string())
        .collect();
    assert_eq!(ids, [r#""b-boss""#, r#""b-gone""#, r#""b-junk""#]);
    let gone = told[1].json();
    assert_eq!(
        (told[1].partition, told[1].key.as_deref()),
        (1, Some(&b"u-7"[..]))
    );
    let said = |name: &str| gone[name].as_str().unwrap_or_default().to_owned();
    assert_eq!(said("type"), "mail_bounced");
    assert_eq!(said("account"), "u-7");
    assert_eq!(said("case"), "k-7");
    assert_eq!(said("to"), "gone@example.org");
    assert_eq!(
        (said("by"), said("reason")),
        ("owner".into(), "refused".into())
    );
    assert_eq!(gone["case_version"], 3);
    assert_eq!(told[0].json()["by"], "co_owner");
    for stored in &told {
        assert!(is_genuine(&broker, stored), "{}", stored.json());
        let text = String::from_utf8_lossy(&stored.payload).into_owned();
        assert!(
            !text.contains("unknown"),
            "what a server says is not passed on"
        );
    }
    mailer.stop(&broker);
}

#[test]
fn rules_17_a_mail_whose_time_is_up_is_told_too() {
    let server = Refusing::start(|_, _| Reply::Say("450 4.2.0 busy"));
    let mut broker = server.broker();
    // It includes the seconds that joining the group takes.
    broker.config.mail.retry_for = Duration::from_secs(8);
    let mailer = Running::by_smtp(&broker);
    broker.write_mail(&to("m-late", "late@example.org"));
    let told = bounces(&broker, 1);
    let event = told[0].json();
    assert_eq!(
        (&event["id"], &event["reason"]),
        (&"b-late".into(), &"time_up".into())
    );
    assert_eq!(receipts(&broker, 1)[0].result, "failed");
    let time = event["time"].as_i64().expect("a time");
    let since = doorward::publish::wall_clock().since_ms(Timestamp(time));
    assert!((0..60_000).contains(&since), "it is the time of the bounce");
    mailer.stop(&broker);
}

#[test]
fn rules_17_an_events_topic_without_the_accounts_partition_holds_no_mail_up() {
    let server = Refusing::start(|to, _| match to {
        "gone@example.org" => Reply::Say("550 5.1.1 unknown"),
        _ => Reply::Take,
    });
    let broker = server.broker();
    let mailer = Running::by_smtp(&broker);
    let stray = MailRecord {
        partition: 77,
        ..to("m-gone", "gone@example.org")
    };
    let payload = serde_json::to_vec(&stray).expect("JSON");
    broker.write(&broker.config.topics.mail, 0, &stray.to, &payload);
    broker.write_mail(&to("m-fine", "fine@example.org"));
    assert_eq!(receipts(&broker, 2).len(), 2);
    eventually("nothing to be left", PATIENCE, || {
        (mailer.metrics.mail_pending.get() == 0).then_some(())
    });
    assert!(broker.read(&broker.config.topics.events).is_empty());
    mailer.stop(&broker);
}

#[test]
fn rules_17_a_real_server_that_misbehaves_is_told_of_only_where_it_refuses_for_good() {
    let Some(server) = SmtpServer::start(&Behaviour {
        temporary: 1,
        drop: 1,
        cut_data: 1,
        busy_every: 5,
        grey: Duration::from_millis(300),
        ..Behaviour::default()
    }) else {
        return;
    };
    let mut broker = Broker::start();
    broker.config.mail.port = server.port;
    let mailer = Running::by_smtp(&broker);
    for name in ["reject-one", "fine", "reject-two", "other"] {
        broker.write_mail(&to(&format!("m-{name}"), &format!("{name}@example.org")));
    }
    let receipts = receipts(&broker, 4);
    let result = |result: &str| {
        let mut ids: Vec<&str> = receipts
            .iter()
            .filter(|receipt| receipt.result == result)
            .map(|receipt| receipt.id.as_str())
            .collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(result("sent"), ["m-fine", "m-other"]);
    assert_eq!(result("failed"), ["m-reject-one", "m-reject-two"]);
    let told = broker.read(&broker.config.topics.events);
    let mut ids: Vec<String> = told
        .iter()
        .map(|stored| stored.json()["id"].to_string())
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, [r#""b-reject-one""#, r#""b-reject-two""#]);
    assert!(told.iter().all(|stored| is_genuine(&broker, stored)));
    assert_eq!(server.mails().len(), 2);
    mailer.stop(&broker);
}
