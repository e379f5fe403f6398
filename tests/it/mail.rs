//! What owners get by mail.

mod calm;
pub mod recovery;
mod signature;
pub mod unreached;

use doorward::engine::output::RecipientPart;
use doorward::event::Timestamp;
use doorward::mail::content::{Content, Links, render};
use doorward::mail::message;
use doorward::record::MailRecord;
use mail_parser::MessageParser;

use crate::owner::{config, evidence, mail};

const NOW: Timestamp = Timestamp(1_795_327_440_000);

fn rendered(mail: &MailRecord) -> Content {
    let config = config("");
    let part = RecipientPart::parse(&mail.part).expect("a part");
    let links = (part != RecipientPart::Notice).then(|| Links {
        me: (part == RecipientPart::Owner)
            .then(|| "https://account.example.com/c/TOKEN?answer=me".into()),
        not_me: "https://account.example.com/c/TOKEN?answer=not-me".into(),
        code: None,
        valid_until: NOW.plus_ms(86_400_000),
    });
    render(
        mail,
        part,
        links.as_ref(),
        &config.web.public_url,
        &config.site,
    )
    .expect("a mail")
}

/// The bytes that would go over the wire.
fn raw(mail: &MailRecord) -> Vec<u8> {
    message::build(
        &mail.id,
        &"Example Security <security@example.com>"
            .parse()
            .expect("an address"),
        Some(&"support@example.com".parse().expect("an address")),
        lettre::message::Mailbox::new(None, mail.to.parse().expect("an address")),
        rendered(mail),
        NOW,
    )
    .expect("a message")
    .formatted()
}

fn as_read(content: &Content) -> String {
    format!("Subject: {}\n\n{}", content.subject, content.text)
}

#[test]
fn the_owners_mail_says_what_happened_and_what_was_done() {
    let content = rendered(&mail());
    insta::assert_snapshot!("mail_owner_en", as_read(&content));
    insta::assert_snapshot!("mail_owner_en_html", content.html);
}

#[test]
fn the_owners_mail_speaks_german() {
    let content = rendered(&MailRecord {
        locale: Some("de-AT".into()),
        reason: "credential_stuffing".into(),
        locked: Some("unfamiliar".into()),
        evidence: ["BR", "DE", "BR", "VN", "US", "FR", "IN"]
            .iter()
            .map(|country| evidence("e", "2026-11-22T06:04:00.000Z", "203.0.113.7", country))
            .collect(),
        ..mail()
    });
    insta::assert_snapshot!("mail_owner_de", as_read(&content));
    assert!(content.html.contains("<html lang=\"de\">"));
}

#[test]
fn a_mail_that_only_asks_says_that_nothing_is_locked() {
    let content = rendered(&MailRecord {
        locked: None,
        reason: "two_factor_disabled".into(),
        ..mail()
    });
    insta::assert_snapshot!("mail_asked", as_read(&content));
}

#[test]
fn co_owners_can_only_say_no_and_notices_carry_no_links_places_or_devices() {
    let co_owner = rendered(&MailRecord {
        part: "co_owner".into(),
        ..mail()
    });
    insta::assert_snapshot!("mail_co_owner", as_read(&co_owner));
    let notice = rendered(&MailRecord {
        part: "notice".into(),
        locale: Some("de".into()),
        ..mail()
    });
    insta::assert_snapshot!("mail_notice_de", as_read(&notice));
    for body in [&notice.text, &notice.html] {
        assert!(!body.contains("/c/") && !body.contains("Brasilien") && !body.contains("Firefox"));
    }
}

#[test]
fn headers_are_complete_and_tell_machines_not_to_answer() {
    let raw = raw(&mail());
    let text = String::from_utf8(raw.clone()).expect("a mail of seven bits");
    let mut headers: Vec<&str> = text
        .split("\r\n\r\n")
        .next()
        .expect("headers")
        .split("\r\n")
        .filter(|line| !line.starts_with([' ', '\t']))
        .filter(|line| !line.starts_with("Content-Type"))
        .collect();
    headers.sort_unstable();
    insta::assert_snapshot!("mail_headers", headers.join("\n"));
    // The reasons stand in src/mail/message.rs.
    for name in ["Precedence", "List-Id", "List-Unsubscribe"] {
        assert!(!headers.iter().any(|line| line.starts_with(name)), "{name}");
    }

    let parsed = MessageParser::default().parse(&raw).expect("a mail");
    let kind = parsed.content_type_of_the_whole();
    assert_eq!(kind, "multipart/alternative");
    assert_eq!(parsed.text_body_count(), 1);
    assert_eq!(parsed.html_body_count(), 1);
    for line in raw.split(|byte| *byte == b'\n') {
        assert!(line.len() <= 999, "RFC 5322 allows 998 characters a line");
    }
}

#[test]
fn nothing_from_an_event_becomes_a_header_a_line_or_markup() {
    let hostile = "x\r\nBcc: everybody@example.net\r\n\r\n<script>alert(1)</script>\u{202e}\u{2028}\
                   <a href=\"https://evil.example\">click</a>";
    let hostile_mail = MailRecord {
        id: hostile.into(),
        template: hostile.into(),
        locale: Some(hostile.into()),
        account: hostile.into(),
        case: hostile.into(),
        rule: hostile.into(),
        reason: hostile.into(),
        locked: Some(hostile.into()),
        time: hostile.into(),
        evidence: vec![evidence(hostile, hostile, hostile, hostile)],
        device: Some(format!("Firefox {}", hostile.repeat(3))),
        ..mail()
    };
    let content = rendered(&hostile_mail);
    insta::assert_snapshot!("mail_hostile", as_read(&content));
    for body in [&content.subject, &content.text, &content.html] {
        assert!(!body.contains('\u{202e}') && !body.contains('\u{2028}'));
        assert!(!body.contains("\nBcc"));
    }
    assert!(!content.html.contains("<script") && !content.html.contains("<a href=\"https://evil"));
    let raw = raw(&hostile_mail);
    let parsed = MessageParser::default().parse(&raw).expect("a mail");
    assert!(parsed.bcc().is_none());
    let head = raw
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .expect("headers");
    let head = String::from_utf8_lossy(&raw[..head]);
    assert!(!head.to_lowercase().contains("bcc:"), "{head}");
}

#[test]
fn a_lock_that_was_a_mistake_is_said_to_be_one_and_asks_nothing() {
    for locale in ["en", "de"] {
        let undone = MailRecord {
            template: doorward::engine::operator::MAIL_UNDONE.into(),
            part: "notice".into(),
            locked: None,
            locale: Some(locale.into()),
            ..mail()
        };
        let content = rendered(&undone);
        insta::assert_snapshot!(format!("mail_undone_{locale}"), as_read(&content));
        for body in [&content.text, &content.html] {
            assert!(!body.contains("/c/"), "nothing to press");
        }
    }
}

/// Shorter names for what mail-parser spreads over several calls.
trait Shape {
    fn content_type_of_the_whole(&self) -> String;
}

impl Shape for mail_parser::Message<'_> {
    fn content_type_of_the_whole(&self) -> String {
        use mail_parser::MimeHeaders;
        let kind = self.content_type().expect("a content type");
        format!("{}/{}", kind.ctype(), kind.subtype().unwrap_or_default())
    }
}
