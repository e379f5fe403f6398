//! The form of a rule file: the table that the reader, the JSON Schema and the messages
//! share.

use crate::document::shape::{Block, Field, Shape, Word};
use crate::rules::{MAX_AT_LEAST, MAX_LOCK_BUDGET};

/// Windows and gaps reach at most this far back.
const MAX_WITHIN: &str = "30d";

const fn word(word: &'static str, about: &'static str) -> Word {
    Word { word, about }
}

/// What names a rule, or an exception.
pub const ID: Shape = Shape::Fits {
    pattern: "^[a-z0-9][a-z0-9-]{0,63}$",
    like: "1 to 64 small letters, digits and hyphens",
};

/// One rule file.
pub static RULE: Block = Block {
    what: "a rule",
    fields: &[
        Field {
            name: "schema",
            about: "The version of the language that this file is written in.",
            example: "schema: 1",
            required: true,
            shape: Shape::Version(1),
        },
        Field {
            name: "id",
            about: "Names the rule, and with it what it remembers of each account. Never use it \
                    for another rule.",
            example: "id: failed-logins-many-ips",
            required: true,
            shape: ID,
        },
        Field {
            name: "title",
            about: "What the rule finds, in a few words for people.",
            example: "title: Five second-factor failures in a row",
            required: true,
            shape: Shape::Text {
                least: 1,
                most: 200,
            },
        },
        Field {
            name: "severity",
            about: "How bad a hit is. It changes nothing about what is done.",
            example: "severity: high",
            required: true,
            shape: Shape::Words(&[
                word("low", "Worth knowing."),
                word("medium", "Worth looking at."),
                word("high", "An account is probably under attack."),
                word("critical", "An account is probably taken over."),
            ]),
        },
        Field {
            name: "mode",
            about: "Whether decisions act.",
            example: "mode: shadow",
            required: true,
            shape: Shape::Words(&[
                word(
                    "enforce",
                    "Decisions act: accounts are locked, owners are mailed.",
                ),
                word("shadow", "Decisions are recorded and do nothing."),
                word("off", "The rule is not looked at."),
            ]),
        },
        Field {
            name: "when",
            about: "Which events the rule looks at. Every line must hold; a list means any of.",
            example: "when: { type: login, outcome: failure }",
            required: true,
            shape: Shape::Elsewhere("condition"),
        },
        Field {
            name: "by",
            about: "What the rule counts by: each account for itself, each person of a shared \
                    account, or each address.",
            example: "by: account",
            required: true,
            shape: Shape::Either(&[
                Shape::Words(&[
                    word("account", "Each account for itself."),
                    word(
                        "ip",
                        "Each address for itself, within one partition. Such a rule can only \
                         record.",
                    ),
                ]),
                Shape::Tuple(&["account", "user"]),
                Shape::Tuple(&["account"]),
                Shape::Tuple(&["ip"]),
            ]),
        },
        Field {
            name: "detect",
            about: "How matching events become a hit.",
            example: "detect: { count: { at_least: 5, within: 5m } }",
            required: true,
            shape: Shape::OneOf {
                block: &DETECT,
                bare: &["each"],
                one: "way of counting",
            },
        },
        Field {
            name: "then",
            about: "What a hit does. Without it, hits are only recorded.",
            example: "then: [ email_user: { template: was_this_you } ]",
            required: false,
            shape: Shape::List {
                of: &Shape::OneOf {
                    block: &ACTION,
                    bare: &["email_user"],
                    one: "action",
                },
                alone: false,
            },
        },
        Field {
            name: "cooldown",
            about: "For so long after a hit that acted, further ones for the account are \
                    recorded and do nothing. Default: none.",
            example: "cooldown: 30m",
            required: false,
            shape: Shape::Length {
                least: "0s",
                most: "365d",
            },
        },
        Field {
            name: "lock_budget",
            about: "Locks that the rule may take in five minutes; past them its hits are held, \
                    and an alert fires. Default: 100.",
            example: "lock_budget: 100",
            required: false,
            shape: Shape::Whole {
                least: 1,
                most: MAX_LOCK_BUDGET as i64,
            },
        },
        Field {
            name: "tags",
            about: "Words for people and other programs, such as ATT&CK techniques.",
            example: "tags: [attack.t1110]",
            required: false,
            shape: Shape::List {
                of: &Shape::Fits {
                    pattern: "^\\S{1,64}$",
                    like: "1 to 64 characters without spaces",
                },
                alone: false,
            },
        },
    ],
    meant: &[
        (
            "name",
            "write `title`, and `id` for the name that programs use",
        ),
        (
            "description",
            "put it into `title`, or into a comment that begins with `#`",
        ),
        ("level", "write `severity`"),
        (
            "status",
            "write `mode: enforce`, `mode: shadow` or `mode: off`",
        ),
        ("enabled", "write `mode: enforce`, or `mode: off`"),
        (
            "detection",
            "write `when` for the events, and `detect` for how they count",
        ),
        ("condition", "write `when`"),
        ("where", "write `when`"),
        ("match", "write `when`"),
        ("group-by", "write `by`"),
        ("group_by", "write `by`"),
        ("action", "write `then`, with a list of actions"),
        ("actions", "write `then`"),
        ("author", "put it into a comment that begins with `#`"),
        ("date", "put it into a comment that begins with `#`"),
        ("references", "put them into comments that begin with `#`"),
        (
            "at_least",
            "it goes into `detect`: `detect: { count: { at_least: 5, within: 5m } }`",
        ),
        (
            "within",
            "it goes into `detect`: `detect: { count: { at_least: 5, within: 5m } }`",
        ),
        (
            "timeframe",
            "write `within`, in `detect`: `detect: { count: { at_least: 5, within: 5m } }`",
        ),
        (
            "count",
            "it goes into `detect`: `detect: { count: { at_least: 5, within: 5m } }`",
        ),
        (
            "distinct",
            "it goes into `detect`: `detect: { distinct: { of: ip, at_least: 5, within: 5m } }`",
        ),
        (
            "lock_account",
            "it goes into `then`: `then: [ lock_account: { reason: guessing } ]`",
        ),
        ("email_user", "it goes into `then`: `then: [ email_user ]`"),
        ("type", "it goes into `when`: `when: { type: login }`"),
        (
            "outcome",
            "it goes into `when`: `when: { type: login, outcome: failure }`",
        ),
    ],
};

const AT_LEAST: Field = Field {
    name: "at_least",
    about: "How many make a hit.",
    example: "at_least: 5",
    required: true,
    shape: Shape::Whole {
        least: 1,
        most: MAX_AT_LEAST as i64,
    },
};

const WITHIN: Field = Field {
    name: "within",
    about: "How far apart the first and the last event may be, in the events' own time. Both \
            ends count.",
    example: "within: 5m",
    required: true,
    shape: Shape::Length {
        least: "1ms",
        most: MAX_WITHIN,
    },
};

const MEANT_WINDOW: &[(&str, &str)] = &[
    ("threshold", "write `at_least`"),
    ("min", "write `at_least`"),
    ("gte", "write `at_least`"),
    ("timeframe", "write `within`"),
    ("timespan", "write `within`"),
    ("window", "write `within`"),
    ("field", "write `of`"),
    ("by", "it goes one level up, beside `detect`"),
];

/// The ways of counting.
pub static DETECT: Block = Block {
    what: "`detect`",
    fields: &[
        Field {
            name: "each",
            about: "Every matching event is a hit.",
            example: "detect: each",
            required: false,
            shape: Shape::Words(&[]),
        },
        Field {
            name: "count",
            about: "So many matching events within a time are a hit.",
            example: "count: { at_least: 5, within: 5m }",
            required: false,
            shape: Shape::Block(&COUNT),
        },
        Field {
            name: "distinct",
            about: "So many different values of a field within a time are a hit.",
            example: "distinct: { of: ip, at_least: 5, within: 5m }",
            required: false,
            shape: Shape::Block(&DISTINCT),
        },
        Field {
            name: "streak",
            about: "So many matching events in a row are a hit.",
            example: "streak: { at_least: 5, max_gap: 24h, broken_by: { type: login } }",
            required: false,
            shape: Shape::Block(&STREAK),
        },
        Field {
            name: "first_seen",
            about: "A value that the account has not had before is a hit.",
            example: "first_seen: { of: country }",
            required: false,
            shape: Shape::Block(&FIRST_SEEN),
        },
    ],
    meant: &[
        ("event_count", "write `count`"),
        ("value_count", "write `distinct`"),
        ("unique", "write `distinct`"),
        ("new", "write `first_seen`"),
        ("sequence", "write `streak`"),
        ("consecutive", "write `streak`"),
        ("threshold", "write `count`"),
    ],
};

static COUNT: Block = Block {
    what: "`count`",
    fields: &[AT_LEAST, WITHIN],
    meant: MEANT_WINDOW,
};

const OF: Field = Field {
    name: "of",
    about: "The field whose values are told apart.",
    example: "of: ip",
    required: true,
    shape: Shape::Elsewhere("of"),
};

static DISTINCT: Block = Block {
    what: "`distinct`",
    fields: &[
        OF,
        AT_LEAST,
        WITHIN,
        Field {
            name: "prefix4",
            about: "With `of: ip`: so many leading bits tell IPv4 addresses apart. Default: 32, \
                    each address for itself.",
            example: "prefix4: 24",
            required: false,
            shape: Shape::Whole { least: 1, most: 32 },
        },
        Field {
            name: "prefix6",
            about: "With `of: ip`: so many leading bits tell IPv6 addresses apart. Default: 64, \
                    one household.",
            example: "prefix6: 48",
            required: false,
            shape: Shape::Whole {
                least: 1,
                most: 128,
            },
        },
    ],
    meant: MEANT_WINDOW,
};

static STREAK: Block = Block {
    what: "`streak`",
    fields: &[
        AT_LEAST,
        Field {
            name: "max_gap",
            about: "Two events that are further apart than this are not in a row.",
            example: "max_gap: 24h",
            required: true,
            shape: Shape::Length {
                least: "1ms",
                most: MAX_WITHIN,
            },
        },
        Field {
            name: "broken_by",
            about: "Events that end a run; each is a condition like `when`.",
            example: "broken_by: { type: two_factor, outcome: success }",
            required: false,
            shape: Shape::List {
                of: &Shape::Elsewhere("condition"),
                alone: true,
            },
        },
    ],
    meant: &[
        ("threshold", "write `at_least`"),
        (
            "within",
            "write `max_gap`, the time between two neighbours of a run",
        ),
        ("gap", "write `max_gap`"),
        ("reset_by", "write `broken_by`"),
        ("ends", "write `broken_by`"),
    ],
};

static FIRST_SEEN: Block = Block {
    what: "`first_seen`",
    fields: &[
        OF,
        Field {
            name: "forget_after",
            about: "A value not seen for so long is new again. Default: 365d.",
            example: "forget_after: 365d",
            required: false,
            shape: Shape::Length {
                least: "1d",
                most: "36500d",
            },
        },
        Field {
            name: "learn",
            about: "What only teaches at first: so many events, or a span of time from the \
                    first on. Default: one event.",
            example: "learn: { events: 1 }",
            required: false,
            shape: Shape::OneOf {
                block: &LEARN,
                bare: &[],
                one: "way to learn",
            },
        },
    ],
    meant: &[
        ("within", "write `forget_after`"),
        ("at_least", "the first new value is the hit; leave it out"),
        (
            "learning",
            "write `learn: { events: 1 }` or `learn: { for: 14d }`",
        ),
        ("forget", "write `forget_after`"),
    ],
};

static LEARN: Block = Block {
    what: "`learn`",
    fields: &[
        Field {
            name: "events",
            about: "So many events only teach.",
            example: "events: 1",
            required: false,
            shape: Shape::Whole {
                least: 1,
                most: 255,
            },
        },
        Field {
            name: "for",
            about: "Events of so long after the first one only teach.",
            example: "for: 14d",
            required: false,
            shape: Shape::Length {
                least: "1s",
                most: "365d",
            },
        },
    ],
    meant: &[("days", "write `for`, as in `learn: { for: 14d }`")],
};

/// What a hit can do.
pub static ACTION: Block = Block {
    what: "`then`",
    fields: &[
        Field {
            name: "lock_account",
            about: "Locks the account, until its owner or an operator answers.",
            example: "lock_account: { reason: credential_stuffing }",
            required: false,
            shape: Shape::Block(&LOCK),
        },
        Field {
            name: "email_user",
            about: "Asks the account's owner by mail whether it was them.",
            example: "email_user: { template: was_this_you }",
            required: false,
            shape: Shape::Block(&EMAIL),
        },
    ],
    meant: &[
        ("lock", "write `lock_account`"),
        ("block", "write `lock_account`"),
        ("email", "write `email_user`"),
        ("mail", "write `email_user`"),
        ("notify", "write `email_user`"),
        ("revoke_sessions", "`lock_account` ends the sessions too"),
    ],
};

static LOCK: Block = Block {
    what: "`lock_account`",
    fields: &[
        Field {
            name: "reason",
            about: "Why, for the login pipeline and the owner's page.",
            example: "reason: credential_stuffing",
            required: true,
            shape: Shape::Text { least: 1, most: 64 },
        },
        Field {
            name: "scope",
            about: "How much is locked. Default: all.",
            example: "scope: unfamiliar",
            required: false,
            shape: Shape::Words(&[
                word(
                    "all",
                    "Every new sign-in is refused, and the evidence's sessions end.",
                ),
                word(
                    "unfamiliar",
                    "Devices that signed in before go on. Use it where a stranger's failures \
                     alone can fire the rule, or anybody could lock anybody out.",
                ),
            ]),
        },
        Field {
            name: "until",
            about: "The lock ends by itself after so long. Default: it does not.",
            example: "until: 1h",
            required: false,
            shape: Shape::Length {
                least: "1s",
                most: "365d",
            },
        },
    ],
    meant: &[
        ("for", "write `until`"),
        ("duration", "write `until`"),
        ("timeout", "write `until`"),
    ],
};

static EMAIL: Block = Block {
    what: "`email_user`",
    fields: &[Field {
        name: "template",
        about: "Which mail. Default: was_this_you.",
        example: "template: was_this_you",
        required: false,
        shape: Shape::Words(&[word(
            "was_this_you",
            "Says what happened and was done, with \"this was me\" and \"this wasn't me\".",
        )]),
    }],
    meant: &[],
};
