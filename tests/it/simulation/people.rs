//! Everybody outside: the login pipeline, owners who follow links, operators.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::LazyLock;

use doorward::config::NamedKey;
use doorward::engine::output::RecipientPart;
use doorward::event::Timestamp;
use doorward::event::wire::{self, CaseResponse, OperatorRequest};
use doorward::link::{Link, LinkKeys};
use doorward::record::{CaseRecord, MailRecord};
use doorward::sim::network::Ask;
use doorward::sim::topic::{Message, Topic};
use doorward::sim::world::{Actor, ProcessId, World};
use serde_json::json;

use super::bug::Bug;
use super::host::answer_keys;
use super::tale::{Answer, Kind, Moment, Request, What};

static LINKS: LazyLock<LinkKeys> = LazyLock::new(|| {
    let key = NamedKey {
        id: "l".into(),
        bytes: vec![9; 32],
    };
    LinkKeys::new(&[key]).expect("one key of 32 bytes")
});

/// What arrived in somebody's mailbox: the mail, and the token in its link.
#[derive(Clone)]
pub struct Delivered {
    pub at: u64,
    pub mail: MailRecord,
    pub token: Option<String>,
}

pub type Mailbox = Rc<RefCell<Vec<Delivered>>>;

/// The link of a mail, as the mailer mints it at sending.
pub fn mint(mail: &MailRecord, now: Timestamp) -> Option<String> {
    let part = RecipientPart::parse(&mail.part)?;
    if part == RecipientPart::Notice {
        return None;
    }
    let link = Link {
        case: mail.case.as_str().into(),
        partition: mail.partition,
        part,
        case_version: mail.case_version,
        expires: now.plus_ms(24 * 3_600_000),
    };
    Some(LINKS.mint(&link).expect("randomness"))
}

/// Publishes the traffic of a tale, each thing at its time.
pub struct People {
    pub traffic: Vec<Moment>,
    pub next: usize,
    /// The web's process, which answers come through.
    pub web: ProcessId,
    pub mailbox: Mailbox,
    pub bug: Option<Bug>,
    /// Payloads by event id, for whoever publishes one again.
    pub sent: BTreeMap<u32, (String, Vec<u8>)>,
    pub requests: u32,
}

impl Actor for People {
    fn step(&mut self, world: &World) -> Option<u64> {
        while let Some(moment) = self.traffic.get(self.next) {
            if moment.at > world.now() {
                return Some(moment.at);
            }
            let what = moment.what;
            // Time may pass underneath, so this is not done twice.
            self.next += 1;
            self.act(world, what);
        }
        None
    }
}

impl People {
    fn act(&mut self, world: &World, what: What) {
        let now = world.time();
        match what {
            What::Event {
                id,
                account,
                kind,
                late_ms,
            } => {
                let owners = match account % 3 {
                    1 => vec![format!("boss-of-{account}@example.org")],
                    _ => Vec::new(),
                };
                let account = name(account);
                let mut event = json!({
                    "id": format!("e{id}"),
                    "time": now.0 - late_ms,
                    "account": account,
                    "email": format!("{account}@example.org"),
                    "owners": owners,
                });
                fill(&mut event, kind, id);
                let payload = event.to_string().into_bytes();
                self.sent.insert(id, (account.clone(), payload.clone()));
                publish(world, &account, payload);
            }
            What::Again { id } => {
                if let Some((account, payload)) = self.sent.get(&id) {
                    publish(world, account, payload.clone());
                }
            }
            What::Junk { account } => publish(world, &name(account), b"{\"id\": 7".to_vec()),
            What::Answer { mail, answer } => self.answer(world, mail, answer, now),
            What::Operate { account, request } => {
                self.requests += 1;
                let id = format!("q-{}", self.requests);
                let account = name(account);
                let (request, rule) = match request {
                    Request::Unlock => ("unlock", None),
                    Request::Undo { rule } => ("undo", Some(rule)),
                    Request::Resend => ("resend", None),
                };
                let request = OperatorRequest {
                    id: &id,
                    account: &account,
                    case: None,
                    rule,
                    request,
                    operator: "support",
                    reason: "asked by phone",
                    time: now,
                    ..OperatorRequest::default()
                };
                publish(
                    world,
                    &account,
                    wire::operator_request(&request, &answer_keys()),
                );
            }
            What::Leap { .. } => {}
        }
    }

    /// As the web does: the link is opened, the case looked up, the answer signed and
    /// published to the partition that the link names, until it is acknowledged.
    fn answer(&mut self, world: &World, mail: u8, answer: Answer, now: Timestamp) {
        let delivered = {
            let mailbox = self.mailbox.borrow();
            let with_links: Vec<&Delivered> =
                mailbox.iter().filter(|one| one.token.is_some()).collect();
            match with_links.len() {
                0 => return,
                count => with_links[usize::from(mail) % count].clone(),
            }
        };
        let token = delivered.token.as_deref().unwrap_or_default();
        let Ok(link) = LINKS.open(token, now) else {
            return;
        };
        let case = case_of(world, &link.case);
        let verb = match answer {
            Answer::Me => "me",
            Answer::NotMe => "not_me",
            Answer::Resend => "resend",
            Answer::CancelRecovery => "cancel_recovery",
        };
        let places: Vec<&str> = match (&case, answer) {
            (Some(case), Answer::Me) => case.places.iter().map(|p| p.value.as_str()).collect(),
            _ => Vec::new(),
        };
        let version = case.as_ref().map_or(link.case_version, |case| case.version);
        let partition = match self.bug {
            Some(Bug::WrongPartition) => {
                (link.partition + 1) % world.cluster(|c| c.partitions(Topic::Events))
            }
            _ => link.partition,
        };
        // Whoever is not told that it is recorded says it again.
        for _ in 0..3 {
            self.requests += 1;
            let id = format!("r-{}", self.requests);
            let account = case.as_ref().map(|case| case.account.as_str());
            let payload = wire::case_response(
                &CaseResponse {
                    id: &id,
                    account,
                    case: &link.case,
                    case_version: version,
                    answer: verb,
                    places: &places,
                    by: link.part.as_str(),
                    time: now,
                },
                &answer_keys(),
            );
            world.note(|| format!("an owner says {verb:?} to {}", link.case));
            let message = Message {
                key: account.map(|account| account.as_bytes().to_vec()),
                payload: Some(payload),
                headers: Vec::new(),
            };
            let published = world.call(self.web, Ask::Publish, 5_000, move |cluster, now| {
                let place = (Topic::Events, partition);
                Ok(cluster.publish(place, message.clone(), now))
            });
            if published.is_ok() {
                return;
            }
        }
    }
}

fn name(account: u8) -> String {
    format!("u-{account}")
}

fn publish(world: &World, account: &str, payload: Vec<u8>) {
    let now = world.now();
    let offset = world.cluster(|cluster| {
        let partition = cluster.place(Topic::Events, account.as_bytes());
        let message = Message {
            key: Some(account.as_bytes().to_vec()),
            payload: Some(payload),
            headers: Vec::new(),
        };
        cluster.publish((Topic::Events, partition), message, now)
    });
    world.note(|| format!("an event of {account} is at offset {offset} of its partition"));
}

fn fill(event: &mut serde_json::Value, kind: Kind, id: u32) {
    let mut set = |name: &str, value: &str| event[name] = value.into();
    match kind {
        Kind::Login { country } => {
            set("type", "login");
            set("outcome", "success");
            set(
                "country",
                ["NO", "DE", "BR", "JP"][usize::from(country % 4)],
            );
            set("session", &format!("s-{id}"));
        }
        Kind::WrongPassword { ip } => {
            set("type", "login");
            set("outcome", "failure");
            set("reason", "bad_password");
            set("ip", &format!("192.0.2.{}", ip + 1));
        }
        Kind::WrongCode | Kind::RightCode => {
            set("type", "two_factor");
            let failed = matches!(kind, Kind::WrongCode);
            set("outcome", if failed { "failure" } else { "success" });
        }
        Kind::Reset { malicious } => {
            set("type", "password_reset");
            set("outcome", "requested");
            let ip = if malicious {
                "198.51.100.7"
            } else {
                "192.0.2.9"
            };
            set("ip", ip);
        }
        Kind::PasswordChanged => set("type", "password_changed"),
        Kind::Stolen => set("type", "reported_stolen"),
        Kind::Deleted => set("type", "account_deleted"),
        Kind::Recovery { role } => {
            set("type", "recovery");
            set("outcome", "requested");
            if role {
                set("role", "member");
            }
        }
    }
}

/// The case as the web has read it: the last committed record under its id.
fn case_of(world: &World, id: &str) -> Option<CaseRecord> {
    world.cluster(|cluster| {
        let partition = cluster.place(Topic::Cases, id.as_bytes());
        let log = cluster.log((Topic::Cases, partition));
        let of_case = log
            .committed(0)
            .filter(|record| record.message.key.as_deref() == Some(id.as_bytes()));
        let newest = of_case.last()?;
        serde_json::from_slice(newest.message.payload.as_deref()?).ok()
    })
}
