//! What an operator's commands have in common: they find a case, publish a signed request
//! about it, and wait until the service has carried it out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{OrStatus, Status};
use crate::config::Config;
use crate::event::wire::{OperatorRequest, operator_request};
use crate::follow::{FollowError, Follower};
use crate::link::mac_keys;
use crate::publish::{Publisher, Record, wall_clock};
use crate::record::{CaseRecord, NoteRecord};

/// How long the cluster may take to show the cases, and to take a request.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the service is waited for to carry out the next of them.
const CARRIED_OUT_WITHIN: Duration = Duration::from_secs(10);
/// Characters of a name and of a reason.
const MAX_WORDS: usize = 200;

/// Cases by their id.
pub type Cases = BTreeMap<String, CaseRecord>;

/// Who asks, and why: nothing is done without.
#[derive(Debug, clap::Args)]
pub struct Who {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Who decided it, for the record
    #[arg(long, value_name = "WHO", value_parser = said)]
    pub operator: String,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", value_parser = said)]
    pub reason: String,
}

/// A text for the record: not blank, and one line.
fn said(text: &str) -> Result<String, String> {
    let text = text.trim();
    match text {
        "" => Err("say something: it stands in the record".into()),
        _ if text.chars().count() > MAX_WORDS => {
            Err(format!("at most {MAX_WORDS} characters are kept"))
        }
        _ if text.chars().any(char::is_control) => Err("one line of plain text".into()),
        _ => Ok(text.to_owned()),
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub verb: &'a str,
    pub account: &'a str,
    /// `None`: whatever case the account has.
    pub case: Option<&'a str>,
    /// The account's, where it is known; else the one that its key leads to.
    pub partition: Option<i32>,
    pub rule: Option<&'a str>,
    pub to: Option<&'a str>,
}

impl<'a> Request<'a> {
    pub fn about(verb: &'a str, case: &'a CaseRecord) -> Request<'a> {
        Request {
            verb,
            account: &case.account,
            case: Some(&case.id),
            partition: Some(case.partition),
            rule: None,
            to: None,
        }
    }
}

/// Where an operator's command works: the cases as they are, and a way to ask.
pub struct Desk {
    config: Config,
    cases: Follower,
    /// Made with the first request.
    publishing: Option<(Publisher, tokio::runtime::Runtime)>,
}

impl Desk {
    /// # Errors
    /// With every mistake in the configuration at `path`.
    pub fn open(path: &Path) -> anyhow::Result<Desk> {
        let config = super::load_config(path)?;
        let cases = Follower::new(&config.kafka, &config.topics.cases).or_status(Status::Usage)?;
        Ok(Desk {
            config,
            cases,
            publishing: None,
        })
    }

    /// Every case that `keep` wants, in its latest state.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub fn cases(&mut self, keep: &dyn Fn(&CaseRecord) -> bool) -> anyhow::Result<Cases> {
        let began = Instant::now();
        let mut cases = Cases::new();
        self.cases.find_partitions().map_err(status)?;
        while !self.cases.has_caught_up() {
            if began.elapsed() > PATIENCE {
                let error = anyhow::anyhow!("the cases could not be read within {PATIENCE:?}");
                return Err(Status::Unreachable.error(error));
            }
            self.read(keep, &mut cases)?;
        }
        Ok(cases)
    }

    /// The case `id`.
    ///
    /// # Errors
    /// Where there is none, or the cases cannot be read.
    pub fn case(&mut self, id: &str) -> anyhow::Result<CaseRecord> {
        let mut cases = self.cases(&|case| case.id == id)?;
        cases
            .remove(id)
            .ok_or_else(|| Status::Failed.error(anyhow::anyhow!("there is no case {id}")))
    }

    /// Publishes a request, and says under which id.
    ///
    /// # Errors
    /// Where the cluster does not take it.
    pub fn publish(&mut self, who: &Who, request: &Request<'_>) -> anyhow::Result<String> {
        let mut random = [0_u8; 16];
        getrandom::fill(&mut random)
            .map_err(|error| anyhow::anyhow!("the system's random source failed: {error}"))?;
        let id = format!("o-{:032x}", u128::from_be_bytes(random));
        let payload = operator_request(
            &OperatorRequest {
                id: &id,
                account: request.account,
                case: request.case,
                request: request.verb,
                rule: request.rule,
                to: request.to,
                operator: &who.operator,
                reason: &who.reason,
                time: wall_clock(),
            },
            &mac_keys(&self.config.keys.answer),
        );
        if self.publishing.is_none() {
            let publisher =
                Publisher::new(&self.config.kafka, PATIENCE).or_status(Status::Usage)?;
            let runtime = tokio::runtime::Builder::new_current_thread().build()?;
            self.publishing = Some((publisher, runtime));
        }
        let Some((publisher, runtime)) = &self.publishing else {
            anyhow::bail!("nothing can be published");
        };
        runtime
            .block_on(publisher.publish(Record {
                topic: &self.config.topics.events,
                partition: request.partition,
                key: Some(request.account.as_bytes()),
                payload: &payload,
            }))
            .or_status(Status::Unreachable)?;
        Ok(id)
    }

    /// Follows `cases` until `is_done` says that the service has carried out what was asked
    /// for; false where it did nothing of it for a while.
    ///
    /// # Errors
    /// Where the cases cannot be read.
    pub fn wait(
        &mut self,
        cases: &mut Cases,
        is_done: &dyn Fn(&Cases) -> bool,
    ) -> anyhow::Result<bool> {
        let ids: BTreeSet<String> = cases.keys().cloned().collect();
        let mut moved = Instant::now();
        while !is_done(cases) {
            if moved.elapsed() > CARRIED_OUT_WITHIN {
                return Ok(false);
            }
            if self.read(&|case| ids.contains(&case.id), cases)? {
                moved = Instant::now();
            }
        }
        Ok(true)
    }

    /// Reads on for a moment; true where something of interest came.
    fn read(
        &mut self,
        keep: &dyn Fn(&CaseRecord) -> bool,
        cases: &mut Cases,
    ) -> anyhow::Result<bool> {
        let mut came = false;
        let polled = self
            .cases
            .poll(Duration::from_millis(100), &mut |key, value| {
                let case = value.and_then(|v| serde_json::from_slice::<CaseRecord>(v).ok());
                match case.filter(|case| keep(case)) {
                    Some(case) => {
                        came = true;
                        cases.insert(case.id.clone(), case);
                    }
                    // It is over, or no longer what is looked for.
                    None => {
                        if let Ok(id) = std::str::from_utf8(key) {
                            cases.remove(id);
                        }
                    }
                }
            });
        polled.map_err(status)?;
        Ok(came)
    }
}

fn status(error: FollowError) -> anyhow::Error {
    let status = match error {
        FollowError::Kafka { .. } => Status::Unreachable,
        FollowError::Missing(_) => Status::Usage,
    };
    status.error(error)
}

/// What became of the request `event` about `case`; `None` while it has not been read.
pub fn outcome<'c>(case: &'c CaseRecord, event: &str) -> Option<&'c NoteRecord> {
    case.operators.iter().find(|note| note.event == event)
}

/// `text`, which came from an event, so that a terminal only shows it.
pub fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| match c {
            c if c.is_control() => c.escape_default().collect::<Vec<_>>(),
            c => vec![c],
        })
        .collect()
}
