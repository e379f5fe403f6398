//! The login pipeline's side of doorward, complete: what obeys `auth.commands`, what asks
//! before a sign-in, and what tells doorward that a password was changed.
//!
//! ```sh
//! cargo run --example login_pipeline -- obey --brokers localhost:9092 --store accounts
//! cargo run --example login_pipeline -- sign-in --store accounts --account u-123
//! cargo run --example login_pipeline -- change-password --brokers localhost:9092 \
//!     --store accounts --account u-123
//! ```
//!
//! What is worth copying:
//! - **Only committed records.** `isolation.level=read_committed`: a reader of uncommitted
//!   ones sees locks that never happened.
//! - **Effects first, offset last.** The offset is committed after the effects are in the
//!   store. A crash in between repeats the command.
//! - **`seq` makes a repeat harmless.** It is stored with the account, in one write with what
//!   the command did. A command whose `seq` is not above it is old news.
//! - **What cannot be obeyed is not passed over in silence.** A newer schema ends the process;
//!   a command of an unknown name is said, and the next ones are obeyed.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use jiff::Timestamp;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext};
use serde::{Deserialize, Serialize};

/// The version of the records that this program understands.
const SCHEMA: u32 = 1;
/// How long an event may take to be acknowledged.
const ACKNOWLEDGE_WITHIN: Duration = Duration::from_secs(30);

#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Read commands and obey them, for ever
    Obey {
        #[arg(long)]
        brokers: String,
        #[arg(long, default_value = "auth.commands")]
        topic: String,
        #[arg(long, default_value = "login-pipeline")]
        group: String,
        #[command(flatten)]
        store: Store,
    },
    /// Say whether an account may sign in
    SignIn {
        #[command(flatten)]
        store: Store,
        #[arg(long)]
        account: String,
        /// When this device first signed in, if it has
        #[arg(long)]
        device_since: Option<Timestamp>,
    },
    /// Set a new password, after the pipeline's own proof of who asks, and tell doorward
    ChangePassword {
        #[arg(long)]
        brokers: String,
        #[arg(long, default_value = "auth.events")]
        topic: String,
        #[command(flatten)]
        store: Store,
        #[arg(long)]
        account: String,
    },
}

fn main() -> anyhow::Result<ExitCode> {
    match Args::parse().command {
        Action::Obey {
            brokers,
            topic,
            group,
            store,
        } => obey(&brokers, &topic, &group, &store),
        Action::SignIn {
            store,
            account,
            device_since,
        } => match store
            .read(&account)?
            .refusal(device_since, Timestamp::now())
        {
            None => {
                println!("{account}: may sign in");
                Ok(ExitCode::SUCCESS)
            }
            Some(why) => {
                println!("{account}: refused, {why}");
                Ok(ExitCode::FAILURE)
            }
        },
        Action::ChangePassword {
            brokers,
            topic,
            store,
            account,
        } => change_password(&brokers, &topic, &store, &account),
    }
}

/// One message of `auth.commands`. Fields that are not needed here are left out, and fields
/// that a later doorward adds are passed over.
#[derive(Deserialize)]
struct Command {
    seq: i64,
    command: String,
    account: String,
    case: Option<String>,
    scope: Option<Scope>,
    since: Option<Timestamp>,
    #[serde(default)]
    sessions: Vec<String>,
    until: Option<Timestamp>,
    /// Ids of the pipeline's own events; of a recovery, those of its requests.
    #[serde(default)]
    evidence: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Scope {
    Unfamiliar,
    /// Also what a pipeline does that cannot tell devices apart, and where a scope is unknown.
    #[serde(other)]
    All,
}

/// What the pipeline keeps of one account because of doorward.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Account {
    /// Of the newest command that was obeyed; it stays when the lock is lifted.
    seq: Option<i64>,
    lock: Option<Lock>,
    /// The case that the next password change answers.
    password_change: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Lock {
    scope: Scope,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    case: Option<String>,
}

impl Account {
    /// Obeys `command`. What was done is said, a line each, for the log; `None` where the
    /// command is old news.
    fn obey(&mut self, command: &Command) -> Option<Vec<String>> {
        if self.seq.is_some_and(|seq| command.seq <= seq) {
            return None;
        }
        self.seq = Some(command.seq);
        let ids = command.evidence.join(", ");
        Some(match command.command.as_str() {
            "lock_account" => self.lock(command),
            "unlock_account" => {
                self.lock = None;
                vec!["lift the lock".into()]
            }
            "revoke_sessions" => vec!["end every session".into()],
            "require_password_change" => {
                let case = command.case.clone().unwrap_or_default();
                self.password_change = Some(case.clone());
                vec![format!("require a new password, case {case}")]
            }
            "rotate_api_keys" => vec!["replace the API keys".into()],
            // A recovery is completed on `release_recovery` alone, and only the requests
            // that it names.
            "hold_recovery" => vec![format!("hold recovery {ids}")],
            "release_recovery" => vec![format!("complete recovery {ids}")],
            "cancel_recovery" => vec![format!("end recovery {ids}")],
            unknown => {
                eprintln!("the command {unknown} is unknown here; update this program");
                Vec::new()
            }
        })
    }

    /// A later lock of the same case is the wider one: it replaces what is there.
    fn lock(&mut self, command: &Command) -> Vec<String> {
        let scope = command.scope.unwrap_or(Scope::All);
        let mut done = vec![match (scope, command.since) {
            (Scope::Unfamiliar, Some(since)) => {
                format!("refuse sign-ins of devices unknown before {since}")
            }
            _ => "refuse every sign-in".to_owned(),
        }];
        done.push("void reset links".into());
        if !command.sessions.is_empty() {
            done.push(format!("suspend sessions {}", command.sessions.join(", ")));
        }
        self.lock = Some(Lock {
            scope,
            since: command.since,
            until: command.until,
            case: command.case.clone(),
        });
        done
    }

    /// Why a sign-in is refused at `now`; asked before every one, whatever the method.
    fn refusal(&self, device_since: Option<Timestamp>, now: Timestamp) -> Option<String> {
        let lock = self
            .lock
            .as_ref()
            // doorward sends `unlock_account` too; this one needs nobody.
            .filter(|lock| lock.until.is_none_or(|until| now < until));
        if let Some(lock) = lock {
            let is_familiar = match (lock.scope, lock.since, device_since) {
                (Scope::Unfamiliar, Some(since), Some(known)) => known < since,
                _ => false,
            };
            if !is_familiar {
                let case = lock.case.as_deref().unwrap_or("-");
                return Some(format!("the account is locked, case {case}"));
            }
        }
        let case = self.password_change.as_deref()?;
        Some(format!("a new password must be set first, case {case}"))
    }
}

/// A folder with a file for each account. Yours is a table of your database: write what a
/// command did and its `seq` in one of its transactions.
#[derive(clap::Args)]
struct Store {
    /// Folder that stands for the pipeline's database
    #[arg(long = "store", value_name = "DIR")]
    folder: PathBuf,
}

impl Store {
    fn read(&self, account: &str) -> anyhow::Result<Account> {
        match fs::read(self.path(account)) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .with_context(|| format!("{} is damaged", self.path(account).display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Account::default()),
            Err(error) => Err(error).context("reading the store"),
        }
    }

    /// All of it or nothing, also where the machine stops in the middle.
    fn write(&self, account: &str, state: &Account) -> anyhow::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let path = self.path(account);
        let new = path.with_extension("new");
        let mut file = fs::File::create(&new)?;
        file.write_all(&serde_json::to_vec(state)?)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        fs::File::open(&self.folder)?.sync_all()?;
        Ok(())
    }

    /// Account ids may hold anything; a file's name may not.
    fn path(&self, account: &str) -> PathBuf {
        let hex: String = account.bytes().map(|byte| format!("{byte:02x}")).collect();
        Path::new(&self.folder).join(hex).with_extension("json")
    }
}

fn obey(brokers: &str, topic: &str, group: &str, store: &Store) -> anyhow::Result<ExitCode> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", group)
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        // A new group begins with the oldest command that is kept: none is left out.
        .set("auto.offset.reset", "earliest")
        .create()?;
    consumer.subscribe(&[topic])?;
    loop {
        let message = match consumer.poll(Duration::from_secs(1)) {
            None => continue,
            Some(Ok(message)) => message,
            // The client goes on looking for its brokers.
            Some(Err(error)) => {
                eprintln!("reading {topic}: {error}");
                continue;
            }
        };
        let place = format!("{topic}:{}:{}", message.partition(), message.offset());
        if let Some(command) = parse(message.payload().unwrap_or_default(), &place)? {
            carry_out(&command, store)?;
        }
        consumer.commit_message(&message, CommitMode::Sync)?;
    }
}

/// `None` for what is no command: nothing that waits behind it should wait for a person.
fn parse(payload: &[u8], place: &str) -> anyhow::Result<Option<Command>> {
    #[derive(Deserialize)]
    struct Versioned {
        schema: u32,
    }
    match serde_json::from_slice::<Versioned>(payload) {
        Ok(Versioned { schema }) if schema > SCHEMA => bail!(
            "{place} has schema {schema}, and this program understands {SCHEMA}: update it; \
             the commands wait in the topic meanwhile"
        ),
        _ => {}
    }
    match serde_json::from_slice(payload) {
        Ok(command) => Ok(Some(command)),
        Err(error) => {
            eprintln!("{place} is no command: {error}");
            Ok(None)
        }
    }
}

fn carry_out(command: &Command, store: &Store) -> anyhow::Result<()> {
    let account = &command.account;
    let mut state = store.read(account)?;
    let Some(done) = state.obey(command) else {
        println!("{account}: seq {} is old news", command.seq);
        return Ok(());
    };
    // Each of these may be done twice without harm; here they are only said.
    for what in done {
        println!("{account}: {what}");
    }
    store.write(account, &state)
}

fn change_password(
    brokers: &str,
    topic: &str,
    store: &Store,
    account: &str,
) -> anyhow::Result<ExitCode> {
    let mut state = store.read(account)?;
    let now = Timestamp::now();
    let event = serde_json::json!({
        "id": format!("{account}-password-{}", now.as_nanosecond()),
        "type": "password_changed",
        "time": now.to_string(),
        "account": account,
        // It tells doorward which case is over, and proves nothing: the pipeline has its own
        // proof of who set the password.
        "case": state.password_change.take(),
    });
    publish(brokers, topic, account, &event.to_string())?;
    // Only now: an event that got lost is told again with the next try.
    store.write(account, &state)?;
    println!("{account}: the password was changed");
    Ok(ExitCode::SUCCESS)
}

/// Writes one event and returns when Kafka has it.
fn publish(brokers: &str, topic: &str, account: &str, event: &str) -> anyhow::Result<()> {
    let producer: ThreadedProducer<Reports> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        // As Java's client does it: all events of an account on one partition.
        .set("partitioner", "murmur2_random")
        .set(
            "message.timeout.ms",
            ACKNOWLEDGE_WITHIN.as_millis().to_string(),
        )
        .create_with_context(Reports)?;
    let (report, reports) = mpsc::channel();
    producer
        .send(
            BaseRecord::with_opaque_to(topic, Box::new(report))
                .key(account)
                .payload(event),
        )
        .map_err(|(error, _)| error)?;
    // A moment longer than the producer itself tries.
    match reports.recv_timeout(ACKNOWLEDGE_WITHIN + Duration::from_secs(5))? {
        None => Ok(()),
        Some(error) => Err(error).context("the event was not published"),
    }
}

/// Hands each delivery report to whoever waits for it.
struct Reports;

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<Sender<Option<KafkaError>>>;

    fn delivery(&self, result: &DeliveryResult<'_>, waiting: Self::DeliveryOpaque) {
        let failed = result.as_ref().err().map(|(error, _)| error.clone());
        // Whoever waited may have gone.
        let _ = waiting.send(failed);
    }
}
