//! The topics that doorward needs (docs/contract.md section 1): what they should be, what they
//! are, and how to make them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::config::{Kafka, Topics};
use crate::kafka::settings::{self, Quiet};
use crate::kafka::{PRODUCERS_CLOCK, classify};
use crate::log::LogError;
use crate::log::client::REQUEST_TIMEOUT;

/// Seven days: how long mails and their receipts are kept.
const WEEK_MS: &str = "604800000";
/// Six hours: how long a record of account state may wait for compaction, and so how far a
/// tombstone may lag.
const COMPACTION_LAG_MS: &str = "21600000";
/// How long topics that were made are waited for.
const SHOWN_WITHIN: Duration = Duration::from_secs(10);

/// What one topic should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    pub name: String,
    pub partitions: i32,
    pub replicas: i32,
    pub settings: Vec<(&'static str, &'static str)>,
}

/// What one topic is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Existing {
    pub partitions: i32,
    pub replicas: i32,
    pub settings: BTreeMap<String, String>,
}

/// A cluster, as far as topics are concerned.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    pub brokers: i32,
    pub topics: BTreeMap<String, Existing>,
}

/// What is wrong with a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub topic: String,
    /// False for what doorward can live with.
    pub is_error: bool,
    pub text: String,
}

/// All topics on a cluster of `brokers`, with `partitions` each.
pub fn specs(topics: &Topics, partitions: i32, brokers: i32) -> Vec<Spec> {
    let compact: &[_] = &[("cleanup.policy", "compact")];
    let delete: &[_] = &[("cleanup.policy", "delete")];
    let kept_a_week: &[_] = &[("cleanup.policy", "delete"), ("retention.ms", WEEK_MS)];
    let receipts: &[_] = &[
        ("cleanup.policy", "compact,delete"),
        ("retention.ms", WEEK_MS),
    ];
    let events: &[_] = &[
        ("cleanup.policy", "delete"),
        ("message.timestamp.type", "LogAppendTime"),
    ];
    let state: &[_] = &[
        ("cleanup.policy", "compact"),
        ("max.compaction.lag.ms", COMPACTION_LAG_MS),
    ];
    [
        (&topics.events, events),
        (&topics.commands, delete),
        (&topics.decisions, delete),
        (&topics.cases, compact),
        (&topics.mail, kept_a_week),
        (&topics.receipts, receipts),
        (&topics.state, state),
        (&topics.dead_letters, delete),
    ]
    .into_iter()
    .map(|(name, settings)| {
        let mut settings = settings.to_vec();
        if brokers >= 3 {
            settings.push(("min.insync.replicas", "2"));
        }
        Spec {
            name: name.clone(),
            partitions,
            replicas: brokers.clamp(1, 3),
            settings,
        }
    })
    .collect()
}

/// Everything that is wrong with `cluster`'s topics.
pub fn problems(topics: &Topics, cluster: &Cluster) -> Vec<Problem> {
    let mut found = Vec::new();
    let partitions = cluster
        .topics
        .get(&topics.events)
        .map_or(0, |t| t.partitions);
    for spec in specs(topics, partitions, cluster.brokers) {
        let mut say = |is_error, text| {
            found.push(Problem {
                topic: spec.name.clone(),
                is_error,
                text,
            });
        };
        let Some(existing) = cluster.topics.get(&spec.name) else {
            say(
                true,
                "does not exist; `doorward topics create` makes it".into(),
            );
            continue;
        };
        if spec.name == topics.state && partitions > 0 && existing.partitions != partitions {
            say(
                true,
                partitions_differ(topics, partitions, existing.partitions),
            );
        }
        if existing.replicas < spec.replicas {
            say(
                false,
                format!(
                    "has {} replicas where {} are possible: a broker that is lost takes it along",
                    existing.replicas, spec.replicas
                ),
            );
        }
        for (name, wanted) in &spec.settings {
            if let Some(is) = existing.settings.get(*name)
                && let Some((is_error, text)) = judge_setting(topics, &spec.name, name, wanted, is)
            {
                say(is_error, text);
            }
        }
    }
    found
}

fn partitions_differ(topics: &Topics, events: i32, state: i32) -> String {
    format!(
        "has {state} partitions and {} has {events}: they must be as many, since the state of \
         an account stands on its events' partition; make it anew with {events}",
        topics.events
    )
}

fn judge_setting(
    topics: &Topics,
    topic: &str,
    name: &str,
    wanted: &str,
    is: &str,
) -> Option<(bool, String)> {
    let parts = |text: &str| {
        let mut parts: Vec<String> = text.split(',').map(|p| p.trim().to_owned()).collect();
        parts.sort_unstable();
        parts
    };
    if parts(wanted) == parts(is) {
        return None;
    }
    let number = |text: &str| text.parse::<i64>().ok();
    match name {
        // Longer, or for ever (-1), only costs room.
        "retention.ms" if number(is) == Some(-1) || number(is) >= number(wanted) => None,
        "min.insync.replicas" | "max.compaction.lag.ms"
            if name == "min.insync.replicas" && number(is) >= number(wanted)
                || name == "max.compaction.lag.ms" && number(is) <= number(wanted) =>
        {
            None
        }
        "cleanup.policy" => {
            let loses = topic == topics.state || topic == topics.cases;
            Some((
                loses || topic == topics.events,
                format!("{name} is `{is}`; set it to `{wanted}`"),
            ))
        }
        "message.timestamp.type" => Some((
            false,
            format!("{name} is `{is}`: {PRODUCERS_CLOCK}; set it to `{wanted}`"),
        )),
        _ => Some((false, format!("{name} is `{is}`; `{wanted}` is better"))),
    }
}

/// The number of input partitions, where the topics that a shard needs are there and fit
/// together.
///
/// # Errors
/// [`LogError::Fatal`] where a topic is missing or `doorward.state` has another number of
/// partitions; [`LogError::Unavailable`] where the cluster does not answer.
pub fn input_partitions(kafka: &Kafka, topics: &Topics) -> Result<u32, LogError> {
    let consumer = inquiry(kafka)?;
    let events = partitions(&consumer, &topics.events)?;
    let state = partitions(&consumer, &topics.state)?;
    if events != state {
        let text = partitions_differ(topics, events, state);
        return Err(LogError::Fatal(format!("{} {text}", topics.state)));
    }
    for name in [
        &topics.commands,
        &topics.decisions,
        &topics.cases,
        &topics.mail,
        &topics.receipts,
        &topics.dead_letters,
    ] {
        partitions(&consumer, name)?;
    }
    Ok(u32::try_from(events).unwrap_or(1))
}

/// Looks at the cluster: its brokers, and those of `topics` that exist, with their settings.
///
/// # Errors
/// [`LogError::Unavailable`] where the cluster does not answer.
pub fn look(kafka: &Kafka, topics: &Topics) -> Result<Cluster, LogError> {
    let consumer = inquiry(kafka)?;
    let metadata = consumer
        .fetch_metadata(None, REQUEST_TIMEOUT)
        .map_err(|error| unreachable(kafka, &error))?;
    let wanted: Vec<String> = specs(topics, 1, 1).into_iter().map(|s| s.name).collect();
    let mut cluster = Cluster {
        brokers: i32::try_from(metadata.brokers().len()).unwrap_or(i32::MAX),
        topics: BTreeMap::new(),
    };
    for topic in metadata.topics() {
        if wanted.iter().any(|name| name == topic.name()) && !topic.partitions().is_empty() {
            let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
            let replicas = topic.partitions().iter().map(|p| p.replicas().len()).min();
            let existing = Existing {
                partitions: count(topic.partitions().len()),
                replicas: count(replicas.unwrap_or(0)),
                settings: BTreeMap::new(),
            };
            cluster.topics.insert(topic.name().to_owned(), existing);
        }
    }
    read_settings(kafka, &mut cluster)?;
    Ok(cluster)
}

fn read_settings(kafka: &Kafka, cluster: &mut Cluster) -> Result<(), LogError> {
    if cluster.topics.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = cluster.topics.keys().cloned().collect();
    let resources: Vec<ResourceSpecifier<'_>> =
        names.iter().map(|n| ResourceSpecifier::Topic(n)).collect();
    let described = with_admin(kafka, async |admin| {
        admin.describe_configs(&resources, &options()).await
    })?;
    for (name, resource) in names.iter().zip(described) {
        let resource = resource
            .map_err(|code| classify(code, &format!("asking for the settings of {name}")))?;
        if let Some(existing) = cluster.topics.get_mut(name) {
            let entries = resource.entries.into_iter();
            existing.settings = entries.filter_map(|e| Some((e.name, e.value?))).collect();
        }
    }
    Ok(())
}

/// Makes the topics of `specs`; for each its name and whether it had to be made.
///
/// # Errors
/// The first topic that could not be made, or that the cluster does not answer.
pub fn create(kafka: &Kafka, specs: &[Spec]) -> Result<Vec<(String, bool)>, LogError> {
    let new: Vec<NewTopic<'_>> = specs
        .iter()
        .map(|spec| {
            let replication = TopicReplication::Fixed(spec.replicas);
            let topic = NewTopic::new(&spec.name, spec.partitions, replication);
            let settings = spec.settings.iter();
            settings.fold(topic, |topic, (name, value)| topic.set(name, value))
        })
        .collect();
    let made = with_admin(kafka, async |admin| {
        admin.create_topics(&new, &options()).await
    })?;
    wait_until_shown(kafka, specs)?;
    made.into_iter()
        .map(|result| match result {
            Ok(name) => Ok((name, true)),
            Err((name, RDKafkaErrorCode::TopicAlreadyExists)) => Ok((name, false)),
            Err((name, code)) => Err(classify(code, &format!("making the topic {name}"))),
        })
        .collect()
}

/// A broker shows a new topic a moment after the controller made it, and whoever starts
/// right after would be told that it does not exist. Where that takes longer than
/// [`SHOWN_WITHIN`], they are.
fn wait_until_shown(kafka: &Kafka, specs: &[Spec]) -> Result<(), LogError> {
    let consumer = inquiry(kafka)?;
    let began = Instant::now();
    let mut all = false;
    while !all && began.elapsed() < SHOWN_WITHIN {
        std::thread::sleep(Duration::from_millis(50));
        let mut specs = specs.iter();
        all = specs.all(|spec| partitions(&consumer, &spec.name).is_ok());
    }
    Ok(())
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(REQUEST_TIMEOUT))
        .operation_timeout(Some(REQUEST_TIMEOUT))
}

fn with_admin<T>(
    kafka: &Kafka,
    ask: impl AsyncFnOnce(&AdminClient<Quiet>) -> Result<T, KafkaError>,
) -> Result<T, LogError> {
    let admin: AdminClient<Quiet> = settings::common(kafka, "topics")
        .create_with_context(Quiet)
        .map_err(refused)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| LogError::Fatal(format!("no thread to ask Kafka with: {error}")))?;
    runtime
        .block_on(ask(&admin))
        .map_err(|error| unreachable(kafka, &error))
}

fn inquiry(kafka: &Kafka) -> Result<BaseConsumer<Quiet>, LogError> {
    settings::inquiry(kafka)
        .create_with_context(Quiet)
        .map_err(refused)
}

fn partitions(consumer: &BaseConsumer<Quiet>, topic: &str) -> Result<i32, LogError> {
    let metadata = consumer
        .fetch_metadata(Some(topic), Duration::from_secs(5))
        .map_err(|error| LogError::Unavailable(format!("no Kafka broker answers: {error}")))?;
    let found = metadata.topics().iter().find(|t| t.name() == topic);
    match found.map(|t| (t.error(), t.partitions().len())) {
        Some((None, count)) if count > 0 => Ok(i32::try_from(count).unwrap_or(i32::MAX)),
        Some((Some(code), _)) if !is_missing(code.into()) => {
            Err(classify(code.into(), &format!("asking for {topic}")))
        }
        _ => Err(LogError::Fatal(format!(
            "the topic {topic} does not exist; `doorward topics create` makes it"
        ))),
    }
}

fn is_missing(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic
    )
}

fn refused(error: KafkaError) -> LogError {
    LogError::Fatal(format!("the Kafka settings: {error}"))
}

fn unreachable(kafka: &Kafka, error: &KafkaError) -> LogError {
    let doing = format!("asking {}", kafka.brokers);
    match error.rdkafka_error_code() {
        Some(code) => classify(code, &doing),
        None => LogError::Unavailable(format!("{doing}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn as_specified(partitions: i32, brokers: i32) -> Cluster {
        let existing = |spec: Spec| {
            let settings = spec.settings.iter();
            let settings = settings.map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
            Existing {
                partitions: spec.partitions,
                replicas: spec.replicas,
                settings: settings.collect(),
            }
        };
        Cluster {
            brokers,
            topics: specs(&Topics::default(), partitions, brokers)
                .into_iter()
                .map(|spec| (spec.name.clone(), existing(spec)))
                .collect(),
        }
    }

    fn texts(cluster: &Cluster) -> Vec<(String, bool)> {
        problems(&Topics::default(), cluster)
            .into_iter()
            .map(|p| (p.topic, p.is_error))
            .collect()
    }

    #[test]
    fn topics_as_they_are_created_have_no_problems() {
        for brokers in [1, 3, 5] {
            assert_eq!(texts(&as_specified(12, brokers)), []);
        }
    }

    #[test]
    fn state_with_other_partitions_than_events_is_an_error() {
        let mut cluster = as_specified(12, 1);
        cluster.topics.get_mut("doorward.state").unwrap().partitions = 6;
        assert_eq!(texts(&cluster), [("doorward.state".to_owned(), true)]);
    }

    #[test]
    fn rules_2_where_producers_set_the_clock_the_guards_that_are_off_are_said() {
        let mut cluster = as_specified(12, 3);
        let events = cluster.topics.get_mut("auth.events").unwrap();
        let (name, is) = ("message.timestamp.type", "CreateTime");
        events.settings.insert(name.into(), is.into());
        let said = problems(&Topics::default(), &cluster);
        assert_eq!(said.len(), 1);
        assert!(!said[0].is_error, "doorward runs all the same");
        for guard in [
            "future",
            "past",
            "cooldowns",
            "deadlines",
            "budgets",
            "holds",
        ] {
            assert!(said[0].text.contains(guard), "{guard}: {}", said[0].text);
        }
    }

    #[test]
    fn settings_that_lose_data_are_errors_and_stricter_ones_are_none() {
        let mut cluster = as_specified(12, 3);
        let mut set = |topic: &str, name: &str, value: &str| {
            let settings = &mut cluster.topics.get_mut(topic).unwrap().settings;
            settings.insert(name.into(), value.into());
        };
        set("doorward.state", "cleanup.policy", "delete");
        set("doorward.receipts", "cleanup.policy", "delete,compact");
        set("doorward.mail", "retention.ms", "-1");
        set("auth.commands", "min.insync.replicas", "3");
        set("auth.events", "message.timestamp.type", "CreateTime");
        assert_eq!(
            texts(&cluster),
            [
                ("auth.events".to_owned(), false),
                ("doorward.state".to_owned(), true)
            ]
        );
    }
}
