//! `doorward conform`: what a login pipeline's events lack.

mod play;
mod text;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;

use super::Status;
use crate::config::Config;
use crate::conform::{Record, Report, Survey};
use crate::event::{Source, Timestamp};
use crate::publish::wall_clock;
use crate::stretch::Stretch;
use crate::topics;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  doorward conform --config staging.toml\n  \
    doorward conform --config staging.toml --play staging.auth.events\n\n\
    It reads what the pipeline wrote of late and says what is missing, why it matters, and \
    where to look. It changes nothing. With --play it first publishes a labelled scenario: \
    made-up accounts, each attacked in the way of one of the shipped rules, and sees that the \
    service locks them. They have no mail address, so nobody is mailed; your consumer gets \
    commands for accounts that it does not know, and must pass over them.\n\n\
    Exit status: 0 nothing must be mended, 1 something must, 3 the cluster does not answer.")]
pub struct Args {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// How far back to read, such as 1h or 7d
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = span)]
    pub last: i64,
    /// Play the scenario into this topic: the configuration's own events topic, named again so
    /// that nobody plays where they did not mean to
    #[arg(long, value_name = "TOPIC")]
    pub play: Option<String>,
    #[arg(long, value_enum, default_value = "text")]
    pub output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Text,
    Json,
}

/// A whole number and s, m, h or d, in milliseconds.
fn span(text: &str) -> Result<i64, String> {
    let (number, unit) = text.split_at(text.len().saturating_sub(1));
    let unit_ms = match unit {
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err("write it as 30m, 1h or 7d".to_owned()),
    };
    let number: i64 = number.parse().map_err(|_| "write it as 30m, 1h or 7d")?;
    let ms = number.checked_mul(unit_ms);
    ms.filter(|ms| (1..=366 * 86_400_000).contains(ms))
        .ok_or_else(|| "it must be 1s to 366d".to_owned())
}

/// # Errors
/// Where the cluster does not answer, or `--play` names another topic than the
/// configuration does.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config = super::load_config(&args.config)?;
    let played = match &args.play {
        Some(topic) => Some(play::play(&config, topic)?),
        None => None,
    };
    let problems = topic_problems(&config)?;
    let now = wall_clock();
    let report = survey(&config, now.plus_ms(-args.last), now)?;
    let mut out = std::io::stdout().lock();
    match args.output {
        Output::Text => {
            if let Some(played) = &played {
                writeln!(out, "{}", play::text(played))?;
            }
            for problem in &problems {
                writeln!(out, "{problem}\n")?;
            }
            write!(out, "{}", text::report(&report, &config.topics.events))?;
        }
        Output::Json => {
            let all = serde_json::json!({
                "topic": config.topics.events,
                "topic_problems": problems,
                "played": played,
                "report": report,
            });
            writeln!(out, "{all}")?;
        }
    }
    out.flush()?;
    let failed = report.has_musts()
        || played.is_some_and(|played| played.iter().any(|scene| scene.locked.is_none()));
    Ok(if failed { Status::Failed } else { Status::Done }.into())
}

/// What `doorward topics check` says of the events topic.
fn topic_problems(config: &Config) -> anyhow::Result<Vec<String>> {
    let cluster = topics::look(&config.kafka, &config.topics)?;
    let events = &config.topics.events;
    Ok(topics::problems(&config.topics, &cluster)
        .into_iter()
        .filter(|problem| problem.topic == *events)
        .map(|problem| format!("{events}: {}", problem.text))
        .collect())
}

/// Looks at everything that stands in the events topic between two times.
fn survey(config: &Config, from: Timestamp, to: Timestamp) -> anyhow::Result<Report> {
    let stretch = Stretch::open(&config.kafka, &config.topics.events, from, to)?;
    let mut survey = Survey::new();
    stretch.each(|record| {
        survey.note(&Record {
            source: Source {
                partition: record.partition,
                offset: record.offset,
            },
            time: record.broker_time,
            is_append_time: record.is_append_time,
            key: record.key,
            payload: record.payload,
        });
        Ok(())
    })?;
    Ok(survey.report())
}
