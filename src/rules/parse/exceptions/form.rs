//! The form of `exceptions.yaml`, as its JSON Schema has it; a test holds it to what the
//! reader takes.

use crate::document::shape::{Block, Field, Shape, Word};
use crate::rules::parse::form::ID;

/// Text that is not blank.
const SOME_TEXT: Shape = Shape::Fits {
    pattern: "\\S",
    like: "some text",
};

/// The whole file; its `exceptions` are a list of [`EXCEPTION`], which may be empty.
pub static FILE: Block = Block {
    what: "a file of exceptions",
    fields: &[
        Field {
            name: "schema",
            about: "The version of the language that this file is written in.",
            example: "schema: 1",
            required: true,
            shape: Shape::Version(1),
        },
        Field {
            name: "exceptions",
            about: "Whom rules leave alone, for how long, why, and who says so.",
            example: "exceptions: []",
            required: true,
            shape: Shape::Elsewhere("exceptions"),
        },
    ],
    meant: &[],
};

/// One exception.
pub static EXCEPTION: Block = Block {
    what: "an exception",
    fields: &[
        Field {
            name: "id",
            about: "Names the exception, and its hits in doorward_exception_hits_total.",
            example: "id: night-scanner",
            required: true,
            shape: ID,
        },
        Field {
            name: "reason",
            about: "Why it is needed, for whoever reads it in a year.",
            example: "reason: Our own scanner tries wrong passwords every night",
            required: true,
            shape: SOME_TEXT,
        },
        Field {
            name: "owner",
            about: "Whom to ask whether it is still needed.",
            example: "owner: security@example.org",
            required: true,
            shape: SOME_TEXT,
        },
        Field {
            name: "expires",
            about: "The last day on which it holds, through its end in UTC; or a time with its \
                    offset. After that it does nothing, and `doorward check` fails until it is \
                    removed.",
            example: "expires: 2027-03-31",
            required: true,
            shape: Shape::Fits {
                pattern: "^[0-9]{4}-[0-9]{2}-[0-9]{2}([Tt ][0-9:.]+([Zz]|[+-][0-9:]+))?$",
                like: "a day, or a time with its offset",
            },
        },
        Field {
            name: "effect",
            about: "What becomes of an event that it covers.",
            example: "effect: ignore",
            required: true,
            shape: Shape::Words(&[
                Word {
                    word: "ignore",
                    about: "The rule does not see the event.",
                },
                Word {
                    word: "shadow",
                    about: "The event counts, a hit is recorded, and nothing is done.",
                },
            ]),
        },
        Field {
            name: "when",
            about: "Which events it covers, as in a rule: every line must hold.",
            example: "when: { ip: { cidr: 192.0.2.0/24 } }",
            required: true,
            shape: Shape::Elsewhere("condition"),
        },
        Field {
            name: "rules",
            about: "The rules that it covers, by their ids. Without this line, all of them.",
            example: "rules: [failed-logins-many-ips]",
            required: false,
            shape: Shape::List {
                of: &ID,
                alone: false,
            },
        },
    ],
    meant: &[],
};
