//! What owners get by mail, and how it gets there.

mod recovery;

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use doorward::config::{MailSecurity, Secret};
use doorward::engine::output::RecipientPart;
use doorward::event::Timestamp;
use doorward::mail::content::{Content, Links, render};
use doorward::mail::transport::{Mailbox, StoredMail, Transport};
use doorward::mail::{Mailer, RetrySchedule, message};
use doorward::metrics::Metrics;
use doorward::record::{MailRecord, ReceiptRecord};
use mail_parser::MessageParser;
use tokio::sync::watch;

use crate::owner::{Broker, Pages, case, config, evidence, mail, redacted};
use crate::support::smtp::{Behaviour, Security, SmtpServer};
use crate::support::{PATIENCE, eventually};

const NOW: Timestamp = Timestamp(1_795_327_440_000);

fn rendered(mail: &MailRecord) -> Content {
    let config = config("");
    let part = RecipientPart::parse(&mail.part).expect("a part");
    let links = (part != RecipientPart::Notice).then(|| Links {
        me: (part == RecipientPart::Owner)
            .then(|| "https://account.example.com/c/TOKEN?answer=me".into()),
        not_me: "https://account.example.com/c/TOKEN?answer=not-me".into(),
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

/// A mailer at work; stopped when told to, so that another can take over.
struct Running {
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
    pub metrics: Arc<Metrics>,
}

impl Running {
    fn start(broker: &Broker, transport: Transport) -> Running {
        let (stop, mut stopped) = watch::channel(false);
        let metrics = Arc::new(Metrics::new());
        let mailer = {
            let _inside = broker.runtime.enter();
            Mailer::start(
                &broker.config,
                transport,
                RetrySchedule {
                    first: Duration::from_millis(50),
                    longest: Duration::from_millis(200),
                },
                Arc::clone(&metrics),
            )
            .expect("a mailer")
        };
        let task = broker.runtime.spawn(mailer.run(async move {
            // A sender that is dropped means the same.
            let _ = stopped.wait_for(|stop| *stop).await;
        }));
        Running {
            stop,
            task,
            metrics,
        }
    }

    fn stop(self, broker: &Broker) {
        self.stop.send_replace(true);
        broker.runtime.block_on(self.task).expect("a calm end");
    }

    fn count(&self, result: &str) -> u64 {
        self.metrics.mail_total.with_label_values(&[result]).get()
    }
}

fn receipts(broker: &Broker, count: usize) -> Vec<ReceiptRecord> {
    broker
        .wait_for(&broker.config.topics.receipts, count)
        .iter()
        .map(|stored| serde_json::from_slice(&stored.payload).expect("a receipt"))
        .collect()
}

fn to(id: &str, address: &str) -> MailRecord {
    MailRecord {
        id: id.into(),
        to: address.into(),
        ..mail()
    }
}

/// The address of the link in a mail, without what stands before its path.
fn link_in(stored: &StoredMail, answer: &str) -> String {
    let parsed = MessageParser::default().parse(&stored.raw).expect("a mail");
    let text = parsed.body_text(0).expect("text").into_owned();
    text.split_whitespace()
        .find(|word| word.ends_with(&format!("?answer={answer}")))
        .and_then(|url| url.strip_prefix("https://account.example.com"))
        .expect("a link")
        .to_owned()
}

#[test]
fn a_mail_in_the_outbox_becomes_an_answer_on_the_accounts_partition() {
    let broker = Broker::start();
    let mailbox = Mailbox::new();
    let mailer = Running::start(&broker, Transport::Mailbox(mailbox.clone()));
    let pages = Pages::start(&broker);
    broker.write_case(&case("open"));
    pages.wait_for_case(&case("open"));
    broker.write_mail(&mail());

    let mails = eventually("the mail", PATIENCE, || {
        Some(mailbox.all()).filter(|mails| !mails.is_empty())
    });
    assert_eq!(mails[0].to, ["owner@example.org"]);
    let link = link_in(&mails[0], "not-me");
    let page = pages.get(&link);
    assert_eq!(page.status, 200);
    let action = page
        .body
        .split("action=\"")
        .filter_map(|part| part.split('"').next())
        .find(|action| action.ends_with("/not-me"))
        .expect("a form");
    pages.post(action, &[("version", "1")]).location();
    let answers = broker.wait_for(&broker.config.topics.events, 1);
    assert_eq!(answers[0].partition, mail().partition);
    assert_eq!(answers[0].json()["answer"], "not_me");
    assert_eq!(answers[0].json()["case"], "k-9c41d2");

    let receipts = receipts(&broker, 1);
    assert_eq!(
        (receipts[0].id.as_str(), receipts[0].result.as_str()),
        ("m-5f2a", "sent")
    );
    assert_eq!(mailer.metrics.mail_pending.get(), 0);
    mailer.stop(&broker);
}

#[test]
fn what_has_a_receipt_is_never_sent_again() {
    let broker = Broker::start();
    let mailbox = Mailbox::new();
    broker.write_mail(&to("m-1", "one@example.org"));
    // Somebody else sent this one, and died before it could commit its position.
    let receipt = ReceiptRecord {
        schema: 1,
        id: "m-2".into(),
        result: "sent".into(),
        time: "2026-11-22T06:05:00.000Z".into(),
        attempts: 1,
        detail: None,
    };
    broker.write(
        &broker.config.topics.receipts,
        1,
        "m-2",
        &serde_json::to_vec(&receipt).expect("JSON"),
    );
    broker.write_mail(&to("m-2", "two@example.org"));
    broker.write(&broker.config.topics.mail, 2, "junk", b"not a mail");

    let first = Running::start(&broker, Transport::Mailbox(mailbox.clone()));
    eventually("everything read", PATIENCE, || {
        (first.count("sent") == 1
            && first.count("already_done") == 1
            && first.count("unreadable") == 1)
            .then_some(())
    });
    first.stop(&broker);

    let second = Running::start(&broker, Transport::Mailbox(mailbox.clone()));
    broker.write_mail(&to("m-3", "three@example.org"));
    eventually("the next mail", PATIENCE, || {
        (second.count("sent") == 1).then_some(())
    });
    second.stop(&broker);
    let sent: Vec<Vec<String>> = mailbox.all().iter().map(|mail| mail.to.clone()).collect();
    assert_eq!(sent, [["one@example.org"], ["three@example.org"]]);
}

#[test]
fn an_address_gets_so_many_mails_an_hour() {
    let broker = Broker::start();
    let mailbox = Mailbox::new();
    let mailer = Running::start(&broker, Transport::Mailbox(mailbox.clone()));
    for n in 0..5 {
        broker.write_mail(&to(&format!("m-{n}"), "Owner@example.org"));
    }
    broker.write_mail(&to("m-other", "other@example.org"));
    eventually("the cap", PATIENCE, || {
        (mailer.count("delayed") == 2 && mailer.count("sent") == 4).then_some(())
    });
    assert_eq!(
        mailer.metrics.mail_pending.get(),
        2,
        "they wait for their turn"
    );
    mailer.stop(&broker);
}

/// What the little server below does with the next message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reply {
    Take,
    /// Answered to RCPT TO.
    Say(&'static str),
    HangUp,
}

/// A mail server of one thread a connection that says what it is told, so that refusals can
/// be tested on every machine.
struct Refusing {
    port: u16,
    /// Addresses and when they were tried, in order.
    tried: Arc<Mutex<Vec<String>>>,
}

impl Refusing {
    fn start(script: fn(&str, usize) -> Reply) -> Refusing {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let tried: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&tried);
        // Ends with the process; it holds nothing but its port.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let seen = Arc::clone(&seen);
                // An error is a client that hung up, which is its right.
                std::thread::spawn(move || drop(converse(&stream, &seen, script)));
            }
        });
        Refusing { port, tried }
    }

    fn tries(&self, address: &str) -> usize {
        let tried = self.tried.lock().expect("no panic");
        tried.iter().filter(|to| *to == address).count()
    }
}

fn converse(
    stream: &TcpStream,
    tried: &Mutex<Vec<String>>,
    script: fn(&str, usize) -> Reply,
) -> std::io::Result<()> {
    let mut out = stream;
    out.write_all(b"220 test\r\n")?;
    let mut lines = BufReader::new(stream).lines();
    while let Some(line) = lines.next().transpose()? {
        let upper = line.to_uppercase();
        let reply = if upper.starts_with("RCPT") {
            let to = line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
            let mut tried = tried.lock().expect("no panic");
            let before = tried.iter().filter(|seen| **seen == to).count();
            tried.push(to.clone());
            match script(&to, before) {
                Reply::Take => "250 ok",
                Reply::Say(reply) => reply,
                Reply::HangUp => return Ok(()),
            }
        } else if upper == "DATA" {
            out.write_all(b"354 go on\r\n")?;
            while lines.next().transpose()?.is_some_and(|line| line != ".") {}
            "250 taken"
        } else if upper.starts_with("EHLO") {
            "250 test"
        } else {
            "250 ok"
        };
        out.write_all(reply.as_bytes())?;
        out.write_all(b"\r\n")?;
    }
    Ok(())
}

#[test]
fn refusals_are_retried_or_final_each_mail_on_its_own_schedule() {
    let server = Refusing::start(|to, before| match (to, before) {
        ("grey@example.org", 0..2) => Reply::Say("451 4.7.1 come back later"),
        ("cut@example.org", 0) => Reply::HangUp,
        ("gone@example.org", _) => Reply::Say("550 5.1.1 <gone@example.org> is unknown"),
        ("never@example.org", _) => Reply::Say("450 busy"),
        _ => Reply::Take,
    });
    let mut broker = Broker::start();
    broker.config.mail.port = server.port;
    broker.config.mail.host = "127.0.0.1".into();
    let transport = Transport::smtp(&broker.config.mail).expect("a transport");
    let mailer = Running::start(&broker, transport);
    for name in ["never", "grey", "cut", "gone", "fine"] {
        broker.write_mail(&to(&format!("m-{name}"), &format!("{name}@example.org")));
    }
    let receipts = receipts(&broker, 4);
    let of = |id: &str| receipts.iter().find(|receipt| receipt.id == id);
    let result = |id: &str| of(id).map(|r| (r.result.as_str(), r.attempts));
    assert_eq!(result("m-fine"), Some(("sent", 1)));
    assert_eq!(result("m-grey"), Some(("sent", 3)));
    assert_eq!(result("m-cut"), Some(("sent", 2)));
    assert_eq!(result("m-gone"), Some(("failed", 1)));
    let detail = of("m-gone")
        .and_then(|r| r.detail.clone())
        .expect("a detail");
    assert!(
        detail.contains("550") || detail.contains("unknown"),
        "{detail}"
    );
    assert!(!detail.contains("example.org"), "{detail}");
    assert_eq!(result("m-never"), None, "it is still being tried");
    assert!(server.tries("never@example.org") >= 2);
    mailer.stop(&broker);
}

#[test]
fn a_mail_that_stays_refused_fails_in_the_end() {
    let server = Refusing::start(|_, _| Reply::Say("450 4.2.0 busy"));
    let mut broker = Broker::start();
    broker.config.mail.port = server.port;
    broker.config.mail.host = "127.0.0.1".into();
    // It includes the seconds that joining the group takes.
    broker.config.mail.retry_for = Duration::from_secs(8);
    let transport = Transport::smtp(&broker.config.mail).expect("a transport");
    let mailer = Running::start(&broker, transport);
    broker.write_mail(&mail());
    let receipts = receipts(&broker, 1);
    assert_eq!(receipts[0].result, "failed");
    assert!(receipts[0].attempts > 2, "{receipts:?}");
    mailer.stop(&broker);
}

/// Sends one mail through a real server, and says how it arrived.
fn through_a_real_server(
    behaviour: &Behaviour,
    security: MailSecurity,
    login: Option<(&str, &str)>,
) -> Option<(SmtpServer, Broker, Running)> {
    let server = SmtpServer::start(behaviour)?;
    let mut broker = Broker::start();
    broker.config.mail.port = server.port;
    broker.config.mail.security = security;
    broker.config.mail.ca_file = Some(server.ca_file());
    broker.config.mail.login =
        login.map(|(user, password)| (user.to_owned(), Secret::new(password.to_owned())));
    let transport = Transport::smtp(&broker.config.mail).expect("a transport");
    let mailer = Running::start(&broker, transport);
    broker.write_mail(&mail());
    Some((server, broker, mailer))
}

#[test]
fn a_real_server_gets_the_mail_over_starttls_and_tls_with_a_login() {
    for (server_security, security) in [
        (Security::StartTls, MailSecurity::StartTls),
        (Security::Implicit, MailSecurity::Tls),
    ] {
        let behaviour = Behaviour {
            security: server_security,
            login: Some(("mailer", "secret")),
            temporary: 1,
            ..Behaviour::default()
        };
        let Some((server, broker, mailer)) =
            through_a_real_server(&behaviour, security, Some(("mailer", "secret")))
        else {
            return;
        };
        let mails = server.wait_for_mails(1, PATIENCE);
        assert!(mails[0].tls);
        assert_eq!(mails[0].user.as_deref(), Some("mailer"));
        let parsed = mails[0].parsed();
        assert_eq!(
            parsed.subject(),
            Some("Was this you? We locked your Example account")
        );
        assert_eq!(parsed.message_id(), Some("m-5f2a@example.com"));
        assert!(redacted(&parsed.body_text(0).expect("text")).contains("/c/TOKEN"));
        assert_eq!(
            receipts(&broker, 1)[0].attempts,
            2,
            "the first was answered 451"
        );
        mailer.stop(&broker);
    }
}

#[test]
fn a_server_without_starttls_or_with_another_login_gets_nothing_and_loses_nothing() {
    let wrong_login = Behaviour {
        security: Security::StartTls,
        login: Some(("mailer", "secret")),
        ..Behaviour::default()
    };
    for (behaviour, login) in [
        (Behaviour::default(), None),
        (wrong_login, Some(("mailer", "wrong"))),
    ] {
        let Some((server, broker, mailer)) =
            through_a_real_server(&behaviour, MailSecurity::StartTls, login)
        else {
            return;
        };
        eventually("some attempts", PATIENCE, || {
            (mailer.count("retried") >= 2).then_some(())
        });
        assert!(server.attempts().is_empty());
        assert_eq!(mailer.count("failed"), 0, "settings can be mended");
        mailer.stop(&broker);
    }
}

#[test]
fn a_repeat_after_a_lost_answer_has_the_same_message_id() {
    let behaviour = Behaviour {
        drop: 1,
        ..Behaviour::default()
    };
    let Some((server, broker, mailer)) =
        through_a_real_server(&behaviour, MailSecurity::None, None)
    else {
        return;
    };
    server.wait_for_mails(1, PATIENCE);
    let attempts = server.attempts();
    assert_eq!(attempts.len(), 2);
    assert_eq!(
        attempts[0].parsed().message_id(),
        attempts[1].parsed().message_id()
    );
    receipts(&broker, 1);
    mailer.stop(&broker);
}
