//! The complete one, `examples/login_pipeline.rs`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::{Consumer, Doorward, SINCE, command, lines, lock, obeys};
use crate::support::kafka;
use crate::support::process::{Folder, Process};
use crate::support::{PATIENCE, eventually};
use serde_json::json;

/// Builds the example, which takes no time after `cargo test` has, and names its program.
fn program() -> PathBuf {
    let built = Command::new(env!("CARGO"))
        .args(["build", "-q", "--locked", "--example", "login_pipeline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    Path::new(env!("CARGO_BIN_EXE_doorward"))
        .with_file_name("examples")
        .join("login_pipeline")
}

fn consumer() -> Consumer {
    let program = program();
    Consumer {
        name: "rust",
        command: Box::new(move |arguments| {
            let mut command = Command::new(&program);
            command.arg("obey");
            let names = ["--brokers", "--topic", "--group", "--store"];
            for (name, argument) in names.iter().zip(arguments) {
                command.arg(name).arg(argument);
            }
            command
        }),
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned()
}

#[test]
fn the_rust_consumer_obeys() {
    let Some(cluster) = kafka::shared() else {
        return;
    };
    obeys(cluster, &consumer());
}

#[test]
fn a_locked_account_is_let_in_only_where_the_lock_says_so() {
    let Some(cluster) = kafka::shared() else {
        return;
    };
    let (topic, events) = (cluster.unique("commands"), cluster.unique("events"));
    cluster.create_topic(&topic, 1, &[]);
    cluster.create_topic(&events, 1, &[]);
    let doorward = Doorward::new(cluster, &topic);
    let folder = Folder::new("gate");
    let store = folder.path().join("store").display().to_string();
    let consumer = consumer();
    let group = cluster.unique("gate");
    let mut start = (consumer.command)(&[&cluster.bootstrap(), &topic, &group, &store]);
    let obeying = Process::start("obey", folder.path(), &mut start);
    let program = program();
    let sign_in = |more: &[&str]| {
        let output = Command::new(&program)
            .args(["sign-in", "--store", &store, "--account", "u-1"])
            .args(more)
            .output()
            .expect("it runs");
        (output.status.success(), said(&output))
    };
    // What was done is said, and then stored.
    let becomes = |expected: (bool, String), more: &[&str]| {
        eventually(&expected.1, PATIENCE, || {
            (sign_in(more) == expected).then_some(())
        });
    };
    let known = ["--device-since", "2026-01-01T00:00:00Z"];
    let unknown = ["--device-since", SINCE];
    let locked = (
        false,
        "u-1: refused, the account is locked, case k-1".to_owned(),
    );

    assert!(sign_in(&[]).0);
    doorward.commit(&[lock("u-1", 16, "unfamiliar")]);
    lines(&obeying, 3);
    becomes(locked.clone(), &[]);
    assert_eq!(sign_in(&unknown), locked);
    assert!(sign_in(&known).0, "a device from before the attack goes on");

    doorward.commit(&[
        lock("u-1", 32, "all"),
        command("u-1", 33, "revoke_sessions", json!({})),
        command("u-1", 34, "require_password_change", json!({})),
    ]);
    lines(&obeying, 8);
    becomes(locked.clone(), &known);

    // Lifted, but a new password is due first.
    doorward.commit(&[command("u-1", 48, "unlock_account", json!({}))]);
    lines(&obeying, 9);
    let due = "u-1: refused, a new password must be set first, case k-1";
    becomes((false, due.to_owned()), &[]);
    let changed = Command::new(&program)
        .args(["change-password", "--brokers", &cluster.bootstrap()])
        .args(["--topic", &events, "--store", &store, "--account", "u-1"])
        .output()
        .expect("it runs");
    assert_eq!(said(&changed), "u-1: the password was changed");
    let told = cluster.read_committed(&events);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].key_text(), "u-1");
    assert_eq!(told[0].json()["type"], "password_changed");
    assert_eq!(told[0].json()["case"], "k-1");
    assert!(sign_in(&[]).0);

    // A lock that ends by itself needs nobody.
    let until = |time| json!({ "scope": "all", "since": SINCE, "until": time });
    doorward.commit(&[command(
        "u-1",
        64,
        "lock_account",
        until("2026-11-22T07:00:00Z"),
    )]);
    lines(&obeying, 11);
    assert!(sign_in(&[]).0);
    doorward.commit(&[command(
        "u-1",
        80,
        "lock_account",
        until("2999-01-01T00:00:00Z"),
    )]);
    lines(&obeying, 13);
    becomes(locked, &[]);
}
