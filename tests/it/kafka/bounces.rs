//! A bounce on a real broker: from the mail server's refusal to the co-owner's link.

use super::now_ms;
use super::visitor::{Visitor, link_in};
use crate::support::doorward::Doorward;
use crate::support::kafka::{self, Cluster};
use crate::support::smtp::{Behaviour, ReceivedMail, SmtpServer};
use crate::support::{PATIENCE, eventually};

/// A sign-in to an account; `owners` as they stand in the JSON.
fn sign_in(cluster: &Cluster, site: &Doorward, account: &str, country: &str, owners: &str) {
    let event = format!(
        r#"{{"id":"{account}-{country}","type":"login","outcome":"success","time":{},"account":"{account}","country":"{country}","email":"reject-{account}@example.com","owners":[{owners}]}}"#,
        now_ms()
    );
    cluster.produce(&site.topic("events"), [(account, event.as_str())]);
}

fn body(mail: &ReceivedMail) -> String {
    let parsed = mail.parsed();
    parsed.body_text(0).expect("a text").into_owned()
}

fn subject(mail: &ReceivedMail) -> String {
    mail.parsed().subject().expect("a subject").to_owned()
}

fn count(cluster: &Cluster, topic: &str, which: impl Fn(&serde_json::Value) -> bool) -> usize {
    let records = cluster.read_committed(topic);
    let records = records.iter().filter(|record| record.payload.is_some());
    records.filter(|record| which(&record.json())).count()
}

#[test]
fn rules_17_a_co_owner_hears_of_the_owners_bounce_and_says_it_was_not_the_owner() {
    let (Some(cluster), Some(smtp)) = (kafka::shared(), SmtpServer::start(&Behaviour::default()))
    else {
        return;
    };
    let mut site = Doorward::at_work_with_mail(cluster, smtp.port, 2);
    for country in ["NO", "BR"] {
        sign_in(cluster, &site, "ada", country, r#""boss@example.com""#);
    }
    let mails = smtp.wait_for_mails(2, PATIENCE);
    assert!(
        mails.iter().all(|mail| mail.to == ["boss@example.com"]),
        "{mails:?}"
    );
    let unreached = mails
        .iter()
        .find(|mail| subject(mail).starts_with("We could not reach the owner"))
        .expect("a mail that says so");
    let text = body(unreached);
    assert!(!text.contains("?answer=me"), "{text}");
    let link = link_in(&text, "?answer=not-me").expect("a link to say that it was not the owner");
    // Support sees whom the mail did not reach, and not at which address.
    let cases = site.topic("cases");
    let noted = |case: &serde_json::Value| {
        case["account"] == "ada" && case["bounced"][0]["part"] == "owner"
    };
    eventually("the case to say so", PATIENCE, || {
        (count(cluster, &cases, noted) > 0).then_some(())
    });

    // Nothing of it is told again when the process died.
    site.kill();
    site.start();
    site.wait_until_ready();
    let visitor = Visitor::of(&site);
    let actions = visitor.buttons(&link);
    let says_no = |action: &&String| action.ends_with("/not-me");
    let action = actions.iter().find(says_no).expect("a button");
    assert!(
        !actions.iter().any(|action| action.ends_with("/me")),
        "{actions:?}"
    );
    visitor.press(action, &[("version", "1")]);
    eventually("the account to be secured", PATIENCE, || {
        let secured = |case: &serde_json::Value| case["state"] == "secured";
        (count(cluster, &cases, secured) > 0).then_some(())
    });

    // Where there is no co-owner, operators hear of it.
    for country in ["NO", "BR"] {
        sign_in(cluster, &site, "eve", country, "");
    }
    site.wait_for_metric(r#"doorward_mail_total{result="unreached"}"#, "1");
    assert!(site.log().contains("nobody was reached"), "{}", site.log());
    let events = site.topic("events");
    let told = |account: &'static str| {
        let is_told = move |event: &serde_json::Value| {
            event["type"] == "mail_bounced" && event["account"] == account
        };
        count(cluster, &events, is_told)
    };
    assert_eq!(told("eve"), 1);
    // The mails about the secured account bounced likewise, which was known by then.
    eventually("the receipts", PATIENCE, || {
        (told("ada") == 2).then_some(())
    });
    assert!(site.terminate().success());
    let subjects: Vec<String> = smtp.mails().iter().map(subject).collect();
    let of_bounce = subjects
        .iter()
        .filter(|subject| subject.starts_with("We could not"));
    assert_eq!(of_bounce.count(), 1, "{subjects:?}");
}
