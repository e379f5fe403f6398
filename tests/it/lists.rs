//! Lists in the formats that feeds come in, and what they may not hold.

use std::fs;

use doorward::config::GeoIp;
use doorward::document::render_all;
use doorward::event::Timestamp;
use doorward::facts::lists::entry_of;
use doorward::facts::{self, Folder, Loaded};

use crate::facts::{in_folder, ip, load_lists};

/// The list `bad`, with this text and these further lines of lists.yaml.
fn list(extra: &str, text: &str) -> (Loaded, String) {
    let yaml = format!("schema: 1\nlists:\n  bad:\n    file: bad.txt\n{extra}");
    let (loaded, folder) = load_lists(&yaml, &[("bad.txt", text.as_bytes())]);
    let loaded = loaded.expect("lists.yaml is right");
    let said = render_all(&loaded.problems, false);
    let said = format!("{said}\n{}", loaded.summary.last().expect("a line"));
    (loaded, in_folder(&folder, &said))
}

#[track_caller]
fn holds(loaded: &Loaded, inside: &[&str], outside: &[&str]) {
    let lists = &loaded.facts.lists;
    let bad = lists.id("bad").expect("it is there");
    for address in inside {
        assert!(lists.contains(bad, ip(address)), "{address}");
    }
    for address in outside {
        assert!(!lists.contains(bad, ip(address)), "{address}");
    }
}

fn entries(loaded: &Loaded) -> Option<usize> {
    let list = loaded.facts.lists.iter().next()?;
    Some(list.content.as_ref()?.addresses.len())
}

#[test]
fn ranges_and_trailing_fields_are_read() {
    let text = "# ip <tab> on how many lists\n\
        198.51.100.7\t9\n198.51.100.9\t3\n\
        192.0.2.10-192.0.2.19\n192.0.2.30 - 192.0.2.39\n192.0.2.50-192.0.2.59 , 000 , A network\n\
        2001:db8::10-2001:db8::1f\n\
        203.0.113.0/25 ; SBL12345\n203.0.113.200 some words behind it\n";
    let (loaded, said) = list("", text);
    holds(
        &loaded,
        &[
            "198.51.100.7",
            "198.51.100.9",
            "192.0.2.10",
            "192.0.2.19",
            "192.0.2.35",
            "192.0.2.59",
            "2001:db8::1f",
            "203.0.113.127",
            "203.0.113.200",
            "::ffff:192.0.2.15",
        ],
        &[
            "198.51.100.8",
            "192.0.2.9",
            "192.0.2.20",
            "192.0.2.49",
            "2001:db8::20",
            "203.0.113.128",
        ],
    );
    assert!(
        said.ends_with("8 entries, read as an entry a line, with further fields"),
        "{said}"
    );
}

#[test]
fn two_addresses_on_a_line_are_a_mistake() {
    let text = "192.0.2.1\n192.0.2.2 192.0.2.3\n192.0.2.9-192.0.2.4\n192.0.2.5\n192.0.2.6\n";
    let (loaded, said) = list("", text);
    assert_eq!(entries(&loaded), Some(3));
    insta::assert_snapshot!(said);
}

#[test]
fn csv_is_read_by_name_by_number_and_as_ranges() {
    let named = "first seen,ip,port\n2026-11-01,198.51.100.7,443\n\"2026, late\",198.51.100.8,80\n";
    let (loaded, said) = list("    column: ip\n", named);
    holds(
        &loaded,
        &["198.51.100.7", "198.51.100.8"],
        &["198.51.100.9"],
    );
    assert!(
        said.ends_with("2 entries, read as CSV, column `ip`"),
        "{said}"
    );

    let (loaded, said) = list("", named);
    assert_eq!(entries(&loaded), Some(2), "the column is found: {said}");

    let ranges = "192.0.2.0,192.0.2.63,A hoster,http://hoster.example/\n\
                  198.51.100.0,198.51.100.255,Another,http://other.example/\n";
    let (loaded, said) = list("", ranges);
    holds(&loaded, &["192.0.2.63", "198.51.100.128"], &["192.0.2.64"]);
    assert!(
        said.ends_with("2 entries, read as CSV, columns 1 to 2"),
        "{said}"
    );

    let semicolons = "# made by hand\nname;network\nx;192.0.2.0/28\ny;2001:db8::/48\n";
    let (loaded, _) = list("    format: csv\n    column: 2\n", semicolons);
    holds(&loaded, &["192.0.2.15", "2001:db8::7"], &["192.0.2.16"]);

    let columns = "from,to\n192.0.2.1,192.0.2.4\n";
    let (loaded, _) = list("    column: [from, to]\n", columns);
    holds(&loaded, &["192.0.2.4"], &["192.0.2.5"]);
}

#[test]
fn mistakes_in_csv_and_json_have_their_line() {
    let mut said = String::new();
    for (extra, text) in [
        (
            "    column: adress\n",
            "# a feed\nname,address\nx,192.0.2.1\n",
        ),
        (
            "",
            "name,address\nx,192.0.2.1\ny,192.0.2.300\nz,192.0.2.3\n",
        ),
        (
            "",
            "{\"list\": [\n  \"192.0.2.1\",\n  \"not an address\",\n  \"192.0.2.2\"\n]}\n",
        ),
        (
            "",
            "{\"cidr\": \"192.0.2.0/28\"}\n{\"cidr\": \"192.0.2.32/28\",}\n",
        ),
        ("", "{\n  \"name\": \"no list\"\n}\n"),
        (
            "",
            "{\"cidr\": \"192.0.2.0/28\"}\n{\"net\": \"192.0.2.32/28\"}\n{\"cidr\": \"192.0.2.64/28\"}\n",
        ),
    ] {
        let yaml = format!("schema: 1\nlists:\n  bad:\n    file: bad.txt\n{extra}");
        let (loaded, folder) = load_lists(&yaml, &[("bad.txt", text.as_bytes())]);
        let loaded = loaded.expect("lists.yaml is right");
        said += &in_folder(&folder, &render_all(&loaded.problems, false));
        said += &format!("\n=> {:?} entries\n\n", entries(&loaded));
    }
    insta::assert_snapshot!(said);
}

#[test]
fn spamhaus_drop_is_read_as_text_and_as_json_lines() {
    let text = "; Spamhaus DROP List 2026/11/27 - (c) 2026 The Spamhaus Project\n\
        ; Last-Modified: Fri, 27 Nov 2026 06:24:43 GMT\n\
        192.0.2.0/24 ; SBL100001\n198.51.100.0/25 ; SBL100002\n";
    let (loaded, _) = list("    max_age: 7d\n", text);
    holds(
        &loaded,
        &["192.0.2.7", "198.51.100.127"],
        &["198.51.100.128"],
    );
    assert_eq!(loaded.ages[0].made, Timestamp(1_795_760_683_000));

    let lines = "{\"cidr\":\"192.0.2.0/24\",\"sblid\":\"SBL100001\",\"rir\":\"apnic\"}\n\
        {\"cidr\":\"2001:db8::/32\",\"sblid\":\"SBL100002\",\"rir\":\"ripencc\"}\n\
        {\"type\":\"metadata\",\"timestamp\":1795760683,\"size\":2,\"records\":2}\n";
    let (loaded, said) = list("", lines);
    holds(&loaded, &["192.0.2.7", "2001:db8:1::1"], &["198.51.100.1"]);
    assert_eq!(loaded.ages[0].made, Timestamp(1_795_760_683_000));
    assert!(said.ends_with("2 entries, read as JSON lines"), "{said}");
}

#[test]
fn misp_warning_lists_and_firehol_netsets_are_read() {
    let misp = "{\n  \"description\": \"Addresses of a hoster\",\n  \"list\": [\n    \
        \"192.0.2.0/24\",\n    \"2001:db8::/32\"\n  ],\n  \"matching_attributes\": [\"ip-src\"],\n  \
        \"name\": \"A hoster\",\n  \"type\": \"cidr\",\n  \"version\": 20261120\n}\n";
    let (loaded, said) = list("", misp);
    holds(&loaded, &["192.0.2.200", "2001:db8::1"], &["198.51.100.1"]);
    assert_eq!(loaded.ages[0].made, Timestamp(1_795_132_800_000));
    assert!(
        said.ends_with("2 entries, read as a JSON warning list"),
        "{said}"
    );

    let netset = "#\n# firehol_example\n#\n# ipv4 hash:net ipset\n#\n\
        # Source File Date: Mon Nov 23 02:18:44 UTC 2026\n\
        # This File Date  : Mon Nov 23 03:12:01 UTC 2026\n#\n192.0.2.0/24\n198.51.100.7\n";
    let (loaded, _) = list("", netset);
    holds(&loaded, &["192.0.2.1", "198.51.100.7"], &["198.51.100.8"]);
    assert_eq!(loaded.ages[0].made, Timestamp(1_795_400_324_000));
}

#[test]
fn an_entry_is_found_again_with_its_line_in_every_format() {
    let found = |terms: &str, text: &str| {
        let folder = tempfile::tempdir().expect("a folder");
        let lists = format!("schema: 1\nlists:\n  bad: {{ file: bad.txt{terms} }}\n");
        fs::write(folder.path().join("lists.yaml"), lists).expect("written");
        fs::write(folder.path().join("bad.txt"), text).expect("written");
        let folder = Folder(Some(folder.path().to_owned()));
        let place = entry_of(&folder, "bad", "192.0.2.77".parse().expect("an address"));
        place.map(|(_, line, entry)| (line, entry))
    };
    let at = |line: u64, entry: &str| Some((line, entry.to_owned()));
    let plain = "# one\n198.51.100.1\n192.0.2.0/24 ; bad\n";
    assert_eq!(found("", plain), at(3, "192.0.2.0/24 ; bad"));
    let csv = "first,last,why\n198.51.100.1,198.51.100.2,a\n192.0.2.7,192.0.2.99,b\n";
    let columns = ", column: [first, last]";
    assert_eq!(found(columns, csv), at(3, "192.0.2.7,192.0.2.99,b"));
    let misp = "{\n  \"list\": [\n    \"198.51.100.1\",\n    \"192.0.2.0/24\",\n    \
                \"203.0.113.1\"\n  ]\n}\n";
    assert_eq!(found("", misp), at(4, "\"192.0.2.0/24\""));
    let lines = "{\"cidr\":\"198.51.100.0/24\"}\n{\"cidr\":\"192.0.2.0/24\",\"rir\":\"x\"}\n\
                 {\"type\":\"metadata\",\"timestamp\":1795132800}\n";
    assert_eq!(
        found("", lines),
        at(2, "{\"cidr\":\"192.0.2.0/24\",\"rir\":\"x\"}")
    );
    // All of it on one line, which nobody wants to read.
    let many: Vec<String> = (1..200).map(|n| format!("\"198.51.100.{n}\"")).collect();
    let long = format!("[{}, \"192.0.2.0/24\"]\n", many.join(","));
    assert_eq!(found("", &long), at(1, "192.0.2.0/24"));
    assert_eq!(found("", "198.51.100.1\n"), None);
}

#[test]
fn what_no_visitor_comes_from_refuses_the_list_unless_it_is_allowed() {
    let own = "own_networks: [203.0.113.0/28, \"2001:db8::/32\"]\n";
    let texts = [
        ("wide", "192.0.2.1\n0.0.0.0/0\n"),
        ("wide", "192.0.2.1\n96.0.0.0/6\n"),
        ("wide", "192.0.2.1\n::/0\n"),
        ("private", "192.0.2.1\n10.20.0.0/16\n"),
        (
            "private",
            "192.0.2.1\n100.64.0.1\n127.0.0.1\n169.254.1.1\nfd00::1\nfe80::1\n",
        ),
        ("own", "192.0.2.1\n203.0.113.0/24\n2001:db8:1::/48\n"),
    ];
    let mut said = String::new();
    for (allow, text) in texts {
        let yaml = |allow: &str| {
            format!("schema: 1\n{own}lists:\n  bad: {{ file: bad.txt, allow: [{allow}] }}\n")
        };
        let (loaded, folder) = load_lists(&yaml(""), &[("bad.txt", text.as_bytes())]);
        let loaded = loaded.expect("lists.yaml is right");
        assert_eq!(entries(&loaded), None, "{text}");
        said += &in_folder(&folder, &render_all(&loaded.problems, false));
        said += "\n\n";
        let allowed = yaml(match allow {
            // ::/0 takes in all others.
            "wide" => "wide, private, own",
            allow => allow,
        });
        let (loaded, _folder) = load_lists(&allowed, &[("bad.txt", text.as_bytes())]);
        let loaded = loaded.expect("lists.yaml is right");
        assert_eq!(entries(&loaded), Some(text.lines().count()), "{text}");
    }
    insta::assert_snapshot!(said);
}

#[test]
fn a_list_that_shrinks_too_much_keeps_its_entries() {
    let lines = |n: usize| (0..n).map(|n| format!("192.0.2.{n}\n")).collect::<String>();
    let load = |max_shrink: &str, before: usize, now: usize| {
        let yaml = format!("schema: 1\nlists:\n  bad: {{ file: bad.txt{max_shrink} }}\n");
        let (loaded, folder) = load_lists(&yaml, &[("bad.txt", lines(before).as_bytes())]);
        let before = loaded.expect("it loads").facts;
        fs::write(folder.path().join("bad.txt"), lines(now)).expect("written");
        let after = facts::load_after(&GeoIp::default(), Some(folder.path()), Some(&before));
        let after = after.expect("it loads");
        let notes = after
            .notes
            .iter()
            .map(|(_, note)| note.clone())
            .collect::<Vec<_>>();
        (entries(&after).expect("a list"), notes.join("\n"))
    };
    assert_eq!(load("", 100, 50), (50, String::new()));
    let (held, note) = load("", 100, 49);
    assert_eq!(held, 100);
    insta::assert_snapshot!(note);
    assert_eq!(load(", max_shrink: 90%", 100, 20).0, 20);
    assert_eq!(load(", max_shrink: 10%", 100, 80).0, 100);
    assert_eq!(load("", 100, 0).0, 100, "an empty one, too");
    assert_eq!(load("", 10, 1).0, 1, "a short list is kept by hand");
}

#[test]
fn an_old_list_stays_at_work_and_says_so() {
    use doorward::admin::Readiness;
    use doorward::metrics::Metrics;
    let text = "# Generated: 2026-11-01 00:00:00\n192.0.2.1\n";
    let (loaded, _) = list("    max_age: 7d\n", text);
    let made = loaded.ages[0].made;
    let (metrics, readiness) = (Metrics::new(), Readiness::new());
    let week = 7 * 86_400_000;
    loaded.report(&metrics, &readiness, Timestamp(made.0 + week));
    assert!(readiness.notes().is_empty());
    assert!(
        metrics
            .text()
            .contains("doorward_list_stale{list=\"bad\"} 0")
    );
    loaded.report(
        &metrics,
        &readiness,
        Timestamp(made.0 + week + 3 * 86_400_000),
    );
    assert!(readiness.is_ready());
    assert_eq!(
        readiness.notes(),
        [
            "age of list bad: it was made 2026-11-01T00:00:00Z, 10d ago, and its max_age is 7d; \
          it stays at work"
        ]
    );
    let shown = metrics.text();
    assert!(shown.contains("doorward_list_stale{list=\"bad\"} 1"));
    assert!(shown.contains(&format!(
        "doorward_list_made_timestamp_seconds{{list=\"bad\"}} {}",
        made.0 / 1_000
    )));
}

#[test]
fn mistakes_in_the_terms_of_a_list_are_named() {
    let yaml = "schema: 1\nown_networks: [203.0.113.0/24, office]\nlists:\n  \
        a: { file: a.txt, format: xml, max_age: soon }\n  \
        b: { file: b.txt, max_shrink: half, allow: [everything], source: [x] }\n  \
        c: { file: c.txt, max_shrink: 150%, column: 0, maxage: 7d }\n";
    let (loaded, _folder) = load_lists(yaml, &[]);
    insta::assert_snapshot!(loaded.expect_err("mistakes"));
}

#[test]
fn nested_and_repeated_entries_are_found_like_single_ones() {
    // Networks in networks, ranges that touch, more than one block of the index.
    let mut text = String::from("198.18.0.0/15\n198.18.7.0/24\n198.18.7.9\n198.18.7.9\n");
    for n in 0..1_000 {
        text += &format!("198.51.{}.{}\n", n / 250, n % 250 / 2 * 2);
    }
    let (loaded, _) = list("", &text);
    for n in 0..1_000_u32 {
        let address = format!("198.51.{}.{}", n / 250, n % 250);
        let (inside, outside): (&[&str], &[&str]) = match n % 250 % 2 {
            0 => (&[&address], &[]),
            _ => (&[], &[&address]),
        };
        holds(&loaded, inside, outside);
    }
    holds(
        &loaded,
        &["198.18.0.0", "198.18.7.9", "198.19.255.255", "198.18.8.1"],
        &[
            "198.17.255.255",
            "198.20.0.0",
            "0.0.0.0",
            "255.255.255.255",
            "::1",
        ],
    );
    assert_eq!(entries(&loaded), Some(3 + 500));
}
