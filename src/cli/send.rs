//! `doorward send`: publishes events, keyed by account as the contract asks.

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Deserialize;
use sonic_rs::JsonValueTrait;

use super::{OrStatus, Status};
use crate::config::Config;
use crate::kafka::producer::Producer;
use crate::log::client::Producer as _;
use crate::log::{LogError, OutputRecord, OutputTopic};

/// How long one record may wait for room, and the last ones for their acknowledgement.
const PATIENCE: Duration = Duration::from_secs(30);
const SHOW_EVERY: Duration = Duration::from_millis(200);
/// Bad lines that are shown; the others are counted.
const SHOWN: usize = 5;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  doorward generate --events 500 --accounts 50 --attacks all --start now \
    | doorward send --config doorward.toml -\n\n\
    Exit status: 0 all were sent, 1 some lines are no JSON objects, 3 the cluster does not \
    answer."
)]
pub struct Args {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Files with one event a line; `-` is standard input
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
}

/// # Errors
/// Where a file cannot be read or the cluster does not take the events.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config = super::load_config(&args.config)?;
    let mut sender = Sender::new(config)?;
    for path in &args.files {
        sender
            .file(path)
            .with_context(|| format!("sending {}", path.display()))?;
    }
    let bad = sender.finish()?;
    Ok(match bad {
        0 => Status::Done.into(),
        _ => Status::Failed.into(),
    })
}

/// The only part of an event that matters here.
#[derive(Deserialize)]
struct Line {
    account: Option<String>,
}

struct Sender {
    producer: Producer,
    sent: u64,
    bad: u64,
    progress: Progress,
}

impl Sender {
    fn new(config: Config) -> anyhow::Result<Sender> {
        let mut kafka = config.kafka;
        // Each event stands for itself.
        kafka.transactions = false;
        Ok(Sender {
            producer: Producer::register(&kafka, &config.topics, 0)?,
            sent: 0,
            bad: 0,
            progress: Progress::new(),
        })
    }

    fn file(&mut self, path: &Path) -> anyhow::Result<()> {
        let input: Box<dyn Read> = if path.as_os_str() == "-" {
            Box::new(std::io::stdin().lock())
        } else {
            Box::new(File::open(path).or_status(Status::Usage)?)
        };
        let mut input = BufReader::with_capacity(1 << 16, input);
        let mut line = Vec::new();
        let mut number = 0u64;
        loop {
            line.clear();
            number += 1;
            if input.read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            let text = line.trim_ascii();
            if text.is_empty() {
                continue;
            }
            match keyed(text) {
                Ok(record) => self.send(record)?,
                Err(error) => self.refuse(path, number, &error),
            }
        }
    }

    fn send(&mut self, record: OutputRecord) -> anyhow::Result<()> {
        self.producer
            .send_all(std::slice::from_ref(&record), PATIENCE)
            .map_err(|error| LogError::Unavailable(error.text))?;
        self.sent += 1;
        self.progress.show(self.sent);
        Ok(())
    }

    fn refuse(&mut self, path: &Path, number: u64, error: &serde_json::Error) {
        self.bad += 1;
        if self.bad <= SHOWN as u64 {
            eprintln!("{}:{number}: no JSON object: {error}", path.display());
        }
    }

    /// Waits until all are acknowledged; how many lines were not sent.
    fn finish(mut self) -> anyhow::Result<u64> {
        let flushed = self.producer.flush(PATIENCE);
        if let Some((topic, code)) = self.producer.take_failure() {
            return Err(crate::kafka::classify(code, &format!("writing to {topic}")).into());
        }
        flushed.map_err(|error| LogError::Unavailable(error.text))?;
        self.progress.end();
        eprintln!("{} events sent", self.sent);
        if self.bad > 0 {
            eprintln!("{} lines are no events and were not sent", self.bad);
        }
        Ok(self.bad)
    }
}

/// The record for one line: an event, or an envelope as `doorward record` writes it, which
/// holds one.
fn keyed(text: &[u8]) -> Result<OutputRecord, serde_json::Error> {
    let inner = sonic_rs::get(text, &["event"]).ok();
    let event = match &inner {
        Some(inner) if inner.is_object() => inner.as_raw_str().as_bytes(),
        _ => text,
    };
    let line: Line = serde_json::from_slice(event)?;
    Ok(OutputRecord {
        topic: OutputTopic::Events,
        key: line.account.unwrap_or_default().into_bytes(),
        payload: Some(event.to_vec()),
        partition: None,
        headers: Vec::new(),
    })
}

/// A line on a terminal that counts up.
struct Progress {
    shown: Option<Instant>,
    is_terminal: bool,
}

impl Progress {
    fn new() -> Progress {
        Progress {
            shown: None,
            is_terminal: std::io::stderr().is_terminal(),
        }
    }

    fn show(&mut self, sent: u64) {
        let due = self.shown.is_none_or(|at| at.elapsed() >= SHOW_EVERY);
        if self.is_terminal && due {
            self.shown = Some(Instant::now());
            eprint!("\r{sent} events");
            // A terminal that is gone needs no progress.
            let _ = std::io::stderr().flush();
        }
    }

    fn end(&mut self) {
        if self.shown.take().is_some() {
            eprint!("\r\x1b[K");
        }
    }
}
