//! The configuration that a demo runs with: everything built in, keys made at start.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;

use crate::config::{
    Admin, Config, Engine, GeoIp, Kafka, Keys, LogSettings, Mail, MailSecurity, NamedKey, Site,
    Topics, Web,
};
use crate::topics;

use super::broker::EmbeddedBroker;

/// Threads that decide. One is plenty here, and the embedded broker is slow to see others
/// join and leave.
const SHARDS: usize = 1;
/// Before every topic's name on a real broker, where `auth.events` may be somebody's own.
const PREFIX: &str = "doorward-demo.";

/// The demo's configuration.
///
/// # Errors
/// Where the system gives no random numbers for keys.
pub fn config(brokers: &str, embedded: bool, origin: &str) -> anyhow::Result<Config> {
    Ok(Config {
        kafka: kafka(brokers, embedded),
        topics: if embedded {
            Topics::default()
        } else {
            prefixed(Topics::default())
        },
        engine: Engine {
            shards: SHARDS,
            ..Engine::default()
        },
        rules_dir: None,
        geoip: GeoIp::default(),
        mail: mail(),
        web: Web {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            public_url: origin.to_owned(),
            link_valid: Duration::from_secs(24 * 60 * 60),
            trusted_proxies: crate::config::own_networks(),
            typed_code: false,
        },
        admin: Admin {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
        },
        site: Site {
            name: "Example".into(),
            url: origin.to_owned(),
            password_url: Some(format!("{origin}/demo/password")),
            support_email: Some("support@site.example".into()),
            ..Site::default()
        },
        keys: Keys {
            link: vec![NamedKey {
                id: "demo-link".into(),
                bytes: random::<32>()?.to_vec(),
            }],
            answer: vec![NamedKey {
                id: "demo-answer".into(),
                bytes: random::<32>()?.to_vec(),
            }],
            state: random::<16>()?,
        },
        log: LogSettings::default(),
    })
}

fn kafka(brokers: &str, embedded: bool) -> Kafka {
    // The embedded broker answers a fetch that found nothing only when its time is up, so
    // a long one would delay everything.
    let properties = [
        ("fetch.wait.max.ms", "10"),
        // Its own words about the embedded broker help nobody.
        ("log_level", if embedded { "2" } else { "4" }),
    ];
    Kafka {
        brokers: brokers.to_owned(),
        group: "doorward-demo".into(),
        instance: "demo".into(),
        properties: properties
            .map(|(name, value)| (name.into(), value.into()))
            .into(),
        secrets: BTreeMap::new(),
        session_timeout: Duration::from_secs(45),
        transaction_timeout: Duration::from_secs(5),
        transactions: !embedded,
    }
}

fn mail() -> Mail {
    Mail {
        // Never connected to: mails go to the mailbox on the page.
        host: "localhost".into(),
        port: 25,
        security: MailSecurity::None,
        ca_file: None,
        login: None,
        from: "Example Security <security@site.example>".into(),
        reply_to: None,
        timeout: Duration::from_secs(30),
        connections: 4,
        per_hour: 3,
        retry_for: Duration::from_secs(48 * 60 * 60),
        dkim: None,
    }
}

fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).context("the system gives no random numbers")?;
    Ok(bytes)
}

fn prefixed(topics: Topics) -> Topics {
    let name = |topic: String| format!("{PREFIX}{topic}");
    Topics {
        events: name(topics.events),
        commands: name(topics.commands),
        decisions: name(topics.decisions),
        cases: name(topics.cases),
        mail: name(topics.mail),
        receipts: name(topics.receipts),
        state: name(topics.state),
        dead_letters: name(topics.dead_letters),
    }
}

/// What account ids begin with: on a real broker a word of this run's own, because accounts
/// of an earlier run are remembered there.
pub fn account_prefix(config: &Config, rng: &mut fastrand::Rng) -> String {
    match config.kafka.transactions {
        true => format!("{:06x}/", rng.u32(..0x100_0000)),
        false => String::new(),
    }
}

/// Makes the demo's topics.
///
/// # Errors
/// Where the broker refuses.
pub fn create_topics(
    config: &Config,
    broker: Option<&EmbeddedBroker>,
    partitions: i32,
) -> anyhow::Result<()> {
    let names = &config.topics;
    let all = [
        &names.events,
        &names.commands,
        &names.decisions,
        &names.cases,
        &names.mail,
        &names.receipts,
        &names.state,
        &names.dead_letters,
    ];
    match broker {
        Some(broker) => all
            .iter()
            .try_for_each(|topic| broker.create_topic(topic, partitions)),
        None => {
            let cluster = topics::look(&config.kafka, names)?;
            let specs = topics::specs(names, partitions, cluster.brokers);
            topics::create(&config.kafka, &specs)?;
            Ok(())
        }
    }
}
