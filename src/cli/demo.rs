//! `doorward demo`.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context as _;

use crate::config::LogSettings;
use crate::demo::actor::Pace;
use crate::demo::rounds::Report;
use crate::demo::{Demo, Options};

use super::{OrStatus as _, Status};

/// The whole product on one machine, with no services installed.
///
/// Starts a broker inside this process, a login pipeline with a few hundred accounts,
/// doorward itself, and a page that shows it all, with a button for each attack. Prints the
/// address of that page. Works from any folder; nothing is written to disk.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  doorward demo\n  doorward demo --once\n  doorward demo --http 127.0.0.1:9000 --brokers localhost:9092"
)]
pub struct Args {
    /// Play each attack twice, answer once each way, print what happened, and end: 0 if
    /// every lock, mail, unlock and secured account was seen, 1 if not
    #[arg(long)]
    once: bool,
    /// Where the page listens [default: 127.0.0.1:8088, or a free port where that is taken]
    #[arg(long, value_name = "ADDR")]
    http: Option<SocketAddr>,
    /// A real Kafka in place of the embedded broker; topics that begin with
    /// `doorward-demo.` are made there
    #[arg(long, value_name = "HOST:PORT")]
    brokers: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// With the status that docs/contract.md section 5 gives to what went wrong.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    // What librdkafka says of a broker that it plays itself helps nobody.
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| "warn,rdkafka=off".into());
    let settings = LogSettings {
        filter,
        ..LogSettings::default()
    };
    crate::logging::init(&settings)
        .map_err(|error| anyhow::anyhow!("RUST_LOG: {error}"))
        .or_status(Status::Usage)?;
    if args.once { once(args) } else { page(args) }
}

fn page(args: Args) -> anyhow::Result<ExitCode> {
    let demo = start(args, Pace::WATCHED)?;
    eprintln!("The demo runs until Ctrl-C. Open:");
    println!("{}", demo.origin());
    std::io::stdout().flush().context("stdout is closed")?;
    demo.run()?;
    Ok(Status::Done.into())
}

fn once(args: Args) -> anyhow::Result<ExitCode> {
    let started = std::time::Instant::now();
    let http = args.http.or(Some(SocketAddr::from(([127, 0, 0, 1], 0))));
    let demo = start(Args { http, ..args }, Pace::AT_ONCE)?;
    eprintln!("Playing every attack, answered once each way…");
    let reports = demo.play_rounds(|report| eprintln!("  {}", sentence(report)));
    let ended = demo.stop();
    let reports = reports?;
    print(&reports).context("stdout is closed")?;
    ended?;
    let missing = reports
        .iter()
        .filter(|report| !report.missing.is_empty())
        .count();
    let seconds = started.elapsed().as_secs_f64();
    if missing == 0 {
        eprintln!(
            "All {} rounds: every lock, mail, unlock and secured account was seen ({seconds:.1} s).",
            reports.len()
        );
        return Ok(Status::Done.into());
    }
    eprintln!(
        "{missing} of {} rounds lack something ({seconds:.1} s):",
        reports.len()
    );
    for report in &reports {
        for missing in &report.missing {
            eprintln!(
                "  {} {}, {}: {missing}",
                report.round, report.attack, report.answer
            );
        }
    }
    Ok(Status::Failed.into())
}

fn start(args: Args, pace: Pace) -> anyhow::Result<Demo> {
    Demo::start(Options {
        http: args.http,
        brokers: args.brokers,
        pace,
    })
}

fn sentence(report: &Report) -> String {
    let Report {
        round,
        attack,
        account,
        ..
    } = report;
    match report.missing.first() {
        Some(missing) => format!("{round} {attack} on {account}: {missing}"),
        None => format!(
            "{round} {attack} on {account}: {}",
            report.result.unwrap_or("nothing")
        ),
    }
}

/// A table for a terminal, a JSON object a line for anything else.
fn print(reports: &[Report]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if out.is_terminal() {
        write!(out, "{}", table(reports))?;
    } else {
        for report in reports {
            writeln!(out, "{}", serde_json::to_string(report)?)?;
        }
    }
    out.flush()?;
    Ok(())
}

fn table(reports: &[Report]) -> String {
    let head = [
        "attack", "account", "locked", "mail", "refused", "answer", "result", "after", "back in",
    ];
    let ms = |ms: Option<i64>| ms.map_or_else(|| "–".to_owned(), |ms| format!("{ms} ms"));
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(reports.iter().map(|report| {
        [
            report.attack.to_owned(),
            report.account.clone(),
            ms(report.locked_ms),
            ms(report.mail_ms),
            ms(report.refused_ms),
            if report.answer == "me" {
                "this was me"
            } else {
                "this wasn’t me"
            }
            .to_owned(),
            report.result.unwrap_or("nothing").to_owned(),
            ms(report.result_ms),
            ms(report.recovered_ms),
        ]
    }));
    let widths: Vec<usize> = (0..head.len())
        .map(|at| {
            rows.iter()
                .map(|row| row[at].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}
