//! How a mail leaves: through an SMTP server, or into a mailbox in memory.

mod smtp;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lettre::Message;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, TlsParameters};
use tokio::sync::watch;

use crate::config::{self, MailSecurity};
use crate::event::Timestamp;
use crate::publish::wall_clock;
use smtp::{Connections, Encryption, Server};

/// Mails that a [`Mailbox`] holds; the oldest go first.
pub const MAILBOX_CAPACITY: usize = 1_000;
/// Characters of a server's answer that are kept.
const MAX_DETAIL: usize = 200;
/// Longest wait for the answer to the end of a message, where `mail.timeout` is not longer.
const MAX_ANSWER: Duration = Duration::from_secs(5 * 60);

/// Where mails go: settings that were checked, without a connection. It may be made and
/// dropped anywhere.
#[derive(Clone)]
pub enum Transport {
    Smtp(Box<Server>),
    /// Kept in memory, for the demo and for tests.
    Mailbox(Mailbox),
}

/// A transport at work.
pub enum Courier {
    Smtp(Box<Connections>),
    Mailbox(Mailbox),
}

/// A mail that is ready to be handed over. Dropped, it was never sent.
pub enum Ready {
    Smtp(Box<smtp::Ready>),
    Mailbox(Box<Message>),
}

/// Settings with which no mail can be sent.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    #[error("mail.ca_file {path}: {error}")]
    CaFile { path: String, error: std::io::Error },
    #[error("mail.ca_file {path} holds no certificate in PEM form")]
    NoCertificate { path: String },
    #[error("TLS to {host}: {error}")]
    Tls {
        host: String,
        error: lettre::transport::smtp::Error,
    },
}

/// Why a mail did not leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendError {
    /// Nobody can say that it will not work later: 4xx, no connection, no answer in time,
    /// a certificate or a login that is refused.
    Later(String),
    /// The mail went out whole, and what the server said to it was not heard.
    Unclear(String),
    /// The server will not take this mail, now or later: 5xx about the mail itself.
    Never(String),
}

impl Transport {
    /// The transport that the configuration asks for. Nothing is connected yet.
    ///
    /// # Errors
    /// Where the CA file cannot be read or TLS cannot be set up.
    pub fn smtp(mail: &config::Mail) -> Result<Transport, TransportError> {
        let encryption = match mail.security {
            MailSecurity::None => Encryption::None,
            MailSecurity::StartTls => Encryption::StartTls(tls_parameters(mail)?),
            MailSecurity::Tls => Encryption::Tls(tls_parameters(mail)?),
        };
        Ok(Transport::Smtp(Box::new(Server {
            host: mail.host.clone(),
            port: mail.port,
            encryption,
            credentials: mail.login.as_ref().map(|(user, password)| {
                Credentials::new(user.clone(), password.expose().to_owned())
            }),
            step: mail.timeout,
            answer: answer_within(mail.timeout),
            keep: mail.connections,
        })))
    }

    /// Ready to send; a connection is made with the first mail.
    pub fn courier(&self) -> Courier {
        match self {
            Transport::Smtp(server) => {
                Courier::Smtp(Box::new(Connections::new((**server).clone())))
            }
            Transport::Mailbox(mailbox) => Courier::Mailbox(mailbox.clone()),
        }
    }
}

/// How long the answer to the end of a message is waited for, where every other step may
/// take `step`: four times as long, since giving up there can send a mail twice.
pub fn answer_within(step: Duration) -> Duration {
    (4 * step).min(MAX_ANSWER).max(step)
}

impl Courier {
    /// Takes `message` as far as it can go without being sent.
    ///
    /// # Errors
    /// [`SendError`] says whether trying again makes sense.
    pub async fn prepare(&self, message: Message) -> Result<Ready, SendError> {
        match self {
            Courier::Smtp(connections) => connections
                .prepare(&message)
                .await
                .map(|ready| Ready::Smtp(Box::new(ready))),
            Courier::Mailbox(_) => Ok(Ready::Mailbox(Box::new(message))),
        }
    }

    /// Sends it. When this returns `Ok`, the server has taken responsibility.
    ///
    /// # Errors
    /// [`SendError`] says whether trying again makes sense.
    pub async fn hand_over(&self, ready: Ready) -> Result<(), SendError> {
        match (self, ready) {
            (Courier::Smtp(connections), Ready::Smtp(ready)) => connections.hand_over(*ready).await,
            (Courier::Mailbox(mailbox), Ready::Mailbox(message)) => {
                mailbox.put(&message);
                Ok(())
            }
            _ => Err(SendError::Later("it was made ready for another way".into())),
        }
    }

    /// Ends connections that nobody has needed for long, or all.
    pub async fn tidy(&self, all: bool) {
        if let Courier::Smtp(connections) = self {
            connections.tidy(all).await;
        }
    }
}

fn tls_parameters(mail: &config::Mail) -> Result<TlsParameters, TransportError> {
    let mut builder = TlsParameters::builder(mail.host.clone());
    if let Some(path) = &mail.ca_file {
        let shown = path.display().to_string();
        let pem = std::fs::read(path).map_err(|error| TransportError::CaFile {
            path: shown.clone(),
            error,
        })?;
        let mut found = false;
        for block in pem_blocks(&pem) {
            let certificate =
                Certificate::from_pem(block).map_err(|_| TransportError::NoCertificate {
                    path: shown.clone(),
                })?;
            builder = builder.add_root_certificate(certificate);
            found = true;
        }
        if !found {
            return Err(TransportError::NoCertificate { path: shown });
        }
    }
    builder.build().map_err(|error| TransportError::Tls {
        host: mail.host.clone(),
        error,
    })
}

/// Each certificate of a PEM file, its frame included.
fn pem_blocks(pem: &[u8]) -> impl Iterator<Item = &[u8]> {
    const END: &[u8] = b"-----END CERTIFICATE-----";
    let mut rest = pem;
    std::iter::from_fn(move || {
        let end = rest.windows(END.len()).position(|w| w == END)? + END.len();
        let (block, after) = rest.split_at(end);
        rest = after;
        Some(block)
    })
}

/// A reply in the 500s is final only where it is about this mail. About the login (530,
/// 534, 535, 538), the connection (521) or the commands themselves (500 to 504) it says that
/// the settings or the server are wrong, which somebody will mend.
fn judge(error: &lettre::transport::smtp::Error) -> SendError {
    let detail = detail_of(error);
    let about_us = error
        .status()
        .is_some_and(|code| matches!(u16::from(code), 500..=504 | 521 | 530 | 534 | 535 | 538));
    if error.is_permanent() && !about_us {
        SendError::Never(detail)
    } else {
        SendError::Later(detail)
    }
}

/// What may stand in receipts and logs of an error.
fn detail_of(error: &lettre::transport::smtp::Error) -> String {
    without_addresses(&describe(error))
}

/// The error and its causes on one line.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// `text` as one short line, with every word that holds an at sign left out: a server likes
/// to repeat the address, and receipts and logs must not hold it.
fn without_addresses(text: &str) -> String {
    let words: Vec<&str> = text
        .split_whitespace()
        .map(|word| {
            if word.contains('@') {
                "<address>"
            } else {
                word
            }
        })
        .collect();
    crate::locale::clean::line(&words.join(" "), MAX_DETAIL)
}

/// A mail as it was sent.
#[derive(Clone, Debug)]
pub struct StoredMail {
    /// Counts from 0 for the life of the mailbox.
    pub number: u64,
    pub received: Timestamp,
    /// Envelope recipients.
    pub to: Vec<String>,
    /// RFC 5322, as an SMTP server would have got it.
    pub raw: Vec<u8>,
}

/// Mails in memory, the last [`MAILBOX_CAPACITY`] of them. Clones share them.
#[derive(Clone)]
pub struct Mailbox {
    // A lock, because the mailer writes and pages read; held for a push or a copy only.
    mails: Arc<Mutex<VecDeque<Arc<StoredMail>>>>,
    count: watch::Sender<u64>,
}

impl Default for Mailbox {
    fn default() -> Self {
        Mailbox::new()
    }
}

impl Mailbox {
    pub fn new() -> Mailbox {
        Mailbox {
            mails: Arc::default(),
            count: watch::Sender::new(0),
        }
    }

    fn put(&self, message: &Message) {
        let mut mails = self.mails.lock().unwrap_or_else(PoisonError::into_inner);
        let number = *self.count.borrow();
        if mails.len() == MAILBOX_CAPACITY {
            mails.pop_front();
        }
        mails.push_back(Arc::new(StoredMail {
            number,
            received: wall_clock(),
            to: message
                .envelope()
                .to()
                .iter()
                .map(|address| address.to_string())
                .collect(),
            raw: message.formatted(),
        }));
        drop(mails);
        self.count.send_replace(number + 1);
    }

    /// Every mail that is still held, the oldest first.
    pub fn all(&self) -> Vec<Arc<StoredMail>> {
        self.since(0)
    }

    /// The mails from `number` on, the oldest first.
    pub fn since(&self, number: u64) -> Vec<Arc<StoredMail>> {
        self.mails
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .filter(|mail| mail.number >= number)
            .cloned()
            .collect()
    }

    /// How many mails have arrived; changes wake whoever waits on it.
    pub fn arrivals(&self) -> watch::Receiver<u64> {
        self.count.subscribe()
    }
}
