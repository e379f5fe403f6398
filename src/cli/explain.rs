//! `doorward explain`: why an account was locked, and why it was not.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::ValueEnum;

use crate::config::GeoIp;
use crate::explain::record::Listed;
use crate::explain::{self, Answer, Question, Sources, text};
use crate::facts::lists;

use super::{OrStatus, Status, load};

/// `doorward explain`
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    doorward explain --account ann --rules rules/ last-week.ndjson.zst\n  \
    doorward explain --case k-3f9a… last-week.ndjson.zst     # the reference in the mail\n  \
    doorward explain --event e-71 --output json last-week.ndjson.zst\n\n\
    The files are read as `replay` reads them, under the rules of today: what they say may \
    differ from what was decided under those of last week. The answer holds addresses and \
    what else the events say; it goes to standard output and nowhere else.")]
pub struct Args {
    #[command(flatten)]
    pub what: What,
    /// Folder of rules and lists [default: the built-in ones]
    #[arg(long, value_name = "DIR")]
    pub rules: Option<PathBuf>,
    /// Country database [default: the built-in one]
    #[arg(long, value_name = "FILE")]
    pub geoip: Option<PathBuf>,
    /// The database before its last update: new means new in that one, too
    #[arg(long, value_name = "FILE", requires = "geoip")]
    pub previous_geoip: Option<PathBuf>,
    /// How the answer is printed
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// Partitions of the input topic that the events came from
    #[arg(long, value_name = "N", default_value_t = 12)]
    pub partitions: u32,
    /// NDJSON, also .gz and .zst
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// What is asked about: one of the three.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct What {
    /// An account, as events name it
    #[arg(long, value_name = "ID")]
    pub account: Option<String>,
    /// A case, by the reference that its mail and page show
    #[arg(long, value_name = "ID")]
    pub case: Option<String>,
    /// One event
    #[arg(long, value_name = "ID")]
    pub event: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Text,
    /// One record for tools
    Json,
}

/// Answers the question. Status 1 where what is asked about is not in the files.
///
/// # Errors
/// Mistakes in rules or lists, a database or file that cannot be read: status 2.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let geoip = GeoIp {
        database: args.geoip.clone(),
        previous: args.previous_geoip.clone(),
        ..GeoIp::default()
    };
    let mut sources = load::sources(args.rules.as_deref(), &geoip)?;
    let rules = sources.rules()?;
    let load::Sources { folder, loaded, .. } = sources;
    let question = match (args.what.account, args.what.case, args.what.event) {
        (Some(account), _, _) => Question::Account(account),
        (_, Some(case), _) => Question::Case(case),
        (_, _, event) => Question::Event(event.unwrap_or_default()),
    };
    let provenance = loaded.provenance("explain", rules.hash());
    let where_listed = |list: &str, ip| {
        let place = lists::entry_of(&folder, list, ip);
        let (file, line, entry) = match place {
            Some((file, line, entry)) => (Some(file), Some(line), Some(entry)),
            None => (None, None, None),
        };
        Listed {
            list: list.to_owned(),
            entry,
            file,
            line,
        }
    };
    let sources = Sources {
        files: &args.files,
        rules: Arc::new(rules),
        facts: Arc::new(loaded.facts),
        partitions: args.partitions,
        lists: provenance.lists,
        where_listed: &where_listed,
    };
    let answer = explain::explain(&question, &sources).or_status(Status::Usage)?;
    let told = match answer {
        Answer::Found(told) => told,
        Answer::Unknown(why) => {
            eprintln!("{why}");
            return Ok(Status::Failed.into());
        }
    };
    let stdout = io::stdout();
    let color = stdout.is_terminal();
    let mut out = BufWriter::new(stdout.lock());
    match args.output {
        Output::Text => write!(out, "{}", text::render(&told, &sources.rules, color))?,
        Output::Json => {
            serde_json::to_writer_pretty(&mut out, &told)?;
            writeln!(out)?;
        }
    }
    out.flush()?;
    Ok(Status::Done.into())
}
