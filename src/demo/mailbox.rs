//! The owners' mailbox: mails as they were sent, taken apart for reading.
//!
//! The bytes are the ones that would have gone to the SMTP server. Nothing in them is
//! trusted: the HTML part is only ever shown from an address of its own, with a policy that
//! gives it no script, no network and no origin.

use mail_parser::{Address, MessageParser};
use serde::Serialize;

use crate::event::Timestamp;

/// Mails that are kept; the oldest goes first.
pub const KEPT: usize = 500;

/// One mail in the mailbox.
#[derive(Clone, Debug)]
pub struct Mail {
    /// Counts from 1 in the order of arrival.
    pub id: u64,
    pub at: Timestamp,
    /// Addresses of the envelope.
    pub recipients: Vec<String>,
    pub from: String,
    pub subject: String,
    pub text: String,
    pub html: Option<String>,
    /// As sent.
    pub raw: Vec<u8>,
}

/// A mail as the list shows it.
#[derive(Clone, Debug, Serialize)]
pub struct MailView {
    pub id: u64,
    pub at: i64,
    pub to: String,
    pub from: String,
    pub subject: String,
    pub preview: String,
}

/// A mail as the reading pane shows it; the HTML part has an address of its own.
#[derive(Clone, Debug, Serialize)]
pub struct MailPage {
    #[serde(flatten)]
    pub view: MailView,
    pub text: String,
    pub has_html: bool,
    pub bytes: usize,
}

impl Mail {
    /// Takes the bytes of a sent mail apart. What cannot be parsed is shown as plain text.
    pub fn parse(id: u64, at: Timestamp, recipients: Vec<String>, raw: Vec<u8>) -> Mail {
        let parsed = MessageParser::default().parse(&raw);
        let (from, subject, text, html) = match &parsed {
            Some(message) => (
                message.from().map(one_address).unwrap_or_default(),
                message.subject().unwrap_or_default().to_owned(),
                message.body_text(0).unwrap_or_default().into_owned(),
                // `body_html` would make one of the text part where there is none.
                message
                    .html_bodies()
                    .find(|part| part.is_text_html())
                    .and_then(|part| part.text_contents())
                    .map(str::to_owned),
            ),
            None => Default::default(),
        };
        let text = match parsed {
            Some(_) => text,
            None => String::from_utf8_lossy(&raw).into_owned(),
        };
        Mail {
            id,
            at,
            recipients,
            from,
            subject,
            text,
            html,
            raw,
        }
    }

    pub fn view(&self) -> MailView {
        MailView {
            id: self.id,
            at: self.at.0,
            to: self.recipients.join(", "),
            from: self.from.clone(),
            subject: self.subject.clone(),
            preview: preview(&self.text),
        }
    }

    pub fn page(&self) -> MailPage {
        MailPage {
            view: self.view(),
            text: self.text.clone(),
            has_html: self.html.is_some(),
            bytes: self.raw.len(),
        }
    }

    /// The addresses in the plain-text part that begin with `origin`, in order.
    pub fn links<'a>(&'a self, origin: &'a str) -> impl Iterator<Item = &'a str> {
        self.text
            .split(|c: char| c.is_whitespace() || matches!(c, '<' | '>' | '"' | '(' | ')'))
            .filter(move |word| word.starts_with(origin))
    }
}

fn one_address(address: &Address<'_>) -> String {
    let Some(first) = address.first() else {
        return String::new();
    };
    match (first.name(), first.address()) {
        (Some(name), Some(address)) => format!("{name} <{address}>"),
        (_, Some(address)) => address.to_owned(),
        (Some(name), None) => name.to_owned(),
        (None, None) => String::new(),
    }
}

/// The first words of the text, without line breaks and addresses.
fn preview(text: &str) -> String {
    let words = text.split_whitespace().filter(|word| !word.contains("://"));
    let mut preview = String::new();
    for word in words {
        if preview.chars().count() + word.chars().count() > 140 {
            preview.push('…');
            break;
        }
        if !preview.is_empty() {
            preview.push(' ');
        }
        preview.push_str(word);
    }
    preview
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: &str = "From: Example <security@example.com>\r\nTo: u-1@mail.example\r\n\
        Subject: =?utf-8?Q?Was_this_you=3F?=\r\nMIME-Version: 1.0\r\n\
        Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\n\
        Content-Type: text/plain; charset=utf-8\r\n\r\nWe locked your account.\r\n\
        http://127.0.0.1:1/c/v4.local.x\r\n--b\r\n\
        Content-Type: text/html; charset=utf-8\r\n\r\n<p>We locked <script>alert(1)</script></p>\r\n--b--\r\n";

    #[test]
    fn a_sent_mail_is_taken_apart_into_both_parts() {
        let mail = Mail::parse(
            1,
            Timestamp(5),
            vec!["u-1@mail.example".into()],
            SENT.into(),
        );
        assert_eq!(mail.subject, "Was this you?");
        assert_eq!(mail.from, "Example <security@example.com>");
        assert!(mail.text.starts_with("We locked your account."));
        assert!(
            mail.html
                .as_deref()
                .is_some_and(|html| html.contains("<p>"))
        );
        assert_eq!(mail.view().preview, "We locked your account.");
        let links: Vec<&str> = mail.links("http://127.0.0.1:1/").collect();
        assert_eq!(links, ["http://127.0.0.1:1/c/v4.local.x"]);
    }

    #[test]
    fn a_mail_without_an_html_part_has_none() {
        let raw = b"Subject: hi\r\n\r\nplain words\r\n".to_vec();
        let mail = Mail::parse(1, Timestamp(0), Vec::new(), raw);
        assert_eq!(mail.html, None);
        assert!(mail.text.contains("plain words"));
    }
}
