//! Events as doorward understands them.
//!
//! Owns the vocabulary of `auth.events`: what an event is, its types and outcomes, and
//! the small values (time, country, place in the log) that the rest of the core shares.
//! [`decode`] turns the bytes of one message into an [`Event`] that borrows from them;
//! [`wire`] writes the events that doorward itself publishes. Nothing here knows rules,
//! accounts or Kafka.

pub mod decode;
pub mod fields;
pub mod wire;

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// A point in time: milliseconds since 1970-01-01T00:00:00Z, without leap seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

/// Milliseconds in a second, a minute, an hour and a day.
pub const SECOND_MS: i64 = 1_000;
pub const MINUTE_MS: i64 = 60 * SECOND_MS;
pub const HOUR_MS: i64 = 60 * MINUTE_MS;
pub const DAY_MS: i64 = 24 * HOUR_MS;

impl Timestamp {
    /// This time moved by `ms` milliseconds, clamped at the ends of the range.
    pub fn plus_ms(self, ms: i64) -> Timestamp {
        Timestamp(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this time; negative where `earlier` is later.
    pub fn since_ms(self, earlier: Timestamp) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Whole days since 1970-01-01, the unit in which last-seen is kept (docs/rules.md 8).
    pub fn day(self) -> u16 {
        self.0.div_euclid(DAY_MS).clamp(0, i64::from(u16::MAX)) as u16
    }
}

/// RFC 3339 in UTC with milliseconds, the form that every output record uses.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(time) => write!(f, "{time:.3}"),
            // Beyond the years that RFC 3339 can name; decode refuses such times.
            Err(_) => write!(f, "{}", self.0),
        }
    }
}

/// An ISO 3166-1 alpha-2 code, upper case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Country([u8; 2]);

impl Country {
    /// `None` where `code` is not two ASCII letters or digits. Pseudo-countries such as
    /// `A1` and `T1` are accepted here; [`Country::is_real`] tells them apart.
    pub fn parse(code: &str) -> Option<Country> {
        match code.as_bytes() {
            [a, b] if a.is_ascii_alphanumeric() && b.is_ascii_alphanumeric() => {
                Some(Country([a.to_ascii_uppercase(), b.to_ascii_uppercase()]))
            }
            _ => None,
        }
    }

    /// Whether the code names a country rather than "unknown", "Tor", "Europe",
    /// "Asia/Pacific", "proxy", "satellite" or "other" (docs/rules.md 8), which databases and
    /// content networks use as codes.
    pub fn is_real(self) -> bool {
        !matches!(
            &self.0,
            b"XX" | b"T1" | b"EU" | b"AP" | b"A1" | b"A2" | b"O1" | b"ZZ"
        ) && self.0.iter().all(u8::is_ascii_alphabetic)
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("XX")
    }

    pub fn to_bytes(self) -> [u8; 2] {
        self.0
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What happened. `Other` types are accepted, counted, and usable in rules.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EventType<'a> {
    Known(KnownType),
    Other(Cow<'a, str>),
}

macro_rules! known_types {
    ($($variant:ident = $name:literal),+ $(,)?) => {
        /// The types that docs/contract.md section 2 lists.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum KnownType { $($variant),+ }

        impl KnownType {
            pub const ALL: &[KnownType] = &[$(KnownType::$variant),+];

            pub fn as_str(self) -> &'static str {
                match self { $(KnownType::$variant => $name),+ }
            }

            pub fn parse(name: &str) -> Option<KnownType> {
                match name { $($name => Some(KnownType::$variant),)+ _ => None }
            }
        }
    };
}

known_types! {
    Login = "login",
    TwoFactor = "two_factor",
    PasswordReset = "password_reset",
    PasswordChanged = "password_changed",
    TwoFactorEnabled = "two_factor_enabled",
    TwoFactorDisabled = "two_factor_disabled",
    TwoFactorReset = "two_factor_reset",
    RecoveryCodeUsed = "recovery_code_used",
    EmailChanged = "email_changed",
    Recovery = "recovery",
    SessionRevoked = "session_revoked",
    SsoEnabled = "sso_enabled",
    SsoDeleted = "sso_deleted",
    AccountLocked = "account_locked",
    AccountUnlocked = "account_unlocked",
    AccountDeleted = "account_deleted",
    ReportedStolen = "reported_stolen",
    CaseResponse = "case_response",
    OperatorRequest = "operator_request",
    TimerDue = "timer_due",
    MailBounced = "mail_bounced",
}

impl KnownType {
    /// Whether doorward itself publishes events of this type, and no login pipeline.
    pub fn is_own(self) -> bool {
        matches!(
            self,
            KnownType::CaseResponse
                | KnownType::OperatorRequest
                | KnownType::TimerDue
                | KnownType::MailBounced
        )
    }
}

impl EventType<'_> {
    pub fn as_str(&self) -> &str {
        match self {
            EventType::Known(known) => known.as_str(),
            EventType::Other(name) => name,
        }
    }

    pub fn known(&self) -> Option<KnownType> {
        match self {
            EventType::Known(known) => Some(*known),
            EventType::Other(_) => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Outcome {
    Success,
    Failure,
    Requested,
    Cancelled,
}

impl Outcome {
    pub const ALL: &[Outcome] = &[
        Outcome::Success,
        Outcome::Failure,
        Outcome::Requested,
        Outcome::Cancelled,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Success => "success",
            Outcome::Failure => "failure",
            Outcome::Requested => "requested",
            Outcome::Cancelled => "cancelled",
        }
    }

    pub fn parse(name: &str) -> Option<Outcome> {
        Outcome::ALL.iter().copied().find(|o| o.as_str() == name)
    }
}

/// One decoded message of `auth.events`. Strings borrow from the message where the JSON
/// has no escapes. Every field is what docs/contract.md section 2 says of it; a field that was
/// absent, null or invalid is `None`.
#[derive(Clone, Debug)]
pub struct Event<'a> {
    /// 1 to 128 bytes; the pipeline's own.
    pub id: Cow<'a, str>,
    pub kind: EventType<'a>,
    /// Event time, as the pipeline wrote it; the engine clamps what lies in the future.
    pub time: Timestamp,
    /// 1 to 256 bytes, compared byte by byte.
    pub account: Option<Cow<'a, str>>,
    pub outcome: Option<Outcome>,
    /// Of the client; v4-mapped addresses are already IPv4.
    pub ip: Option<IpAddr>,
    pub method: Option<Cow<'a, str>>,
    pub reason: Option<Cow<'a, str>>,
    pub user: Option<Cow<'a, str>>,
    pub repeat: Option<bool>,
    pub actor: Option<Cow<'a, str>>,
    pub role: Option<Cow<'a, str>>,
    pub email: Option<Cow<'a, str>>,
    pub email_verified: Option<bool>,
    pub previous_email: Option<Cow<'a, str>>,
    /// The account's name as its owner knows it.
    pub account_name: Option<Cow<'a, str>>,
    pub owners: Vec<Cow<'a, str>>,
    pub case: Option<Cow<'a, str>>,
    pub locale: Option<Cow<'a, str>>,
    pub user_agent: Option<Cow<'a, str>>,
    pub session: Option<Cow<'a, str>>,
    /// As the event names it; wins over any address.
    pub country: Option<Country>,
    /// The number of the network, as the event names it; wins over any address.
    pub asn: Option<u32>,
    /// Present on doorward's own event types only.
    pub control: Option<Box<Control<'a>>>,
    /// Fields that some rule asked for by name and that are not above, in the order of
    /// the rule set's field table.
    pub extra: Vec<(FieldId, FieldValue<'a>)>,
}

/// Index of a field in the rule set's table of extra fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldId(pub u16);

/// The value of a field that only rules look at.
#[derive(Clone, Debug, PartialEq)]
pub enum FieldValue<'a> {
    Text(Cow<'a, str>),
    Bool(bool),
    Integer(i64),
    Float(f64),
}

/// The fields of doorward's own events: an answer, an operator's request, a timer, a mail
/// that bounced.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Control<'a> {
    /// `answer` of a `case_response`, or `request` of an `operator_request`.
    pub verb: Option<Cow<'a, str>>,
    pub case_version: Option<u32>,
    pub places: Vec<Cow<'a, str>>,
    /// Who answered, or whose mail bounced: the recipient's part; or the operator's name.
    pub by: Option<Cow<'a, str>>,
    /// Of an operator's `undo`: the rule whose lock was a mistake.
    pub rule: Option<Cow<'a, str>>,
    /// Of an operator's `resend`: another address. Of a `mail_bounced`: the mail's.
    pub to: Option<Cow<'a, str>>,
    pub key_id: Option<Cow<'a, str>>,
    /// Lower-case hexadecimal.
    pub mac: Option<Cow<'a, str>>,
    /// Of a `timer_due`: which timer.
    pub timer: Option<Cow<'a, str>>,
    pub deadline: Option<Timestamp>,
}

/// Where a record stands in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    pub partition: i32,
    pub offset: i64,
}

/// `ip` with v4-mapped IPv6 (`::ffff:a.b.c.d`) as IPv4.
pub fn canonical_ip(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4),
        v4 => v4,
    }
}

/// Private, shared, loopback, link-local and unspecified addresses (RFC 6890): they have
/// no country.
pub fn is_special_ip(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_unspecified()
                || (a == 100 && (64..128).contains(&b))
        }
        IpAddr::V6(v6) => {
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_unique_local()
                || v6.is_unicast_link_local()
        }
    }
}

/// The network of `prefix` bits that `ip` lies in, as its first address. `prefix` is
/// clamped to the family's width.
pub fn network_of(ip: IpAddr, prefix: u8) -> IpAddr {
    match ip {
        IpAddr::V4(v4) => {
            let keep = u32::from(prefix.min(32));
            let mask = u32::MAX.checked_shl(32 - keep).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let keep = u32::from(prefix.min(128));
            let mask = u128::MAX.checked_shl(128 - keep).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}
