//! librdkafka's embedded broker: a Kafka inside this process, for the demo and for tests
//! of behaviour.
//!
//! It speaks the protocol, so the consumers and producers of `run` work on it unchanged.
//! It has no transactions worth the name, no isolation, and keeps 5 MiB a partition in
//! memory; nothing about exactly-once or restarts can be shown on it.

use anyhow::Context as _;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, Producer};

use crate::kafka::raw::set_embedded_rebalance_delay;

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
        // A group's first member would otherwise wait three seconds for others to come.
        let set = set_embedded_rebalance_delay(owner.client(), 0);
        anyhow::ensure!(set, "the embedded broker does not start");
        Ok(EmbeddedBroker { owner })
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
}
