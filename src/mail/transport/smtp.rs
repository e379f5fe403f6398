//! One mail at a time over SMTP (RFC 5321), up to its end and then the end.
//!
//! The conversation is cut in two where responsibility passes: everything up to DATA may be
//! given up at any time, and after the final dot only the server's answer says who has the
//! mail. Every step has a time limit. A connection is used again only when the last word on
//! it was an answer to our last command: one that was left in the middle would take the
//! answer to an old command for the answer to a new one.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lettre::Message;
use lettre::address::Envelope;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt, Rset};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use lettre::transport::smtp::response::Severity;
use tokio::time::{Instant, timeout};

use super::{SendError, detail_of, judge};

/// How long a connection may wait for its next mail.
const IDLE: Duration = Duration::from_secs(30);
/// Mails over one connection; servers have limits of their own.
const MAILS: u32 = 100;
/// How long a farewell, or putting a connection in order, may take.
const TIDY: Duration = Duration::from_secs(2);

/// A server and how to speak to it.
#[derive(Clone)]
pub struct Server {
    pub host: String,
    pub port: u16,
    pub encryption: Encryption,
    pub credentials: Option<Credentials>,
    /// For each step before the end of the message.
    pub step: Duration,
    /// For the answer to the end of the message. A server that is busy with what it has
    /// taken must not be asked to take it again (RFC 5321, 4.5.3.2.6).
    pub answer: Duration,
    /// Connections kept for later mails.
    pub keep: usize,
}

#[derive(Clone)]
pub enum Encryption {
    None,
    StartTls(TlsParameters),
    Tls(TlsParameters),
}

/// Connections to one server.
pub struct Connections {
    server: Server,
    hello: ClientId,
    // A lock, because several mails are sent at once; held for a push or a pop.
    idle: Mutex<Vec<Connection>>,
}

struct Connection {
    smtp: AsyncSmtpConnection,
    mails: u32,
    used: Instant,
}

/// A mail whose recipient the server has accepted, and that waits for its text.
pub struct Ready {
    connection: Connection,
    text: Vec<u8>,
}

impl Connections {
    pub fn new(server: Server) -> Connections {
        Connections {
            server,
            hello: ClientId::default(),
            idle: Mutex::default(),
        }
    }

    /// Everything up to DATA. What it returns may be dropped: the server then forgets it.
    pub async fn prepare(&self, message: &Message) -> Result<Ready, SendError> {
        let text = message.formatted();
        let mut connection = self.begin(message.envelope(), &text).await?;
        match self.name(&mut connection, message.envelope()).await {
            Ok(()) => Ok(Ready { connection, text }),
            Err(Refusal::Gone(error)) => Err(error),
            Err(Refusal::Said(error)) => {
                self.keep_after_refusal(connection).await;
                Err(error)
            }
        }
    }

    /// A connection that has taken the sender: an old one, where that is still there.
    async fn begin(&self, envelope: &Envelope, text: &[u8]) -> Result<Connection, SendError> {
        if let Some(mut connection) = self.take_idle() {
            match self.sender(&mut connection, envelope, text).await {
                Ok(()) => return Ok(connection),
                // It had ended before it was used: no word about the mail.
                Err(Refusal::Gone(_)) => {}
                Err(Refusal::Said(error)) => {
                    self.keep_after_refusal(connection).await;
                    return Err(error);
                }
            }
        }
        let mut connection = self.connect().await?;
        match self.sender(&mut connection, envelope, text).await {
            Ok(()) => Ok(connection),
            Err(Refusal::Gone(error)) => Err(error),
            Err(Refusal::Said(error)) => {
                self.keep_after_refusal(connection).await;
                Err(error)
            }
        }
    }

    /// The text and its end. From here on the server may have the mail.
    pub async fn hand_over(&self, ready: Ready) -> Result<(), SendError> {
        let Ready {
            mut connection,
            text,
        } = ready;
        let answer = timeout(self.server.answer, connection.smtp.message(&text)).await;
        match answer {
            Ok(Ok(response)) if response.code().severity == Severity::PositiveCompletion => {
                self.keep(connection);
                Ok(())
            }
            Ok(Ok(response)) => Err(SendError::Later(format!(
                "an answer out of place: {}",
                response.code()
            ))),
            Ok(Err(error)) if error.status().is_some() => Err(judge(&error)),
            Ok(Err(error)) => Err(SendError::Unclear(detail_of(&error))),
            Err(_) => Err(SendError::Unclear(format!(
                "no answer to the end of the message within {:?}",
                self.server.answer
            ))),
        }
    }

    /// Says goodbye on connections that nobody has needed for long, or on all.
    pub async fn tidy(&self, all: bool) {
        let old: Vec<Connection> = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            let (old, young) = std::mem::take(&mut *idle)
                .into_iter()
                .partition(|connection| all || connection.used.elapsed() >= IDLE);
            *idle = young;
            old
        };
        let farewells = old.into_iter().map(|mut connection| async move {
            // A server that does not answer is left all the same.
            let _ = timeout(TIDY, connection.smtp.quit()).await;
        });
        futures_util::future::join_all(farewells).await;
    }

    fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = idle.pop()?;
        (newest.used.elapsed() < IDLE).then_some(newest)
    }

    fn keep(&self, mut connection: Connection) {
        connection.mails += 1;
        connection.used = Instant::now();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if connection.mails < MAILS && idle.len() < self.server.keep {
            idle.push(connection);
        }
    }

    /// A server that refused one mail may take the next over the same connection.
    async fn keep_after_refusal(&self, mut connection: Connection) {
        if let Ok(Ok(_)) = timeout(TIDY, connection.smtp.command(Rset)).await {
            self.keep(connection);
        }
    }

    async fn connect(&self) -> Result<Connection, SendError> {
        let server = &self.server;
        let wrapper = match &server.encryption {
            Encryption::Tls(tls) => Some(tls.clone()),
            Encryption::None | Encryption::StartTls(_) => None,
        };
        let mut smtp = self
            .step(
                "the connection",
                AsyncSmtpConnection::connect_tokio1(
                    (server.host.as_str(), server.port),
                    Some(server.step),
                    &self.hello,
                    wrapper,
                    None,
                ),
            )
            .await
            .map_err(Refusal::about_us)?;
        if let Encryption::StartTls(tls) = &server.encryption {
            self.step("STARTTLS", smtp.starttls(tls.clone(), &self.hello))
                .await
                .map_err(Refusal::about_us)?;
        }
        if let Some(credentials) = &server.credentials {
            self.step("the login", smtp.auth(DEFAULT_MECHANISMS, credentials))
                .await
                .map_err(Refusal::about_us)?;
        }
        Ok(Connection {
            smtp,
            mails: 0,
            used: Instant::now(),
        })
    }

    async fn sender(
        &self,
        connection: &mut Connection,
        envelope: &Envelope,
        text: &[u8],
    ) -> Result<(), Refusal> {
        let smtp = &mut connection.smtp;
        let mut options = Vec::new();
        let beyond_ascii = |address: &lettre::Address| !address.to_string().is_ascii();
        if envelope
            .to()
            .iter()
            .chain(envelope.from())
            .any(beyond_ascii)
        {
            if !smtp.server_info().supports_feature(Extension::SmtpUtfEight) {
                return Err(Refusal::Said(SendError::Never(
                    "the mail server takes no address beyond ASCII (SMTPUTF8)".into(),
                )));
            }
            options.push(MailParameter::SmtpUtfEight);
        }
        if !text.is_ascii() {
            options.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
        self.step(
            "MAIL FROM",
            smtp.command(Mail::new(envelope.from().cloned(), options)),
        )
        .await
        .map_err(Refusal::not_final)?;
        Ok(())
    }

    /// Recipients, and the wish to send.
    async fn name(&self, connection: &mut Connection, envelope: &Envelope) -> Result<(), Refusal> {
        let smtp = &mut connection.smtp;
        for to in envelope.to() {
            self.step("RCPT TO", smtp.command(Rcpt::new(to.clone(), Vec::new())))
                .await?;
        }
        self.step("DATA", smtp.command(Data)).await?;
        Ok(())
    }

    async fn step<T>(
        &self,
        what: &str,
        step: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Refusal> {
        match timeout(self.server.step, step).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(match error.status().map(u16::from) {
                // 421: the server closes the connection, whatever was asked.
                None | Some(421) => Refusal::Gone(judge(&error)),
                Some(_) => Refusal::Said(judge(&error)),
            }),
            Err(_) => Err(Refusal::Gone(SendError::Later(format!(
                "no answer to {what} within {:?}",
                self.server.step
            )))),
        }
    }
}

/// Why a mail got no further.
enum Refusal {
    /// The connection is of no use any more.
    Gone(SendError),
    /// The server answered, and waits for the next command.
    Said(SendError),
}

impl Refusal {
    /// Whatever is said before the recipient is named is not about this mail: settings or
    /// a server that somebody will mend, or a sender that somebody will allow.
    fn not_final(self) -> Refusal {
        let later = |error| match error {
            SendError::Never(why) => SendError::Later(why),
            other => other,
        };
        match self {
            Refusal::Gone(error) => Refusal::Gone(later(error)),
            Refusal::Said(error) => Refusal::Said(later(error)),
        }
    }

    fn about_us(self) -> SendError {
        match self.not_final() {
            Refusal::Gone(error) | Refusal::Said(error) => error,
        }
    }
}
