//! Puts together what a demo consists of.

use std::sync::Arc;

use anyhow::Context as _;
use rdkafka::producer::{DefaultProducerContext, ThreadedProducer};
use tokio::sync::broadcast;

use crate::config::Config;
use crate::document::Diagnostics;
use crate::enrich::Facts;
use crate::facts::{self, Folder};
use crate::generate::{self, Traffic, World};
use crate::kafka::settings as client;
use crate::metrics::Metrics;
use crate::publish::{Publisher, wall_clock};
use crate::rules::RuleSet;
use crate::web;
use crate::web::cases::{CaseReader, Cases};

use super::actor::{self, Pace};
use super::people;
use super::settings;
use super::trace::Seen;
use crate::tail::Tail;

/// The rules, lists and database that are built in.
///
/// # Errors
/// Where one of them has a mistake.
pub fn load_rules(config: &Config) -> anyhow::Result<(RuleSet, facts::Loaded)> {
    let mut found = Diagnostics::default();
    let files = Folder(None).rule_files(&mut found);
    let facts = facts::load(&config.geoip, None).map_err(|found| crate::cli::refused(&found))?;
    match RuleSet::load(&files, &facts.facts.lists, &mut found) {
        Some(rules) if !found.has_errors() => Ok((rules, facts)),
        _ => Err(crate::cli::refused(&found)),
    }
}

/// The owner's pages under the console's own address, so that one address is all that a
/// visitor needs; they bring their own, stricter headers.
///
/// # Errors
/// Where librdkafka refuses the settings.
pub fn owner_pages(config: &Config) -> anyhow::Result<(axum::Router, CaseReader)> {
    let cases = Arc::new(Cases::default());
    let reader = CaseReader::start(&config.kafka, &config.topics.cases, Arc::clone(&cases))?;
    let publisher = Publisher::new(&config.kafka, web::ACKNOWLEDGE_WITHIN)?;
    let parts = web::Parts::new(config, cases, publisher, Arc::new(Metrics::new()))?;
    Ok((web::router(parts), reader))
}

/// The login pipeline with `accounts` accounts.
///
/// # Errors
/// Where the broker cannot be reached.
pub fn pipeline(
    config: &Config,
    facts: &Facts,
    accounts: u32,
    pace: Pace,
    seen: &broadcast::Sender<Arc<Seen>>,
) -> anyhow::Result<actor::Parts> {
    let mut seed = [0; 8];
    getrandom::fill(&mut seed).context("the system gives no random numbers")?;
    let seed = u64::from_le_bytes(seed);
    let mut rng = fastrand::Rng::with_seed(seed);
    let world = World::new(seed, accounts, facts)
        .context("the country database knows too few networks for people to live in")?;
    let prefix = settings::account_prefix(config, &mut rng);
    let people = people::people(&world, &prefix);
    let traffic = generate::Settings {
        seed,
        start: wall_clock(),
        per_second: pace.per_second,
    };
    let producer: ThreadedProducer<DefaultProducerContext> =
        client::producer(&config.kafka, "demo-pipeline")
            .create()
            .context("no producer for the login pipeline")?;
    let commands = client::common(&config.kafka, "demo-pipeline");
    Ok(actor::Parts {
        producer,
        commands: Tail::start(&commands, &[&config.topics.commands])?,
        events_topic: config.topics.events.clone(),
        traffic: Traffic::new(world, traffic),
        people,
        prefix,
        pace,
        rng,
        seen: seen.clone(),
    })
}

/// Reads every topic that the console shows.
///
/// # Errors
/// Where the broker cannot be reached.
pub fn observer(config: &Config) -> anyhow::Result<Tail> {
    let topics = &config.topics;
    let names = [
        &topics.events,
        &topics.decisions,
        &topics.commands,
        &topics.cases,
    ];
    let client = client::common(&config.kafka, "demo-observer");
    Tail::start(&client, &names.map(String::as_str))
}
