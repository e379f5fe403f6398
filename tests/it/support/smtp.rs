//! A real SMTP server for tests (`ci/smtp/server.js`), run by node.
//!
//! `DOORWARD_SMTP_NODE` names the folder that holds `node_modules/smtp-server`. Each test
//! starts a server of its own: it takes a tenth of a second, and its faults are its own.
//!
//! The certificate authority is made anew for each server. One kept in the repository would
//! be a private key that scanners find, clones share, and that runs out one day.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use mail_parser::MessageParser;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use super::process::{Folder, Process};
use super::{PATIENCE, eventually, service};

/// How the server wants to be spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Security {
    #[default]
    None,
    StartTls,
    /// TLS from the first byte.
    Implicit,
}

/// What the server does, well or badly. Recipients that start with `reject` are always
/// answered 550, ones that start with `later` 450; after a message to one that starts with
/// `bye` was taken, the connection is closed.
#[derive(Clone, Debug, Default)]
pub struct Behaviour {
    pub security: Security,
    /// User and password that it demands; it takes no password without TLS.
    pub login: Option<(&'static str, &'static str)>,
    /// How many messages it answers 451 at first.
    pub temporary: u32,
    /// How many messages it takes at first and then cuts the connection without an answer.
    pub drop: u32,
    /// How long it waits before it answers a message.
    pub delay: Duration,
    /// Where it listens; 0: wherever there is room.
    pub port: u16,
    /// How long a recipient is answered 450 from its first try on.
    pub grey: Duration,
    /// Every so-manieth connection is greeted with 421 and closed.
    pub busy_every: u32,
    /// How many messages it cuts off at first while their text arrives.
    pub cut_data: u32,
    /// How long the first connection waits for its greeting.
    pub banner: Duration,
    /// How long it waits before it accepts a recipient.
    pub recipient: Duration,
}

/// A running server on 127.0.0.1.
pub struct SmtpServer {
    // Before the folder, so that it has ended when its files go.
    process: Process,
    pub port: u16,
    folder: Folder,
}

/// One message that reached the server's end of DATA.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct ReceivedMail {
    /// `accepted`, `temporary` (answered 451) or `dropped` (the connection was cut).
    pub outcome: String,
    /// When its text was there, in milliseconds since 1970; the answer came `delay` later.
    pub at_ms: i64,
    pub from: String,
    pub to: Vec<String>,
    /// Who had logged in.
    pub user: Option<String>,
    pub tls: bool,
    #[serde(deserialize_with = "from_base64")]
    pub raw: Vec<u8>,
}

impl ReceivedMail {
    /// # Panics
    /// Where the bytes are no mail.
    pub fn parsed(&self) -> mail_parser::Message<'_> {
        MessageParser::default()
            .parse(&self.raw)
            .expect("a mail that can be parsed")
    }
}

fn from_base64<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = <String as serde::Deserialize>::deserialize(deserializer)?;
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .map_err(serde::de::Error::custom)
}

impl SmtpServer {
    /// `None` (and a printed line) where the server is not installed.
    pub fn start(behaviour: &Behaviour) -> Option<SmtpServer> {
        let node = service("DOORWARD_SMTP_NODE")?;
        let folder = Folder::new("smtp");
        write_certificates(folder.path());
        let mut command = Command::new("node");
        command
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("ci/smtp/server.js"))
            .env("NODE_PATH", node.join("node_modules"))
            .args(["--key", "server.key", "--cert", "server.pem"])
            .args(["--tls", behaviour.security.option()])
            .args(["--temporary", &behaviour.temporary.to_string()])
            .args(["--drop", &behaviour.drop.to_string()])
            .args(["--delay", &behaviour.delay.as_millis().to_string()])
            .args(["--port", &behaviour.port.to_string()])
            .args(["--grey", &behaviour.grey.as_millis().to_string()])
            .args(["--busy-every", &behaviour.busy_every.to_string()])
            .args(["--cut-data", &behaviour.cut_data.to_string()])
            .args(["--banner", &behaviour.banner.as_millis().to_string()])
            .args(["--recipient", &behaviour.recipient.as_millis().to_string()])
            .current_dir(folder.path());
        if let Some((user, password)) = behaviour.login {
            command.args(["--login", &format!("{user}:{password}")]);
        }
        let mut process = Process::start("smtp", folder.path(), &mut command);
        let port = eventually("the SMTP server's port", PATIENCE, || {
            if let Some(status) = process.ended() {
                panic!("the SMTP server ended with {status}");
            }
            let line = lines(&process).find(|line| line["event"] == "listening")?;
            line["port"].as_u64()?.try_into().ok()
        });
        Some(SmtpServer {
            process,
            port,
            folder,
        })
    }

    /// The certificate, in PEM, that a client must trust; the server calls itself
    /// `localhost`, and 127.0.0.1.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Every message so far, in the order in which they came, refused attempts included.
    pub fn attempts(&self) -> Vec<ReceivedMail> {
        lines(&self.process)
            .filter(|line| line["event"] == "mail")
            .map(|line| serde_json::from_value(line).expect("a line of the server"))
            .collect()
    }

    /// Every message that it has accepted so far.
    pub fn mails(&self) -> Vec<ReceivedMail> {
        let mut mails = self.attempts();
        mails.retain(|mail| mail.outcome == "accepted");
        mails
    }

    /// The accepted messages, as soon as there are `count` of them.
    #[track_caller]
    pub fn wait_for_mails(&self, count: usize, patience: Duration) -> Vec<ReceivedMail> {
        eventually(&format!("{count} mails"), patience, || {
            Some(self.mails()).filter(|mails| mails.len() >= count)
        })
    }

    /// How many messages have begun so far.
    pub fn begun(&self) -> usize {
        lines(&self.process)
            .filter(|line| line["event"] == "data")
            .count()
    }

    /// The recipients that it has refused so far.
    pub fn refused_recipients(&self) -> Vec<String> {
        lines(&self.process)
            .filter(|line| line["event"] == "recipient_refused")
            .filter_map(|line| line["to"].as_str().map(str::to_owned))
            .collect()
    }
}

impl Security {
    fn option(self) -> &'static str {
        match self {
            Security::None => "none",
            Security::StartTls => "starttls",
            Security::Implicit => "implicit",
        }
    }
}

/// The server's lines; a last one that is half written is left for the next look.
fn lines(process: &Process) -> impl Iterator<Item = serde_json::Value> + use<> {
    let output = process.output();
    let whole = output.rfind('\n').map_or(0, |end| end + 1);
    let lines: Vec<serde_json::Value> = output[..whole]
        .lines()
        .map(|line| serde_json::from_str(line).expect("the server prints JSON"))
        .collect();
    lines.into_iter()
}

/// `ca.pem`, and `server.pem` with `server.key` signed by it.
fn write_certificates(folder: &Path) {
    let write = |name: &str, text: String| {
        std::fs::write(folder.join(name), text).expect("a certificate written");
    };
    let ca_key = KeyPair::generate().expect("a key");
    let mut ca = CertificateParams::new(Vec::<String>::new()).expect("no names to refuse");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key).expect("a certificate");
    let server_key = KeyPair::generate().expect("a key");
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let server = CertificateParams::new(names)
        .expect("valid names")
        .signed_by(&server_key, &Issuer::new(ca, ca_key))
        .expect("a certificate");
    write("ca.pem", ca_certificate.pem());
    write("server.pem", server.pem());
    write("server.key", server_key.serialize_pem());
}
