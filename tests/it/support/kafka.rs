//! A real Apache Kafka (KRaft) for tests, and the reading and writing that tests do on it.
//!
//! `DOORWARD_KAFKA_LIB` names the folder of its jars. One broker is shared by all tests of
//! a run, since starting one takes seconds: a test takes topic and group names from
//! [`Cluster::unique`] and never counts on being alone. A test that stops brokers, or needs
//! several, starts a cluster of its own.

// The path is said, since a benchmark includes this file from another folder.
#[path = "kafka/look.rs"]
mod look;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, DeliveryResult, Headers, Message};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use super::process::{Folder, Process};
use super::proxy::Door;
use super::{PATIENCE, eventually, service};

/// Any 16 bytes in URL-safe base64 will do; every broker formats its log with the same.
const CLUSTER_ID: &str = "ZG9vcndhcmQtdGVzdHMtMQ";

/// A start takes 4 s on an idle machine with two cores, and several times that beside a
/// compiler.
const START_PATIENCE: Duration = Duration::from_secs(90);

/// The broker that all tests of this run share; `None` (and a printed line) where no Kafka
/// is installed.
pub fn shared() -> Option<&'static Cluster> {
    static SHARED: OnceLock<Option<Cluster>> = OnceLock::new();
    SHARED.get_or_init(|| start_cluster(1)).as_ref()
}

/// A cluster of `size` brokers of the caller's own; `None` (and a printed line) where no
/// Kafka is installed.
pub fn start_cluster(size: usize) -> Option<Cluster> {
    start_cluster_with_doors(size, 0)
}

/// The same, with `doors` ways to it that a test can cut, each of its own. Whoever comes
/// through a door is led through the same one to every broker.
pub fn start_cluster_with_doors(size: usize, doors: usize) -> Option<Cluster> {
    let lib = service("DOORWARD_KAFKA_LIB")?;
    // A free port is only known to have been free, so a start that may have lost one to
    // somebody else in between is tried again with others.
    for attempt in 1.. {
        let mut cluster = Cluster::configure(&lib, size, doors);
        for broker in &mut cluster.brokers {
            broker.start(&lib);
        }
        match cluster.wait_until_ready() {
            Ok(()) => return Some(cluster),
            Err(why) if attempt < 3 => eprintln!("Kafka did not start, once more: {why}"),
            Err(why) => panic!("Kafka did not start: {why}"),
        }
    }
    unreachable!("the loop ends by returning or panicking");
}

/// Running brokers on 127.0.0.1, without security, topics made only on request.
pub struct Cluster {
    // Before the folder, so that brokers have ended when their files go.
    brokers: Vec<Broker>,
    doors: Vec<Door>,
    producer: OnceLock<ThreadedProducer<Deliveries>>,
    lib: PathBuf,
    _folder: Folder,
}

/// One broker, which may be stopped at the moment.
struct Broker {
    port: u16,
    folder: PathBuf,
    process: Option<Process>,
}

/// One record as a reader saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub partition: i32,
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    /// `None`: a tombstone.
    pub payload: Option<Vec<u8>>,
    pub headers: Vec<(String, String)>,
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
}

impl Record {
    pub fn key_text(&self) -> String {
        String::from_utf8_lossy(self.key.as_deref().unwrap_or_default()).into_owned()
    }

    /// # Panics
    /// Where the payload is no JSON.
    pub fn json(&self) -> serde_json::Value {
        let payload = self.payload.as_deref().unwrap_or_default();
        serde_json::from_slice(payload).unwrap_or_else(|e| {
            panic!(
                "no JSON at {}:{}: {e}: {}",
                self.partition,
                self.offset,
                String::from_utf8_lossy(payload)
            )
        })
    }
}

impl Cluster {
    fn configure(lib: &Path, size: usize, doors: usize) -> Cluster {
        let folder = Folder::new("kafka");
        // All held until all are known, or the system could hand one out twice.
        let held: Vec<TcpListener> = (0..size * (2 + doors)).map(|_| free_port()).collect();
        let ports: Vec<u16> = held
            .iter()
            .map(|socket| socket.local_addr().expect("a bound socket").port())
            .collect();
        let (clients, others) = ports.split_at(size);
        let (controllers, behind_doors) = others.split_at(size);
        let doors: Vec<(&[u16], Door)> = behind_doors
            .chunks(size)
            .map(|ports| (ports, Door::new(ports)))
            .collect();
        let voters: Vec<String> = controllers
            .iter()
            .enumerate()
            .map(|(at, port)| format!("{}@127.0.0.1:{port}", at + 1))
            .collect();
        let brokers = clients
            .iter()
            .zip(controllers)
            .enumerate()
            .map(|(at, (&port, &controller))| {
                let own = folder.path().join(format!("broker-{}", at + 1));
                fs::create_dir(&own).expect("a folder for the broker");
                let node = at + 1;
                let settings = settings(node, size, &voters.join(","), &own)
                    + &listeners(at, port, controller, &doors);
                fs::write(own.join("server.properties"), settings).expect("settings written");
                fs::write(own.join("log4j2.properties"), LOG_SETTINGS).expect("settings written");
                Broker {
                    port,
                    folder: own,
                    process: None,
                }
            })
            .collect();
        Cluster {
            brokers,
            doors: doors.into_iter().map(|(_, door)| door).collect(),
            producer: OnceLock::new(),
            lib: lib.to_owned(),
            _folder: folder,
        }
    }

    fn wait_until_ready(&mut self) -> Result<(), String> {
        let size = self.brokers.len();
        let admin: AdminClient<DefaultClientContext> =
            self.client().create().expect("an admin client");
        eventually("Kafka to be ready", START_PATIENCE, || {
            for broker in &mut self.brokers {
                if let Some(process) = &mut broker.process
                    && let Some(status) = process.ended()
                {
                    let output = process.output() + &process.errors();
                    return Some(Err(format!("it ended with {status}:\n{output}")));
                }
            }
            let metadata = admin
                .inner()
                .fetch_metadata(None, Duration::from_secs(1))
                .ok()?;
            (metadata.brokers().len() == size).then_some(Ok(()))
        })
    }

    /// `host:port`, comma separated.
    pub fn bootstrap(&self) -> String {
        let addresses: Vec<String> = self
            .brokers
            .iter()
            .map(|broker| format!("127.0.0.1:{}", broker.port))
            .collect();
        addresses.join(",")
    }

    /// The way number `at` to this cluster.
    pub fn door(&self, at: usize) -> &Door {
        &self.doors[at]
    }

    /// How many brokers it has, running or not.
    pub fn size(&self) -> usize {
        self.brokers.len()
    }

    /// The least that a client of this cluster needs. Brokers that are not up yet are asked
    /// again at once, where the library would wait seconds.
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", self.bootstrap())
            .set("reconnect.backoff.ms", "20")
            .set("reconnect.backoff.max.ms", "200")
            // The client's own complaints while brokers come and go are not the test's.
            .set("log_level", "2");
        config
    }

    /// `stem` with a number that nothing else in this run has.
    pub fn unique(&self, stem: &str) -> String {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        format!("{stem}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Makes a topic on every broker (at most three replicas) and waits until it can be
    /// written. `settings` are topic settings such as `("cleanup.policy", "compact")`.
    pub fn create_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let admin: AdminClient<DefaultClientContext> =
            self.client().create().expect("an admin client");
        let replicas = self.brokers.len().min(3) as i32;
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(replicas));
        for (setting, value) in settings {
            topic = topic.set(setting, value);
        }
        let made = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime")
            .block_on(admin.create_topics(&[topic], &AdminOptions::new()))
            .unwrap_or_else(|e| panic!("cannot create the topic {name}: {e}"));
        for result in made {
            result.unwrap_or_else(|(name, code)| panic!("cannot create the topic {name}: {code}"));
        }
        eventually(&format!("leaders of {name}"), PATIENCE, || {
            let metadata = admin
                .inner()
                .fetch_metadata(Some(name), Duration::from_secs(1))
                .ok()?;
            let topic = metadata.topics().first()?;
            let led = topic.partitions().iter().filter(|p| p.leader() >= 0);
            (led.count() == partitions as usize).then_some(())
        });
    }

    /// Writes `(key, payload)` messages in their order, partitioned as a Java client would,
    /// and returns when all are acknowledged.
    pub fn produce<'a>(&self, topic: &str, messages: impl IntoIterator<Item = (&'a str, &'a str)>) {
        for (key, payload) in messages {
            self.enqueue(topic, None, Some(key.as_bytes()), Some(payload.as_bytes()));
        }
        self.flush();
    }

    /// Writes one message of any shape.
    pub fn produce_raw(
        &self,
        topic: &str,
        partition: Option<i32>,
        key: Option<&[u8]>,
        payload: Option<&[u8]>,
    ) {
        self.enqueue(topic, partition, key, payload);
        self.flush();
    }

    fn enqueue(
        &self,
        topic: &str,
        partition: Option<i32>,
        key: Option<&[u8]>,
        payload: Option<&[u8]>,
    ) {
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic);
        record.partition = partition;
        record.key = key;
        record.payload = payload;
        let producer = self.producer();
        let mut waiting = Some(record);
        eventually(
            "room in the producer's queue",
            PATIENCE,
            || match producer.send(waiting.take()?) {
                Ok(()) => Some(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    waiting = Some(back);
                    None
                }
                Err((e, _)) => panic!("cannot write to {topic}: {e}"),
            },
        );
    }

    fn flush(&self) {
        let producer = self.producer();
        producer.flush(PATIENCE).expect("messages acknowledged");
        let failed = producer.context().failed.lock().expect("no panic inside");
        assert!(failed.is_empty(), "messages refused: {failed:?}");
    }

    fn producer(&self) -> &ThreadedProducer<Deliveries> {
        self.producer.get_or_init(|| {
            self.client()
                .set("partitioner", "murmur2_random")
                .set("enable.idempotence", "true")
                .set("linger.ms", "1")
                .create_with_context(Deliveries::default())
                .expect("a producer")
        })
    }

    /// Everything committed in `topic`, by partition and offset, up to what was written
    /// before this call: a transaction that is still open is waited for.
    pub fn read_committed(&self, topic: &str) -> Vec<Record> {
        let reader = |isolation: &str| -> BaseConsumer {
            self.client()
                .set("group.id", "test-reader")
                .set("enable.auto.commit", "false")
                .set("enable.partition.eof", "true")
                .set("isolation.level", isolation)
                .set("fetch.wait.max.ms", "10")
                .set("fetch.queue.backoff.ms", "1")
                .create()
                .expect("a consumer")
        };
        let committed = reader("read_committed");
        let written = reader("read_uncommitted");
        let mut assignment = TopicPartitionList::new();
        let mut open = 0;
        for partition in self.partitions(&written, topic) {
            let (first, end) = watermarks(&written, topic, partition);
            if first == end {
                continue;
            }
            let what = format!("the end of open transactions in {topic}:{partition}");
            eventually(&what, PATIENCE, || {
                (watermarks(&committed, topic, partition).1 >= end).then_some(())
            });
            assignment
                .add_partition_offset(topic, partition, Offset::Beginning)
                .expect("a valid offset");
            open += 1;
        }
        committed.assign(&assignment).expect("an assignment");
        let mut records = Vec::new();
        eventually(&format!("the end of {topic}"), PATIENCE, || {
            while open > 0 {
                match committed.poll(Duration::from_millis(100))? {
                    Ok(message) => records.push(Record::of(&message)),
                    Err(KafkaError::PartitionEOF(_)) => open -= 1,
                    // The client looks for another way by itself.
                    Err(KafkaError::MessageConsumption(
                        RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::AllBrokersDown,
                    )) => {}
                    Err(e) => panic!("cannot read {topic}: {e}"),
                }
            }
            Some(())
        });
        records.sort_by_key(|record| (record.partition, record.offset));
        records
    }

    fn partitions(&self, client: &BaseConsumer, topic: &str) -> Vec<i32> {
        eventually(&format!("metadata of {topic}"), PATIENCE, || {
            let metadata = client
                .fetch_metadata(Some(topic), Duration::from_secs(5))
                .ok()?;
            let found = metadata.topics().first()?;
            let ids: Vec<i32> = found.partitions().iter().map(|p| p.id()).collect();
            (!ids.is_empty()).then_some(ids)
        })
    }

    /// Stops the broker `at` (from 0) at once, as a power cut would.
    pub fn kill_broker(&mut self, at: usize) {
        self.brokers[at].process = None;
    }

    /// Lets nothing more be written to the files of the broker `at`, as where its disk is full
    /// (`EFBIG` in place of `ENOSPC`, which Kafka treats alike), and waits for what Kafka does
    /// about it: a broker without a folder that it can write to ends.
    pub fn fill_disk(&mut self, at: usize) {
        let broker = self.brokers[at].process.as_mut();
        let broker = broker.expect("a running broker");
        broker.limit_files(1);
        eventually("the broker without a disk to end", PATIENCE, || {
            broker.ended()
        });
        self.brokers[at].process = None;
    }

    /// Starts every stopped broker again on its own files and port, and waits until the
    /// whole cluster is up.
    pub fn restart_brokers(&mut self) {
        let lib = self.lib.clone();
        for broker in &mut self.brokers {
            if broker.process.is_none() {
                broker.start(&lib);
            }
        }
        self.wait_until_ready()
            .unwrap_or_else(|why| panic!("a broker did not come back: {why}"));
    }
}

impl Record {
    fn of(message: &BorrowedMessage<'_>) -> Record {
        let headers = message.headers().map(|headers| {
            headers
                .iter()
                .map(|header| {
                    let value = header.value.unwrap_or_default();
                    (
                        header.key.to_owned(),
                        String::from_utf8_lossy(value).into_owned(),
                    )
                })
                .collect()
        });
        Record {
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(<[u8]>::to_vec),
            payload: message.payload().map(<[u8]>::to_vec),
            headers: headers.unwrap_or_default(),
            timestamp_ms: message.timestamp().to_millis().unwrap_or(-1),
        }
    }
}

/// First offset and the end that `client`'s isolation level sees.
fn watermarks(client: &BaseConsumer, topic: &str, partition: i32) -> (i64, i64) {
    eventually(&format!("offsets of {topic}:{partition}"), PATIENCE, || {
        client
            .fetch_watermarks(topic, partition, Duration::from_secs(5))
            .ok()
    })
}

impl Broker {
    fn start(&mut self, lib: &Path) {
        let settings = self.folder.join("server.properties");
        if !self.folder.join("data/meta.properties").exists() {
            let formatted = java(lib, &self.folder)
                .arg("kafka.tools.StorageTool")
                .args(["format", "-t", CLUSTER_ID, "-c"])
                .arg(&settings)
                .output()
                .unwrap_or_else(|e| panic!("cannot run java: {e}"));
            assert!(
                formatted.status.success(),
                "cannot format the broker's folder: {}{}",
                String::from_utf8_lossy(&formatted.stdout),
                String::from_utf8_lossy(&formatted.stderr)
            );
        }
        let mut command = java(lib, &self.folder);
        command.arg("kafka.Kafka").arg(&settings);
        self.process = Some(Process::start("kafka", &self.folder, &mut command));
    }
}

fn java(lib: &Path, folder: &Path) -> Command {
    let program = std::env::var_os("JAVA_HOME")
        .map(|home| Path::new(&home).join("bin/java"))
        .filter(|program| program.exists())
        .unwrap_or_else(|| PathBuf::from("java"));
    let mut command = Command::new(program);
    command
        // A test broker lives for seconds: the quick compiler and the simplest collector
        // start fastest and leave the cores to the tests.
        .args(["-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"])
        .arg(format!(
            "-Dlog4j2.configurationFile={}",
            folder.join("log4j2.properties").display()
        ))
        .arg("-cp")
        .arg(lib.join("*"))
        .current_dir(folder);
    command
}

/// A port that is free, and that no outgoing connection is given by the system (32768 and up,
/// `ip(7)`): a broker that is killed wants it back.
fn free_port() -> TcpListener {
    (0..1_000)
        .find_map(|_| TcpListener::bind(("127.0.0.1", fastrand::u16(20_000..32_000))).ok())
        .expect("a free port")
}

fn settings(node: usize, size: usize, voters: &str, folder: &Path) -> String {
    let replicas = size.min(3);
    let in_sync = replicas.min(2);
    let data = folder.join("data");
    format!(
        "process.roles=broker,controller\n\
         node.id={node}\n\
         controller.quorum.voters={voters}\n\
         controller.listener.names=CONTROLLER\n\
         log.dirs={data}\n\
         auto.create.topics.enable=false\n\
         group.initial.rebalance.delay.ms=0\n\
         min.insync.replicas={in_sync}\n\
         offsets.topic.num.partitions=4\n\
         offsets.topic.replication.factor={replicas}\n\
         transaction.state.log.num.partitions=4\n\
         transaction.state.log.replication.factor={replicas}\n\
         transaction.state.log.min.isr={in_sync}\n",
        data = data.display(),
    )
}

/// A listener for those who come directly, one for the other brokers' controllers, and one
/// behind each door, which says that it stands at the door.
fn listeners(at: usize, port: u16, controller: u16, doors: &[(&[u16], Door)]) -> String {
    let mut bound = format!("PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}");
    let mut advertised = format!("PLAINTEXT://127.0.0.1:{port}");
    let mut protocols = "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned();
    for (number, (behind, door)) in doors.iter().enumerate() {
        let (inside, outside) = (behind[at], door.ports()[at]);
        bound += &format!(",DOOR{number}://127.0.0.1:{inside}");
        advertised += &format!(",DOOR{number}://127.0.0.1:{outside}");
        protocols += &format!(",DOOR{number}:PLAINTEXT");
    }
    format!(
        "listeners={bound}\n\
         advertised.listeners={advertised}\n\
         inter.broker.listener.name=PLAINTEXT\n\
         listener.security.protocol.map={protocols}\n"
    )
}

/// Without it log4j prints errors only; the reason of a failed start is often a line above.
const LOG_SETTINGS: &str = "\
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d %p %c{1} %m%n
";

/// Collects what was not delivered, so that [`Cluster::flush`] can refuse to go on.
#[derive(Default)]
struct Deliveries {
    failed: Mutex<Vec<String>>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result
            && let Ok(mut failed) = self.failed.lock()
        {
            failed.push(error.to_string());
        }
    }
}
