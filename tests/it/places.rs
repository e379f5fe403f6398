//! Where addresses are: databases of both shapes, codes that are no country, addresses that
//! are nowhere, and updates that move a network on the map.

use std::net::IpAddr;
use std::sync::Arc;

use doorward::enrich::geoip::GeoDb;
use doorward::enrich::{CountryLookup, Facts};
use doorward::event::Country;

use crate::support::mmdb::{self, Shape};
use crate::support::story::{MINUTE, Story, lists, settings, shipped};

const NETWORKS: [(&str, &str); 6] = [
    ("192.0.2.0/24", "NO"),
    ("198.51.100.0/24", "SE"),
    ("203.0.113.0/26", "AP"),
    ("203.0.113.64/26", "EU"),
    ("198.18.0.0/16", "T1"),
    ("10.0.0.0/8", "NO"),
];

fn open(shape: Shape, networks: &[(&str, &str)]) -> GeoDb {
    GeoDb::open(mmdb::database(shape, 1_795_000_000, networks)).expect("a sound database")
}

fn facts(geo: GeoDb) -> Facts {
    Facts {
        asn: None,
        geo: Some(Arc::new(geo)),
        previous_geo: None,
        lists: lists(),
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[test]
fn both_shapes_say_the_same_of_every_address() {
    for shape in [Shape::Flat, Shape::Nested] {
        let facts = facts(open(shape, &NETWORKS));
        for (address, country) in [
            ("192.0.2.7", Some("NO")),
            ("::ffff:192.0.2.7", Some("NO")),
            ("198.51.100.255", Some("SE")),
            ("203.0.113.1", Some("AP")),
            ("203.0.113.65", Some("EU")),
            ("198.18.3.4", Some("T1")),
            ("203.0.113.200", None),
            ("2001:db8::1", None),
        ] {
            let expected = match country {
                Some(code) => CountryLookup::Found(Country::parse(code).expect("a code")),
                None => CountryLookup::NotFound,
            };
            assert_eq!(facts.country(ip(address)), expected, "{address}");
        }
    }
}

#[test]
fn addresses_that_are_nowhere_have_no_country_whatever_the_database_says() {
    let facts = facts(open(Shape::Flat, &NETWORKS));
    for address in [
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "127.0.0.1",
        "169.254.1.1",
        "0.0.0.0",
        "::1",
        "::",
        "fd00::1",
        "fe80::1",
        "::ffff:10.1.2.3",
    ] {
        assert_eq!(
            facts.country(ip(address)),
            CountryLookup::Special,
            "{address}"
        );
    }
}

#[test]
fn rules_8_a_code_that_is_no_country_neither_teaches_nor_is_new() {
    let mut story = Story::with(shipped(), facts(open(Shape::Flat, &NETWORKS)), settings());
    let pseudo = [
        "203.0.113.1",
        "203.0.113.65",
        "198.18.3.4",
        "10.1.2.3",
        "203.0.113.200",
    ];
    for (at, address) in pseudo.iter().enumerate() {
        assert!(
            story.login(at as i64, "u", address).is_silent(),
            "{address}"
        );
    }
    assert_eq!(story.said.counts.geo_special, 1);
    // So the first real one teaches, and the second is new.
    assert!(story.login(10, "u", "192.0.2.7").is_silent());
    assert!(story.login(11, "u", "198.51.100.7").acted());
}

#[test]
fn rules_8_a_network_that_an_update_moves_is_not_new_and_is_known_from_then_on() {
    let before = Arc::new(open(
        Shape::Nested,
        &[("192.0.2.0/24", "NO"), ("198.51.100.0/24", "NO")],
    ));
    let after = Arc::new(open(
        Shape::Flat,
        &[("192.0.2.0/24", "SE"), ("198.51.100.0/24", "SE")],
    ));
    let mut story = Story::with(
        shipped(),
        Facts {
            asn: None,
            geo: Some(Arc::clone(&before)),
            previous_geo: None,
            lists: lists(),
        },
        settings(),
    );
    story.login(0, "alice", "192.0.2.7");
    story.login(1, "bob", "192.0.2.8");
    story.reload_with(
        shipped(),
        Arc::new(Facts {
            asn: None,
            geo: Some(Arc::clone(&after)),
            previous_geo: Some(before),
            lists: lists(),
        }),
    );
    assert!(story.login(MINUTE, "alice", "192.0.2.7").is_silent());
    // Alice was there meanwhile: Sweden is hers, whatever the databases say from now on.
    story.reload_with(
        shipped(),
        Arc::new(Facts {
            asn: None,
            geo: Some(after),
            previous_geo: None,
            lists: lists(),
        }),
    );
    assert!(story.login(2 * MINUTE, "alice", "198.51.100.1").is_silent());
    // Bob was not, and no database is left that knows of the move.
    assert!(story.login(3 * MINUTE, "bob", "192.0.2.8").acted());
}
