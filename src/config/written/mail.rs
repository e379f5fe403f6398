//! The `[mail]` table.

use std::time::Duration;

use lettre::Address;
use lettre::message::Mailbox;

use super::{Reader, Section, secrets};
use crate::config::{Dkim, Mail, MailSecurity, Secret};
use crate::document::{Node, Value};

pub fn read(node: Option<&Node>, r: &mut Reader<'_>) -> Mail {
    let mut section = Section::of("mail", node, r);
    let host = section.needed_text("host", "smtp.example.com", r);
    let kinds = [
        ("starttls", MailSecurity::StartTls),
        ("tls", MailSecurity::Tls),
        ("none", MailSecurity::None),
    ];
    let security = section.fields().choice("security", &kinds, &mut r.found);
    let security = security.unwrap_or(MailSecurity::StartTls);
    let port = section.number("port", default_port(security), 1..=65_535, r);
    let login = login(&mut section, r);
    if security == MailSecurity::None
        && !host.is_some_and(is_loopback)
        && let Some(node) = section.fields().optional("security")
    {
        let message = "mails, and the links in them, would travel unencrypted".into();
        let help = "`security = \"none\"` is for a server on this machine".into();
        if login.is_some() {
            section.error(node, message, Some(help), r);
        } else {
            section.warning(node, message, Some(help), r);
        }
    }
    let hour = Duration::from_secs(60 * 60);
    let mail = Mail {
        host: host.unwrap_or_default().to_owned(),
        port,
        security,
        ca_file: section.path("ca_file", r),
        login,
        from: from(&mut section, r),
        reply_to: mailbox("reply_to", &mut section, r),
        timeout: section.duration("timeout", hour / 120, ("1s", "10m"), r),
        connections: section.number("connections", 4, 1..=64, r),
        per_hour: section.number("per_hour", 3, 1..=100, r),
        // The outbox keeps its records for seven days, and a mail must end before its record.
        retry_for: section.duration("retry_for", 48 * hour, ("1m", "5d"), r),
        dkim: dkim(section.fields().optional("dkim"), r),
    };
    section.finish(r);
    mail
}

fn default_port(security: MailSecurity) -> u16 {
    match security {
        MailSecurity::StartTls => 587,
        MailSecurity::Tls => 465,
        MailSecurity::None => 25,
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host == "::1" || host.starts_with("127.")
}

fn login(section: &mut Section<'_>, r: &mut Reader<'_>) -> Option<(String, Secret)> {
    let user = section.text("user", r);
    let node = section.fields().optional("password");
    let password = node.and_then(|node| secrets::secret("mail.password", node, r));
    match (user, node) {
        (Some(_), None) => section.missing("password", "{ file = \"smtp.password\" }", r),
        (None, Some(_)) => section.missing("user", "\"the name to log in with\"", r),
        _ => {}
    }
    Some((user?.to_owned(), password?))
}

/// `[mail.dkim]`: nothing, or all of it.
fn dkim(node: Option<&Node>, r: &mut Reader<'_>) -> Option<Dkim> {
    let is_empty = |node: &&Node| matches!(&node.value, Value::Map(entries) if entries.is_empty());
    let node = node.filter(|node| !is_empty(node));
    let mut section = Section::of("mail.dkim", node, r);
    let (selector, domain) = match node {
        Some(_) => (
            section.needed_text("selector", "doorward", r),
            section.needed_text("domain", "example.com", r),
        ),
        None => (section.text("selector", r), section.text("domain", r)),
    };
    let (selector, domain) = (selector.map(str::to_owned), domain.map(str::to_owned));
    for (name, text) in [("selector", &selector), ("domain", &domain)] {
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        if text.as_ref().is_some_and(|text| !text.chars().all(is_name))
            && let Some(node) = section.fields().optional(name)
        {
            let message = format!("`mail.dkim.{name}` is no name in DNS");
            section.error(node, message, None, r);
        }
    }
    let at = section.fields().optional("key");
    let key = at.and_then(|node| secrets::secret("mail.dkim.key", node, r));
    if node.is_some() && at.is_none() {
        section.missing("key", "{ file = \"dkim.pem\" }", r);
    }
    let dkim = selector
        .zip(domain)
        .zip(key)
        .map(|((selector, domain), key)| Dkim {
            selector,
            domain,
            key,
        });
    if let (Some(dkim), Some(at)) = (&dkim, at)
        && let Err(error) = crate::mail::signature::signer(dkim)
    {
        let message = format!("`mail.dkim.key` cannot be used: {error}");
        let help = "make one with `openssl genrsa -traditional -out dkim.pem 2048`".into();
        section.error(at, message, Some(help), r);
    }
    section.finish(r);
    dkim
}

fn from(section: &mut Section<'_>, r: &mut Reader<'_>) -> String {
    if section.fields().optional("from").is_none() {
        section.missing("from", "\"Example account safety <safety@example.com>\"", r);
    }
    mailbox("from", section, r).unwrap_or_default()
}

/// `Name <address>` or an address alone.
fn mailbox(name: &'static str, section: &mut Section<'_>, r: &mut Reader<'_>) -> Option<String> {
    let text = section.text(name, r)?;
    if text.parse::<Mailbox>().is_ok() {
        return Some(text.to_owned());
    }
    let node = section.fields().optional(name)?;
    let message = format!("`{}` is no sender of mail", section.full(name));
    let help = "write a name and an address, as in \"Example <safety@example.com>\"".into();
    section.error(node, message, Some(help), r);
    None
}

/// An address without a name.
pub fn bare_address(
    name: &'static str,
    section: &mut Section<'_>,
    r: &mut Reader<'_>,
) -> Option<String> {
    let text = section.text(name, r)?;
    if text.parse::<Address>().is_ok() {
        return Some(text.to_owned());
    }
    let node = section.fields().optional(name)?;
    let message = format!("`{}` is no mail address", section.full(name));
    let help = "write it without a name, as in \"support@example.com\"".into();
    section.error(node, message, Some(help), r);
    None
}
