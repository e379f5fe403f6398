//! Files that people write: what is read from them, where it stands, and what is said when
//! they cannot be read.

use std::sync::Arc;

use doorward::document::{
    Diagnostics, Fields, Node, SourceFile, Value, parse_toml, parse_yaml, render_all, suggest,
};

type Parse = fn(&Arc<SourceFile>, &mut Diagnostics) -> Option<Node>;

fn tree(parse: Parse, text: &str) -> Node {
    let mut found = Diagnostics::default();
    let file = SourceFile::new("file", text);
    parse(&file, &mut found).unwrap_or_else(|| panic!("{}", render_all(&found, false)))
}

fn refused(parse: Parse, text: &str) -> String {
    let mut found = Diagnostics::default();
    let node = parse(&SourceFile::new("file", text), &mut found);
    assert!(node.is_none(), "{text:?} was read as {node:?}");
    assert!(found.has_errors());
    render_all(&found, false)
}

/// `path: text` for every value and `path!: text` for every key, as they stand in the file.
fn spans(text: &str, node: &Node, path: &str, into: &mut Vec<String>) {
    let at = |span: &std::ops::Range<usize>| text[span.clone()].escape_debug().to_string();
    match &node.value {
        Value::Map(entries) => {
            for (key, value) in entries {
                into.push(format!("{path}.{}! {}", key.name, at(&key.span)));
                spans(text, value, &format!("{path}.{}", key.name), into);
            }
        }
        Value::List(items) => {
            for (n, item) in items.iter().enumerate() {
                spans(text, item, &format!("{path}[{n}]"), into);
            }
        }
        _ => into.push(format!("{path} = {}", at(&node.span))),
    }
}

fn all_spans(parse: Parse, text: &str) -> String {
    let mut lines = Vec::new();
    spans(text, &tree(parse, text), "", &mut lines);
    lines.join("\n")
}

#[test]
fn every_value_of_nested_yaml_knows_where_it_stands() {
    let text = "# a rule\nid: über-wache\nwhen: { type: login, reason: { not: [a, 'b c'] } }\n\
        then:\n  - lock: { scope: all }\n  - mail\n  -   count: 5\n      on: true\n\
        quoted: \"tab\\t é\"\nempty:\nratio: 1.5\nblock: |\n  one\n  two\n";
    insta::assert_snapshot!(all_spans(parse_yaml, text));
}

#[test]
fn every_value_of_nested_toml_knows_where_it_stands() {
    let text = "a = 1\n[b]\nc = \"é\"\nd = [1, { e = true }]\n[b.f]\ng.h = 0x10\n[[i]]\nj = 1.5\n";
    insta::assert_snapshot!(all_spans(parse_toml, text));
}

#[test]
fn only_true_and_false_are_booleans_and_numbers_are_numbers() {
    let text = "a: yes\nb: no\nc: on\nd: true\ne: 012\nf: 5m\ng: 1e3\nh: ~\ni: null\nj: '5'\n\
        k: 99999999999999999999\nl: -3\nm: 2026-11-22\nn: 1_000\no: off\np: 0x1F\nq: True\n";
    let Value::Map(entries) = tree(parse_yaml, text).value else {
        panic!("a map");
    };
    let read: Vec<String> = entries
        .iter()
        .map(|(key, node)| format!("{}: {:?}", key.name, node.value))
        .collect();
    insta::assert_snapshot!(read.join("\n"));
}

#[test]
fn an_ampersand_or_star_inside_a_value_is_no_anchor() {
    for text in [
        "key: \"a & b\"\n",
        "key: 'R&D *all*'\n",
        "key: \"*star\"\n",
        "key: a &b\n",
        "key: a *b\n",
        "glob: \"*.example.com\"\n",
        "key: value # see &note and *this\n",
        "\"key: &x\": 1\n",
        "text: |\n  - &not an anchor\n  key: *neither\n",
        "text: >\n  &folded\n",
        "list: [\"&a\", '*b']\n",
        "url: \"https://example.com/?a=1&b=2\"\n",
        "key: \"two\n  &lines\"\n",
    ] {
        tree(parse_yaml, text);
    }
}

#[test]
fn what_yaml_may_not_contain_is_said_with_its_place() {
    let cases = [
        ("a tab", "a:\n\tb: 1\n"),
        ("a tab after spaces", "a:\n  \tb: 1\n"),
        ("an anchor", "a: &x 1\nb: 2\n"),
        ("an alias", "a: &x { b: 1 }\nc: *x\n"),
        ("an anchor in a list", "a:\n  - &x 1\n"),
        ("an anchor on a block", "a: &x\n  b: 1\n"),
        ("an anchor in a flow list", "a: [1, &x 2]\n"),
        ("an unknown alias", "a: *x\n"),
        ("a merge key", "a:\n  <<: { b: 1 }\n"),
        ("a tag", "a: !secret 1\n"),
        ("two documents", "a: 1\n---\nb: 2\n"),
        ("a duplicate key", "a: 1\nb: 2\na: 3\n"),
        ("a nested duplicate", "x:\n  a: 1\n  a: 2\n"),
        ("a missing bracket", "a: [1, 2\nb: 3\n"),
        ("a missing quote", "a: \"text\nb: 3\n"),
        ("bad indentation", "a:\n    b: 1\n  c: 2\n"),
        ("a colon in a value", "title: Lock: now\n"),
        ("no space after a colon", "a:1\nb:2\n"),
        ("an unquoted star", "glob: *.example.com\n"),
        ("an unquoted percent", "a: %x\n"),
        ("an unquoted at", "a: @x\n"),
        ("nothing", ""),
        ("only comments", "# nothing\n"),
        ("a control character", "a: b\u{1}c\n"),
        ("text alone", "just text\n"),
        ("a list", "- a\n- b\n"),
        ("a key that is a map", "{ a: 1 }: 2\n"),
        (
            "a web page",
            "<!DOCTYPE html>\n<html>\n<p>Not found: rule</p>\n",
        ),
        ("JSON cut off", "{\"a\": [1, 2"),
    ];
    let mut all = String::new();
    for (what, text) in cases {
        let mut found = Diagnostics::default();
        let file = SourceFile::new("rule.yaml", text);
        if let Some(root) = parse_yaml(&file, &mut found) {
            Fields::of(&file, &root, "the rule", &mut found);
        }
        assert!(found.has_errors(), "{what} was accepted");
        all += &format!("--- {what}\n{}\n\n", render_all(&found, false));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_do_no_harm() {
    let node = tree(parse_yaml, "\u{feff}a: 1\r\nb:\r\n  c: text\r\n");
    let Value::Map(entries) = &node.value else {
        panic!("a map");
    };
    assert_eq!(entries[0].0.name, "a");
    assert_eq!(entries[0].1.value, Value::Integer(1));
    let Value::Map(inner) = &entries[1].1.value else {
        panic!("a map");
    };
    assert_eq!(inner[0].1.value, Value::Text("text".into()));
    let text = "\u{feff}a: 1\nbb: [\n";
    assert!(refused(parse_yaml, text).contains("file:"));
    tree(parse_toml, "\u{feff}a = 1\r\n");
}

#[test]
fn deep_nesting_is_refused_and_does_not_overflow_the_stack() {
    for depth in [200, 100_000] {
        let open = "[".repeat(depth) + &"]".repeat(depth);
        refused(parse_yaml, &format!("a: {open}\n"));
        refused(parse_toml, &format!("a = {open}\n"));
        refused(parse_yaml, &("{a: ".repeat(depth) + &"}".repeat(depth)));
        refused(parse_yaml, &"- ".repeat(depth));
    }
    let indented: String = (0..2_000).map(|n| " ".repeat(n) + "a:\n").collect();
    refused(parse_yaml, &indented);
}

#[test]
fn a_large_file_is_read_in_its_time() {
    let text: String = (0..5_000)
        .map(|n| format!("key-{n}: {{ a: [1, 2], b: x }}\n"))
        .collect();
    let start = std::time::Instant::now();
    let Value::Map(entries) = tree(parse_yaml, &text).value else {
        panic!("a map");
    };
    assert_eq!(entries.len(), 5_000);
    assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
}

#[test]
fn the_nearest_name_is_suggested_and_a_far_one_is_not() {
    let known = ["distinct", "count", "streak", "first_seen"];
    assert_eq!(suggest("distnict", &known), "did you mean `distinct`?");
    assert_eq!(suggest("coutn", &known), "did you mean `count`?");
    assert_eq!(suggest("first-seen", &known), "did you mean `first_seen`?");
    assert!(suggest("within", &known).starts_with("it can be `distinct`"));
}

#[test]
fn lengths_of_time_have_a_unit_and_say_how_to_write_one() {
    use doorward::document::parse_duration_ms as parse;
    assert_eq!(parse("250ms"), Ok(250));
    assert_eq!(parse("5m"), Ok(300_000));
    assert_eq!(parse("365d"), Ok(365 * 86_400_000));
    for (text, help) in [
        ("5min", "write `5m`"),
        ("5 minutes", "write `5m`"),
        ("24 hours", "write `24h`"),
        ("1 day", "write `1d`"),
        ("5M", "write `5m`"),
        ("2w", "write `14d`"),
        ("1h30m", "write `90m`"),
    ] {
        assert_eq!(parse(text), Err(help.to_owned()), "{text}");
    }
    for text in [
        "",
        "m",
        "5",
        "-5m",
        "5.5m",
        "soon",
        "99999999999999999999s",
        "40000d",
    ] {
        assert!(parse(text).is_err(), "{text}");
    }
}
