//! What co-owners get where the owner's own mail did not arrive.

use doorward::engine::output::RecipientPart;
use doorward::mail::content::{Content, Leads, Links, render};
use doorward::record::MailRecord;

use super::{NOW, as_read};
use crate::owner::{config, mail};

/// What a co-owner is told with `template`.
pub fn record(template: &str, locale: &str, locked: Option<&str>) -> MailRecord {
    MailRecord {
        template: template.into(),
        part: "co_owner".into(),
        to: "boss@example.org".into(),
        locale: Some(locale.into()),
        account_name: Some("ann".into()),
        locked: locked.map(str::to_owned),
        reason: match template {
            "recovery_owner_unreached" => "recovery_requested".into(),
            _ => mail().reason,
        },
        until: Some("2026-11-23T06:04:00.000Z".into()),
        ..mail()
    }
}

/// As the mailer renders it: a link where its template has one.
fn told(template: &str, locale: &str, locked: Option<&str>) -> Content {
    let config = config("");
    let record = record(template, locale, locked);
    let part = RecipientPart::CoOwner;
    let links = Leads::of(template, part).map(|_| Links {
        me: None,
        not_me: "https://account.example.com/c/TOKEN?answer=not-me".into(),
        code: None,
        valid_until: NOW.plus_ms(86_400_000),
    });
    let (url, site) = (&config.web.public_url, &config.site);
    render(&record, part, links.as_ref(), url, site).expect("a mail")
}

#[test]
fn rules_17_co_owners_are_told_in_both_languages_what_they_can_do() {
    for (template, locked) in [
        ("owner_unreached", Some("all")),
        ("owner_unreached_secured", Some("all")),
        ("recovery_owner_unreached", None),
    ] {
        for locale in ["en", "de"] {
            let content = told(template, locale, locked);
            insta::assert_snapshot!(format!("{template}_{locale}"), as_read(&content));
            insta::assert_snapshot!(format!("{template}_{locale}_html"), content.html);
        }
    }
    let asked = told("owner_unreached", "en", None);
    assert!(
        asked
            .text
            .contains("We changed nothing. The account is not locked.")
    );
}

#[test]
fn rules_17_the_mail_has_no_link_that_opens_anything() {
    for template in [
        "owner_unreached",
        "owner_unreached_secured",
        "recovery_owner_unreached",
    ] {
        for body in [
            told(template, "en", None).text,
            told(template, "de", None).html,
        ] {
            assert!(!body.contains("answer=me"), "{body}");
            let links = body.matches("/c/").count();
            assert_eq!(links > 0, template != "owner_unreached_secured", "{body}");
        }
        assert_eq!(Leads::of(template, RecipientPart::Notice), None);
    }
}
