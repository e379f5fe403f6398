//! `doorward replay`: recorded events through the engine.

mod against;
mod table;

use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::config::GeoIp;
use crate::record::{DecisionRecord, Provenance};
use crate::replay::parallel::{self, Happening, ReplayError, Said};
use crate::replay::report::Report;
use crate::replay::report::notes::{self, Seen};
use crate::replay::stream::Placing;
use crate::replay::{Side, Totals, input, page};
use crate::rules::RuleSet;

use super::{OrStatus, Status, load};

/// `doorward replay`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  doorward replay --rules rules/ last-week.ndjson.zst\n  \
    doorward replay --rules new-rules/ --against rules/ --html meeting.html last-week.ndjson.zst\
    \n\n\
    The files are read in the order given, as one stream of events (or of the envelopes \
    that `record` writes), one JSON object a line. Without broker times the running maximum \
    of event time is the clock. Lines that are no events are counted on stderr."
)]
pub struct Args {
    /// Folder of rules and lists [default: the built-in ones]
    #[arg(long, value_name = "DIR")]
    pub rules: Option<PathBuf>,
    /// Folder of the rules and lists that are in use: says which accounts only one of the two
    /// rule sets locks
    #[arg(long, value_name = "DIR")]
    pub against: Option<PathBuf>,
    /// Country database [default: the built-in one]
    #[arg(long, value_name = "FILE")]
    pub geoip: Option<PathBuf>,
    /// How decisions, or with --against accounts, are printed [default: table on a terminal,
    /// ndjson elsewhere]
    #[arg(long, value_enum)]
    pub output: Option<Output>,
    /// Also write a report for people: one page, complete in itself
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Partitions of the input topic that the events came from
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub partitions: u32,
    /// Threads that parse and decide; the result is the same with any number [default: one
    /// for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1_024))]
    pub threads: Option<u16>,
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
    let mut loaded = vec![load(args.rules.as_deref(), &args)?];
    if let Some(against) = &args.against {
        loaded.push(load(Some(against), &args)?);
    }
    let html = args.html.as_deref().map(Page::create).transpose()?;
    let mut replayed = Replayed::new(&loaded, &args);
    let mut sides: Vec<Side> = loaded
        .iter()
        .map(|set| {
            Side::new(
                Arc::clone(&set.rules),
                Arc::clone(&set.facts),
                args.partitions,
            )
        })
        .collect();
    let stdout = io::stdout();
    let output = args.output.unwrap_or(if stdout.is_terminal() {
        Output::Table
    } else {
        Output::Ndjson
    });
    let mut out = BufWriter::new(stdout.lock());
    // With two rule sets, accounts are printed at the end.
    let mut printer = Printer {
        provenance: args.against.is_none().then_some(&loaded[0].provenance),
        output,
    };
    let finished = replayed
        .go(&args, &mut sides, &mut out, &mut printer)
        .and_then(|()| replayed.print(&args, &sides, &loaded, output, &mut out));
    match finished {
        Ok(()) => {}
        // Whoever reads has read enough.
        Err(ReplayError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {}
        Err(error) => {
            out.flush()?;
            table::report_bad_lines(&replayed.report);
            return Err(error).or_status(Status::Usage);
        }
    }
    if let Some(html) = html {
        let page = page::render(&replayed.report, &replayed.seen(&sides))?;
        html.write(&page)?;
    }
    let failed = args.strict && replayed.report.bad > 0;
    Ok(if failed { Status::Failed } else { Status::Done }.into())
}

/// A rule set with its lists and the database.
struct Loaded {
    rules: Arc<RuleSet>,
    facts: Arc<crate::enrich::Facts>,
    provenance: Provenance,
    name: String,
}

fn load(rules_dir: Option<&Path>, args: &Args) -> anyhow::Result<Loaded> {
    let geoip = GeoIp {
        database: args.geoip.clone(),
        ..GeoIp::default()
    };
    let mut sources = load::sources(rules_dir, &geoip)?;
    let rules = sources.rules()?;
    let loaded = sources.loaded;
    Ok(Loaded {
        provenance: loaded.provenance("replay", rules.hash()),
        name: rules_dir.map_or_else(
            || "the built-in rules".to_owned(),
            |dir| dir.display().to_string(),
        ),
        rules: Arc::new(rules),
        facts: Arc::new(loaded.facts),
    })
}

/// Prints decisions as they come.
struct Printer<'p> {
    /// `None`: nothing is printed.
    provenance: Option<&'p Provenance>,
    output: Output,
}

impl Printer<'_> {
    fn begin(&self, out: &mut impl Write) -> io::Result<()> {
        match (self.provenance, self.output) {
            (Some(_), Output::Table) => writeln!(out, "{}", table::heading()),
            _ => Ok(()),
        }
    }

    fn print(&self, said: &Said, out: &mut impl Write) -> io::Result<()> {
        let Some(provenance) = self.provenance else {
            return Ok(());
        };
        for decision in &said.decisions {
            match self.output {
                Output::Table => writeln!(out, "{}", table::row(decision))?,
                Output::Ndjson => {
                    serde_json::to_writer(&mut *out, &DecisionRecord::new(decision, provenance))?;
                    writeln!(out)?;
                }
            }
        }
        Ok(())
    }
}

/// A replay and what came of it.
struct Replayed {
    report: Report,
    placing: Placing,
    totals: Totals,
    files: Vec<String>,
}

impl Replayed {
    fn new(loaded: &[Loaded], args: &Args) -> Replayed {
        let sets: Vec<(&RuleSet, String)> = loaded
            .iter()
            .map(|set| (&*set.rules, set.name.clone()))
            .collect();
        Replayed {
            report: Report::new(&sets),
            placing: Placing::new(args.partitions),
            totals: Totals::default(),
            files: args
                .files
                .iter()
                .map(|file| match file.display().to_string() {
                    name if name == "-" => "standard input".to_owned(),
                    name => name,
                })
                .collect(),
        }
    }

    fn go(
        &mut self,
        args: &Args,
        sides: &mut [Side],
        out: &mut impl Write,
        printer: &mut Printer<'_>,
    ) -> Result<(), ReplayError> {
        printer.begin(out)?;
        let progress = Progress::new(&args.files);
        let report = &mut self.report;
        let totals = parallel::run(
            &args.files,
            sides,
            &mut self.placing,
            (args.partitions, threads(args.threads)),
            &progress.read,
            &mut |happening| match happening {
                Some(happening) => {
                    if let Happening::Said(said) = &happening {
                        printer.print(said, out)?;
                    }
                    report.add(happening);
                    Ok(())
                }
                None => progress.show(|| out.flush()),
            },
        );
        progress.end();
        self.totals = totals?;
        self.report.finish();
        Ok(())
    }

    fn print(
        &self,
        args: &Args,
        sides: &[Side],
        loaded: &[Loaded],
        output: Output,
        out: &mut impl Write,
    ) -> Result<(), ReplayError> {
        if args.against.is_some() {
            let provenance = [&loaded[0].provenance, &loaded[1].provenance];
            against::print(&self.report, provenance, output, out)?;
        }
        let notes = notes::notes(&self.report, &self.seen(sides));
        if output == Output::Table {
            writeln!(out)?;
            table::write_summary(out, &self.report, &self.placing)?;
            writeln!(out, "\nWhat could not be judged:")?;
            for note in &notes {
                writeln!(out, "- {note}")?;
            }
        }
        out.flush()?;
        if output == Output::Ndjson {
            for note in &notes {
                eprintln!("{note}");
            }
        }
        table::report_bad_lines(&self.report);
        Ok(())
    }

    fn seen<'r>(&'r self, sides: &'r [Side]) -> Seen<'r> {
        Seen {
            files: &self.files,
            placing: &self.placing,
            totals: &self.totals,
            sides,
        }
    }
}

/// The report's file. It is made before the work begins, so that a name that cannot be
/// written is said at once.
struct Page(PathBuf);

impl Page {
    fn create(path: &Path) -> anyhow::Result<Page> {
        std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .with_context(|| format!("cannot write {}", path.display()))
            .or_status(Status::Usage)?;
        Ok(Page(path.to_owned()))
    }

    fn write(&self, page: &str) -> anyhow::Result<()> {
        std::fs::write(&self.0, page)
            .with_context(|| format!("cannot write {}", self.0.display()))
            .or_status(Status::Usage)
    }
}

/// As many as were asked for, else one for each core.
fn threads(asked: Option<u16>) -> usize {
    match asked {
        Some(threads) => usize::from(threads),
        None => std::thread::available_parallelism().map_or(1, usize::from),
    }
}

/// A bar on a terminal that shows how much of the files is read.
struct Progress {
    bar: ProgressBar,
    read: Arc<AtomicU64>,
}

impl Progress {
    fn new(files: &[PathBuf]) -> Progress {
        let (total, template) = match input::total_bytes(files) {
            Some(total) => (
                Some(total),
                "{wide_bar} {bytes}/{total_bytes} {bytes_per_sec}, {eta} left",
            ),
            None => (None, "{spinner} {bytes} {bytes_per_sec}"),
        };
        // Where stderr is no terminal it draws nothing.
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Progress {
            bar,
            read: Arc::default(),
        }
    }

    /// Shows it, after `print` has written what comes above it.
    fn show(&self, print: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.bar.set_position(self.read.load(Ordering::Relaxed));
        self.bar.suspend(print)
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}
