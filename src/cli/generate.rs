//! `doorward generate`: labelled synthetic traffic.

use std::io::{BufWriter, Write};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context, anyhow};

use super::{OrStatus, Status};
use crate::builtin;
use crate::enrich::Facts;
use crate::event::Timestamp;
use crate::generate::{Attack, Settings, Traffic, World};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Writes NDJSON to standard output, in order of time. The same arguments give the same events. \
What each event is stands in attributes.label: ordinary, or the attack's name.

Examples:
  doorward generate --events 10000 --accounts 200 --seed 1 --attacks all >traffic.ndjson
  doorward generate --events 500 --accounts 50 --seed 2 --start now | \
doorward send --config doorward.toml -")]
pub struct Args {
    /// Events of ordinary traffic; those of attacks come on top
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub events: u64,
    /// Accounts that they are about
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub accounts: u32,
    /// Another seed gives other events
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
    /// Attacks to play in the second half, each against an account of its own: many-ips,
    /// two-factor, new-country, malicious-reset, comma separated; or all
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = attacks)]
    pub attacks: Vec<Attacks>,
    /// How often each of them is played
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub times: u32,
    /// Time of the first event, RFC 3339, or now
    #[arg(long, value_name = "TIME", default_value = "2026-01-01T00:00:00Z", value_parser = start)]
    pub start: Timestamp,
    /// Mean events a second of event time
    #[arg(long, value_name = "N", default_value_t = 10.0, value_parser = rate)]
    pub rate: f64,
}

/// What one word of `--attacks` names.
#[derive(Clone, Copy, Debug)]
pub struct Attacks(&'static [Attack]);

fn attacks(word: &str) -> Result<Attacks, String> {
    let at = Attack::ALL
        .iter()
        .position(|attack| attack.as_str() == word);
    match at {
        _ if word == "all" => Ok(Attacks(Attack::ALL)),
        Some(at) => Ok(Attacks(&Attack::ALL[at..=at])),
        None => Err("it can be many-ips, two-factor, new-country, malicious-reset, all".into()),
    }
}

fn start(text: &str) -> Result<Timestamp, String> {
    let time = match text {
        "now" => jiff::Timestamp::now(),
        _ => jiff::Timestamp::from_str(text)
            .map_err(|_| "write it as 2026-01-01T00:00:00Z, or now".to_owned())?,
    };
    Ok(Timestamp(time.as_millisecond()))
}

fn rate(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|rate| (0.001..=1_000_000.0).contains(rate))
        .ok_or_else(|| "it must be 0.001 to 1000000".to_owned())
}

/// # Errors
/// Where the events cannot be written, or too few accounts sign in to be attacked.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let facts = Facts {
        geo: Some(Arc::new(
            builtin::geoip().context("the built-in country database")?,
        )),
        ..Facts::default()
    };
    let world = World::new(args.seed, args.accounts, &facts)
        .context("the built-in country database knows too few networks")?;
    let settings = Settings {
        seed: args.seed,
        start: args.start,
        per_second: args.rate,
    };
    let mut attacks: Vec<Attack> = args
        .attacks
        .iter()
        .flat_map(|some| some.0)
        .copied()
        .collect();
    attacks = attacks.repeat(args.times as usize);

    let mut out = BufWriter::new(std::io::stdout().lock());
    write(
        &mut out,
        Traffic::new(world, settings),
        args.events,
        &attacks,
    )?;
    out.flush()?;
    Ok(Status::Done.into())
}

/// Writes `events` ordinary ones and all of `attacks`, which begin evenly spread over the
/// second half.
pub fn write(
    out: &mut impl Write,
    mut traffic: Traffic,
    events: u64,
    attacks: &[Attack],
) -> anyhow::Result<()> {
    let mut begun = 0_usize;
    let mut ordinary = 0;
    let mut unfinished = 0_usize;
    while ordinary < events || begun < attacks.len() || unfinished > 0 {
        // The first attack begins at the half, the last one before the end.
        let share = (ordinary.saturating_sub(events / 2)) as usize * (attacks.len() + 1);
        let due = share / (events.div_ceil(2).max(1) as usize);
        while begun < attacks.len() && (begun < due || ordinary >= events) {
            let before = traffic.waiting();
            traffic
                .attack(attacks[begun])
                .ok_or_else(|| {
                    anyhow!(
                        "only {begun} of {} attacks found an account that had signed in before; \
                     ask for more --events or --accounts",
                        attacks.len()
                    )
                })
                .or_status(Status::Usage)?;
            unfinished += traffic.waiting() - before;
            begun += 1;
        }
        let Some(event) = traffic.next() else { break };
        let is_ordinary = event.attributes.get("label") == Some(&crate::generate::ORDINARY);
        if is_ordinary {
            // Once enough of them are written, only the attacks are brought to their end.
            if ordinary == events {
                continue;
            }
            ordinary += 1;
        } else {
            unfinished -= 1;
        }
        writeln!(out, "{}", event.json()?)?;
    }
    Ok(())
}
