//! The fields of an event that people write about, each with what it may hold: one table for
//! rules, for `doorward schema` and for what messages suggest.

use super::{Country, KnownType, Outcome};

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// Any text; these words are usual.
    Text(&'static [&'static str]),
    /// A name of an event type; the known ones, or the pipeline's own.
    Type,
    Outcome,
    /// An IPv4 or IPv6 address.
    Address,
    /// An ISO 3166-1 alpha-2 code.
    Country,
    Flag,
    /// A whole number.
    Number,
    /// Several texts.
    Texts,
    /// A point in time.
    Time,
}

/// One field of `auth.events`.
#[derive(Debug)]
pub struct EventField {
    pub name: &'static str,
    pub holds: Holds,
    /// What it says, as an editor shows it.
    pub about: &'static str,
}

const METHODS: &[&str] = &[
    "password",
    "saml",
    "oidc",
    "passkey",
    "totp",
    "sms",
    "push",
    "backup_code",
    "recovery_code",
    "paper_key",
];

const REASONS: &[&str] = &[
    "bad_password",
    "no_such_account",
    "account_locked",
    "rate_limited",
    "expired_code",
    "code_already_used",
];

const fn field(name: &'static str, holds: Holds, about: &'static str) -> EventField {
    EventField { name, holds, about }
}

/// docs/contract.md section 2, but for the fields of doorward's own events.
pub const FIELDS: &[EventField] = &[
    field(
        "id",
        Holds::Text(&[]),
        "The pipeline's own id of the event, 1 to 128 bytes.",
    ),
    field(
        "type",
        Holds::Type,
        "What happened: one of the known types, or one of your own.",
    ),
    field(
        "time",
        Holds::Time,
        "When it happened: RFC 3339 with an offset, or whole milliseconds since 1970.",
    ),
    field(
        "account",
        Holds::Text(&[]),
        "The account's immutable internal id, 1 to 256 bytes, unique across tenants.",
    ),
    field(
        "outcome",
        Holds::Outcome,
        "How it went. A login or two_factor needs success or failure; a password_reset, \
         recovery or two_factor_reset can also be requested or cancelled.",
    ),
    field("ip", Holds::Address, "The client's address, IPv4 or IPv6."),
    field(
        "method",
        Holds::Text(METHODS),
        "How the person signed in or proved who it is.",
    ),
    field("reason", Holds::Text(REASONS), "Why it failed."),
    field(
        "user",
        Holds::Text(&[]),
        "The person, where several share the account.",
    ),
    field(
        "repeat",
        Holds::Flag,
        "Whether it is the same wrong password as just before.",
    ),
    field(
        "actor",
        Holds::Text(&[]),
        "Who did it, where that is not the account itself.",
    ),
    field("role", Holds::Text(&["owner"]), "The role of who did it."),
    field(
        "email",
        Holds::Text(&[]),
        "The address on file, never one typed into a form.",
    ),
    field(
        "email_verified",
        Holds::Flag,
        "Whether the address on file is verified.",
    ),
    field(
        "previous_email",
        Holds::Text(&[]),
        "The address before, on email_changed.",
    ),
    field(
        "owners",
        Holds::Texts,
        "Addresses of the co-owners of a team account.",
    ),
    field(
        "case",
        Holds::Text(&[]),
        "The case that a password_changed or account_unlocked answers.",
    ),
    field(
        "locale",
        Holds::Text(&[]),
        "Language of the owner's mails and pages (BCP 47).",
    ),
    field(
        "user_agent",
        Holds::Text(&[]),
        "The client's User-Agent header.",
    ),
    field("session", Holds::Text(&[]), "The id of the session."),
    field(
        "country",
        Holds::Country,
        "The country, two capital letters (ISO 3166-1): the event's own, else that of its \
         address.",
    ),
    field(
        "asn",
        Holds::Number,
        "The number of the network (autonomous system) that the address belongs to: the \
         event's own, else from the database that geoip.asn_database names.",
    ),
];

/// The field called `name`.
pub fn by_name(name: &str) -> Option<&'static EventField> {
    FIELDS.iter().find(|field| field.name == name)
}

/// Outcomes that an event of this type can have, and whether it must have one. A type that
/// is not known beforehand can have any.
pub fn outcomes(kind: Option<KnownType>) -> (&'static [Outcome], bool) {
    match kind {
        Some(KnownType::Login | KnownType::TwoFactor) => {
            (&[Outcome::Success, Outcome::Failure], true)
        }
        _ => (Outcome::ALL, false),
    }
}

/// Codes of ISO 3166-1, and XK, which databases use for Kosovo.
const COUNTRIES: &str = "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH \
    BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX \
    CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM \
    GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG \
    KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN \
    MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK \
    PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST \
    SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI \
    VN VU WF WS XK YE YT ZA ZM ZW";

/// Every country that a rule can name.
pub fn countries() -> impl Iterator<Item = Country> {
    COUNTRIES.split_whitespace().filter_map(Country::parse)
}

/// Whether `code` is one of [`countries`], as it is written there.
pub fn is_country(code: &str) -> bool {
    COUNTRIES.split_whitespace().any(|known| known == code)
}
