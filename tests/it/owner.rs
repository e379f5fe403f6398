//! What the tests of mails and pages share: an embedded broker, the records that the engine
//! would have written, and a browser's view of the pages.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use doorward::config;
use doorward::engine::output::RecipientPart;
use doorward::event::Timestamp;
use doorward::link::{Link, LinkKeys};
use doorward::metrics::Metrics;
use doorward::publish::{Publisher, Record, wall_clock};
use doorward::record::{CaseRecord, EvidenceRecord, MailRecord, PlaceRecord};
use doorward::web::cases::{CaseReader, Cases};
use doorward::web::{ACKNOWLEDGE_WITHIN, Parts, router, serve};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use regex::Regex;

use crate::support::{PATIENCE, eventually};

/// Partitions of every topic.
pub const PARTITIONS: i32 = 3;

/// librdkafka's embedded broker with doorward's topics, and one client to write with.
pub struct Broker {
    cluster: MockCluster<'static, DefaultProducerContext>,
    pub runtime: tokio::runtime::Runtime,
    publisher: Publisher,
    pub config: config::Config,
}

/// A message as it stands in a topic.
#[derive(Clone, Debug)]
pub struct Stored {
    pub partition: i32,
    pub key: Option<Vec<u8>>,
    pub payload: Vec<u8>,
}

impl Stored {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.payload).expect("JSON")
    }
}

impl Broker {
    pub fn start() -> Broker {
        let cluster = MockCluster::new(1).expect("an embedded broker");
        let config = config(&cluster.bootstrap_servers());
        let topics = &config.topics;
        for topic in [
            &topics.events,
            &topics.cases,
            &topics.mail,
            &topics.receipts,
        ] {
            cluster
                .create_topic(topic, PARTITIONS, 1)
                .expect("a new topic");
        }
        let publisher = Publisher::new(&config.kafka, PATIENCE).expect("a publisher");
        Broker {
            cluster,
            runtime: tokio::runtime::Runtime::new().expect("a runtime"),
            publisher,
            config,
        }
    }

    pub fn write(&self, topic: &str, partition: i32, key: &str, payload: &[u8]) {
        self.runtime
            .block_on(self.publisher.publish(Record {
                topic,
                partition: Some(partition),
                key: Some(key.as_bytes()),
                payload,
            }))
            .expect("an acknowledgement");
    }

    /// Every connection breaks, and no new one comes about.
    pub fn go_away(&self) {
        self.cluster.broker_down(1).expect("a broker");
    }

    pub fn come_back(&self) {
        self.cluster.broker_up(1).expect("a broker");
    }

    pub fn write_mail(&self, mail: &MailRecord) {
        let payload = serde_json::to_vec(mail).expect("JSON");
        self.write(&self.config.topics.mail, mail.partition, &mail.to, &payload);
    }

    pub fn write_case(&self, case: &CaseRecord) {
        let payload = serde_json::to_vec(case).expect("JSON");
        self.write(&self.config.topics.cases, 0, &case.id, &payload);
    }

    /// Everything in a topic at this moment.
    pub fn read(&self, topic: &str) -> Vec<Stored> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.cluster.bootstrap_servers())
            .set("group.id", "test-reader")
            .set("enable.partition.eof", "true")
            .create()
            .expect("a consumer");
        let mut all = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            all.add_partition_offset(topic, partition, Offset::Beginning)
                .expect("an offset");
        }
        consumer.assign(&all).expect("an assignment");
        let mut found = Vec::new();
        let mut ended = 0;
        while ended < PARTITIONS {
            match consumer.poll(PATIENCE).expect("an answer of the broker") {
                Ok(message) => found.push(Stored {
                    partition: message.partition(),
                    key: message.key().map(<[u8]>::to_vec),
                    payload: message.payload().unwrap_or_default().to_vec(),
                }),
                Err(rdkafka::error::KafkaError::PartitionEOF(_)) => ended += 1,
                Err(error) => panic!("{error}"),
            }
        }
        found
    }

    /// A topic's messages, as soon as there are `count`.
    #[track_caller]
    pub fn wait_for(&self, topic: &str, count: usize) -> Vec<Stored> {
        eventually(&format!("{count} messages in {topic}"), PATIENCE, || {
            Some(self.read(topic)).filter(|found| found.len() >= count)
        })
    }

    pub fn answers(&self) -> Vec<Stored> {
        self.read(&self.config.topics.events)
    }
}

/// The owner's pages on a port of their own.
pub struct Pages {
    pub address: SocketAddr,
    pub cases: Arc<Cases>,
    reader: Option<CaseReader>,
    agent: ureq::Agent,
}

impl Pages {
    pub fn start(broker: &Broker) -> Pages {
        let publisher =
            Publisher::new(&broker.config.kafka, ACKNOWLEDGE_WITHIN).expect("a publisher");
        Pages::start_with(broker, publisher)
    }

    /// With metrics to look at.
    pub fn start_counted(broker: &Broker, metrics: Arc<Metrics>) -> Pages {
        let publisher =
            Publisher::new(&broker.config.kafka, ACKNOWLEDGE_WITHIN).expect("a publisher");
        Pages::start_as(broker, publisher, metrics)
    }

    pub fn start_with(broker: &Broker, publisher: Publisher) -> Pages {
        Pages::start_as(broker, publisher, Arc::new(Metrics::new()))
    }

    fn start_as(broker: &Broker, publisher: Publisher, metrics: Arc<Metrics>) -> Pages {
        let cases = Arc::new(Cases::default());
        let reader = CaseReader::start(
            &broker.config.kafka,
            &broker.config.topics.cases,
            Arc::clone(&cases),
        )
        .expect("a case reader");
        let parts =
            Parts::new(&broker.config, Arc::clone(&cases), publisher, metrics).expect("link keys");
        let listener = broker
            .runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .expect("a port");
        let address = listener.local_addr().expect("an address");
        broker
            .runtime
            .spawn(serve(listener, router(parts), std::future::pending()));
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(PATIENCE))
            .build()
            .new_agent();
        Pages {
            address,
            cases,
            reader: Some(reader),
            agent,
        }
    }

    pub fn get(&self, path: &str) -> Answer {
        self.get_in(path, "en")
    }

    pub fn get_in(&self, path: &str, language: &str) -> Answer {
        let response = self
            .agent
            .get(format!("http://{}{path}", self.address))
            .header("accept-language", language)
            .call();
        Answer::of(response)
    }

    pub fn head(&self, path: &str) -> Answer {
        Answer::of(
            self.agent
                .head(format!("http://{}{path}", self.address))
                .call(),
        )
    }

    pub fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let response = self
            .agent
            .post(format!("http://{}{path}", self.address))
            .send_form(fields.iter().copied());
        Answer::of(response)
    }

    /// A post with headers as a browser would add.
    pub fn post_with(
        &self,
        path: &str,
        fields: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut request = self.agent.post(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Answer::of(request.send_form(fields.iter().copied()))
    }

    /// Waits until the pages know the case in this version.
    #[track_caller]
    pub fn wait_for_case(&self, case: &CaseRecord) {
        eventually("the case on the pages", PATIENCE, || {
            self.cases
                .get(&case.id)
                .filter(|known| known.version >= case.version)
        });
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.stop();
        }
    }
}

pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Answer {
    #[track_caller]
    fn of(response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Answer {
        let mut response = response.expect("an answer of the pages");
        Answer {
            status: response.status().as_u16(),
            headers: response
                .headers()
                .iter()
                .map(|(name, value)| {
                    (
                        name.as_str().to_owned(),
                        String::from_utf8_lossy(value.as_bytes()).into_owned(),
                    )
                })
                .collect(),
            body: response.body_mut().read_to_string().expect("text"),
        }
    }

    /// Where a redirect leads.
    #[track_caller]
    pub fn location(&self) -> &str {
        assert_eq!(self.status, 303, "{}", self.body);
        &self.headers["location"]
    }

    /// What stands between the tags of `<main>`, with tokens and style hashes left out.
    pub fn content(&self) -> String {
        let main = self
            .body
            .split_once("<main")
            .and_then(|(_, rest)| rest.split_once("</main>"))
            .map_or(self.body.as_str(), |(main, _)| main);
        redacted(&format!("<main{main}</main>"))
    }
}

/// `text` with the tokens of links replaced, since each is sealed anew.
pub fn redacted(text: &str) -> String {
    let token = Regex::new(r"v4\.local\.[A-Za-z0-9_.-]+").expect("a pattern");
    token.replace_all(text, "TOKEN").into_owned()
}

pub fn config(brokers: &str) -> config::Config {
    let key = |id: &str, byte| config::NamedKey {
        id: id.into(),
        bytes: vec![byte; 32],
    };
    config::Config {
        kafka: config::Kafka {
            brokers: brokers.into(),
            group: "doorward".into(),
            instance: "test".into(),
            properties: BTreeMap::new(),
            secrets: BTreeMap::new(),
            // A group whose only member left waits so long in the embedded broker.
            session_timeout: Duration::from_secs(6),
            transaction_timeout: Duration::from_secs(5),
            transactions: false,
        },
        topics: config::Topics::default(),
        engine: config::Engine::default(),
        rules_dir: None,
        geoip: config::GeoIp::default(),
        mail: config::Mail {
            host: "localhost".into(),
            port: 25,
            security: config::MailSecurity::None,
            ca_file: None::<PathBuf>,
            login: None,
            from: "Example Security <security@example.com>".into(),
            reply_to: Some("support@example.com".into()),
            timeout: Duration::from_secs(5),
            connections: 4,
            per_hour: 3,
            retry_for: Duration::from_secs(48 * 3600),
            dkim: None,
        },
        web: config::Web {
            listen: ([127, 0, 0, 1], 0).into(),
            public_url: "https://account.example.com".into(),
            link_valid: Duration::from_secs(24 * 3600),
            trusted_proxies: config::own_networks(),
            typed_code: false,
        },
        admin: config::Admin {
            listen: ([127, 0, 0, 1], 0).into(),
        },
        site: config::Site {
            name: "Example".into(),
            url: "https://example.com".into(),
            password_url: Some("https://example.com/password/new".into()),
            support_url: Some("https://example.com/support".into()),
            support_email: Some("support@example.com".into()),
            two_factor_url: Some("https://example.com/security".into()),
            payouts_url: Some("https://example.com/payouts".into()),
            ..config::Site::default()
        },
        keys: config::Keys {
            link: vec![key("l1", 1)],
            answer: vec![key("a1", 2)],
            state: [3; 16],
        },
        log: config::LogSettings::default(),
    }
}

/// Seals a link as the mailer does.
pub fn token(config: &config::Config, case: &CaseRecord, part: RecipientPart) -> String {
    seal(config, case, part, wall_clock().plus_ms(3_600_000))
}

/// A link that was good once.
pub fn expired_token(config: &config::Config, case: &CaseRecord) -> String {
    seal(
        config,
        case,
        RecipientPart::Owner,
        wall_clock().plus_ms(-1_000),
    )
}

fn seal(
    config: &config::Config,
    case: &CaseRecord,
    part: RecipientPart,
    expires: Timestamp,
) -> String {
    LinkKeys::new(&config.keys.link)
        .map(|keys| {
            keys.mint(&Link {
                case: case.id.as_str().into(),
                partition: case.partition,
                part,
                case_version: case.version,
                expires,
            })
        })
        .expect("keys")
        .expect("a token")
}

pub fn evidence(id: &str, time: &str, ip: &str, country: &str) -> EvidenceRecord {
    EvidenceRecord {
        id: id.into(),
        time: time.into(),
        ip: Some(ip.into()),
        country: Some(country.into()),
    }
}

/// A sign-in from Brazil that locked the account.
pub fn mail() -> MailRecord {
    MailRecord {
        schema: 1,
        id: "m-5f2a".into(),
        to: "owner@example.org".into(),
        part: "owner".into(),
        template: "was_this_you".into(),
        locale: Some("en-GB".into()),
        account_name: None,
        account: "u-123".into(),
        partition: 2,
        case: "k-9c41d2".into(),
        case_version: 1,
        rule: "first-seen-country".into(),
        reason: "new_country".into(),
        locked: Some("all".into()),
        time: "2026-11-22T06:04:00.000Z".into(),
        evidence: vec![evidence(
            "e-1",
            "2026-11-22T06:04:00.000Z",
            "203.0.113.7",
            "BR",
        )],
        device: Some(
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:145.0) Gecko/20100101 Firefox/145.0"
                .into(),
        ),
        until: None,
        not_before: None,
    }
}

/// The states that a case of a lock or a question is in, one or another.
pub const STATES: [&str; 6] = [
    "open",
    "asked",
    "unlocked",
    "secured",
    "recovered",
    "closed",
];

/// The case that [`mail`] is about.
pub fn case(state: &str) -> CaseRecord {
    CaseRecord {
        schema: 1,
        id: "k-9c41d2".into(),
        account: "u-123".into(),
        partition: 2,
        version: 1,
        state: state.into(),
        opened: "2026-11-22T06:04:00.000Z".into(),
        updated: "2026-11-22T06:04:00.000Z".into(),
        rules: vec!["first-seen-country".into()],
        reason: "new_country".into(),
        scope: "all".into(),
        evidence: vec![evidence(
            "e-1",
            "2026-11-22T06:04:00.000Z",
            "203.0.113.7",
            "BR",
        )],
        places: vec![PlaceRecord {
            value: "country:BR".into(),
            time: "2026-11-22T06:04:00.000Z".into(),
            known: false,
        }],
        device: mail().device,
        locale: Some("en-GB".into()),
        locks: Vec::new(),
        operators: Vec::new(),
        until: None,
        steps: None,
        bounced: Vec::new(),
    }
}
