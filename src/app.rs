//! Builds and starts everything, in the order in which one thing needs another, and ends
//! it again.
//!
//! The only place that knows all parts. `run` starts a [`Service`] on the configured
//! cluster and mail server; the demo starts the same on a cluster and a mailbox of its own.

mod edges;
mod shards;
mod watchdog;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::admin::Readiness;
use crate::cli::{OrStatus, Status};
use crate::config::Config;
use crate::facts;
use crate::log::LogError;
use crate::mail::RetrySchedule;
use crate::mail::transport::Transport;
use crate::metrics::Metrics;
use crate::publish::wall_clock;
use crate::reload;
use crate::rules::RuleSet;
use crate::shard::control::Stop;
use crate::shard::latest::{Knowledge, Latest};
use crate::topics;

use edges::Edges;
use shards::ShardThread;
use watchdog::Watched;

/// How long a shutdown may take before the process ends in any case.
pub const SHUTDOWN: Duration = Duration::from_secs(20);
/// The line in `/readyz` until shards are started.
const KAFKA: &str = "kafka";
/// How often a start looks for a cluster that does not answer.
const LOOK_FOR_KAFKA: Duration = Duration::from_millis(500);
/// How long the edges may take to end where the start fails.
const FAILED_START: Duration = Duration::from_secs(2);

/// What a service is made of.
pub struct Parts {
    pub config: Config,
    pub rules: Arc<RuleSet>,
    pub facts: facts::Loaded,
    pub mails: Mails,
    pub schedule: RetrySchedule,
    /// Whether files that change are taken over, and SIGHUP asks for it.
    pub reloads: bool,
}

/// Where mails go.
pub enum Mails {
    /// To the mail server that the configuration names.
    Smtp,
    /// Elsewhere: the demo's mailbox.
    Into(Transport),
}

/// Everything that can wake whoever waits for a service.
#[derive(Debug)]
enum Wake {
    /// SIGTERM or SIGINT.
    Signal(&'static str),
    /// A shard's thread ended; it holds how.
    Shard(usize),
    /// A listener or the mailer ended, and how.
    Edge(&'static str, anyhow::Result<()>),
}

/// A running doorward.
pub struct Service {
    shards: Vec<ShardThread>,
    /// A signal came before the shards were started.
    asked_to_end: bool,
    stop: Stop,
    edges: Edges,
    reload: Option<reload::Running>,
    wakes: Receiver<Wake>,
    web: SocketAddr,
    admin: SocketAddr,
    metrics: Arc<Metrics>,
    readiness: Readiness,
}

impl Service {
    /// Starts all parts. Sockets are bound before anything runs, and no shard reads before
    /// the topics are known to fit. A cluster that does not answer is waited for, until it
    /// does or a signal comes: readiness says so meanwhile.
    ///
    /// # Errors
    /// Where a port is taken or the topics do not fit.
    pub fn start(parts: Parts) -> anyhow::Result<Service> {
        let config = Arc::new(parts.config);
        let web_socket = bind("web.listen", config.web.listen)?;
        let admin_socket = bind("admin.listen", config.admin.listen)?;
        let (web, admin) = (web_socket.local_addr()?, admin_socket.local_addr()?);

        let metrics = Arc::new(Metrics::new());
        let readiness = Readiness::new();
        metrics.set_rule_set(parts.rules.hash());
        metrics.set_exceptions(parts.rules.exceptions());
        parts.facts.report(&metrics, &readiness, wall_clock());
        readiness.set(KAFKA, "its topics have not been looked at");

        let (waker, wakes) = mpsc::channel();
        let asks = parts.reloads.then(reload::asks);
        let edges = Edges::start(edges::Parts {
            config: &config,
            mails: parts.mails,
            schedule: parts.schedule,
            web: web_socket,
            admin: admin_socket,
            metrics: Arc::clone(&metrics),
            readiness: readiness.clone(),
            waker: waker.clone(),
            reload: asks.as_ref().map(|(asks, _)| asks.clone()),
        })?;
        tracing::info!(%web, %admin, "listening");
        let mut service = Service {
            shards: Vec::new(),
            asked_to_end: false,
            stop: Stop::new(),
            edges,
            reload: None,
            wakes,
            web,
            admin,
            metrics,
            readiness,
        };
        let at_work = reload::AtWork::new(&parts.facts, parts.rules.hash());
        let provenance = parts
            .facts
            .provenance(&config.topics.events, parts.rules.hash());
        let latest = Latest::new(Knowledge {
            rules: parts.rules,
            facts: Arc::new(parts.facts.facts),
            provenance,
        });
        let started = service.wait_for_topics(&config).and_then(|partitions| {
            let Some(partitions) = partitions else {
                return Ok(());
            };
            let context = shards::Context {
                config: Arc::clone(&config),
                latest: latest.clone(),
                partitions,
                metrics: Arc::clone(&service.metrics),
                readiness: service.readiness.clone(),
                stop: service.stop.clone(),
                batch_prefix: shards::batch_prefix(&config.kafka.instance)?,
            };
            service.start_shards(&context, &waker)?;
            if let Some(asks) = asks {
                service.start_reload(&config, latest, at_work, asks)?;
            }
            Ok(())
        });
        if let Err(error) = started {
            if let Err(second) = service.shutdown(FAILED_START) {
                tracing::warn!(error = %second, "after a failed start");
            }
            return Err(error);
        }
        Ok(service)
    }

    fn start_shards(
        &mut self,
        context: &shards::Context,
        waker: &mpsc::Sender<Wake>,
    ) -> anyhow::Result<()> {
        for shard in 0..context.config.engine.shards.max(1) {
            let thread = context.start(shard, waker.clone())?;
            self.shards.push(thread);
        }
        // Each shard has said by now that it is not ready.
        self.readiness.clear(KAFKA);
        let mut watched: Vec<Watched> = self.shards.iter().map(Watched::shard).collect();
        watched.push(Watched::outbox(self.edges.outbox()));
        watchdog::start(watched)?;
        tracing::info!(
            shards = self.shards.len(),
            partitions = context.partitions,
            rule_set = context.latest.get().rules.hash(),
            web = %self.web,
            admin = %self.admin,
            "started",
        );
        Ok(())
    }

    fn start_reload(
        &mut self,
        config: &Config,
        latest: Latest,
        at_work: reload::AtWork,
        asks: (mpsc::Sender<reload::Ask>, Receiver<reload::Ask>),
    ) -> anyhow::Result<()> {
        let parts = reload::Parts {
            sources: reload::Sources::of(config),
            latest,
            at_work,
            metrics: Arc::clone(&self.metrics),
            readiness: self.readiness.clone(),
        };
        self.reload = Some(reload::Running::start(parts, asks)?);
        Ok(())
    }

    /// How many input partitions there are, once the topics are there and fit together;
    /// `None` where a signal came first.
    fn wait_for_topics(&mut self, config: &Config) -> anyhow::Result<Option<u32>> {
        let mut told = false;
        loop {
            match topics::input_partitions(&config.kafka, &config.topics) {
                Err(LogError::Unavailable(why)) => {
                    if !told {
                        tracing::warn!(why, "waiting for Kafka");
                        // Else nobody would hear one before the shards run.
                        self.edges.watch_signals()?;
                        told = true;
                    }
                    self.readiness.set(KAFKA, why);
                }
                outcome => return Ok(Some(outcome?)),
            }
            match self.wakes.recv_timeout(LOOK_FOR_KAFKA) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Wake::Signal(name)) => {
                    tracing::info!(signal = name, "asked to end");
                    self.asked_to_end = true;
                    return Ok(None);
                }
                Ok(Wake::Edge(name, outcome)) => return Err(ended(name, outcome)),
                Ok(Wake::Shard(_)) | Err(RecvTimeoutError::Disconnected) => {
                    anyhow::bail!("nothing is left that could end");
                }
            }
        }
    }

    /// Where the owner's pages are served.
    pub fn web_address(&self) -> SocketAddr {
        self.web
    }

    /// Where metrics and health are served.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Waits for SIGTERM or SIGINT, or until a part ends by itself.
    ///
    /// # Errors
    /// Why a part ended; the service must be shut down all the same.
    pub fn wait_for_signal(&mut self) -> anyhow::Result<()> {
        if self.asked_to_end {
            return Ok(());
        }
        self.edges
            .watch_signals()
            .context("signals cannot be received")?;
        match self
            .wakes
            .recv()
            .context("nothing is left that could end")?
        {
            Wake::Signal(name) => {
                tracing::info!(signal = name, "asked to end");
                Ok(())
            }
            Wake::Shard(shard) => {
                let at = self.shards.iter().position(|thread| thread.shard == shard);
                if let Some(at) = at {
                    let thread = self.shards.swap_remove(at);
                    thread.end(Instant::now() + Duration::from_secs(1))?;
                }
                anyhow::bail!("shard {shard} ended without being asked to")
            }
            Wake::Edge(name, outcome) => Err(ended(name, outcome)),
        }
    }

    /// Ends everything: the pages stop taking answers, shards commit what they have and
    /// leave the group, mails that are being sent are finished; at most `within`.
    ///
    /// # Errors
    /// The first part that did not end well or in time. What was not committed then is
    /// handled again by whoever reads next.
    pub fn shutdown(self, within: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + within;
        // A little of the time is kept for leaving the group after the last commit.
        self.stop.request(within.mul_f32(0.8));
        self.edges.stop();
        let mut outcome = Ok(());
        for shard in self.shards {
            outcome = outcome.and(shard.end(deadline));
        }
        if let Some(reload) = self.reload {
            reload.end(deadline);
        }
        self.edges.end(deadline);
        while let Ok(wake) = self.wakes.try_recv() {
            if let Wake::Edge(name, Err(error)) = wake {
                outcome = outcome.and(Err(error.context(format!("the {name} ended"))));
            }
        }
        outcome
    }
}

fn bind(setting: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let socket = TcpListener::bind(address)
        .and_then(|socket| socket.set_nonblocking(true).map(|()| socket))
        .with_context(|| format!("cannot listen on {address}; see {setting}"))
        .or_status(Status::Usage)?;
    Ok(socket)
}

/// The error for an edge that ended by itself.
fn ended(name: &str, outcome: anyhow::Result<()>) -> anyhow::Error {
    match outcome {
        Ok(()) => anyhow::anyhow!("the {name} ended without being asked to"),
        Err(error) => error.context(format!("the {name} ended")),
    }
}

/// The signals that ask a process to end.
struct Signals {
    term: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals {
            term: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.term.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
