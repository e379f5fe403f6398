//! What addresses tell: countries and lists, from good files and from broken ones.

use std::net::IpAddr;
use std::path::Path;
use std::time::Instant;

use doorward::admin::Readiness;
use doorward::config::GeoIp;
use doorward::document::render_all;
use doorward::enrich::CountryLookup;
use doorward::enrich::geoip::{GeoDb, GeoDbError};
use doorward::event::{Country, Timestamp};
use doorward::facts::{self, Loaded};
use doorward::metrics::Metrics;
use tempfile::TempDir;

fn data(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/geoip")
        .join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn found(code: &str) -> CountryLookup {
    CountryLookup::Found(Country::parse(code).expect("two letters"))
}

#[test]
fn a_country_is_found_in_both_shapes_of_database() {
    for name in [
        "GeoLite2-Country-Test.mmdb",
        "GeoIP2-Country-Test.mmdb",
        "GeoIP2-City-Test.mmdb",
    ] {
        let nested = GeoDb::open(data(name)).expect(name);
        assert_eq!(nested.country(ip("2.125.160.216")), found("GB"), "{name}");
        assert_eq!(nested.country(ip("::ffff:2.125.160.216")), found("GB"));
        assert_eq!(nested.country(ip("2001:218::1")), found("JP"), "{name}");
        assert_eq!(nested.country(ip("4.4.4.4")), CountryLookup::NotFound);
    }
    let flat = doorward::builtin::geoip().expect("the built-in database opens");
    assert_eq!(flat.country(ip("8.8.8.8")), found("US"));
    assert_eq!(flat.country(ip("2001:4860:4860::8888")), found("US"));
    assert_eq!(flat.country(ip("193.0.6.139")), found("NL"));
    assert_eq!(flat.country(ip("203.0.113.1")), CountryLookup::NotFound);
}

#[test]
fn the_same_question_has_the_same_answer_however_often_it_is_asked() {
    let geo = doorward::builtin::geoip().expect("the built-in database opens");
    let addresses: Vec<IpAddr> = (0..20_000_u32)
        .map(|n| IpAddr::from(n.wrapping_mul(2_654_435_761).to_be_bytes()))
        .collect();
    let first: Vec<CountryLookup> = addresses.iter().map(|ip| geo.country(*ip)).collect();
    let second: Vec<CountryLookup> = addresses.iter().map(|ip| geo.country(*ip)).collect();
    assert_eq!(first, second);
    assert!(first.iter().filter(|l| l.country().is_some()).count() > 10_000);
    assert!(!first.contains(&CountryLookup::Failed));
}

#[test]
fn a_database_says_what_it_is_and_when_it_was_built() {
    let geo = GeoDb::open(data("GeoLite2-Country-Test.mmdb")).expect("it is sound");
    assert_eq!(geo.kind(), "GeoLite2-Country");
    assert!(
        geo.built() > Timestamp(1_500_000_000_000),
        "{}",
        geo.built()
    );
}

#[test]
fn a_database_without_countries_is_refused_by_name() {
    for name in ["GeoLite2-ASN-Test.mmdb", "GeoIP2-Anonymous-IP-Test.mmdb"] {
        let error = GeoDb::open(data(name)).expect_err(name);
        assert!(matches!(error, GeoDbError::NoCountries(_)), "{error}");
        assert!(error.to_string().contains("country.iso_code"), "{error}");
    }
}

/// No broken database may panic or keep the program busy; each is refused, or says that it
/// failed.
#[test]
fn broken_databases_are_refused_when_they_are_opened() {
    let refused = |name: &str| {
        let start = Instant::now();
        let error = GeoDb::open(data(&format!("bad/{name}"))).expect_err(name);
        assert!(
            start.elapsed().as_secs() < 5,
            "{name} kept the program busy"
        );
        error.to_string()
    };
    insta::assert_snapshot!(
        [
            "cyclic-data-structure.mmdb",
            "invalid-data-record-offset.mmdb",
            "libmaxminddb-corrupt-search-tree.mmdb",
            "libmaxminddb-metadata-marker-only.mmdb",
        ]
        .map(refused)
        .join("\n")
    );
}

#[test]
fn half_a_database_and_something_else_are_refused() {
    let whole = data("GeoLite2-Country-Test.mmdb");
    let half = whole[..whole.len() / 2].to_vec();
    assert!(matches!(GeoDb::open(half), Err(GeoDbError::Unreadable(_))));
    assert!(matches!(
        GeoDb::open(b"<!doctype html>".as_slice()),
        Err(GeoDbError::Unreadable(_))
    ));
    assert!(matches!(
        GeoDb::open(Vec::new()),
        Err(GeoDbError::Unreadable(_))
    ));
}

#[test]
fn damage_that_opening_did_not_see_fails_at_the_look_up_and_never_panics() {
    let whole = data("GeoIP2-Country-Test.mmdb");
    let mut opened = 0;
    for at in (0..whole.len()).step_by(97) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0xFF;
        let Ok(geo) = GeoDb::open(damaged) else {
            continue;
        };
        opened += 1;
        for n in 0..64_u32 {
            let _ = geo.country(IpAddr::from((n << 26 | 0x0202).to_be_bytes()));
        }
        let _ = geo.country(ip("2.125.160.216"));
    }
    assert!(opened > 0, "some damage is not seen at once");
}

/// A folder of rules with this `lists.yaml` and these list files, loaded.
pub fn load_lists(lists_yaml: &str, files: &[(&str, &[u8])]) -> (Result<Loaded, String>, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("lists.yaml"), lists_yaml).expect("written");
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).expect("written");
    }
    let loaded = facts::load(&GeoIp::default(), Some(folder.path()))
        .map_err(|found| in_folder(&folder, &render_all(&found, false)));
    (loaded, folder)
}

/// Messages without the temporary folder's name.
pub fn in_folder(folder: &TempDir, text: &str) -> String {
    let name = format!("{}/", folder.path().display());
    text.replace(&name, "rules/")
        .replace(&folder.path().display().to_string(), "rules")
}

const ONE_LIST: &str = "schema: 1\nlists:\n  bad: { file: bad.txt }\n";

#[test]
fn a_list_may_hold_addresses_networks_and_comments_of_both_families() {
    let text = "\u{feff}# a feed\n\
        192.0.2.7\n  \n\
        198.51.100.0/24 ; a network\n\
        203.0.113.99/28\t# with host bits\r\n\
        ::ffff:192.0.2.8\n\
        ::ffff:192.0.3.0/120\n\
        2001:db8:bad::/48 # IPv6\n\
        2001:DB8::1";
    let (loaded, _folder) = load_lists(ONE_LIST, &[("bad.txt", text.as_bytes())]);
    let loaded = loaded.expect("it loads");
    assert_eq!(render_all(&loaded.problems, false), "");
    let lists = &loaded.facts.lists;
    let bad = lists.id("bad").expect("it is there");
    for inside in [
        "192.0.2.7",
        "::ffff:192.0.2.7",
        "192.0.2.8",
        "198.51.100.255",
        "203.0.113.96",
        "203.0.113.111",
        "192.0.3.7",
        "2001:db8:bad:ffff::1",
        "2001:db8::1",
    ] {
        assert!(lists.contains(bad, ip(inside)), "{inside}");
    }
    for outside in [
        "192.0.2.6",
        "198.51.101.0",
        "203.0.113.112",
        "2001:db8:bae::1",
    ] {
        assert!(!lists.contains(bad, ip(outside)), "{outside}");
    }
}

#[test]
fn every_bad_line_is_shown_and_the_good_ones_count() {
    let text = "192.0.2.1\n192.0.2.300\n192.0.2.2 # fine\nexample.com\n192.0.2.3\n\
        192.0.2.0/33\n192.0.2.4\n192.0.2.9 - 192.0.2.5\n192.0.2.6\n0.0.0.0/33\n";
    let (loaded, folder) = load_lists(ONE_LIST, &[("bad.txt", text.as_bytes())]);
    let loaded = loaded.expect("lists do not stop anything");
    insta::assert_snapshot!(in_folder(&folder, &render_all(&loaded.problems, false)));
    let bad = loaded.facts.lists.id("bad").expect("it is there");
    assert!(loaded.facts.lists.contains(bad, ip("192.0.2.4")));
    assert!(!loaded.facts.lists.contains(bad, ip("192.0.2.7")));
    assert!(loaded.unready.is_empty());
}

#[test]
fn what_is_no_list_leaves_the_list_out_and_says_so() {
    let garbage = "lorem\nipsum\n".repeat(100);
    let cases: [(&str, &[u8]); 6] = [
        (
            "an error page",
            b"<!DOCTYPE html>\n<html><body>429 Too Many Requests</body></html>\n",
        ),
        ("JSON", b"{\"error\": \"no such feed\"}"),
        ("nothing", b""),
        ("only comments", b"# feed of 2026-01-01\n; nothing today\n"),
        ("words", garbage.as_bytes()),
        ("gzip", &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xff]),
    ];
    let mut said = String::new();
    for (what, bytes) in cases {
        let (loaded, folder) = load_lists(ONE_LIST, &[("bad.txt", bytes)]);
        let loaded = loaded.expect("lists do not stop anything");
        let lists = &loaded.facts.lists;
        let bad = lists.id("bad").expect("rules may still name it");
        assert!(!lists.is_available(bad), "{what}");
        assert!(!lists.contains(bad, ip("192.0.2.1")), "{what}");
        let (component, reason) = &loaded.unready[0];
        let problems = render_all(&loaded.problems, false);
        said += &format!("--- {what}\n{problems}\nreadyz: {component}: {reason}\n\n");
        said = in_folder(&folder, &said);
    }
    insta::assert_snapshot!(said);
}

#[test]
fn a_missing_list_makes_doorward_not_ready_unless_it_is_optional() {
    let yaml = "schema: 1\nlists:\n  need: { file: need.txt }\n  \
        nice: { file: nice.txt, required: false }\n  \
        fresh: { file: fresh.txt, may_be_empty: true }\n";
    let (loaded, folder) = load_lists(yaml, &[("fresh.txt", b"# none yet\n")]);
    let loaded = loaded.expect("lists do not stop anything");
    let reasons: Vec<&str> = loaded.unready.iter().map(|(c, _)| c.as_str()).collect();
    assert_eq!(reasons, ["list need"]);
    let lists = &loaded.facts.lists;
    let available = |name| lists.is_available(lists.id(name).expect("it is there"));
    assert!(!available("need") && !available("nice") && available("fresh"));
    insta::assert_snapshot!(in_folder(&folder, &render_all(&loaded.problems, false)));

    let metrics = Metrics::new();
    let readiness = Readiness::new();
    loaded.report(&metrics, &readiness, Timestamp(1_790_000_000_000));
    assert_eq!(readiness.reasons().len(), 1);
    let text = metrics.text();
    assert!(
        text.contains("doorward_list_entries{list=\"need\"} 0"),
        "{text}"
    );
    assert!(text.contains("doorward_list_loaded_timestamp_seconds{list=\"fresh\"} 1790000000"));
    assert!(!text.contains("doorward_list_loaded_timestamp_seconds{list=\"need\"}"));
}

#[test]
fn mistakes_in_lists_yaml_are_all_named_at_once() {
    let yaml = "schema: 2\nlist:\n  x: {}\nlists:\n  Bad IPs: { file: a.txt }\n  \
        both: { file: a.txt, files: [b.txt] }\n  neither: { title: Nothing }\n  \
        types: { files: 7, required: yes }\n  typo: { flie: a.txt }\n";
    let (loaded, _folder) = load_lists(yaml, &[]);
    insta::assert_snapshot!(loaded.expect_err("mistakes"));
}

#[test]
fn several_files_make_one_list_and_its_hash_is_that_of_their_contents() {
    let yaml = "schema: 1\nlists:\n  two: { files: [a.txt, b.txt] }\n";
    let (loaded, _folder) = load_lists(
        yaml,
        &[("a.txt", b"192.0.2.1\n"), ("b.txt", b"192.0.2.2\n")],
    );
    let loaded = loaded.expect("it loads");
    let provenance = loaded.provenance("auth.events", "sha256:0");
    // printf '192.0.2.1\n192.0.2.2\n' | sha256sum
    let expected = "sha256:edc912c3b411d6eee7de26229f6ebc3309bb12bb82906a7400ac8fbeafd22d27";
    assert_eq!(provenance.lists["two"], expected);
    assert_eq!(provenance.geoip.as_deref(), Some("2026-06-17T19:54:21Z"));
}

#[test]
fn the_built_in_lists_and_database_are_sound_and_hold_the_documentation_networks() {
    let loaded = facts::load(&GeoIp::default(), None).expect("they load");
    assert_eq!(render_all(&loaded.problems, false), "");
    assert!(loaded.unready.is_empty());
    let lists = &loaded.facts.lists;
    let id = |name| lists.id(name).expect("it is there");
    assert!(lists.contains(id("malicious_ips"), ip("198.51.100.23")));
    assert!(lists.contains(id("malicious_ips"), ip("2001:db8:bad::1")));
    assert!(!lists.contains(id("malicious_ips"), ip("192.0.2.1")));
    assert!(lists.contains(id("anonymizers"), ip("203.0.113.200")));
    assert!(!lists.contains(id("anonymizers"), ip("203.0.113.1")));
}

#[test]
fn a_database_that_cannot_be_used_turns_countries_off_and_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("half.mmdb");
    let whole = data("GeoLite2-Country-Test.mmdb");
    std::fs::write(&path, &whole[..whole.len() / 2]).expect("written");
    let mut said = String::new();
    for database in [path, folder.path().join("gone.mmdb")] {
        let geoip = GeoIp {
            database: Some(database),
            previous: None,
            asn_database: None,
        };
        let loaded = facts::load(&geoip, None).expect("a database does not stop anything");
        assert_eq!(
            loaded.facts.country(ip("8.8.8.8")),
            CountryLookup::NoDatabase
        );
        let (component, reason) = &loaded.unready[0];
        said += &render_all(&loaded.problems, false);
        said += &format!("\nreadyz: {component}: {reason}\n\n");
    }
    insta::assert_snapshot!(in_folder(&folder, &said));
}
