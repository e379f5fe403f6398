//! How mails get from the outbox to a server, whatever the server does.

mod bounces;
mod crashes;
mod recovery;
mod servers;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use doorward::config::Config;
use doorward::mail::plan::Limits;
use doorward::mail::transport::{Mailbox, StoredMail, Transport};
use doorward::mail::{Mailer, RetrySchedule};
use doorward::metrics::Metrics;
use doorward::record::{MailRecord, ReceiptRecord};
use mail_parser::MessageParser;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::owner::{Broker, PARTITIONS, Pages, case, mail};
use crate::support::{PATIENCE, eventually};

/// A mailer at work; stopped when told to, so that another can take over.
struct Running {
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
    pub metrics: Arc<Metrics>,
}

impl Running {
    fn start(broker: &Broker, transport: Transport) -> Running {
        let limits = Limits::new(broker.config.mail.connections);
        Running::on(&broker.runtime, &broker.config, transport, limits)
    }

    /// A mailer that sends through `config.mail`'s server.
    fn by_smtp(broker: &Broker) -> Running {
        let transport = Transport::smtp(&broker.config.mail).expect("a transport");
        Running::start(broker, transport)
    }

    fn on(runtime: &Runtime, config: &Config, transport: Transport, limits: Limits) -> Running {
        let (stop, mut stopped) = watch::channel(false);
        let metrics = Arc::new(Metrics::new());
        let mailer = {
            let _inside = runtime.enter();
            Mailer::start_within(
                config,
                transport,
                RetrySchedule {
                    first: Duration::from_millis(50),
                    longest: Duration::from_millis(200),
                },
                limits,
                Arc::clone(&metrics),
            )
            .expect("a mailer")
        };
        let task = runtime.spawn(mailer.run(async move {
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
        self.stop_on(&broker.runtime);
    }

    fn stop_on(self, runtime: &Runtime) {
        self.stop.send_replace(true);
        runtime.block_on(self.task).expect("a calm end");
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

#[test]
fn accounts_of_others_cannot_delay_the_mail_that_matters() {
    let broker = Broker::start();
    let mailbox = Mailbox::new();
    let mailer = Running::start(&broker, Transport::Mailbox(mailbox.clone()));
    // Somebody registers accounts with the owner's address, makes teams with it, and ends
    // locks of their own.
    for (n, (part, template)) in [
        ("notice", "was_this_you"),
        ("co_owner", "was_this_you"),
        ("owner", "unlocked"),
    ]
    .repeat(5)
    .into_iter()
    .enumerate()
    {
        broker.write_mail(&MailRecord {
            part: part.into(),
            template: template.into(),
            ..to(&format!("m-{n}"), "owner@example.org")
        });
    }
    broker.write_mail(&to("m-theft", "owner@example.org"));
    eventually("the owner's own mail", PATIENCE, || {
        let mails = mailbox.all();
        let arrived = mails.iter().any(|mail| {
            let raw = String::from_utf8_lossy(&mail.raw);
            raw.contains("Message-ID: <m-theft@")
        });
        arrived.then_some(())
    });
    mailer.stop(&broker);
}

/// What the little server below does with the next message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reply {
    Take,
    /// Answered to RCPT TO.
    Say(&'static str),
    HangUp,
    /// Nothing is ever answered.
    Silence,
}

/// A mail server of one thread a connection that says what it is told, so that refusals can
/// be tested on every machine.
struct Refusing {
    port: u16,
    seen: Arc<Seen>,
}

/// Recipients in order: those that were named, and those whose mail was taken.
#[derive(Default)]
struct Seen {
    tried: Mutex<Vec<String>>,
    taken: Mutex<Vec<String>>,
}

/// What to answer, by the address and how often it was tried before.
type Script = Arc<dyn Fn(&str, usize) -> Reply + Send + Sync>;

impl Refusing {
    fn start(script: impl Fn(&str, usize) -> Reply + Send + Sync + 'static) -> Refusing {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let seen: Arc<Seen> = Arc::default();
        let script: Script = Arc::new(script);
        let writes = Arc::clone(&seen);
        // Ends with the process; it holds nothing but its port.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, script) = (Arc::clone(&writes), Arc::clone(&script));
                // An error is a client that hung up, which is its right.
                std::thread::spawn(move || drop(converse(&stream, &seen, &*script)));
            }
        });
        Refusing { port, seen }
    }

    /// An embedded broker whose mails go to this server.
    fn broker(&self) -> Broker {
        let mut broker = Broker::start();
        broker.config.mail.port = self.port;
        broker.config.mail.host = "127.0.0.1".into();
        broker
    }

    fn tries(&self, address: &str) -> usize {
        let tried = self.seen.tried.lock().expect("no panic");
        tried.iter().filter(|to| *to == address).count()
    }

    /// How often each address got a mail.
    fn taken(&self) -> BTreeMap<String, usize> {
        let mut taken = BTreeMap::new();
        for to in self.seen.taken.lock().expect("no panic").iter() {
            *taken.entry(to.clone()).or_default() += 1;
        }
        taken
    }
}

fn converse(
    stream: &TcpStream,
    seen: &Seen,
    script: &dyn Fn(&str, usize) -> Reply,
) -> std::io::Result<()> {
    let mut out = stream;
    let mut recipient = String::new();
    out.write_all(b"220 test\r\n")?;
    let mut lines = BufReader::new(stream).lines();
    while let Some(line) = lines.next().transpose()? {
        let upper = line.to_uppercase();
        let reply = if upper.starts_with("RCPT") {
            let to = line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
            recipient.clone_from(&to);
            let before = {
                let mut tried = seen.tried.lock().expect("no panic");
                tried.push(to.clone());
                tried.iter().filter(|seen| **seen == to).count() - 1
            };
            match script(&to, before) {
                Reply::Take => "250 ok",
                Reply::Say(reply) => reply,
                Reply::HangUp => return Ok(()),
                Reply::Silence => {
                    // Until the client goes.
                    while lines.next().transpose()?.is_some() {}
                    return Ok(());
                }
            }
        } else if upper == "DATA" {
            out.write_all(b"354 go on\r\n")?;
            while lines.next().transpose()?.is_some_and(|line| line != ".") {}
            seen.taken.lock().expect("no panic").push(recipient.clone());
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
    let broker = server.broker();
    let mailer = Running::by_smtp(&broker);
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
    let mut broker = server.broker();
    // It includes the seconds that joining the group takes.
    broker.config.mail.retry_for = Duration::from_secs(8);
    let mailer = Running::by_smtp(&broker);
    broker.write_mail(&mail());
    let receipts = receipts(&broker, 1);
    assert_eq!(receipts[0].result, "failed");
    assert!(receipts[0].attempts > 2, "{receipts:?}");
    mailer.stop(&broker);
}

/// Addresses `PREFIX-00`, `PREFIX-01` and so on at `domain`.
fn addresses(prefix: &str, domain: &str, count: usize) -> Vec<String> {
    let address = |n| format!("{prefix}-{n:02}@{domain}");
    (0..count).map(address).collect()
}

/// Puts a mail to each address into the outbox, spread over its partitions.
fn write_to(broker: &Broker, addresses: &[String]) {
    for (n, address) in addresses.iter().enumerate() {
        let partition = i32::try_from(n).expect("a small number") % PARTITIONS;
        let record = to(&format!("m-{address}"), address);
        broker.write_mail(&MailRecord {
            partition,
            ..record
        });
    }
}

fn once_each(addresses: &[String]) -> BTreeMap<String, usize> {
    addresses.iter().map(|to| (to.clone(), 1)).collect()
}

#[test]
fn a_domain_that_answers_nothing_holds_nobody_up() {
    let server = Refusing::start(|to, _| match to.ends_with("tarpit.example") {
        true => Reply::Silence,
        false => Reply::Take,
    });
    let mut broker = server.broker();
    broker.config.mail.timeout = Duration::from_secs(4);
    let mailer = Running::by_smtp(&broker);
    let lost = addresses("lost", "tarpit.example", 12);
    write_to(&broker, &lost);
    eventually("a first one that hangs", PATIENCE, || {
        (server.tries(&lost[0]) > 0).then_some(())
    });
    let fine = addresses("fine", "example.org", 20);
    write_to(&broker, &fine);
    eventually("the first of the others", PATIENCE, || {
        (!server.taken().is_empty()).then_some(())
    });
    let tries = lost.iter().filter(|to| server.tries(to) > 0).count();
    assert!(tries < lost.len(), "all of them had their turn first");
    eventually("everybody else's mail", PATIENCE, || {
        (server.taken() == once_each(&fine)).then_some(())
    });
    eventually("the receipts", PATIENCE, || {
        (mailer.metrics.mail_pending.get() == 12).then_some(())
    });
    mailer.stop(&broker);
}

#[test]
fn more_mails_than_there_is_room_for_wait_in_the_log_and_arrive_once() {
    let back = Arc::new(AtomicBool::new(false));
    let is_back = Arc::clone(&back);
    let server = Refusing::start(move |to, _| {
        if to.ends_with("dead.example") && !is_back.load(Ordering::Relaxed) {
            Reply::Say("451 4.4.1 nobody there")
        } else {
            Reply::Take
        }
    });
    let broker = server.broker();
    let limits = Limits {
        mails: 30,
        per_domain: 5,
        ..Limits::new(4)
    };
    let start = || {
        let transport = Transport::smtp(&broker.config.mail).expect("a transport");
        Running::on(&broker.runtime, &broker.config, transport, limits)
    };
    let mailer = start();
    let dead = addresses("dead", "dead.example", 60);
    let fine = addresses("fine", "example.org", 20);
    write_to(&broker, &dead);
    write_to(&broker, &fine);
    eventually("the others' mail", PATIENCE, || {
        (server.taken() == once_each(&fine)).then_some(())
    });
    eventually("all to be known", PATIENCE, || {
        (mailer.metrics.mail_pending.get() == 60).then_some(())
    });
    assert!(mailer.count("set_aside") >= 50, "it had no room for them");
    assert_eq!(mailer.count("failed"), 0);
    // A mailer that starts anew finds the same.
    mailer.stop(&broker);
    let mailer = start();
    back.store(true, Ordering::Relaxed);
    let all: Vec<String> = dead.iter().chain(&fine).cloned().collect();
    eventually("the rest", PATIENCE, || {
        (server.taken().len() == all.len() && mailer.metrics.mail_pending.get() == 0).then_some(())
    });
    mailer.stop(&broker);
    assert_eq!(server.taken(), once_each(&all));
    let receipts = receipts(&broker, all.len());
    assert_eq!(receipts.len(), all.len());
    assert!(receipts.iter().all(|receipt| receipt.result == "sent"));
}
