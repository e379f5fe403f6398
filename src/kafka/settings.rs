//! librdkafka's settings, in one place, each with its reason.

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{ClientConfig, ClientContext};

use crate::config::Kafka;

/// What every client of this process has in common.
pub fn common(kafka: &Kafka, role: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &kafka.brokers)
        .set("client.id", format!("doorward-{}-{role}", kafka.instance))
        // A broker that went away is tried again at once, then with growing pauses.
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "2000")
        .set("log.connection.close", "false")
        .set("socket.keepalive.enable", "true")
        .set_log_level(RDKafkaLogLevel::Warning);
    for (name, value) in &kafka.properties {
        config.set(name, value);
    }
    for (name, value) in &kafka.secrets {
        config.set(name, value.expose());
    }
    config
}

/// The reader of `auth.events`: a member of the group.
pub fn input(kafka: &Kafka, shard: usize) -> ClientConfig {
    let session_ms = kafka.session_timeout.as_millis();
    let mut config = reader(kafka, &format!("input-{shard}"));
    config
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("session.timeout.ms", session_ms.to_string())
        .set(
            "heartbeat.interval.ms",
            (session_ms / 3).clamp(1, 3_000).to_string(),
        )
        // How long a rebalance waits for a member that cannot commit what it is to give up.
        .set("max.poll.interval.ms", session_ms.max(60_000).to_string())
        // On a batch-read queue it moves the position one too far (librdkafka#5213).
        .set("enable.partition.eof", "false");
    config
}

/// The reader of one partition of `doorward.state`.
pub fn restore(kafka: &Kafka, shard: usize) -> ClientConfig {
    let mut config = reader(kafka, &format!("restore-{shard}"));
    // Says when there is no more, where the last records are markers that are not shown.
    config
        .set("enable.partition.eof", "true")
        // The end is said in an answer without records, which comes after this long.
        .set("fetch.wait.max.ms", "10");
    config
}

fn reader(kafka: &Kafka, role: &str) -> ClientConfig {
    let mut config = common(kafka, role);
    config
        .set("group.id", &kafka.group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "earliest")
        // Also makes the broker withhold offsets of transactions that are still open.
        .set("isolation.level", "read_committed")
        .set("fetch.min.bytes", "1")
        // The default of a second stalls a reader whose queue was full for a moment.
        .set("fetch.queue.backoff.ms", "1")
        // What a shard holds at most of what it has not read yet.
        .set("queued.min.messages", "100000")
        .set("queued.max.messages.kbytes", "65536");
    config
}

/// The reader of a stretch of `auth.events` for `doorward record`: nobody joins its group,
/// and nothing is committed.
pub fn recording(kafka: &Kafka) -> ClientConfig {
    let mut config = reader(kafka, "record");
    config
        // Says when there is no more, where the last records are markers that are not shown.
        .set("enable.partition.eof", "true")
        .set("queued.max.messages.kbytes", "16384");
    config
}

/// Asks about topics and watermarks, uncommitted records included.
pub fn inquiry(kafka: &Kafka) -> ClientConfig {
    let mut config = common(kafka, "inquiry");
    config.set("isolation.level", "read_uncommitted");
    config
}

/// What every producer has in common: nothing lost, nothing twice, keys placed as the Java
/// clients place them.
pub fn producer(kafka: &Kafka, role: &str) -> ClientConfig {
    let mut config = common(kafka, role);
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("partitioner", "murmur2_random")
        .set("compression.type", "lz4")
        // A commit waits for it; grouping is the shard's own business.
        .set("linger.ms", "0")
        // Collisions between requests of one transaction cost a whole back-off each.
        .set("retry.backoff.ms", "1");
    config
}

/// The producer of one shard. Its transactional id comes back after a restart, so that an
/// open transaction of the time before ends at once.
pub fn transactional(kafka: &Kafka, shard: usize) -> ClientConfig {
    let mut config = producer(kafka, &format!("output-{shard}"));
    config
        .set("transactional.id", transactional_id(kafka, shard))
        .set(
            "transaction.timeout.ms",
            kafka.transaction_timeout.as_millis().to_string(),
        );
    // The only news of a lost connection that always comes (`producer::Reports`).
    let debug = match config.get("debug") {
        Some(asked) if !asked.is_empty() => format!("{asked},broker"),
        _ => "broker".to_owned(),
    };
    config
        .set("debug", debug)
        .set_log_level(RDKafkaLogLevel::Debug);
    config
}

pub fn transactional_id(kafka: &Kafka, shard: usize) -> String {
    format!("{}-{}-{shard}", kafka.group, kafka.instance)
}

/// The context of clients that need none of their own: it keeps librdkafka's remarks out
/// of the log, since each caller says once what it cannot do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quiet;

impl ClientContext for Quiet {
    fn error(&self, error: KafkaError, reason: &str) {
        // The end of a partition comes as an error, and is none.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PartitionEOF) {
            tracing::debug!(%error, reason, "librdkafka");
        }
    }
}

impl ConsumerContext for Quiet {}
