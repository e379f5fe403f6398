//! `doorward test`: the tests beside the rules, through the engine.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::ValueEnum;

use crate::config::GeoIp;
use crate::ruletest::play::Player;
use crate::ruletest::report::{Results, Tested};
use crate::ruletest::{Known, Shelf, TestFile, parse};

use super::{OrStatus, Status, load};

/// `doorward test`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  doorward test --rules rules/ --junit results.xml\n\n\
    Tests stand beside the rules, in files whose names end in `.test.yaml`; docs/rules.md \
    shows how they are written.\n\
    Exit status: 0 all passed, 1 one failed, 2 a file cannot be read."
)]
pub struct Args {
    /// Folder of rules, lists and tests [default: the built-in ones]
    #[arg(long, value_name = "DIR")]
    pub rules: Option<PathBuf>,
    /// Country database, for `from: Norway` in tests [default: the built-in one]
    #[arg(long, value_name = "FILE")]
    pub geoip: Option<PathBuf>,
    /// Write the results as JUnit XML, too
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// How the results are printed
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// Only tests whose file, rule or name contains this
    #[arg(value_name = "FILTER")]
    pub filter: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Text,
    Json,
}

/// Runs the tests.
///
/// # Errors
/// Mistakes in rules, lists or tests, a database that cannot be used: status 2.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let geoip = GeoIp {
        database: args.geoip.clone(),
        ..GeoIp::default()
    };
    let load::Sources {
        folder,
        files,
        loaded,
        mut found,
    } = load::sources(args.rules.as_deref(), &geoip)?;
    let shelf = Shelf::new(&files, &loaded.facts.lists, &mut found);
    let Some(shelf) = shelf.filter(|_| !found.has_errors()) else {
        return Err(super::refused(&found));
    };
    let known = Known {
        shelf: &shelf,
        geo: loaded.facts.geo.as_deref(),
    };
    let files: Vec<TestFile> = folder
        .test_files(&mut found)
        .iter()
        .filter_map(|file| parse::read(file, &known, &mut found))
        .collect();
    if found.has_errors() {
        return Err(super::refused(&found));
    }
    let player = Player::new(&shelf, loaded.facts.geo.clone());
    let results = play(&files, &shelf, &player, args.filter.as_deref())?;
    if let Some(path) = &args.junit {
        let xml = results.junit().context("the results are no XML")?;
        std::fs::write(path, xml)
            .with_context(|| format!("cannot write {}", path.display()))
            .or_status(Status::Usage)?;
    }
    let text = match args.output {
        Output::Text => results.text(),
        Output::Json => results.json()? + "\n",
    };
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(match results.failed() {
        0 => Status::Done.into(),
        _ => Status::Failed.into(),
    })
}

fn play<'f>(
    files: &'f [TestFile],
    shelf: &Shelf,
    player: &Player<'_>,
    filter: Option<&str>,
) -> anyhow::Result<Results<'f>> {
    let mut results = Results {
        untested: shelf
            .ids()
            .filter(|id| {
                let mut tests = files.iter().flat_map(|file| &file.tests);
                !tests.any(|test| test.rules.contains(id))
            })
            .map(|id| id.to_string())
            .collect(),
        ..Results::default()
    };
    for file in files {
        for test in &file.tests {
            let is_meant = filter.is_none_or(|filter| {
                file.file.name.contains(filter)
                    || test.name.contains(filter)
                    || test.rules.iter().any(|rule| rule.contains(filter))
            });
            if is_meant {
                let played = player
                    .play(test)
                    .with_context(|| format!("the rules of `{}` cannot be read", test.name))
                    .or_status(Status::Usage)?;
                results.tested.push(Tested { file, test, played });
            }
        }
    }
    if let (Some(filter), true) = (filter, results.tested.is_empty()) {
        return Err(Status::Usage.error(anyhow::anyhow!(
            "no test's file, rule or name contains `{filter}`"
        )));
    }
    Ok(results)
}
