//! What runs on tokio: the owner's pages, the mailer, the admin listener.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Mails, Signals, Wake};
use crate::admin::{self, Readiness};
use crate::cli::{OrStatus, Status};
use crate::config::Config;
use crate::mail::transport::Transport;
use crate::mail::{Mailer, RetrySchedule};
use crate::metrics::Metrics;
use crate::publish::Publisher;
use crate::reload;
use crate::shard::control::Pulse;
use crate::web::cases::{CaseReader, Cases};
use crate::web::{self, ACKNOWLEDGE_WITHIN};

/// Threads of the edges: none of them computes for long.
const THREADS: usize = 2;
/// How often the reason "cases are being read" is looked at.
const LOOK_AT_CASES: Duration = Duration::from_millis(100);

/// Everything that the edges are made of.
pub struct Parts<'a> {
    pub config: &'a Config,
    pub mails: Mails,
    pub schedule: RetrySchedule,
    pub web: TcpListener,
    pub admin: TcpListener,
    pub metrics: Arc<Metrics>,
    pub readiness: Readiness,
    pub waker: Sender<Wake>,
    /// Who hears of SIGHUP; without anybody, the signal ends the process, as it does others.
    pub reload: Option<Sender<reload::Ask>>,
}

/// The edges, running.
pub struct Edges {
    runtime: tokio::runtime::Runtime,
    tasks: Vec<(&'static str, JoinHandle<()>)>,
    stop: watch::Sender<bool>,
    waker: Sender<Wake>,
    cases: CaseReader,
    outbox: Pulse,
}

impl Edges {
    /// Starts them.
    ///
    /// # Errors
    /// Where a setting cannot be used.
    pub fn start(parts: Parts<'_>) -> anyhow::Result<Edges> {
        let config = parts.config;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("doorward-edge")
            .enable_all()
            .build()
            .context("the threads of web and mail cannot be started")?;
        let cases = Arc::new(Cases::default());
        let reader = CaseReader::start(&config.kafka, &config.topics.cases, Arc::clone(&cases))
            .context("the reader of cases")?;
        let (stop, stopped) = watch::channel(false);
        let mut edges = Edges {
            runtime,
            tasks: Vec::new(),
            stop,
            waker: parts.waker,
            cases: reader,
            outbox: Pulse::new(),
        };
        // tokio's types need to know their runtime when they are made.
        let runtime = edges.runtime.handle().clone();
        let _entered = runtime.enter();

        if let Some(asks) = parts.reload {
            edges
                .pass_on_hangups(asks)
                .context("SIGHUP cannot be received")?;
        }
        let transport = match parts.mails {
            Mails::Smtp => Transport::smtp(&config.mail)
                .context("the mail settings")
                .or_status(Status::Usage)?,
            Mails::Into(transport) => transport,
        };
        let metrics = Arc::clone(&parts.metrics);
        let mailer = Mailer::start(config, transport, parts.schedule, metrics)
            .context("the mailer")
            .or_status(Status::Usage)?;
        edges.outbox = mailer.pulse();
        let shutdown = until(stopped.clone());
        edges.spawn("mailer", async move {
            mailer.run(shutdown).await;
            Ok(())
        });

        let publisher = Publisher::new(&config.kafka, ACKNOWLEDGE_WITHIN)
            .context("the publisher of answers")
            .or_status(Status::Usage)?;
        let metrics = Arc::clone(&parts.metrics);
        let pages = web::Parts::new(config, Arc::clone(&cases), publisher, metrics)
            .context("the keys of links")
            .or_status(Status::Usage)?;
        let listener = tokio::net::TcpListener::from_std(parts.web)?;
        let shutdown = until(stopped.clone());
        edges.spawn("web listener", async move {
            Ok(web::serve(listener, web::router(pages), shutdown).await?)
        });

        let listener = tokio::net::TcpListener::from_std(parts.admin)?;
        let readiness = parts.readiness.clone();
        let shutdown = until(stopped);
        edges.spawn("admin listener", async move {
            Ok(admin::serve(listener, parts.metrics, readiness, shutdown).await?)
        });
        edges.runtime.spawn(report_cases(cases, parts.readiness));
        Ok(edges)
    }

    /// The sign of life of the thread that reads the outbox.
    pub fn outbox(&self) -> Pulse {
        self.outbox.clone()
    }

    fn spawn(
        &mut self,
        name: &'static str,
        edge: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        let waker = self.waker.clone();
        let task = self.runtime.spawn(async move {
            let outcome = edge.await;
            // Nobody listens any more only when the service is gone.
            let _ = waker.send(Wake::Edge(name, outcome));
        });
        self.tasks.push((name, task));
    }

    fn pass_on_hangups(&self, asks: Sender<reload::Ask>) -> std::io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut hangups = signal(SignalKind::hangup())?;
        self.runtime.spawn(async move {
            while hangups.recv().await.is_some() {
                if asks.send(reload::Ask::Now).is_err() {
                    return;
                }
            }
        });
        Ok(())
    }

    /// Has the service woken by SIGTERM and SIGINT.
    ///
    /// # Errors
    /// Where the system does not deliver them.
    pub fn watch_signals(&self) -> std::io::Result<()> {
        let waker = self.waker.clone();
        let _entered = self.runtime.enter();
        let mut signals = Signals::new()?;
        self.runtime.spawn(async move {
            let _ = waker.send(Wake::Signal(signals.next().await));
        });
        Ok(())
    }

    /// Asks them to end; [`Self::end`] waits for it.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits until all have ended, at most until `deadline`.
    pub fn end(self, deadline: Instant) {
        self.stop();
        let left = deadline.saturating_duration_since(Instant::now());
        let ended = self.runtime.block_on(async {
            tokio::time::timeout(left, async {
                for (name, task) in self.tasks {
                    if task.await.is_err() {
                        tracing::error!(part = name, "ended by a panic");
                    }
                }
            })
            .await
        });
        if ended.is_err() {
            tracing::warn!("web or mail did not end in time");
        }
        self.cases.stop();
        self.runtime.shutdown_background();
    }
}

/// Ready when `stopped` says so, or when the service is gone.
async fn until(mut stopped: watch::Receiver<bool>) {
    // An error means that nobody is left who could say it.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// Pages of cases that are not read yet would be general ones; a balancer can wait.
async fn report_cases(cases: Arc<Cases>, readiness: Readiness) {
    const COMPONENT: &str = "web";
    readiness.set(COMPONENT, "cases are being read");
    while !cases.has_caught_up() {
        tokio::time::sleep(LOOK_AT_CASES).await;
    }
    readiness.clear(COMPONENT);
}
