//! `doorward recovery`: an operator's word about a recovery that its owner and somebody
//! else fight over (docs/rules.md 16).

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::{OrStatus, Status};
use crate::config::Config;
use crate::engine::output::CaseState;
use crate::event::wire::{OperatorRequest, operator_request};
use crate::follow::{FollowError, Follower};
use crate::link::mac_keys;
use crate::publish::{Publisher, Record, wall_clock};
use crate::record::CaseRecord;

/// How long the cluster may take to show the case, and to take the request.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the service is waited for to carry it out.
const CARRIED_OUT_WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  doorward recovery release --config doorward.toml --case k-4e1f77 \
    --operator support --reason 'the owner came to the desk'\n\n\
    A release before the 24 hours are over lets the recovery go on; nothing shortens it.\n\n\
    Exit status: 0 the request is recorded, 1 there is nothing to decide, 3 the cluster does \
    not answer."
)]
pub struct Args {
    /// What becomes of the recovery
    #[arg(value_enum)]
    pub request: Request,
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The recovery's case reference
    #[arg(long, value_name = "CASE")]
    pub case: String,
    /// Who decided it, for the record
    #[arg(long, value_name = "WHO")]
    pub operator: String,
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Request {
    /// Whoever asked for it may have it
    Release,
    /// It ends
    Cancel,
}

impl Request {
    fn verb(self) -> &'static str {
        match self {
            Request::Release => "release_recovery",
            Request::Cancel => "cancel_recovery",
        }
    }
}

/// # Errors
/// Where there is no such recovery to decide, or the cluster does not answer.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config = super::load_config(&args.config)?;
    let mut cases = Follower::new(&config.kafka, &config.topics.cases).or_status(Status::Usage)?;
    let case = find(&mut cases, &args.case)?;
    if let Some(why) = settled(args.request, &case) {
        return Err(Status::Failed.error(anyhow::anyhow!("{}: {why}", case.id)));
    }
    publish(&config, &args, &case)?;
    let began = Instant::now();
    let mut now = None;
    while now.is_none() && began.elapsed() < CARRIED_OUT_WITHIN {
        read(&mut cases, &case.id, &mut now)?;
        now = now.filter(|seen: &CaseRecord| seen.version > case.version);
    }
    match now {
        Some(case) => println!("{}", said(&case)),
        None => println!(
            "{}: recorded; the service carries it out when it reads it",
            case.id
        ),
    }
    Ok(Status::Done.into())
}

/// The latest record of the case.
fn find(cases: &mut Follower, id: &str) -> anyhow::Result<CaseRecord> {
    let began = Instant::now();
    let mut found = None;
    cases.find_partitions().map_err(status)?;
    while !cases.has_caught_up() {
        if began.elapsed() > PATIENCE {
            let error = anyhow::anyhow!("the cases could not be read within {PATIENCE:?}");
            return Err(Status::Unreachable.error(error));
        }
        read(cases, id, &mut found)?;
    }
    found.ok_or_else(|| Status::Failed.error(anyhow::anyhow!("there is no case {id}")))
}

fn read(cases: &mut Follower, id: &str, found: &mut Option<CaseRecord>) -> anyhow::Result<()> {
    let polled = cases.poll(Duration::from_millis(100), &mut |key, value| {
        if key == id.as_bytes() {
            *found = value.and_then(|value| serde_json::from_slice(value).ok());
        }
    });
    polled.map_err(status)
}

fn status(error: FollowError) -> anyhow::Error {
    let status = match error {
        FollowError::Kafka { .. } => Status::Unreachable,
        FollowError::Missing(_) => Status::Usage,
    };
    status.error(error)
}

/// Why there is nothing to decide.
fn settled(request: Request, case: &CaseRecord) -> Option<&'static str> {
    match (CaseState::parse(&case.state), request) {
        (Some(CaseState::NeedsOperator), _) | (Some(CaseState::Held), Request::Cancel) => None,
        (Some(CaseState::Held), Request::Release) => {
            Some("nobody disputes it; it goes through by itself, and nothing shortens that")
        }
        (Some(CaseState::Released), _) => Some("it has gone through"),
        (Some(CaseState::Cancelled), _) => Some("it was stopped"),
        _ => Some("it is no recovery"),
    }
}

fn publish(config: &Config, args: &Args, case: &CaseRecord) -> anyhow::Result<()> {
    let mut random = [0_u8; 16];
    getrandom::fill(&mut random)
        .map_err(|error| anyhow::anyhow!("the system's random source failed: {error}"))?;
    let id = format!("o-{:032x}", u128::from_be_bytes(random));
    let payload = operator_request(
        &OperatorRequest {
            id: &id,
            account: &case.account,
            case: Some(&case.id),
            request: args.request.verb(),
            operator: &args.operator,
            reason: &args.reason,
            time: wall_clock(),
        },
        &mac_keys(&config.keys.answer),
    );
    let publisher = Publisher::new(&config.kafka, PATIENCE).or_status(Status::Usage)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime
        .block_on(publisher.publish(Record {
            topic: &config.topics.events,
            partition: Some(case.partition),
            key: Some(case.account.as_bytes()),
            payload: &payload,
        }))
        .or_status(Status::Unreachable)
}

/// How the recovery stands then.
fn said(case: &CaseRecord) -> String {
    match (CaseState::parse(&case.state), case.until.as_deref()) {
        (Some(CaseState::Held), Some(until)) => {
            format!("{}: held, and goes through at {until}", case.id)
        }
        _ => format!("{}: {}", case.id, case.state.replace('_', " ")),
    }
}
