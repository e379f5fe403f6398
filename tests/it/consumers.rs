//! The example consumers of `auth.commands`, each on a real broker: they obey what was
//! committed, once and in order, whatever is repeated, late, unknown or broken.

mod rust;

use std::path::{Path, PathBuf};
use std::process::Command;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};

use crate::support::kafka::{self, Cluster};
use crate::support::process::{Folder, Process};
use crate::support::{PATIENCE, eventually, service};

const SINCE: &str = "2026-11-22T06:00:00Z";

/// A consumer: how it is started with the four arguments that all of them take.
struct Consumer {
    name: &'static str,
    command: Box<dyn Fn(&[&str]) -> Command>,
}

fn example(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples")
        .join(file)
}

fn python() -> Option<Consumer> {
    let library = service("DOORWARD_PYTHON_LIB")?;
    Some(Consumer {
        name: "python",
        command: Box::new(move |arguments| {
            let mut command = Command::new("python3");
            command
                .env("PYTHONPATH", &library)
                .arg(example("python/login_pipeline.py"))
                .args(arguments);
            command
        }),
    })
}

fn java() -> Option<Consumer> {
    let library = service("DOORWARD_KAFKA_LIB")?;
    Some(Consumer {
        name: "java",
        command: Box::new(move |arguments| {
            let mut command = Command::new("java");
            command
                .arg("-cp")
                .arg(library.join("*"))
                .arg(example("java/LoginPipeline.java"))
                .args(arguments);
            command
        }),
    })
}

fn go(folder: &Path) -> Option<Consumer> {
    let cache = service("DOORWARD_GO_CACHE")?;
    let binary = folder.join("login-pipeline");
    let built = Command::new("go")
        .args(["build", "-o"])
        .arg(&binary)
        .arg(".")
        .current_dir(example("go"))
        .env("GOMODCACHE", cache.join("mod"))
        .env("GOCACHE", cache.join("build"))
        .env("GOFLAGS", "-mod=readonly")
        .output()
        .expect("go runs");
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    Some(Consumer {
        name: "go",
        command: Box::new(move |arguments| {
            let mut command = Command::new(&binary);
            command.args(arguments);
            command
        }),
    })
}

/// Writes messages in one transaction, which is committed or not.
struct Doorward<'a> {
    producer: BaseProducer,
    topic: &'a str,
}

impl<'a> Doorward<'a> {
    fn new(cluster: &Cluster, topic: &'a str) -> Doorward<'a> {
        let producer: BaseProducer = cluster
            .client()
            .set("transactional.id", topic)
            .create()
            .expect("a producer");
        producer.init_transactions(PATIENCE).expect("registered");
        Doorward { producer, topic }
    }

    fn commit(&self, payloads: &[String]) {
        self.send(payloads);
        self.producer
            .commit_transaction(PATIENCE)
            .expect("committed");
    }

    fn abort(&self, payloads: &[String]) {
        self.send(payloads);
        // On the broker before they are taken back.
        self.producer.flush(PATIENCE).expect("written");
        self.producer.abort_transaction(PATIENCE).expect("aborted");
    }

    fn send(&self, payloads: &[String]) {
        self.producer.begin_transaction().expect("begun");
        for payload in payloads {
            self.producer
                .send(BaseRecord::to(self.topic).key("u").payload(payload))
                .map_err(|(error, _)| error)
                .expect("taken");
        }
    }
}

fn command(account: &str, seq: i64, name: &str, more: Value) -> String {
    let mut command = json!({
        "schema": 1, "id": format!("c-{account}-{seq}"), "seq": seq, "command": name,
        "account": account, "case": "k-1", "time": SINCE, "rule": null,
        "rule_set": "sha256:0", "reason": "test", "until": null, "evidence": ["e-1", "e-2"],
        "source": { "topic": "auth.events", "partition": 0, "offset": seq / 16 },
    });
    for (field, value) in more.as_object().expect("an object") {
        command[field] = value.clone();
    }
    command.to_string()
}

fn lock(account: &str, seq: i64, scope: &str) -> String {
    let sessions = json!(["s-1", "s-2"]);
    command(
        account,
        seq,
        "lock_account",
        json!({ "scope": scope, "since": SINCE, "sessions": sessions }),
    )
}

/// Lines on standard output, once there are `count` of them.
fn lines(process: &Process, count: usize) -> Vec<String> {
    eventually(&format!("{count} lines"), PATIENCE, || {
        let lines: Vec<String> = process.output().lines().map(str::to_owned).collect();
        (lines.len() >= count).then_some(lines)
    })
}

/// All of what a consumer must get right.
fn obeys(cluster: &Cluster, consumer: &Consumer) {
    let topic = cluster.unique(&format!("commands-{}", consumer.name));
    cluster.create_topic(&topic, 1, &[]);
    let doorward = Doorward::new(cluster, &topic);
    let folder = Folder::new(consumer.name);
    let store = folder.path().join("store").display().to_string();
    let start = |name: &str, group: &str| {
        let bootstrap = cluster.bootstrap();
        let group = format!("{topic}-{group}");
        let mut command = (consumer.command)(&[&bootstrap, &topic, &group, &store]);
        Process::start(name, folder.path(), &mut command)
    };

    doorward.abort(&[lock("u-0", 16, "all")]);
    doorward.commit(&[lock("u-1", 16, "unfamiliar")]);
    // A hit of wider scope joined the case; then a mirror repeats the first.
    doorward.commit(&[lock("u-1", 32, "all"), lock("u-1", 16, "unfamiliar")]);
    let junk = ["", "{", "[]", r#"{"schema":1}"#].map(str::to_owned);
    doorward.commit(&junk);
    doorward.commit(&[
        command("u-1", 48, "stand_on_one_leg", json!({})),
        command("u-1", 49, "unlock_account", json!({})),
        // Of one event, in this order.
        command(
            "tenant/ü",
            80,
            "lock_account",
            json!({ "scope": "of_tomorrow" }),
        ),
        command("tenant/ü", 81, "revoke_sessions", json!({})),
        command("tenant/ü", 82, "require_password_change", json!({})),
        command("tenant/ü", 96, "rotate_api_keys", json!({})),
        command("u-2", 16, "hold_recovery", json!({})),
        command(
            "u-2",
            32,
            "release_recovery",
            json!({ "evidence": ["e-1"] }),
        ),
        command("u-2", 48, "cancel_recovery", json!({})),
    ]);
    let expected = [
        "u-1: refuse sign-ins of devices unknown before 2026-11-22T06:00:00Z",
        "u-1: void reset links",
        "u-1: suspend sessions s-1, s-2",
        "u-1: refuse every sign-in",
        "u-1: void reset links",
        "u-1: suspend sessions s-1, s-2",
        "u-1: seq 16 is old news",
        "u-1: lift the lock",
        "tenant/ü: refuse every sign-in",
        "tenant/ü: void reset links",
        "tenant/ü: end every session",
        "tenant/ü: require a new password, case k-1",
        "tenant/ü: replace the API keys",
        "u-2: hold recovery e-1, e-2",
        "u-2: complete recovery e-1",
        "u-2: end recovery e-1, e-2",
    ];
    let mut first = start("first", "one");
    assert_eq!(lines(&first, expected.len()), expected);
    eventually("a word about the unknown command", PATIENCE, || {
        first.errors().contains("stand_on_one_leg").then_some(())
    });
    assert_eq!(first.errors().matches("is no command").count(), junk.len());
    // What is said is stored a moment later; a repeat shows that it is.
    doorward.commit(&[command("u-2", 48, "cancel_recovery", json!({}))]);
    let said = lines(&first, expected.len() + 1);
    assert_eq!(
        said.last().map(String::as_str),
        Some("u-2: seq 48 is old news")
    );
    first.kill();

    // Its offsets are gone and all is handed out anew: nothing is done twice.
    doorward.commit(&[command("u-2", 64, "hold_recovery", json!({}))]);
    let mut second = start("second", "two");
    let repeated: Vec<String> = lines(&second, 14);
    let (new, old): (Vec<&String>, Vec<&String>) = repeated
        .iter()
        .partition(|line| !line.ends_with("is old news"));
    assert_eq!(new, ["u-2: hold recovery e-1, e-2"]);
    assert_eq!(old.len(), 13, "one a command: {old:?}");

    // What is newer than the program is left for a newer program.
    doorward.commit(&[command("u-3", 16, "lock_account", json!({ "schema": 2 }))]);
    assert!(!second.wait(PATIENCE).success());
    assert!(second.errors().contains("has schema 2"));
    assert!(!second.output().contains("u-3"));
    let mut third = start("third", "two");
    assert!(!third.wait(PATIENCE).success(), "the command still waits");
    assert_eq!(third.output(), "");
}

#[test]
fn the_python_consumer_obeys() {
    let (Some(cluster), Some(consumer)) = (kafka::shared(), python()) else {
        return;
    };
    obeys(cluster, &consumer);
}

#[test]
fn the_go_consumer_obeys() {
    let folder = Folder::new("go-build");
    let (Some(cluster), Some(consumer)) = (kafka::shared(), go(folder.path())) else {
        return;
    };
    obeys(cluster, &consumer);
}

#[test]
fn the_java_consumer_obeys() {
    let (Some(cluster), Some(consumer)) = (kafka::shared(), java()) else {
        return;
    };
    obeys(cluster, &consumer);
}
