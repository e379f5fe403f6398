//! `doorward replay`: recorded events through the engine.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::ValueEnum;

use crate::config::GeoIp;
use crate::document::Diagnostics;
use crate::engine::output::{Decision, Effect};
use crate::facts::{self, Folder};
use crate::record::DecisionRecord;
use crate::replay::{Replay, Summary, input};
use crate::rules::RuleSet;

use super::{OrStatus, Status};

/// `doorward replay`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  doorward replay --rules rules/ last-week.ndjson.zst\n\n\
    The files are read in the order given, as one stream of events (or of the envelopes \
    that `record` writes), one JSON object a line. Without broker times the running maximum \
    of event time is the clock. Lines that are no events are counted on stderr."
)]
pub struct Args {
    /// Folder of rules and lists [default: the built-in ones]
    #[arg(long, value_name = "DIR")]
    pub rules: Option<PathBuf>,
    /// Country database [default: the built-in one]
    #[arg(long, value_name = "FILE")]
    pub geoip: Option<PathBuf>,
    /// How decisions are printed [default: table on a terminal, ndjson elsewhere]
    #[arg(long, value_enum)]
    pub output: Option<Output>,
    /// Partitions of the input topic that the events came from
    #[arg(long, value_name = "N", default_value_t = 12)]
    pub partitions: u32,
    /// Exit with 1 where a line is no event
    #[arg(long)]
    pub strict: bool,
    /// NDJSON, also .gz and .zst; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Table,
    Ndjson,
}

/// Replays the files.
///
/// # Errors
/// Mistakes in rules or lists, a database or file that cannot be read: status 2.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut found = Diagnostics::default();
    let rules_dir = args.rules.as_deref();
    let files = Folder(args.rules.clone()).rule_files(&mut found);
    let geoip = GeoIp {
        database: args.geoip.clone(),
        previous: None,
    };
    let loaded = facts::load(&geoip, rules_dir).map_err(|found| super::refused(&found))?;
    if let (Some(path), None) = (&args.geoip, &loaded.facts.geo) {
        let why = loaded.problems.found.first();
        return Err(Status::Usage.error(anyhow::anyhow!(
            "the country database {} cannot be used: {}",
            path.display(),
            why.map_or("unreadable", |problem| &problem.message)
        )));
    }
    let rules = RuleSet::load(&files, &loaded.facts.lists, &mut found);
    let Some(rules) = rules.filter(|_| !found.has_errors()) else {
        return Err(super::refused(&found));
    };
    for (rule, list) in rules.missing_lists() {
        eprintln!("the rule {rule} is off: the list {list} could not be loaded");
    }
    let provenance = loaded.provenance("replay", rules.hash());
    let mut replay = Replay::new(Arc::new(rules), Arc::new(loaded.facts), args.partitions);

    let stdout = io::stdout();
    let output = args.output.unwrap_or(if stdout.is_terminal() {
        Output::Table
    } else {
        Output::Ndjson
    });
    let mut out = BufWriter::new(stdout.lock());
    let mut printed = Ok(());
    if output == Output::Table {
        writeln!(out, "{}", heading())?;
    }
    for path in &args.files {
        let name = path.display().to_string();
        let mut reader = input::open(path)
            .with_context(|| format!("cannot open {name}"))
            .or_status(Status::Usage)?;
        input::for_each_line(&mut *reader, |number, line| {
            replay.line(&name, number, line, |decision| {
                if printed.is_ok() {
                    printed = match output {
                        Output::Table => writeln!(out, "{}", row(decision)),
                        Output::Ndjson => serde_json::to_writer(
                            &mut out,
                            &DecisionRecord::new(decision, &provenance),
                        )
                        .map_err(io::Error::from)
                        .and_then(|()| writeln!(out)),
                    };
                }
            });
            std::mem::replace(&mut printed, Ok(()))
        })
        .with_context(|| format!("cannot read {name}"))
        .or_status(Status::Usage)?;
    }
    if output == Output::Table {
        writeln!(out)?;
        write_summary(&mut out, &replay.summary)?;
    }
    out.flush()?;
    report_bad_lines(&replay.summary);
    let failed = args.strict && replay.summary.bad > 0;
    Ok(if failed { Status::Failed } else { Status::Done }.into())
}

fn heading() -> String {
    format!(
        "{:<24}  {:<28}  {:<10}  {:>5}  {:<18}  EVENT",
        "TIME", "RULE", "EFFECT", "VALUE", "WHERE"
    ) + "  ACCOUNT"
}

fn row(decision: &Decision) -> String {
    let last = decision.evidence.last();
    let place = match last.map(|e| (e.country, e.ip)) {
        Some((Some(country), Some(ip))) => format!("{country} {ip}"),
        Some((Some(country), None)) => country.to_string(),
        Some((None, Some(ip))) => ip.to_string(),
        _ => "-".to_owned(),
    };
    format!(
        "{:<24}  {:<28}  {:<10}  {:>5}  {:<18}  {}  {}",
        decision.time.to_string(),
        decision.rule,
        decision.effect.as_str(),
        decision.value,
        place,
        decision.event.escape_debug(),
        decision.account.escape_debug(),
    )
}

fn write_summary(out: &mut impl Write, summary: &Summary) -> io::Result<()> {
    let span = match (summary.first, summary.last) {
        (Some(first), Some(last)) => format!(" from {first} to {last}"),
        _ => String::new(),
    };
    writeln!(out, "{} events{span}", summary.events)?;
    let rules: std::collections::BTreeSet<&String> =
        summary.effects.keys().map(|(rule, _)| rule).collect();
    if rules.is_empty() {
        return writeln!(out, "no rule would have decided anything");
    }
    for rule in rules {
        let effects: Vec<String> = Effect::ALL
            .iter()
            .rev()
            .filter_map(|effect| {
                let count = summary.effects.get(&(rule.clone(), *effect))?;
                Some(format!("{count} {}", effect.as_str()))
            })
            .collect();
        let locked = summary
            .locked
            .get(rule)
            .map_or(0, |accounts| accounts.len());
        let accounts = if locked == 1 { "account" } else { "accounts" };
        writeln!(
            out,
            "{rule}: {}; {locked} {accounts} locked",
            effects.join(", ")
        )?;
    }
    writeln!(out, "{} mails", summary.mails)
}

fn report_bad_lines(summary: &Summary) {
    if summary.bad == 0 {
        return;
    }
    let lines = if summary.bad == 1 {
        "line is no event"
    } else {
        "lines are no events"
    };
    eprintln!("{} {lines}:", summary.bad);
    for bad in &summary.bad_lines {
        eprintln!("  {}:{}: {}", bad.file, bad.line, bad.reason);
    }
    let more = summary.bad - summary.bad_lines.len() as u64;
    if more > 0 {
        eprintln!("  and {more} more");
    }
}
