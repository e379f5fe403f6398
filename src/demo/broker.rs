//! librdkafka's embedded broker: a Kafka inside this process, for the demo and for tests
//! of behaviour.
//!
//! It speaks the protocol, so the consumers and producers of `run` work on it unchanged.
//! It has no transactions worth the name, no isolation, and keeps 5 MiB a partition in
//! memory; nothing about exactly-once or restarts can be shown on it.

use anyhow::Context as _;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, Producer};

/// A running broker. It ends when this is dropped, which must be after all its clients.
pub struct EmbeddedBroker {
    /// The client that owns the broker; it produces nothing.
    owner: BaseProducer,
}

impl EmbeddedBroker {
    /// Starts one broker on a free port of the loopback interface.
    ///
    /// # Errors
    /// Where librdkafka cannot start it: no port, no memory.
    pub fn start() -> anyhow::Result<EmbeddedBroker> {
        let owner: BaseProducer = ClientConfig::new()
            .set("test.mock.num.brokers", "1")
            // librdkafka says at start that a mock is configured; here that is the point.
            .set("log_level", "3")
            .create()
            .context("the embedded broker does not start")?;
        let broker = EmbeddedBroker { owner };
        broker.skip_rebalance_delay()?;
        Ok(broker)
    }

    /// `host:port` to connect to.
    ///
    /// # Errors
    /// Where librdkafka has no broker for this client, which would be its mistake.
    pub fn address(&self) -> anyhow::Result<String> {
        let cluster = self.owner.client().mock_cluster();
        Ok(cluster
            .context("the embedded broker is gone")?
            .bootstrap_servers())
    }

    /// Makes a topic.
    ///
    /// # Errors
    /// Where it exists already, or its name is none.
    pub fn create_topic(&self, name: &str, partitions: i32) -> anyhow::Result<()> {
        let cluster = self.owner.client().mock_cluster();
        cluster
            .context("the embedded broker is gone")?
            .create_topic(name, partitions, 1)
            .with_context(|| format!("the embedded broker cannot make the topic {name}"))
    }

    /// A group's first member would otherwise wait three seconds for others to come.
    #[allow(unsafe_code, reason = "rdkafka does not wrap this call")]
    fn skip_rebalance_delay(&self) -> anyhow::Result<()> {
        let client = self.owner.client().native_ptr();
        // SAFETY: `client` lives as long as `self.owner`; the cluster handle belongs to it
        // and is used only within this call.
        unsafe {
            let cluster = rdkafka_sys::bindings::rd_kafka_handle_mock_cluster(client);
            anyhow::ensure!(!cluster.is_null(), "the embedded broker is gone");
            rdkafka_sys::bindings::rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 0);
        }
        Ok(())
    }
}
