//! The whole product on one machine with no services installed.
//!
//! Starts what `run` starts, on a broker inside this process (or a real one that is named),
//! with a mailbox in place of the mail server, and around it what doorward would find at a
//! customer's: a login pipeline with traffic, attackers, owners. The console in the browser
//! shows it; [`rounds`] plays it without one.

pub mod actor;
pub mod attack;
pub mod board;
pub mod broker;
pub mod mailbox;
pub mod page;
mod parts;
pub mod people;
pub mod pipeline;
mod postman;
pub mod rounds;
mod settings;
pub mod stage;
pub mod trace;
pub mod visitor;
pub mod watch;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{broadcast, watch as signal};

use crate::app::{self, Service};
use crate::cli::{OrStatus as _, Status};
use crate::mail::RetrySchedule;
use crate::mail::transport::{Mailbox, Transport};
use crate::web::cases::CaseReader;

use actor::{Orders, Pace};
use board::Board;
use broker::EmbeddedBroker;
use page::{BrokerKind, Console};
use trace::Seen;
use visitor::Visitor;

/// Where the console is, unless that is taken.
pub const DEFAULT_ADDRESS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8088);
/// Accounts of the login pipeline.
const ACCOUNTS: u32 = 320;
/// Partitions of the topics.
const PARTITIONS: i32 = 4;
/// Records that watchers may lag behind.
const SEEN_BACKLOG: usize = 8192;
/// How long doorward may take until it reads.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// How long ending may take.
const GOODBYE: Duration = Duration::from_secs(5);

/// What a demo is to be like.
#[derive(Clone, Debug)]
pub struct Options {
    /// `None`: [`DEFAULT_ADDRESS`], or a free port where that is taken.
    pub http: Option<SocketAddr>,
    /// `host:port` of a real Kafka; `None`: the embedded broker.
    pub brokers: Option<String>,
    pub pace: Pace,
}

impl Pace {
    /// For people who watch.
    pub const WATCHED: Pace = Pace {
        per_second: 5.0,
        attack: Duration::from_millis(420),
        comeback: Duration::from_millis(1500),
    };
    /// For `--once`.
    pub const AT_ONCE: Pace = Pace {
        per_second: 10.0,
        attack: Duration::from_millis(1),
        comeback: Duration::from_millis(1),
    };
}

/// What ended, and how.
enum Ended {
    Service(Box<Service>, anyhow::Result<()>),
    Part(&'static str, anyhow::Result<()>),
}

/// A running demo. It keeps threads of its own, so it is started and ended where blocking
/// is allowed.
pub struct Demo {
    address: SocketAddr,
    origin: Arc<str>,
    orders: Orders,
    seen: broadcast::Sender<Arc<Seen>>,
    stop: signal::Sender<bool>,
    stop_watching: Arc<AtomicBool>,
    /// `None` while something waits for it to end.
    service: Option<Service>,
    cases: CaseReader,
    runtime: Runtime,
    /// Parts that tell when they end.
    parts: usize,
    ended: Receiver<Ended>,
    teller: Sender<Ended>,
    /// Last, so that every client is gone before it.
    _broker: Option<EmbeddedBroker>,
}

impl Demo {
    /// Starts everything; when it returns, the page can be opened.
    ///
    /// # Errors
    /// Where the address is taken, or the named broker cannot be reached.
    pub fn start(options: Options) -> anyhow::Result<Demo> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("demo")
            .enable_all()
            .build()
            .context("the threads of the console cannot be started")?;
        let listener = runtime.block_on(listen(options.http))?;
        let address = listener
            .local_addr()
            .context("the console has no address")?;
        let origin: Arc<str> = format!("http://{}", reachable(address)).into();

        let broker = match &options.brokers {
            None => Some(EmbeddedBroker::start()?),
            Some(_) => None,
        };
        let brokers = match (&broker, options.brokers) {
            (Some(broker), _) => broker.address()?,
            (None, brokers) => brokers.unwrap_or_default(),
        };
        let config = settings::config(&brokers, broker.is_some(), &origin)?;
        settings::create_topics(&config, broker.as_ref(), PARTITIONS)?;
        let (rules, facts) = parts::load_rules(&config)?;

        let (seen, _) = broadcast::channel(SEEN_BACKLOG);
        let (stop, stopped) = signal::channel(false);
        let (teller, ended) = mpsc::channel();
        let stop_watching = Arc::new(AtomicBool::new(false));
        // The console names countries by a look-up of its own.
        let names = parts::load_rules(&config)?.1.facts;
        let pipeline = parts::pipeline(&config, &names, ACCOUNTS, options.pace, &seen)?;
        let (orders, inbox) = actor::orders();
        thread("login pipeline", &teller, move || {
            actor::run(pipeline, &inbox)
        })?;
        let (tail, topics) = (parts::observer(&config)?, config.topics.clone());
        let (watched, ending) = (seen.clone(), Arc::clone(&stop_watching));
        thread("observer", &teller, move || {
            watch::run(&tail, &topics, &names, &watched, &ending)
        })?;

        let titles = rules
            .rules()
            .iter()
            .map(|rule| (rule.id.to_string(), rule.title.to_string()))
            .collect();
        let mailbox = Mailbox::new();
        let (pages, cases) = parts::owner_pages(&config)?;
        let service = Service::start(app::Parts {
            config,
            rules: Arc::new(rules),
            facts,
            mails: app::Mails::Into(Transport::Mailbox(mailbox.clone())),
            schedule: RetrySchedule::default(),
            reloads: false,
        })?;
        wait_until_ready(&service)?;

        let (asks, asked) = tokio::sync::mpsc::channel(64);
        let kind = match broker {
            Some(_) => BrokerKind::Embedded,
            None => BrokerKind::Real,
        };
        let console = Console::new(asks, orders.clone(), Arc::clone(&origin), kind);
        let mut demo = Demo {
            address,
            origin,
            orders,
            seen,
            stop,
            stop_watching,
            service: Some(service),
            cases,
            runtime,
            parts: 2,
            ended,
            teller,
            _broker: broker,
        };
        let board = Board::new(ACCOUNTS as usize, titles);
        let stage = stage::run(board, demo.seen.subscribe(), asked, stopped.clone());
        demo.spawn("console's board", async move {
            stage.await;
            Ok(())
        });
        let postman = postman::run(mailbox, demo.seen.clone(), stopped.clone());
        demo.spawn("mailbox", async move {
            postman.await;
            Ok(())
        });
        let routes = page::router(console).merge(pages);
        demo.spawn("console", async move {
            let mut end = stopped;
            let shutdown = async move {
                let _ = end.wait_for(|stop| *stop).await;
            };
            let served = axum::serve(listener, routes)
                .with_graceful_shutdown(shutdown)
                .await;
            served.context("the console cannot serve")
        });
        Ok(demo)
    }

    fn spawn(
        &mut self,
        name: &'static str,
        part: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        let teller = self.teller.clone();
        self.runtime.spawn(async move {
            let outcome = part.await;
            // Nobody listens any more only when the demo is gone.
            let _ = teller.send(Ended::Part(name, outcome));
        });
        self.parts += 1;
    }

    /// What to open: `http://127.0.0.1:8088`.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Plays every attack and answer, as [`rounds::play`] says.
    ///
    /// # Errors
    /// Where the demo breaks down on the way.
    pub fn play_rounds(
        &self,
        each: impl FnMut(&rounds::Report),
    ) -> anyhow::Result<Vec<rounds::Report>> {
        let visitor = Visitor::new(self.address, &self.origin);
        let seen = self.seen.subscribe();
        self.runtime.block_on(rounds::play(
            &self.orders,
            seen,
            &visitor,
            &self.origin,
            each,
        ))
    }

    /// Runs until SIGTERM or SIGINT, then ends everything.
    ///
    /// # Errors
    /// What ended by itself, and why.
    pub fn run(mut self) -> anyhow::Result<()> {
        let Some(mut service) = self.service.take() else {
            return Ok(());
        };
        let teller = self.teller.clone();
        let waiter = move || {
            let outcome = service.wait_for_signal();
            // Nobody listens any more only when the demo is gone.
            let _ = teller.send(Ended::Service(Box::new(service), outcome));
        };
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(waiter)
            .context("no thread to wait for signals")?;
        match self
            .ended
            .recv()
            .context("nothing is left that could end")?
        {
            Ended::Service(service, outcome) => {
                self.service = Some(*service);
                outcome.and(self.stop())
            }
            Ended::Part(name, outcome) => {
                outcome.with_context(|| format!("the {name} ended"))?;
                anyhow::bail!("the {name} ended without being asked to")
            }
        }
    }

    /// Ends everything.
    ///
    /// # Errors
    /// The first part that did not end well.
    pub fn stop(mut self) -> anyhow::Result<()> {
        self.orders.stop();
        self.stop_watching.store(true, Ordering::Relaxed);
        self.stop.send_replace(true);
        let mut outcome = match self.service.take() {
            Some(service) => service.shutdown(GOODBYE),
            None => Ok(()),
        };
        let deadline = Instant::now() + GOODBYE;
        for _ in 0..self.parts {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.ended.recv_timeout(left) {
                Ok(Ended::Part(name, ended)) => {
                    outcome = outcome.and(ended.with_context(|| format!("the {name} ended")));
                }
                Ok(Ended::Service(..)) => {}
                Err(_) => {
                    tracing::warn!("a part of the demo does not end in time");
                    break;
                }
            }
        }
        self.cases.stop();
        self.runtime.shutdown_timeout(Duration::from_secs(1));
        outcome
    }
}

/// Waits until every partition is read, so that the first attack is not measured against
/// the start.
fn wait_until_ready(service: &Service) -> anyhow::Result<()> {
    let deadline = Instant::now() + READY_WITHIN;
    while !service.readiness().is_ready() {
        if Instant::now() > deadline {
            let reasons = service.readiness().reasons().join("; ");
            anyhow::bail!("doorward does not become ready: {reasons}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

async fn listen(wanted: Option<SocketAddr>) -> anyhow::Result<TcpListener> {
    if let Some(address) = wanted {
        return TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address}: choose another with --http"))
            .or_status(Status::Usage);
    }
    match TcpListener::bind(DEFAULT_ADDRESS).await {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind(SocketAddr::new(DEFAULT_ADDRESS.ip(), 0))
            .await
            .context("no free port to listen on"),
    }
}

/// The address to open: whoever listens everywhere is reached on loopback too.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(DEFAULT_ADDRESS.ip());
    }
    address
}

/// Runs a part that blocks, and tells when it ends.
fn thread(
    name: &'static str,
    teller: &Sender<Ended>,
    run: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<()> {
    let teller = teller.clone();
    std::thread::Builder::new()
        .name(name.into())
        .spawn(move || {
            let outcome = run();
            // Nobody listens any more only when the demo is gone.
            let _ = teller.send(Ended::Part(name, outcome));
        })
        .with_context(|| format!("no thread for the {name}"))?;
    Ok(())
}
