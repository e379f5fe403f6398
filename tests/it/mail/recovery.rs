//! The mails about a recovery.

use doorward::engine::output::RecipientPart;
use doorward::mail::content::{Content, Links, render};
use doorward::record::MailRecord;

use super::{NOW, as_read};
use crate::owner::{config, mail};

/// Somebody asked to recover the account.
pub fn held() -> MailRecord {
    MailRecord {
        template: "recovery_held".into(),
        case: "k-4e1f77".into(),
        rule: "recovery".into(),
        reason: "recovery_requested".into(),
        locked: None,
        until: Some("2026-11-23T06:04:00.000Z".into()),
        ..mail()
    }
}

fn rendered(mail: &MailRecord) -> Content {
    let config = config("");
    let part = RecipientPart::parse(&mail.part).expect("a part");
    let links = (part != RecipientPart::Notice).then(|| Links {
        me: None,
        not_me: "https://account.example.com/c/TOKEN?answer=cancel-recovery".into(),
        code: None,
        valid_until: NOW.plus_ms(86_400_000),
    });
    let (url, site) = (&config.web.public_url, &config.site);
    render(mail, part, links.as_ref(), url, site).expect("a mail")
}

#[test]
fn the_mail_says_what_was_asked_when_it_goes_through_and_how_to_stop_it() {
    for locale in ["en", "de"] {
        let mail = MailRecord {
            locale: Some(locale.into()),
            ..held()
        };
        let content = rendered(&mail);
        insta::assert_snapshot!(format!("mail_recovery_{locale}"), as_read(&content));
        let button = "https://account.example.com/c/TOKEN?answer=cancel-recovery";
        assert_eq!(content.html.matches(button).count(), 1, "one button");
    }
}

#[test]
fn co_owners_may_stop_it_and_notices_have_nothing_to_press() {
    let part = |part: &str| MailRecord {
        part: part.into(),
        ..held()
    };
    insta::assert_snapshot!(
        "mail_recovery_co_owner",
        as_read(&rendered(&part("co_owner")))
    );
    let notice = rendered(&part("notice"));
    insta::assert_snapshot!("mail_recovery_notice", as_read(&notice));
    assert!(!notice.html.contains("/c/") && !notice.html.contains("Brazil"));
}

#[test]
fn a_refused_recovery_is_told_and_asks_nothing() {
    for locale in ["en", "de"] {
        let refused = MailRecord {
            template: "recovery_refused".into(),
            part: "notice".into(),
            locale: Some(locale.into()),
            until: None,
            ..held()
        };
        let content = rendered(&refused);
        insta::assert_snapshot!(format!("mail_recovery_refused_{locale}"), as_read(&content));
    }
}
