//! A mail as it goes over the wire: headers and the two parts.
//!
//! What stands there, and what does not:
//!
//! - `Message-ID` and `Date` (RFC 5322, 3.6.4 and 3.6.1) are ours, so that a repeated mail is
//!   known by the first and a late one by the second.
//! - `Auto-Submitted: auto-generated` (RFC 3834, 5): sent by a program, and no answer to
//!   anything, so that vacation notices keep silent. The envelope's sender stays the site's,
//!   and not `<>`, which RFC 3834 wants of answers only: bounces (RFC 3464) should come back.
//! - `Content-Language` (RFC 3282), for screen readers and translators.
//! - No `Precedence`: no standard has it, RFC 2076 discourages it, and `bulk` has mailboxes
//!   sort away or delay the one mail that matters.
//! - No `List-Id` (RFC 2919) and no `List-Unsubscribe` (RFC 2369, RFC 8058): this is one mail
//!   to one person about their own account. There is no list to leave, and a button that
//!   stops warnings would be the thief's first.

use lettre::Message;
use lettre::message::header::{Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};

use super::content::Content;
use crate::event::Timestamp;

/// Tells vacation notices and other machines not to answer.
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(AutoSubmitted)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

/// What Outlook and Exchange understand of the same wish (MS-OXCMAIL).
#[derive(Clone)]
struct SuppressAutoResponse;

impl Header for SuppressAutoResponse {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("X-Auto-Response-Suppress")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(SuppressAutoResponse)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "All".to_owned())
    }
}

#[derive(Clone)]
struct ContentLanguage(&'static str);

impl Header for ContentLanguage {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Content-Language")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(ContentLanguage("en"))
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), self.0.to_owned())
    }
}

/// The same mail has the same Message-ID however often it is sent, so that a mailbox that
/// gets it twice can show it once. What stands in it comes from `mail_id`, with everything
/// replaced that is no letter, digit or dash.
pub fn message_id(mail_id: &str, from: &Mailbox) -> String {
    let id: String = mail_id
        .chars()
        .take(100)
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    format!("<{id}@{}>", from.email.domain())
}

/// Puts `content` under its headers.
///
/// # Errors
/// Where `from` and `to` make no envelope.
pub fn build(
    mail_id: &str,
    from: &Mailbox,
    reply_to: Option<&Mailbox>,
    to: Mailbox,
    content: Content,
    now: Timestamp,
) -> Result<Message, lettre::error::Error> {
    let date = std::time::UNIX_EPOCH
        + std::time::Duration::from_millis(u64::try_from(now.0).unwrap_or_default());
    let mut message = Message::builder()
        .from(from.clone())
        .to(to)
        .subject(content.subject)
        .date(date)
        .message_id(Some(message_id(mail_id, from)))
        .header(AutoSubmitted)
        .header(SuppressAutoResponse)
        .header(ContentLanguage(content.language));
    if let Some(reply_to) = reply_to {
        message = message.reply_to(reply_to.clone());
    }
    message.multipart(MultiPart::alternative_plain_html(
        content.text,
        content.html,
    ))
}
