//! What the configuration means: checked, with defaults filled in.
//!
//! [`written`] reads `doorward.toml` as it was written and reports every mistake at once;
//! what comes out of it is a [`Config`], which cannot be wrong. Nothing else in the program
//! reads settings, the environment or secret files.

pub mod written;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::locale::Languages;

/// Everything that `doorward run` and its sibling commands need to know.
#[derive(Clone, Debug)]
pub struct Config {
    pub kafka: Kafka,
    pub topics: Topics,
    pub engine: Engine,
    /// Folder with `*.rule.yaml` and `lists.yaml`; `None`: the built-in copy.
    pub rules_dir: Option<PathBuf>,
    pub geoip: GeoIp,
    pub mail: Mail,
    pub web: Web,
    pub admin: Admin,
    pub site: Site,
    pub keys: Keys,
    pub log: LogSettings,
}

#[derive(Clone, Debug)]
pub struct Kafka {
    /// `host:port`, comma separated.
    pub brokers: String,
    pub group: String,
    /// Unique per process of a group; with group and shard it makes the transactional id.
    pub instance: String,
    /// Further librdkafka settings, passed on as they are (security, SASL user, TLS files).
    pub properties: BTreeMap<String, String>,
    /// librdkafka settings whose values are secret (`sasl.password`, `ssl.key.password`).
    pub secrets: BTreeMap<String, Secret>,
    /// Default 10 s: how long a dead shard's partitions wait for another owner.
    pub session_timeout: Duration,
    /// Less than `session_timeout`; default 5 s.
    pub transaction_timeout: Duration,
    /// Off in the demo only, whose mock broker cannot do them: see the demo's page.
    pub transactions: bool,
}

#[derive(Clone, Debug)]
pub struct Topics {
    pub events: String,
    pub commands: String,
    pub decisions: String,
    pub cases: String,
    pub mail: String,
    pub receipts: String,
    pub state: String,
    pub dead_letters: String,
}

impl Default for Topics {
    fn default() -> Self {
        Topics {
            events: "auth.events".into(),
            commands: "auth.commands".into(),
            decisions: "doorward.decisions".into(),
            cases: "doorward.cases".into(),
            mail: "doorward.mail".into(),
            receipts: "doorward.receipts".into(),
            state: "doorward.state".into(),
            dead_letters: "doorward.dead-letters".into(),
        }
    }
}

/// Bytes of a mebibyte, in which `engine.memory_mib` is written.
pub const MIB: usize = 1_024 * 1_024;

#[derive(Clone, Debug)]
pub struct Engine {
    /// Threads that read and decide; default: the machine's cores.
    pub shards: usize,
    /// docs/rules.md 3; default 5 min.
    pub max_lateness: Duration,
    /// docs/rules.md 4; default 24 h.
    pub act_within: Duration,
    /// Longest time between commits while nothing urgent happens; default 1 s.
    pub commit_every: Duration,
    /// Changed accounts after which nothing is read before they are on their way to be
    /// committed; at a quarter of it commits begin; default 10,000.
    pub commit_accounts: usize,
    /// Memory for what can be forgotten, over all partitions together (docs/rules.md 15);
    /// default 1 GiB.
    pub memory_bytes: usize,
}

impl Default for Engine {
    fn default() -> Self {
        Engine {
            shards: std::thread::available_parallelism().map_or(1, |n| n.get()),
            max_lateness: Duration::from_secs(5 * 60),
            act_within: Duration::from_secs(24 * 60 * 60),
            commit_every: Duration::from_secs(1),
            commit_accounts: 10_000,
            memory_bytes: 1_024 * MIB,
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct GeoIp {
    /// `None`: the built-in free database.
    pub database: Option<PathBuf>,
    /// The database before the last update (docs/rules.md 8: new means new in both).
    pub previous: Option<PathBuf>,
    /// Network numbers, for rules that look at `asn`.
    pub asn_database: Option<PathBuf>,
}

impl GeoIp {
    /// The files that it names.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        [&self.database, &self.previous, &self.asn_database]
            .into_iter()
            .flatten()
            .map(PathBuf::as_path)
    }
}

#[derive(Clone, Debug)]
pub struct Mail {
    pub host: String,
    pub port: u16,
    pub security: MailSecurity,
    /// A PEM file of certificates to trust beside the system's, for a server of one's own.
    pub ca_file: Option<PathBuf>,
    pub login: Option<(String, Secret)>,
    /// `Name <address>`.
    pub from: String,
    pub reply_to: Option<String>,
    /// Per SMTP command; default 30 s.
    pub timeout: Duration,
    /// Connections at once; default 4.
    pub connections: usize,
    /// Mails an hour to one address; default 3.
    pub per_hour: u32,
    /// How long a mail is retried; default 48 h.
    pub retry_for: Duration,
    /// Signs mails, where the server does not do it.
    pub dkim: Option<Dkim>,
}

/// With what mails are signed (RFC 6376).
#[derive(Clone, Debug)]
pub struct Dkim {
    /// The key's name in DNS.
    pub selector: String,
    pub domain: String,
    /// A PEM file of PKCS#1 (RSA), or the 32 bytes of an Ed25519 key in base64.
    pub key: Secret,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailSecurity {
    /// Required: a server that does not offer it is refused.
    StartTls,
    Tls,
    /// For loopback and tests.
    None,
}

#[derive(Clone, Debug)]
pub struct Web {
    /// Default 127.0.0.1:8080.
    pub listen: SocketAddr,
    /// What links in mails begin with, without a slash at the end.
    pub public_url: String,
    /// How long a link is valid; default 24 h.
    pub link_valid: Duration,
    /// Proxies whose `X-Forwarded-For` says who the visitor is; default: this machine.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether "this was me" asks for the code that stands in the mail; default: no.
    pub typed_code: bool,
}

/// This machine's own addresses, where a proxy that nobody named is expected.
pub fn own_networks() -> Vec<IpNet> {
    vec![
        Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8).into(),
        Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128).into(),
    ]
}

#[derive(Clone, Debug)]
pub struct Admin {
    /// Default 127.0.0.1:9464.
    pub listen: SocketAddr,
}

/// The site's own words in mails and pages.
#[derive(Clone, Debug, Default)]
pub struct Site {
    /// What owners call the service whose login this is.
    pub name: String,
    pub url: String,
    /// Where "set a new password" leads.
    pub password_url: Option<String>,
    /// Words beside it, for example how long the site's own link is valid.
    pub password_note: Option<String>,
    /// Where the second factor is switched on.
    pub two_factor_url: Option<String>,
    /// Where owners see where they are signed in.
    pub sessions_url: Option<String>,
    /// Where owners see what was paid out lately.
    pub payouts_url: Option<String>,
    /// For accounts without a password: whom to ask at the identity provider.
    pub provider_url: Option<String>,
    pub status_url: Option<String>,
    pub support_url: Option<String>,
    pub support_email: Option<String>,
    /// The languages of mails and pages.
    pub languages: Languages,
}

/// Secret keys, each a list with the newest first: the first is used, all are accepted.
#[derive(Clone, Debug)]
pub struct Keys {
    /// 32 bytes each: seals the tokens in links.
    pub link: Vec<NamedKey>,
    /// At least 32 bytes each: authenticates answers and operators' requests.
    pub answer: Vec<NamedKey>,
    /// 16 bytes: hashes accounts to state keys. It must never change.
    pub state: [u8; 16],
}

#[derive(Clone)]
pub struct NamedKey {
    pub id: String,
    pub bytes: Vec<u8>,
}

impl fmt::Debug for NamedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NamedKey({})", self.id)
    }
}

/// A secret from a file or the environment. It has no `Display`, and its `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(value: String) -> Self {
        Secret(value)
    }

    /// The value itself; for the library that needs it and nobody else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[derive(Clone, Debug, Default)]
pub struct LogSettings {
    pub format: LogFormat,
    /// A `tracing` filter, for example `info,doorward::shard=debug`.
    pub filter: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}
