//! `doorward.toml` as it was written: reads it, says every mistake at once with its line,
//! and makes a [`Config`] of it.
//!
//! `doorward.toml` at the root of the repository documents every setting; a test holds the
//! two together.

mod cover;
mod kafka;
mod mail;
mod secrets;
mod section;

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use section::Section;

use super::{Admin, Config, Engine, GeoIp, Keys, LogFormat, LogSettings, MIB, Site, Topics, Web};
use crate::document::{self, Diagnostics, Fields, Node, SourceFile};
use crate::locale::{Languages, translation};
use crate::logging;

/// The configuration in the file at `path`; secrets from files and the environment.
///
/// # Errors
/// Every mistake, with its place. Warnings alone are no error; [`read`] hands them out.
pub fn load(path: &Path) -> Result<Config, Diagnostics> {
    load_with_env(path, &|name| std::env::var(name).ok())
}

/// [`load`], with `env` in the place of the environment.
///
/// # Errors
/// As [`load`].
pub fn load_with_env(
    path: &Path,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, Diagnostics> {
    let (config, found) = read(path, env);
    config.ok_or(found)
}

/// The configuration, where nothing is wrong with it, and all that there is to say about it.
pub fn read(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> (Option<Config>, Diagnostics) {
    let read = inspect(path, env);
    (read.config, read.found)
}

/// What became of reading a configuration.
#[derive(Debug)]
pub struct Read {
    /// Where nothing is wrong with it.
    pub config: Option<Config>,
    /// The folder of rules and the databases that it names, as far as it could be read at
    /// all, so that `check` can look at them although something else is wrong.
    pub named: Option<(Option<PathBuf>, GeoIp)>,
    /// All that there is to say about it, warnings included.
    pub found: Diagnostics,
}

/// Reads the configuration in the file at `path` as far as it goes.
pub fn inspect(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Read {
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let folder = path.parent().unwrap_or(Path::new("")).to_owned();
            read_text(&SourceFile::new(name, text), folder, env)
        }
        Err(error) => {
            let mut found = Diagnostics::default();
            let file = SourceFile::new(name, "");
            found.error(&file, 0..0, format!("cannot be read: {error}"), None);
            Read {
                config: None,
                named: None,
                found,
            }
        }
    }
}

/// The full names of all settings, such as `kafka.brokers`.
pub fn settings() -> Vec<String> {
    types().into_iter().map(|(name, _)| name).collect()
}

/// All settings by their full names, each with the JSON Schema of what it is read as.
pub fn types() -> Vec<(String, serde_json::Value)> {
    let file = SourceFile::new("", "");
    let mut reader = Reader::new(&file, PathBuf::new(), &|_| None);
    if let Some(root) = document::parse_toml(&file, &mut reader.found) {
        reader.config(&root);
    }
    reader.settings
}

fn read_text(
    file: &Arc<SourceFile>,
    folder: PathBuf,
    env: &dyn Fn(&str) -> Option<String>,
) -> Read {
    let mut reader = Reader::new(file, folder, env);
    let root = document::parse_toml(file, &mut reader.found);
    let config = root.and_then(|root| reader.config(&root));
    let Reader {
        mut found,
        covered,
        translated,
        ..
    } = reader;
    found.found.sort_by_key(|diagnostic| diagnostic.span.start);
    cover::cover(file, &covered, &mut found);
    found.found.extend(translated.found);
    Read {
        named: config
            .as_ref()
            .map(|config| (config.rules_dir.clone(), config.geoip.clone())),
        config: config.filter(|_| !found.has_errors()),
        found,
    }
}

/// What reading needs everywhere, and what it collects on the way.
struct Reader<'e> {
    file: Arc<SourceFile>,
    /// Paths are relative to it.
    folder: PathBuf,
    env: &'e dyn Fn(&str) -> Option<String>,
    found: Diagnostics,
    /// The same about the files of the site's own translations.
    translated: Diagnostics,
    /// Parts of the file that no message may show.
    covered: Vec<Range<usize>>,
    /// Full names of the settings asked for.
    settings: Vec<(String, serde_json::Value)>,
}

impl<'e> Reader<'e> {
    fn new(
        file: &Arc<SourceFile>,
        folder: PathBuf,
        env: &'e dyn Fn(&str) -> Option<String>,
    ) -> Reader<'e> {
        Reader {
            file: Arc::clone(file),
            folder,
            env,
            found: Diagnostics::default(),
            translated: Diagnostics::default(),
            covered: Vec::new(),
            settings: Vec::new(),
        }
    }

    fn config(&mut self, root: &Node) -> Option<Config> {
        let file = Arc::clone(&self.file);
        let mut top = Fields::of(&file, root, "the configuration", &mut self.found)?;
        let config = Config {
            kafka: kafka::read(top.optional("kafka"), self),
            topics: self.topics(top.optional("topics")),
            engine: self.engine(top.optional("engine")),
            rules_dir: self.rules_dir(top.optional("rules")),
            geoip: self.geoip(top.optional("geoip")),
            mail: mail::read(top.optional("mail"), self),
            web: self.web(top.optional("web")),
            admin: self.admin(top.optional("admin")),
            site: self.site(top.optional("site")),
            keys: self.keys(top.optional("keys")),
            log: self.log(top.optional("log")),
        };
        top.finish(&mut self.found);
        Some(config)
    }

    fn topics(&mut self, node: Option<&Node>) -> Topics {
        let mut section = Section::of("topics", node, self);
        let default = Topics::default();
        let mut name = |setting, default: &String| {
            let name = section.text_or(setting, default, self);
            let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            if (name.len() > 249 || !name.chars().all(allowed))
                && let Some(node) = section.fields().optional(setting)
            {
                let message = format!("`{name}` cannot be a topic's name");
                let help = "Kafka allows letters, digits, `.`, `_` and `-`, 249 at most".into();
                section.error(node, message, Some(help), self);
            }
            name
        };
        let topics = Topics {
            events: name("events", &default.events),
            commands: name("commands", &default.commands),
            decisions: name("decisions", &default.decisions),
            cases: name("cases", &default.cases),
            mail: name("mail", &default.mail),
            receipts: name("receipts", &default.receipts),
            state: name("state", &default.state),
            dead_letters: name("dead_letters", &default.dead_letters),
        };
        self.distinct_topics(&topics, &mut section);
        section.finish(self);
        topics
    }

    /// Two roles in one topic would read each other's records.
    fn distinct_topics(&mut self, topics: &Topics, section: &mut Section<'_>) {
        let names = [
            ("events", &topics.events),
            ("commands", &topics.commands),
            ("decisions", &topics.decisions),
            ("cases", &topics.cases),
            ("mail", &topics.mail),
            ("receipts", &topics.receipts),
            ("state", &topics.state),
            ("dead_letters", &topics.dead_letters),
        ];
        for (at, (setting, name)) in names.iter().enumerate() {
            let Some((other, _)) = names[..at].iter().find(|(_, earlier)| earlier == name) else {
                continue;
            };
            let node = section.fields().optional(setting);
            if let Some(node) = node.or(section.fields().optional(other)) {
                let message = format!("`{other}` and `{setting}` are the same topic, `{name}`");
                section.error(node, message, Some("give each its own".into()), self);
            }
        }
    }

    fn engine(&mut self, node: Option<&Node>) -> Engine {
        let mut section = Section::of("engine", node, self);
        let default = Engine::default();
        let engine = Engine {
            shards: section.number("shards", default.shards, 1..=1_024, self),
            max_lateness: section.duration(
                "max_lateness",
                default.max_lateness,
                ("0s", "24h"),
                self,
            ),
            act_within: section.duration("act_within", default.act_within, ("1m", "30d"), self),
            commit_every: section.duration(
                "commit_every",
                default.commit_every,
                ("10ms", "60s"),
                self,
            ),
            commit_accounts: section.number(
                "commit_accounts",
                default.commit_accounts,
                1..=1_000_000,
                self,
            ),
            memory_bytes: MIB
                * section.number(
                    "memory_mib",
                    default.memory_bytes / MIB,
                    16..=4_194_304,
                    self,
                ),
        };
        section.finish(self);
        engine
    }

    fn rules_dir(&mut self, node: Option<&Node>) -> Option<PathBuf> {
        let mut section = Section::of("rules", node, self);
        let dir = section.path("dir", self);
        section.finish(self);
        dir
    }

    fn geoip(&mut self, node: Option<&Node>) -> GeoIp {
        let mut section = Section::of("geoip", node, self);
        let geoip = GeoIp {
            database: section.path("database", self),
            previous: section.path("previous", self),
            asn_database: section.path("asn_database", self),
        };
        section.finish(self);
        geoip
    }

    fn web(&mut self, node: Option<&Node>) -> Web {
        let mut section = Section::of("web", node, self);
        let listen = section.listen("listen", loopback(8080), self);
        let public_url = match section.fields().optional("public_url") {
            Some(_) => section.url("public_url", self),
            None => {
                section.missing("public_url", "\"https://account-safety.example.com\"", self);
                None
            }
        };
        if let (Some(url), Some(node)) = (&public_url, section.fields().optional("public_url")) {
            if url.contains(['?', '#']) {
                let message = "`web.public_url` is what links begin with: no `?`, no `#`".into();
                section.error(node, message, None, self);
            } else if url.starts_with("http://") && !is_loopback_url(url) {
                let message = "links in mails would be opened without encryption".into();
                section.warning(node, message, Some("write `https://…`".into()), self);
            }
        }
        let day = Duration::from_secs(24 * 60 * 60);
        let link_valid = section.duration("link_valid", day, ("10m", "7d"), self);
        let trusted_proxies = section.networks("trusted_proxies", super::own_networks, self);
        let typed_code = section.fields().bool("typed_code", &mut self.found);
        let typed_code = typed_code.unwrap_or(false);
        section.finish(self);
        Web {
            listen,
            public_url: public_url
                .unwrap_or_default()
                .trim_end_matches('/')
                .to_owned(),
            link_valid,
            trusted_proxies,
            typed_code,
        }
    }

    fn admin(&mut self, node: Option<&Node>) -> Admin {
        let mut section = Section::of("admin", node, self);
        let listen = section.listen("listen", loopback(9464), self);
        section.finish(self);
        Admin { listen }
    }

    fn site(&mut self, node: Option<&Node>) -> Site {
        let mut section = Section::of("site", node, self);
        let name = section.needed_text("name", "Example", self);
        let url = match section.fields().optional("url") {
            Some(_) => section.url("url", self),
            None => {
                section.missing("url", "\"https://www.example.com\"", self);
                None
            }
        };
        let site = Site {
            name: name.unwrap_or_default().to_owned(),
            url: url.unwrap_or_default(),
            password_url: section.url("password_url", self),
            password_note: section.text("password_note", self).map(str::to_owned),
            two_factor_url: section.url("two_factor_url", self),
            sessions_url: section.url("sessions_url", self),
            payouts_url: section.url("payouts_url", self),
            provider_url: section.url("provider_url", self),
            status_url: section.url("status_url", self),
            support_url: section.url("support_url", self),
            support_email: mail::bare_address("support_email", &mut section, self),
            languages: match section.path("locale_dir", self) {
                Some(folder) => translation::load(&folder, &mut self.translated),
                None => Languages::default(),
            },
        };
        section.finish(self);
        site
    }

    fn keys(&mut self, node: Option<&Node>) -> Keys {
        secrets::keys(Section::of("keys", node, self), self)
    }

    fn log(&mut self, node: Option<&Node>) -> LogSettings {
        let mut section = Section::of("log", node, self);
        let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
        let format = section.fields().choice("format", &formats, &mut self.found);
        let filter = section.text_or("filter", logging::DEFAULT_FILTER, self);
        if let Err(why) = logging::parse_filter(&filter)
            && let Some(node) = section.fields().optional("filter")
        {
            let message = format!("`log.filter` cannot be read: {why}");
            let help = "write a level, as in \"info\", and for a part of doorward another, as in \
                        \"info,doorward::shard=debug\"";
            section.error(node, message, Some(help.into()), self);
        }
        section.finish(self);
        LogSettings {
            format: format.unwrap_or_default(),
            filter,
        }
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn is_loopback_url(url: &str) -> bool {
    let host = url.trim_start_matches("http://");
    ["localhost", "127.", "[::1]"]
        .iter()
        .any(|local| host.starts_with(local))
}
