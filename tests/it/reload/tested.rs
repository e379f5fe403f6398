//! Tests beside the rules decide whether a set goes to work.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::Arc;

use doorward::config::GeoIp;
use doorward::reload::Ask;
use doorward::shard::latest::Knowledge;

use super::files::{Site, address, database, write};
use super::many_addresses;
use crate::support::{PATIENCE, eventually};

/// It holds while five addresses are enough.
const TESTS: &str = "schema: 1
rule: many
defaults: { type: login, outcome: failure }
tests:
  - name: Five addresses lock
    events:
      - { at: 0s, ip: 4 different, every: 1s }
      - { at: 10s, ip: another, expect: acted 5, commands: [lock_account] }
";

fn tested() -> Site {
    Site::new(
        |folder| {
            fs::create_dir(folder.join("rules")).expect("a folder");
            write(&folder.join("rules/many.rule.yaml"), &many_addresses(5));
            write(&folder.join("rules/many.test.yaml"), TESTS);
        },
        |_| GeoIp::default(),
    )
}

#[test]
fn rules_14_a_rule_that_fails_its_tests_is_refused_and_the_place_of_the_test_is_named() {
    let site = tested();
    let first = site.rule_set();
    write(&site.path("rules/many.rule.yaml"), &many_addresses(6));
    site.wait_for("refused", 1);
    assert_eq!(site.rule_set(), first);
    assert!(site.readiness.is_ready());
    insta::assert_snapshot!(site.notes().replace(&first, "sha256:…"));

    // With a test that fits, the same rule is taken.
    let fitting = TESTS
        .replace("Five", "Six")
        .replace("4 different", "5 different")
        .replace("acted 5", "acted 6");
    write(&site.path("rules/many.test.yaml"), &fitting);
    site.wait_for("loaded", 1);
    assert_ne!(site.rule_set(), first);
    assert_eq!(site.notes(), "");
}

#[test]
fn a_file_of_tests_with_a_mistake_is_refused_with_everything_beside_it() {
    let site = tested();
    let first = site.rule_set();
    let slip = TESTS.replace("rule: many", "rule: mani");
    write(&site.path("rules/many.test.yaml"), &slip);
    site.wait_for("refused", 1);
    let notes = site.notes();
    let place = "refused: rules/many.test.yaml:2:7: there is no rule `mani`";
    assert!(notes.contains(place), "{notes}");

    fs::write(site.path("rules/many.test.yaml"), b"schema: 1\n\xff\n").expect("written");
    site.wait_for("refused", 2);
    assert!(site.notes().contains("rules/many.test.yaml"));
    assert_eq!(site.rule_set(), first);

    write(&site.path("rules/many.test.yaml"), TESTS);
    eventually("the note to go", PATIENCE, || {
        site.notes().is_empty().then_some(())
    });
    assert_eq!(site.count("loaded"), 0, "the rules are what they were");
}

#[test]
fn a_rule_is_put_into_shadow_or_off_in_a_hurry_whatever_its_tests_say() {
    let site = tested();
    for (turn, mode) in ["shadow", "off", "enforce"].into_iter().enumerate() {
        let other = many_addresses(5).replace("mode: enforce", &format!("mode: {mode}"));
        write(&site.path("rules/many.rule.yaml"), &other);
        site.wait_for("loaded", turn as u64 + 1);
    }
    assert_eq!(site.count("refused"), 0);
}

#[test]
fn the_shipped_rules_pass_their_own_tests_in_every_mode() {
    let site = tested();
    fs::remove_file(site.path("rules/many.rule.yaml")).expect("removed");
    fs::remove_file(site.path("rules/many.test.yaml")).expect("removed");
    fs::create_dir(site.path("rules/lists")).expect("a folder");
    for name in doorward::builtin::rules_file_names() {
        let text = doorward::builtin::rules_file(name).expect("a built-in file");
        let text = text.replace("\nmode: enforce", "\nmode: shadow");
        write(&site.path("rules").join(name), &text);
    }
    site.asks.send(Ask::Now).expect("it listens");
    eventually("them to be taken", PATIENCE, || {
        assert_eq!(site.count("refused"), 0, "{}", site.notes());
        (site.count("loaded") > 0 && site.latest.get().rules.rules().len() > 10).then_some(())
    });
}

#[test]
fn a_database_that_a_feed_breaks_fails_no_test() {
    let site = Site::new(
        |folder| {
            fs::create_dir(folder.join("rules")).expect("a folder");
            write(&folder.join("rules/many.rule.yaml"), &many_addresses(2));
            let abroad = TESTS
                .replace("4 different, every: 1s", "192.0.2.1")
                .replace("ip: another", "from: Norway")
                .replace("acted 5", "acted 2");
            write(&folder.join("rules/many.test.yaml"), &abroad);
            write(&folder.join("geo.mmdb"), "<html>502 Bad Gateway</html>");
        },
        |folder| GeoIp {
            database: Some(folder.join("geo.mmdb")),
            ..GeoIp::default()
        },
    );
    assert_eq!(site.count("refused"), 0);
    fs::write(site.path("geo.mmdb"), database("GeoIP2-Country-Test.mmdb")).expect("written");
    site.wait_for("loaded", 1);
    assert_eq!(site.count("refused"), 0);
    assert!(site.readiness.is_ready(), "{:?}", site.readiness.reasons());
}

#[test]
fn network_numbers_are_taken_anew_and_kept_where_the_new_ones_are_broken() {
    let site = Site::new(
        |folder| {
            fs::create_dir(folder.join("rules")).expect("a folder");
            write(&folder.join("rules/many.rule.yaml"), &many_addresses(5));
            fs::write(folder.join("asn.mmdb"), database("GeoLite2-ASN-Test.mmdb")).expect("put");
        },
        |folder| GeoIp {
            asn_database: Some(folder.join("asn.mmdb")),
            ..GeoIp::default()
        },
    );
    let number = || {
        let latest = site.latest.get();
        let asn = latest.facts.asn.as_ref().expect("a database");
        asn.number(address("1.128.0.1"))
    };
    assert_eq!(number(), Some(1221));

    let whole = database("GeoLite2-ASN-Test.mmdb");
    fs::write(site.path("asn.mmdb"), &whole[..whole.len() / 2]).expect("written");
    site.wait_for("partly", 1);
    assert_eq!(number(), Some(1221));
    assert!(site.readiness.is_ready(), "{:?}", site.readiness.reasons());
    let notes = site.notes();
    assert!(
        notes.starts_with("geoip.asn_database: asn.mmdb: "),
        "{notes}"
    );
    assert!(notes.contains("stays at work"), "{notes}");

    // The same database with another number at that place, 1221 + 1.
    let mut other = whole.clone();
    let at = other
        .windows(3)
        .position(|bytes| bytes == [0xc2, 0x04, 0xc5])
        .expect("1221 as the format writes it");
    other[at + 2] += 1;
    fs::write(site.path("asn.mmdb"), &other).expect("written");
    site.wait_for("loaded", 1);
    assert_eq!(number(), Some(1222));
    assert_eq!(site.notes(), "");
}

#[test]
fn databases_whose_files_did_not_change_are_not_opened_again() {
    let site = Site::new(
        |folder| {
            fs::create_dir(folder.join("rules")).expect("a folder");
            write(&folder.join("rules/many.rule.yaml"), &many_addresses(5));
            fs::write(folder.join("asn.mmdb"), database("GeoLite2-ASN-Test.mmdb")).expect("put");
            let country = database("GeoLite2-Country-Test.mmdb");
            fs::write(folder.join("country.mmdb"), country).expect("put");
        },
        |folder| GeoIp {
            database: Some(folder.join("country.mmdb")),
            asn_database: Some(folder.join("asn.mmdb")),
            ..GeoIp::default()
        },
    );
    let first = site.latest.get();
    write(&site.path("rules/many.rule.yaml"), &many_addresses(6));
    site.wait_for("loaded", 1);
    let second = site.latest.get();
    assert_ne!(first.rules.hash(), second.rules.hash());
    let country = |known: &Knowledge| known.facts.geo.clone().expect("a database");
    assert!(Arc::ptr_eq(&country(&first), &country(&second)));
    let numbers = |known: &Knowledge| known.facts.asn.clone().expect("a database");
    assert!(Arc::ptr_eq(&numbers(&first), &numbers(&second)));
}

#[test]
fn run_refuses_to_start_with_rules_that_fail_their_tests() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("rules")).expect("a folder");
    write(
        &folder.path().join("rules/many.rule.yaml"),
        &many_addresses(6),
    );
    write(&folder.path().join("rules/many.test.yaml"), TESTS);
    let text = "[kafka]\nbrokers = \"127.0.0.1:1\"\ninstance = \"one\"\n[rules]\ndir = \"rules\"\n\
         [mail]\nhost = \"localhost\"\nsecurity = \"none\"\n\
         from = \"Example <safety@example.com>\"\n\
         [web]\nlisten = \"127.0.0.1:0\"\npublic_url = \"https://login.example.com\"\n\
         [admin]\nlisten = \"127.0.0.1:0\"\n\
         [site]\nname = \"Example\"\nurl = \"https://example.com\"\n\
         [keys]\nstate = { file = \"1.key\" }\nlink = [{ id = \"1\", file = \"2.key\" }]\n\
         answer = [{ id = \"1\", file = \"3.key\" }]\n";
    for (name, byte, bytes) in [
        ("1.key", "a1", 16),
        ("2.key", "b2", 32),
        ("3.key", "c3", 32),
    ] {
        let path = folder.path().join(name);
        write(&path, &byte.repeat(bytes));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("set");
    }
    write(&folder.path().join("doorward.toml"), text);
    let ended = Command::new(env!("CARGO_BIN_EXE_doorward"))
        .args(["run", "--config", "doorward.toml"])
        .current_dir(folder.path())
        .output()
        .expect("it can be run");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(2), "{said}");
    assert!(said.contains("nothing was started"), "{said}");
    assert!(
        said.contains("the test `Five addresses lock` fails"),
        "{said}"
    );
    assert!(said.contains("rules/many.test.yaml:8:9"), "{said}");
}
