//! `doorward topics create|check`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

use super::Status;
use crate::config::Config;
use crate::topics;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  doorward topics create --config doorward.toml")]
pub struct Args {
    #[command(subcommand)]
    pub command: TopicsCommand,
}

#[derive(Debug, Subcommand)]
pub enum TopicsCommand {
    /// Make the topics that do not exist, with the right settings
    Create(CreateArgs),
    /// Say what is wrong with the topics that exist
    Check(CheckArgs),
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  doorward topics create --config doorward.toml --partitions 24\n\n\
    Topics that exist are left as they are; `doorward topics check` says what is wrong with \
    them."
)]
pub struct CreateArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Partitions of each topic; where the events topic exists, it decides. More partitions
    /// let more threads and machines share the work, and cannot be changed later
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(i32).range(1..=10_000))]
    pub partitions: i32,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  doorward topics check --config doorward.toml\n\n\
    Exit status: 0 nothing is wrong, 1 something is, 3 the cluster does not answer."
)]
pub struct CheckArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// # Errors
/// Where the cluster does not answer, or refuses a topic.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        TopicsCommand::Create(args) => create(&super::load_config(&args.config)?, &args),
        TopicsCommand::Check(args) => check(&super::load_config(&args.config)?),
    }
}

fn create(config: &Config, args: &CreateArgs) -> anyhow::Result<ExitCode> {
    let cluster = topics::look(&config.kafka, &config.topics)?;
    let events = cluster.topics.get(&config.topics.events);
    let partitions = events.map_or(args.partitions, |events| events.partitions);
    let wanted = topics::specs(&config.topics, partitions, cluster.brokers);
    let made = topics::create(&config.kafka, &wanted)?;
    let mut out = std::io::stdout().lock();
    for (name, is_new) in made {
        let what = if is_new { "made" } else { "exists" };
        writeln!(out, "{name}: {what}")?;
    }
    out.flush()?;
    Ok(Status::Done.into())
}

fn check(config: &Config) -> anyhow::Result<ExitCode> {
    let cluster = topics::look(&config.kafka, &config.topics)?;
    let problems = topics::problems(&config.topics, &cluster);
    let mut out = std::io::stdout().lock();
    for spec in topics::specs(&config.topics, 1, cluster.brokers) {
        let of_topic = problems.iter().filter(|p| p.topic == spec.name);
        let mut is_good = true;
        for problem in of_topic {
            is_good = false;
            let weight = if problem.is_error { "error" } else { "warning" };
            writeln!(out, "{}: {weight}: {}", spec.name, problem.text)?;
        }
        if let Some(existing) = cluster.topics.get(&spec.name).filter(|_| is_good) {
            writeln!(
                out,
                "{}: good, {} partitions",
                spec.name, existing.partitions
            )?;
        }
    }
    out.flush()?;
    Ok(if problems.iter().any(|p| p.is_error) {
        Status::Failed.into()
    } else {
        Status::Done.into()
    })
}
