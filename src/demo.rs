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
pub mod people;
pub mod pipeline;
pub mod rounds;
mod settings;
pub mod stage;
pub mod tail;
pub mod trace;
pub mod visitor;
pub mod watch;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use rdkafka::producer::{DefaultProducerContext, ThreadedProducer};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, mpsc, watch as signal};

use crate::config::Config;
use crate::enrich::Facts;
use crate::facts;
use crate::mail::transport::{Mailbox, Transport};
use crate::publish::client_config;

use actor::{Orders, Pace};
use board::Board;
use broker::EmbeddedBroker;
use mailbox::Mail;
use page::{BrokerKind, Console};
use people::Dice;
use tail::Tail;
use trace::{Seen, What};
use visitor::Visitor;

/// Where the console is, unless that is taken.
pub const DEFAULT_ADDRESS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8088);
/// Accounts of the login pipeline.
const ACCOUNTS: usize = 320;
/// Partitions of the topics on the embedded broker.
const PARTITIONS: i32 = 4;
/// Records that watchers may lag behind.
const SEEN_BACKLOG: usize = 8192;
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
        ordinary: Duration::from_millis(210),
        attack: Duration::from_millis(420),
        comeback: Duration::from_millis(1500),
    };
    /// For `--once`.
    pub const AT_ONCE: Pace = Pace {
        ordinary: Duration::from_millis(100),
        attack: Duration::from_millis(1),
        comeback: Duration::from_millis(1),
    };
}

/// A running demo.
pub struct Demo {
    address: SocketAddr,
    origin: Arc<str>,
    orders: Orders,
    seen: broadcast::Sender<Arc<Seen>>,
    stop: signal::Sender<bool>,
    stop_watching: Arc<AtomicBool>,
    service: crate::app::Service,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    threads: Vec<JoinHandle<anyhow::Result<()>>>,
    /// Last, so that every client is gone before it.
    _broker: Option<EmbeddedBroker>,
}

impl Demo {
    /// Starts everything; when it returns, the page can be opened.
    ///
    /// # Errors
    /// Where the address is taken, or the named broker cannot be reached.
    pub async fn start(options: Options) -> anyhow::Result<Demo> {
        let listener = listen(options.http).await?;
        let address = listener.local_addr().context("the console has no address")?;
        let origin: Arc<str> = format!("http://{}", reachable(address)).into();

        let broker = match options.brokers {
            None => Some(EmbeddedBroker::start()?),
            Some(_) => None,
        };
        let brokers = match (&options.brokers, &broker) {
            (Some(brokers), _) => brokers.clone(),
            (None, Some(broker)) => broker.address()?,
            (None, None) => String::new(),
        };
        let config = settings::config(&brokers, broker.is_some(), &origin)?;
        settings::create_topics(&config, broker.as_ref(), PARTITIONS).await?;

        let facts = facts::load(&config.geoip, None)
            .map_err(|found| crate::cli::refused(&found))?
            .facts;
        let (seen, _) = broadcast::channel(SEEN_BACKLOG);
        let (stop, stopped) = signal::channel(false);
        let (orders, pipeline) = pipeline(&config, &facts, options.pace, &seen)?;
        let stop_watching = Arc::new(AtomicBool::new(false));
        let watcher = watcher(&config, facts, &seen, &stop_watching)?;

        let mailbox = Mailbox::new();
        let postman = tokio::spawn(deliver(mailbox.clone(), seen.clone(), stopped.clone()));
        let service = crate::app::Service::start(config, Transport::Mailbox(mailbox)).await?;

        let board = Board::new(ACCOUNTS, service.rule_titles());
        let (asks, asked) = mpsc::channel(64);
        let stage = tokio::spawn(stage::run(board, seen.subscribe(), asked, stopped.clone()));
        let kind = if broker.is_some() { BrokerKind::Embedded } else { BrokerKind::Real };
        let console = Console::new(asks, orders.clone(), Arc::clone(&origin), kind);
        let routes = page::router(console).merge(service.owner_pages());
        let mut end = stopped;
        let server = axum::serve(listener, routes).with_graceful_shutdown(async move {
            let _ = end.wait_for(|stop| *stop).await;
        });
        Ok(Demo {
            address,
            origin,
            orders,
            seen,
            stop,
            stop_watching,
            service,
            server: tokio::spawn(async move { server.await }),
            tasks: vec![postman, stage],
            threads: vec![pipeline, watcher],
            _broker: broker,
        })
    }

    /// What to open: `http://127.0.0.1:8088`.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Plays every attack and answer, as [`rounds::play`] says.
    ///
    /// # Errors
    /// Where the demo breaks down on the way.
    pub async fn play_rounds(
        &self,
        each: impl FnMut(&rounds::Report),
    ) -> anyhow::Result<Vec<rounds::Report>> {
        let visitor = Visitor::new(self.address, &self.origin);
        rounds::play(&self.orders, self.seen.subscribe(), &visitor, &self.origin, each).await
    }

    /// Runs until `shutdown`, or until a part of it fails.
    ///
    /// # Errors
    /// What failed.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
        let mut look = tokio::time::interval(Duration::from_millis(500));
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                ended = &mut self.server => {
                    ended.context("the console broke off")?.context("the console cannot serve")?;
                    break;
                }
                // A thread that has ended before it was told to has failed.
                _ = look.tick() => if self.threads.iter().any(JoinHandle::is_finished) { break },
            }
        }
        self.stop().await
    }

    /// Ends everything, within [`GOODBYE`] for each part.
    ///
    /// # Errors
    /// What had failed on the way.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.orders.stop();
        self.stop_watching.store(true, Ordering::Relaxed);
        self.stop.send_replace(true);
        if !self.server.is_finished() {
            // Browsers keep connections open; the process does not wait for them long.
            let _ = tokio::time::timeout(Duration::from_secs(1), self.server).await;
        }
        for task in self.tasks {
            tokio::time::timeout(GOODBYE, task)
                .await
                .context("a part of the demo does not end")?
                .context("a part of the demo broke off")?;
        }
        let threads = self.threads;
        let joined = tokio::task::spawn_blocking(move || threads.into_iter().try_for_each(join));
        tokio::time::timeout(GOODBYE, joined)
            .await
            .context("the demo's threads do not end")?
            .context("a thread of the demo broke off")??;
        self.service.stop().await
    }
}

fn join(thread: JoinHandle<anyhow::Result<()>>) -> anyhow::Result<()> {
    let name = thread.thread().name().unwrap_or_default().to_owned();
    match thread.join() {
        Ok(result) => result,
        Err(_) => anyhow::bail!("the thread {name} panicked"),
    }
}

async fn listen(wanted: Option<SocketAddr>) -> anyhow::Result<TcpListener> {
    if let Some(address) = wanted {
        return TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address}: choose another with --http"));
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

fn pipeline(
    config: &Config,
    facts: &Facts,
    pace: Pace,
    seen: &broadcast::Sender<Arc<Seen>>,
) -> anyhow::Result<(Orders, JoinHandle<anyhow::Result<()>>)> {
    let mut seed = [0; 8];
    getrandom::fill(&mut seed).context("the system gives no random numbers")?;
    let mut dice = Dice::new(u64::from_le_bytes(seed));
    let places = people::places(facts);
    let prefix = settings::account_prefix(config, &mut dice);
    let people = people::population(&prefix, ACCOUNTS, &places, facts, &mut dice);
    let client = client_config(&config.kafka);
    let producer: ThreadedProducer<DefaultProducerContext> = client
        .clone()
        .set("partitioner", "murmur2_random")
        .set("enable.idempotence", "true")
        .set("linger.ms", "0")
        .create()
        .context("no producer for the login pipeline")?;
    actor::start(actor::Parts {
        producer,
        commands: Tail::start(&client, &[&config.topics.commands])?,
        events_topic: config.topics.events.clone(),
        people,
        places,
        pace,
        dice,
        seen: seen.clone(),
    })
}

fn watcher(
    config: &Config,
    facts: Facts,
    seen: &broadcast::Sender<Arc<Seen>>,
    stop: &Arc<AtomicBool>,
) -> anyhow::Result<JoinHandle<anyhow::Result<()>>> {
    let topics = config.topics.clone();
    let names = [&topics.events, &topics.decisions, &topics.commands, &topics.cases];
    let tail = Tail::start(&client_config(&config.kafka), &names.map(String::as_str))?;
    let (seen, stop) = (seen.clone(), Arc::clone(stop));
    std::thread::Builder::new()
        .name("observer".into())
        .spawn(move || watch::run(&tail, &topics, &facts, &seen, &stop))
        .context("no thread for the demo's observer")
}

/// Makes known every mail that arrives in the mailbox.
async fn deliver(
    mailbox: Mailbox,
    seen: broadcast::Sender<Arc<Seen>>,
    mut stop: signal::Receiver<bool>,
) {
    let mut arrivals = mailbox.arrivals();
    let mut next = 0;
    loop {
        for mail in mailbox.since(next) {
            next = mail.number + 1;
            let parsed =
                Mail::parse(mail.number + 1, mail.received, mail.to.clone(), mail.raw.clone());
            let what = What::Mail(Arc::new(parsed));
            // An error only says that nobody watches.
            let _ = seen.send(Arc::new(Seen { at: mail.received, what }));
        }
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            changed = arrivals.changed() => if changed.is_err() { return },
        }
    }
}
