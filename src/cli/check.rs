//! `doorward check`: reads everything that people write, and says every mistake.

mod against;
mod machine;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use super::Status;
use crate::builtin;
use crate::config::{GeoIp, written};
use crate::document::{Diagnostics, Kind, Severity, SourceFile, render_all};
use crate::enrich::geoip::GeoDb;
use crate::enrich::iplist::Lists;
use crate::facts::{self, Folder, Loaded};
use crate::publish::wall_clock;
use crate::rules::exceptions::report_expired;
use crate::rules::{Mode, RuleSet};
use crate::ruletest::{Known, Shelf, TestFile, judge, parse};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  doorward check --config doorward.toml\n  \
                  doorward check --rules rules --against rules-in-production\n  \
                  doorward check --rules rules --output sarif > doorward.sarif\n\n\
                  Without --config, the rules and the built-in database are checked.\n\
                  Exit status: 0 nothing is wrong (warnings aside), 1 something is.")]
pub struct Args {
    /// Configuration to read, and with it the rules, lists and database that it names
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder with *.rule.yaml, *.test.yaml, lists.yaml and exceptions.yaml; default: what the
    /// configuration names, else the built-in rules
    #[arg(long, value_name = "DIR")]
    pub rules: Option<PathBuf>,
    /// The rules before: warns of every id that names something else than there, so that its
    /// memory of accounts would begin anew
    #[arg(long, value_name = "DIR")]
    pub against: Option<PathBuf>,
    /// `text` for people; `json` and `sarif` (2.1.0) for programs
    #[arg(long, value_enum, default_value = "text")]
    pub output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    Text,
    Json,
    Sarif,
}

/// # Errors
/// Where the result cannot be written.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut checked = Checked::default();
    let named = match &args.config {
        Some(path) => checked.config(path, &|name| std::env::var(name).ok()),
        None => Some((None, GeoIp::default())),
    };
    // A configuration that cannot be read at all leaves nothing to look at but --rules.
    let folder = match (args.rules, named) {
        (Some(rules), named) => {
            let geoip = named.map_or_else(GeoIp::default, |(_, geoip)| geoip);
            Some((geoip, Some(rules)))
        }
        (None, Some((rules, geoip))) => Some((geoip, rules)),
        (None, None) => None,
    };
    if let Some((geoip, dir)) = folder {
        checked.rules(&geoip, dir.as_deref());
        if let Some(before) = &args.against {
            against::compare(dir.as_deref(), before, &mut checked.found);
        }
    }

    let mut out = std::io::stdout().lock();
    let said = match args.output {
        Output::Text => checked.report(std::io::stdout().is_terminal()),
        Output::Json => machine::json(&checked),
        Output::Sarif => machine::sarif(&checked),
    };
    out.write_all(said.as_bytes())?;
    out.flush()?;
    Ok(match checked.found.has_errors() {
        true => Status::Failed.into(),
        false => Status::Done.into(),
    })
}

/// What was read: what is wrong with it, and what is good.
#[derive(Debug, Default)]
pub struct Checked {
    pub found: Diagnostics,
    /// A line for each thing that was found good.
    pub good: Vec<String>,
}

impl Checked {
    /// Reads the configuration at `path`; the folder of rules and the databases that it
    /// names.
    pub fn config(
        &mut self,
        path: &Path,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Option<(Option<PathBuf>, GeoIp)> {
        let read = written::inspect(path, env);
        self.found.found.extend(read.found.found);
        if read.config.is_some() {
            self.good.push(format!("configuration {}", path.display()));
        }
        read.named
    }

    /// Reads the rules of `dir`, or the built-in ones, their lists, and the database.
    pub fn rules(&mut self, geoip: &GeoIp, dir: Option<&Path>) {
        let folder = Folder(dir.map(Path::to_owned));
        let files = folder.rule_files(&mut self.found);
        let loaded = match facts::load(geoip, dir) {
            Ok(loaded) => loaded,
            Err(found) => {
                self.found.found.extend(found.found);
                // Which lists there are is not known, so none is missed.
                let mut rest = Diagnostics::default();
                RuleSet::load(&files, &Lists::default(), &mut rest);
                rest.found.retain(|d| d.kind != Kind::UnknownList);
                self.found.found.extend(rest.found);
                let shelf = Shelf::of_readable(&files, None);
                let geo = || builtin::geoip().ok().map(Arc::new);
                self.tests(&folder, &shelf, geo, false);
                return;
            }
        };
        let before = self.found.error_count();
        let rules = RuleSet::load(&files, &loaded.facts.lists, &mut self.found);
        let playable = rules.is_some() && self.found.error_count() == before;
        if let Some(rules) = rules {
            report_expired(rules.exceptions(), wall_clock(), &mut self.found);
            self.good.push(describe(&rules));
            if rules.needs_asn() && loaded.facts.asn.is_none() {
                let file = SourceFile::new(folder.name(""), "");
                self.found.warning(
                    &file,
                    0..0,
                    "some rule looks at `asn`, and there is no database of network numbers: it \
                     judges only events that bring the number themselves",
                    Some("name one in the configuration: `geoip.asn_database`".into()),
                );
            }
        }
        let lists = &loaded.facts.lists;
        let whole = Shelf::new(&files, lists, &mut Diagnostics::default());
        let playable = playable && whole.is_some();
        let shelf = whole.unwrap_or_else(|| Shelf::of_readable(&files, Some(lists)));
        let geo = || judge::database(geoip, &loaded.facts);
        self.tests(&folder, &shelf, geo, playable);
        let Loaded {
            problems,
            summary,
            ages,
            ..
        } = loaded;
        self.found.found.extend(problems.found);
        let now = wall_clock();
        for age in ages.iter().filter(|age| age.is_stale(now)) {
            let file = SourceFile::new(format!("list {}", age.list), "");
            self.found.warning(&file, 0..0, age.complaint(now), None);
        }
        self.good.extend(summary);
    }

    /// Reads the tests beside the rules and, where the rules are `playable`, plays them. Only
    /// where there are any is a database opened for them.
    fn tests(
        &mut self,
        folder: &Folder,
        shelf: &Shelf,
        geo: impl FnOnce() -> Option<Arc<GeoDb>>,
        playable: bool,
    ) {
        let files = folder.test_files(&mut self.found);
        if files.is_empty() {
            return;
        }
        let geo = geo();
        let known = Known {
            shelf,
            geo: geo.as_deref(),
        };
        let read = files
            .iter()
            .filter_map(|file| parse::read(file, &known, &mut self.found));
        let read: Vec<TestFile> = read.collect();
        if read.is_empty() {
            return;
        }
        let tests = read.iter().map(|file| file.tests.len()).sum();
        let what = format!("{} in {}", count(tests, "test"), count(read.len(), "file"));
        if !playable {
            self.good.push(format!(
                "{what}, not played because of the mistakes in the rules"
            ));
            return;
        }
        let before = self.found.found.len();
        judge::play(&read, shelf, geo, &mut self.found);
        let failed = &self.found.found[before..];
        let failed = failed.iter().filter(|d| d.severity == Severity::Error);
        self.good.push(match failed.count() {
            0 => format!("{what}, played"),
            failed => format!("{what}, played; {} passed", tests - failed),
        });
    }

    fn warnings(&self) -> usize {
        let found = self.found.found.iter();
        found.filter(|d| d.severity == Severity::Warning).count()
    }

    /// Every mistake with its place, then what is good, then the sum.
    pub fn report(&self, color: bool) -> String {
        let mut text = String::new();
        if !self.found.found.is_empty() {
            text += &render_all(&self.found, color);
            text += "\n\n";
        }
        for good in &self.good {
            text += &format!("good: {good}\n");
        }
        text += &match (self.found.error_count(), self.warnings()) {
            (0, 0) => "nothing is wrong\n".to_owned(),
            (0, n) => format!("{}, nothing is wrong\n", count(n, "warning")),
            (e, 0) => format!("{}\n", count(e, "mistake")),
            (e, n) => format!("{}, {}\n", count(e, "mistake"), count(n, "warning")),
        };
        text
    }
}

fn count(n: usize, what: &str) -> String {
    match n {
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    }
}

fn describe(rules: &RuleSet) -> String {
    let of = |mode: Mode| rules.rules().iter().filter(move |r| r.mode == mode).count();
    let modes: Vec<String> = [Mode::Enforce, Mode::Shadow, Mode::Off]
        .into_iter()
        .filter(|mode| of(*mode) > 0)
        .map(|mode| format!("{} {}", of(mode), mode.as_str()))
        .collect();
    let exceptions = match rules.exceptions().len() {
        0 => String::new(),
        n => format!(", {}", count(n, "exception")),
    };
    format!(
        "{} ({}){exceptions}, {}",
        count(rules.rules().len(), "rule"),
        modes.join(", "),
        rules.hash()
    )
}
