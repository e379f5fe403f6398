//! The form of a `*.test.yaml`: what the reader takes for its own fields, and the JSON Schema.

use serde_json::{Map, Value, json};

use crate::document::schema::{self, any_of};
use crate::document::shape::{Block, Field, Shape, Word};
use crate::event::fields::{self, EventField, Holds};
use crate::event::{KnownType, Outcome};

use super::expect::{COMMANDS, PARTS};
use super::step::MAX_TIMES;

const fn word(word: &'static str, about: &'static str) -> Word {
    Word { word, about }
}

const fn field(
    name: &'static str,
    about: &'static str,
    example: &'static str,
    shape: Shape,
) -> Field {
    Field {
        name,
        about,
        example,
        required: false,
        shape,
    }
}

const fn required(of: Field) -> Field {
    Field {
        required: true,
        ..of
    }
}

const NAME: Shape = Shape::Text {
    least: 1,
    most: 1_000,
};

/// The whole file; it has `rule` or `rules`, not both.
pub static FILE: Block = Block {
    what: "a file of tests",
    fields: &[
        required(field(
            "schema",
            "The version of the language that this file is written in.",
            "schema: 1",
            Shape::Version(1),
        )),
        field(
            "rule",
            "The rule at work in these tests, by its id; every other one is out of the way.",
            "rule: failed-logins-many-ips",
            Shape::Elsewhere("texts"),
        ),
        field(
            "rules",
            "The rules at work in these tests, by their ids; every other one is out of the way.",
            "rules: [first-seen-country, recovery-code-new-country]",
            Shape::Elsewhere("texts"),
        ),
        field(
            "lists",
            "What the lists hold in these tests. One that is not named is empty.",
            "lists: { malicious_ips: 192.0.2.0/24 }",
            Shape::Elsewhere("lists"),
        ),
        field(
            "defaults",
            "Fields of every event that does not say otherwise.",
            "defaults: { type: login, outcome: failure }",
            Shape::Elsewhere("event"),
        ),
        required(field(
            "tests",
            "The tests, each with a timeline of its own.",
            "tests: [{ name: Nothing happens, events: [{ wait: 1h }] }]",
            Shape::List {
                of: &Shape::Block(&TEST),
                alone: false,
            },
        )),
    ],
    meant: &[],
};

/// One test.
pub static TEST: Block = Block {
    what: "a test",
    fields: &[
        required(field(
            "name",
            "A sentence that says what is promised. No two tests of a file have the same.",
            "name: Four addresses do not lock",
            NAME,
        )),
        field(
            "rules",
            "The rules at work in this test, instead of the file's.",
            "rules: [first-seen-country]",
            Shape::Elsewhere("texts"),
        ),
        field(
            "lists",
            "What lists hold in this test, instead of what the file says of them.",
            "lists: { malicious_ips: 192.0.2.0/24 }",
            Shape::Elsewhere("lists"),
        ),
        field(
            "defaults",
            "Fields of every event of this test that does not say otherwise.",
            "defaults: { account: bob }",
            Shape::Elsewhere("event"),
        ),
        required(field(
            "events",
            "What happens, in the order in which it arrives.",
            "events: [{ at: 0s, ip: 5 different, every: 10s, expect: acted 5 }]",
            Shape::List {
                of: &Shape::Elsewhere("step"),
                alone: false,
            },
        )),
    ],
    meant: &[],
};

const TIME: Shape = Shape::Fits {
    pattern: "^\\s*\\+?\\s*([0-9]+(ms|s|m|h|d)\\s*)+$",
    like: "a time from the start, `4m 59s`, or after the line before, `+30s`",
};

const LENGTH: Shape = Shape::Length {
    least: "0ms",
    most: "36500d",
};

/// What a line of a timeline says besides the fields of its event.
pub static STEP: Block = Block {
    what: "an event",
    fields: &[
        field(
            "at",
            "When it happened: from the start, or with `+` after the line before. Without it, \
             the moment of that line.",
            "at: 4m 59s",
            TIME,
        ),
        field(
            "received",
            "When it arrives, by the broker's clock, where that is later than it happened.",
            "received: 10m",
            TIME,
        ),
        field(
            "times",
            "How many such events there are.",
            "times: 4",
            Shape::Whole {
                least: 1,
                most: MAX_TIMES,
            },
        ),
        field(
            "every",
            "How far apart several events are.",
            "every: 10s",
            LENGTH,
        ),
        field(
            "expect",
            "What the rule decides at the last of these events, and what it counted; `none`, as \
             without this line. With several rules at work, a block with a line for each.",
            "expect: acted 5",
            Shape::Elsewhere("by_rule"),
        ),
        field(
            "why",
            "Why the rule decides nothing: what it counted of what is needed, or the reason in \
             words. With several rules at work, a block with a line for each.",
            "why: 4 of 5",
            Shape::Elsewhere("by_rule"),
        ),
        field(
            "commands",
            "Commands that are sent, or `none`. Without this line they are not compared.",
            "commands: [lock_account unfamiliar]",
            Shape::Elsewhere("commands"),
        ),
        field(
            "mails",
            "Who is written to, or `none`. Without this line it is not compared.",
            "mails: [owner]",
            Shape::Elsewhere("mails"),
        ),
        field(
            "account_is",
            "How the account stands afterwards.",
            "account_is: locked",
            Shape::Words(&[
                word("free", "Nothing is asked and nothing is locked."),
                word("asked", "Its owner was asked, and it is not locked."),
                word("locked", "It is locked."),
                word("secured", "It is locked until a new password is set."),
            ]),
        ),
        field(
            "answer",
            "Instead of an event: the owner's answer to the account's case.",
            "answer: me",
            Shape::Words(&[
                word("me", "This was me."),
                word("not_me", "This was not me."),
                word("rotate_keys", "Replace the account's API keys."),
                word("cancel_recovery", "Stop the recovery of the account."),
                word("resend", "Send the mail once more."),
            ]),
        ),
        field(
            "operator",
            "Instead of an event: what an operator asks for.",
            "operator: unlock",
            Shape::Words(&[
                word("unlock", "Unlock the account, and learn what it did."),
                word("undo", "Take a rule's lock back, and learn nothing."),
                word("resend", "Send the mail once more."),
                word("release_recovery", "Let a held recovery go on."),
                word("cancel_recovery", "Stop a recovery."),
            ]),
        ),
        field(
            "wait",
            "Instead of an event: so much time passes, and timers act.",
            "wait: 24h",
            LENGTH,
        ),
    ],
    meant: &[],
};

/// What only an answer says, besides `at`, `account` and what is expected.
pub static ANSWER: Block = Block {
    what: "an answer",
    fields: &[
        field(
            "by",
            "Who answers. Without this line, the owner.",
            "by: co_owner",
            Shape::Words(&[
                word("owner", "The account's owner."),
                word("co_owner", "Another owner of a team account."),
            ]),
        ),
        field(
            "version",
            "The version of the case that was answered. Without this line, the newest.",
            "version: 1",
            Shape::Whole {
                least: 0,
                most: 1_000_000,
            },
        ),
        field(
            "places",
            "The places that the owner ticks: countries by name, `all` or `none`. Without this \
             line, all that the case asks about.",
            "places: [Norway]",
            Shape::Elsewhere("texts"),
        ),
    ],
    meant: &[],
};

/// Of an event, but not in the table that rules share.
const FROM: &str = "Instead of `ip`: an address in this country, by its English name or its code.";
const ATTRIBUTES: &str = "Whatever else your pipeline knows; rules name it as `attributes.x`.";

/// Fields that an event of a timeline can have by name: those of the contract but for `time`,
/// which `at` says, and what stands for an address.
pub fn event_names() -> impl Iterator<Item = &'static str> {
    let written = fields::FIELDS.iter().map(|field| field.name);
    written
        .filter(|name| *name != "time")
        .chain(["attributes", "from"])
}

fn event_field(field: &EventField) -> Value {
    let value = match field.holds {
        Holds::Type => {
            let known: Vec<&str> = KnownType::ALL.iter().map(|kind| kind.as_str()).collect();
            any_of([json!({ "enum": known }), json!({ "type": "string" })])
        }
        Holds::Outcome => {
            let words: Vec<&str> = Outcome::ALL.iter().map(|o| o.as_str()).collect();
            json!({ "enum": words })
        }
        Holds::Address => json!({
            "type": "string",
            "examples": ["192.0.2.1", "another", "5 different", "5 different ipv6", "5 neighbours"],
        }),
        Holds::Country => json!({ "type": "string", "examples": ["Norway", "NO"] }),
        Holds::Flag => json!({ "type": "boolean" }),
        Holds::Number => json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX }),
        Holds::Texts => json!({ "type": "array", "items": { "type": "string" } }),
        Holds::Text(usual) if !usual.is_empty() => json!({ "type": "string", "examples": usual }),
        Holds::Text(_) | Holds::Time => json!({ "type": "string" }),
    };
    explained(value, field.about)
}

/// The same, or nothing: `null` takes a field of `defaults` away.
fn explained(value: Value, about: &str) -> Value {
    let mut schema = any_of([value, json!({ "type": "null" })]);
    schema["description"] = json!(about);
    schema
}

fn event_properties() -> Map<String, Value> {
    let mut properties: Map<String, Value> = fields::FIELDS
        .iter()
        .filter(|field| field.name != "time")
        .map(|field| (field.name.to_owned(), event_field(field)))
        .collect();
    // How an address is left to the test, where the contract only knows real ones.
    let ip = "The client's address; or `another`, `5 different`, `5 different ipv6`, \
              `5 neighbours` (IPv6 addresses of one network) for as many events.";
    if let Some(schema) = properties.get_mut("ip") {
        schema["description"] = json!(ip);
    }
    let from = json!({ "type": "string", "examples": ["Norway", "NO"] });
    properties.insert("from".into(), explained(from, FROM));
    let attributes = json!({ "type": "object" });
    properties.insert("attributes".into(), explained(attributes, ATTRIBUTES));
    properties
}

fn step() -> Value {
    let mut properties = event_properties();
    for block in [&STEP, &ANSWER] {
        if let Value::Object(own) = schema::block(block)["properties"].take() {
            properties.extend(own);
        }
    }
    // What an answer, a request and a wait say alike.
    let mut shared = vec!["at", "received", "account"];
    shared.extend(["expect", "why", "commands", "mails", "account_is"]);
    let only = |name: &'static str, more: Vec<&'static str>| {
        let allowed: Vec<&str> = shared.iter().copied().chain([name]).chain(more).collect();
        json!({
            "if": { "required": [name] },
            "then": { "propertyNames": { "enum": allowed } },
        })
    };
    json!({
        "type": "object",
        "description": "An event with its fields and what is expected; or `answer`, `operator` \
                        or `wait` in its place. Fields that are not named here are the \
                        pipeline's own.",
        "properties": properties,
        "allOf": [
            only("answer", ANSWER.names()),
            only("operator", Vec::new()),
            only("wait", Vec::new()),
        ],
    })
}

/// What the schema of the file refers to.
pub fn definitions() -> Vec<(&'static str, Value)> {
    let text = || json!({ "type": "string" });
    let texts = || any_of([text(), json!({ "type": "array", "items": text() })]);
    let words = |word: Value| {
        any_of([
            json!({ "const": "none" }),
            word.clone(),
            json!({ "type": "array", "items": word }),
        ])
    };
    let command = format!("^({})( (all|unfamiliar))?$", COMMANDS.join("|"));
    let mail = any_of([
        json!({ "enum": PARTS }),
        json!({ "type": "string", "pattern": "@" }),
    ]);
    vec![
        ("texts", texts()),
        (
            "lists",
            json!({ "type": "object", "additionalProperties": texts() }),
        ),
        (
            "event",
            json!({ "type": "object", "properties": event_properties() }),
        ),
        (
            "by_rule",
            any_of([
                text(),
                json!({ "type": "object", "additionalProperties": text() }),
            ]),
        ),
        (
            "commands",
            words(json!({ "type": "string", "pattern": command, "examples": COMMANDS })),
        ),
        ("mails", words(mail)),
        ("step", step()),
    ]
}
