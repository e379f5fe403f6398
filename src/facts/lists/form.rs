//! The form of `lists.yaml`, as its JSON Schema has it; a test holds it to what the reader
//! takes.

use serde_json::{Value, json};

use crate::document::schema;
use crate::document::shape::{Block, Field, Shape, Word};

const fn word(word: &'static str, about: &'static str) -> Word {
    Word { word, about }
}

/// Text that is not blank.
const SOME_TEXT: Shape = Shape::Fits {
    pattern: "\\S",
    like: "some text",
};

/// The whole file.
pub static FILE: Block = Block {
    what: "lists.yaml",
    fields: &[
        Field {
            name: "schema",
            about: "The version of the language that this file is written in.",
            example: "schema: 1",
            required: true,
            shape: Shape::Version(1),
        },
        Field {
            name: "own_networks",
            about: "The site's own networks. A list that holds an address of them is refused, \
                    unless it is allowed `own`.",
            example: "own_networks: [203.0.113.0/28]",
            required: false,
            shape: Shape::Elsewhere("networks"),
        },
        Field {
            name: "lists",
            about: "The lists, each under the name by which `in_list` and `not_in_list` ask for \
                    it: small letters, digits, `_` and `-`, 64 at most.",
            example: "lists: { malicious_ips: { file: lists/malicious_ips.txt } }",
            required: true,
            shape: Shape::Elsewhere("lists"),
        },
    ],
    meant: &[],
};

/// One list.
pub static LIST: Block = Block {
    what: "a list",
    fields: &[
        Field {
            name: "file",
            about: "The file that holds the list, relative to lists.yaml.",
            example: "file: lists/malicious_ips.txt",
            required: false,
            shape: SOME_TEXT,
        },
        Field {
            name: "files",
            about: "Several files that are read as one list, relative to lists.yaml.",
            example: "files: [lists/one.txt, lists/two.txt]",
            required: false,
            shape: Shape::List {
                of: &SOME_TEXT,
                alone: false,
            },
        },
        Field {
            name: "title",
            about: "What the list is, for people.",
            example: "title: Addresses that attacks come from",
            required: false,
            shape: SOME_TEXT,
        },
        Field {
            name: "source",
            about: "Where the list comes from, for people. doorward fetches nothing.",
            example: "source: https://www.spamhaus.org/drop/",
            required: false,
            shape: SOME_TEXT,
        },
        Field {
            name: "required",
            about: "Whether doorward is not ready while the list is missing. Without this line, \
                    it is so.",
            example: "required: false",
            required: false,
            shape: Shape::Flag,
        },
        Field {
            name: "may_be_empty",
            about: "Whether a list without an entry is meant. Without this line, it is taken for \
                    a failed download.",
            example: "may_be_empty: true",
            required: false,
            shape: Shape::Flag,
        },
        Field {
            name: "format",
            about: "How the files are written.",
            example: "format: csv",
            required: false,
            shape: Shape::Words(&[
                word("auto", "As the file looks. The same as without this line."),
                word("plain", "An address, network or range a line."),
                word("csv", "Columns, of which `column` chooses."),
                word("json", "One JSON document, such as a MISP warning list."),
                word("json_lines", "A JSON object a line, such as Spamhaus DROP."),
            ]),
        },
        Field {
            name: "column",
            about: "Where the address stands in CSV and JSON: a name, a number from 1, or two of \
                    them for the two ends of a range.",
            example: "column: [start, end]",
            required: false,
            shape: Shape::Elsewhere("column"),
        },
        Field {
            name: "max_age",
            about: "How old the newest of its files may be. When it is older, /readyz and a \
                    metric say so, and the list stays at work.",
            example: "max_age: 7d",
            required: false,
            shape: Shape::Length {
                least: "0ms",
                most: "36500d",
            },
        },
        Field {
            name: "max_shrink",
            about: "How much of its entries the list may lose from one reading to the next. One \
                    that loses more keeps what it had. Without this line, 50%.",
            example: "max_shrink: 80%",
            required: false,
            shape: Shape::Fits {
                pattern: "^\\s*0*(100|[0-9]{1,2})\\s*%$",
                like: "0% to 100%",
            },
        },
        Field {
            name: "allow",
            about: "What the list may hold although no visitor comes from there, or too many do.",
            example: "allow: [wide]",
            required: false,
            shape: Shape::Elsewhere("allowed"),
        },
    ],
    meant: &[],
};

const ALLOWED: Shape = Shape::Words(&[
    word(
        "private",
        "Private, shared, loopback and link-local addresses.",
    ),
    word("own", "Addresses of `own_networks`."),
    word("wide", "Networks wider than a /8 (IPv4) or a /16 (IPv6)."),
]);

/// What the schema of the file refers to.
pub fn definitions() -> Vec<(&'static str, Value)> {
    let mut list = schema::block(&LIST);
    list["oneOf"] = json!([{ "required": ["file"] }, { "required": ["files"] }]);
    let one = [
        json!({ "type": "string" }),
        json!({ "type": "integer", "minimum": 1, "maximum": 1_000 }),
    ];
    let one = schema::any_of(one);
    let allowed = schema::of(&ALLOWED);
    vec![
        (
            "lists",
            json!({
                "type": "object",
                "propertyNames": { "pattern": "^[a-z0-9_-]{1,64}$" },
                "additionalProperties": list,
            }),
        ),
        (
            "networks",
            json!({ "type": "array", "items": { "type": "string", "pattern": "^[0-9a-fA-F:.]+(/[0-9]{1,3})?$" } }),
        ),
        (
            "column",
            schema::any_of([
                one.clone(),
                json!({ "type": "array", "minItems": 2, "maxItems": 2, "items": one }),
            ]),
        ),
        ("allowed", json!({ "type": "array", "items": allowed })),
    ]
}
