//! The mails that ask nothing, and what every mail says of itself.

use doorward::engine::output::RecipientPart;
use doorward::mail::content::{Leads, Links, render};
use doorward::record::MailRecord;
use mail_parser::MessageParser;

use super::{NOW, as_read, raw, rendered};
use crate::owner::{config, mail};

/// As the mailer renders it: links where its template has some.
fn told(record: &MailRecord) -> doorward::mail::content::Content {
    let config = config("");
    let part = RecipientPart::parse(&record.part).expect("a part");
    let links = Leads::of(&record.template, part).map(|_| Links {
        me: None,
        not_me: "https://account.example.com/c/TOKEN".into(),
        code: None,
        valid_until: NOW.plus_ms(86_400_000),
    });
    let (url, site) = (&config.web.public_url, &config.site);
    render(record, part, links.as_ref(), url, site).expect("a mail")
}

fn about(template: &str, part: &str, locale: &str) -> MailRecord {
    MailRecord {
        template: template.into(),
        part: part.into(),
        locale: Some(locale.into()),
        locked: None,
        ..mail()
    }
}

#[test]
fn each_end_has_a_calm_mail_of_its_own_in_both_languages() {
    for template in ["unlocked", "secured", "recovered", "recovery_released"] {
        for (part, locale) in [
            ("owner", "en"),
            ("owner", "de"),
            ("co_owner", "en"),
            ("notice", "de"),
        ] {
            let content = told(&about(template, part, locale));
            let name = format!("calm_{template}_{part}_{locale}");
            insta::assert_snapshot!(format!("{name}_html"), content.html);
            insta::assert_snapshot!(name, as_read(&content));
        }
    }
}

#[test]
fn a_mail_names_the_account_as_its_owner_knows_it() {
    let named = |name: &str| {
        rendered(&MailRecord {
            account_name: Some(name.into()),
            ..mail()
        })
    };
    let content = named("ann_1987");
    assert!(content.text.contains("as you know it: ann_1987"));
    assert!(content.html.contains("as you know it: ann_1987"));
    // A thief who is in may have chosen it.
    let hostile = named("ann\r\nBcc: x@example.net\u{202e} <b>bold</b>");
    assert!(!hostile.text.contains("\nBcc") && !hostile.html.contains("<b>"));
    for link in ["call us: https://evil.example", "www.evil.example", "a/b"] {
        assert!(!named(link).text.contains("as you know it"), "{link}");
    }
    let long = named(&"x".repeat(300));
    assert!(!long.text.contains(&"x".repeat(65)));
}

#[test]
fn the_subject_and_the_first_line_say_what_matters_on_a_locked_phone() {
    let raw = raw(&mail());
    let parsed = MessageParser::default().parse(&raw).expect("a mail");
    let subject = parsed.subject().expect("a subject");
    assert_eq!(subject, "Was this you? We locked your Example account");
    assert!(subject.chars().count() <= 50);
    let preview = |body: &str| body.split_whitespace().collect::<Vec<_>>().join(" ");
    let text = preview(&parsed.body_text(0).expect("text"));
    assert!(
        text.starts_with("Somebody signed in to your account from a country"),
        "{text}"
    );
    let html = parsed.body_html(0).expect("HTML");
    let (_, shown) = html
        .split_once("overflow:hidden;\">")
        .expect("a first line");
    assert!(shown.starts_with("Somebody signed in to your account from a country"));
}

/// Whoever is not known to be the owner is told of an account, not of theirs.
#[test]
fn nobody_but_the_owner_is_told_of_an_account_of_theirs() {
    for template in [
        "was_this_you",
        "unlocked",
        "secured",
        "recovered",
        "our_mistake",
        "recovery_held",
        "recovery_refused",
        "recovery_released",
    ] {
        for (locale, yours) in [("en", "your account"), ("de", "ihr konto")] {
            for part in ["co_owner", "notice"] {
                let content = told(&MailRecord {
                    account_name: Some("ann_1987".into()),
                    ..about(template, part, locale)
                });
                let said = format!("{}\n{}", content.subject, content.text).to_lowercase();
                let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
                assert!(!said.contains(yours), "{template} {part}: {said}");
                assert!(!said.contains("ihres kontos"), "{template} {part}: {said}");
            }
        }
    }
}

/// Text and HTML say the same: every line of the text stands in the HTML too.
#[test]
fn both_parts_of_a_mail_say_the_same() {
    let tags = regex::Regex::new("(?s)<style>.*?</style>|<[^>]*>").expect("a pattern");
    for template in [
        "was_this_you",
        "unlocked",
        "secured",
        "recovered",
        "recovery_held",
        "recovery_released",
        "our_mistake",
    ] {
        let record = MailRecord {
            template: template.into(),
            account_name: Some("ann".into()),
            until: Some("2026-11-23T06:04:00.000Z".into()),
            ..mail()
        };
        let content = told(&record);
        let plain = |text: &str| {
            let text = tags.replace_all(text, " ");
            let text = text.replace("&#39;", "'").replace("&amp;", "&");
            text.split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
                .replace(" ,", ",")
        };
        let html = plain(&content.html);
        for paragraph in content.text.split("\n\n") {
            let paragraph = plain(paragraph);
            for sentence in paragraph
                .split(". ")
                .map(|s| s.trim_matches(['.', ' ', '-']))
            {
                // Links stand behind the buttons, and names of facts without their colon.
                if sentence.contains("/c/") || sentence.contains(": ") || sentence.is_empty() {
                    continue;
                }
                assert!(html.contains(sentence), "{template}: {sentence}\n{html}");
            }
        }
    }
}

#[test]
fn the_code_stands_in_the_mail_where_the_site_wants_one() {
    let config = config("");
    let links = Links {
        me: Some("https://account.example.com/c/TOKEN?answer=me".into()),
        not_me: "https://account.example.com/c/TOKEN?answer=not-me".into(),
        code: Some("7K4M2Q".into()),
        valid_until: NOW,
    };
    let content = render(
        &mail(),
        RecipientPart::Owner,
        Some(&links),
        &config.web.public_url,
        &config.site,
    )
    .expect("a mail");
    assert!(content.text.contains("7K4M2Q") && content.html.contains("7K4M2Q"));
    assert!(!content.subject.contains("7K4M2Q"));
}
