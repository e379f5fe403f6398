//! Countries from a MaxMind-format database (`.mmdb`), of either shape: `country.iso_code`
//! (GeoLite2, GeoIP2, DB-IP) or a flat `country_code` (iptoasn, IPinfo Lite) or `country`.
//!
//! Owns one open database. A look-up is a walk down its tree; what the record at the end
//! says is decoded once and remembered. A damaged database is refused when it is opened,
//! as far as a look at a few thousand of its records shows it, and answers
//! [`CountryLookup::Failed`] where it fails later.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};

use maxminddb::{LookupResult, MaxMindDbError, PathElement, Reader, WithinOptions};

use super::CountryLookup;
use crate::event::{Country, Timestamp};

/// Networks that opening looks at, from the tree's beginning.
const PROBED_NETWORKS: usize = 2_000;

/// Where a record says its country, as text; the first that does is the database's shape.
const SHAPES: [&[PathElement<'static>]; 3] = [
    &[PathElement::Key("country"), PathElement::Key("iso_code")],
    &[PathElement::Key("country_code")],
    &[PathElement::Key("country")],
];

/// One open database.
#[derive(Debug)]
pub struct GeoDb {
    reader: Reader<Cow<'static, [u8]>>,
    shape: &'static [PathElement<'static>],
    answers: Answers,
    /// What tells its file from another, where somebody asked for it.
    digest: Option<String>,
}

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GeoDbError {
    #[error("this is no MaxMind database (.mmdb), or only a part of one ({0})")]
    Unreadable(String),
    #[error("this database is damaged: {0}")]
    Damaged(String),
    #[error(
        "this database ({0}) names no countries: \
         its records have neither `country.iso_code` nor `country_code`"
    )]
    NoCountries(String),
    #[error(
        "this database ({0}) has no network numbers: \
         its records have neither `autonomous_system_number` nor `asn`"
    )]
    NoNumbers(String),
}

impl GeoDb {
    /// Opens the database in `bytes` and looks at some of its records.
    ///
    /// # Errors
    /// Where it is no database, a damaged one, or one without countries.
    pub fn open(bytes: impl Into<Cow<'static, [u8]>>) -> Result<GeoDb, GeoDbError> {
        let reader = Reader::from_source(bytes.into())
            .map_err(|error| GeoDbError::Unreadable(error.to_string()))?;
        let shape = probe(&reader)?;
        Ok(GeoDb {
            reader,
            shape,
            answers: Answers::new(),
            digest: None,
        })
    }

    /// The same, with the hash of its file.
    pub fn identified_by(mut self, digest: String) -> GeoDb {
        self.digest = Some(digest);
        self
    }

    /// The hash of its file, where it was given one.
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// The country of `ip`.
    pub fn country(&self, ip: IpAddr) -> CountryLookup {
        let ip = crate::event::canonical_ip(ip);
        if ip.is_ipv6() && self.reader.metadata().ip_version == 4 {
            return CountryLookup::NotFound;
        }
        let Ok(found) = self.reader.lookup(ip) else {
            return CountryLookup::Failed;
        };
        let Some(offset) = found.offset() else {
            return CountryLookup::NotFound;
        };
        self.answers
            .get_or_insert_with(offset as u64, || decode(&found, self.shape))
    }

    /// When it was built, as it says itself.
    pub fn built(&self) -> Timestamp {
        let seconds = i64::try_from(self.reader.metadata().build_epoch).unwrap_or(0);
        Timestamp(seconds.saturating_mul(crate::event::SECOND_MS))
    }

    /// What it calls itself, such as `GeoLite2-Country`.
    pub fn kind(&self) -> &str {
        &self.reader.metadata().database_type
    }
}

fn decode(
    found: &LookupResult<'_, Cow<'static, [u8]>>,
    shape: &[PathElement<'_>],
) -> CountryLookup {
    match found.decode_path::<&str>(shape) {
        Ok(Some(code)) => {
            Country::parse(code).map_or(CountryLookup::NotFound, CountryLookup::Found)
        }
        Ok(None) => CountryLookup::NotFound,
        Err(_) => CountryLookup::Failed,
    }
}

/// The shape of the records, found by looking at the first networks of the tree and at
/// addresses from all over it.
fn probe(
    reader: &Reader<Cow<'static, [u8]>>,
) -> Result<&'static [PathElement<'static>], GeoDbError> {
    let damaged = |error: MaxMindDbError| GeoDbError::Damaged(error.to_string());
    // Networks without data are walked too: leaving them out would let a crafted tree
    // keep the walk busy for ever between two networks that have some.
    let every = WithinOptions::default().include_networks_without_data();
    let first = reader.networks(every).map_err(damaged)?;
    let spread = spread_addresses(reader.metadata().ip_version).map(|ip| reader.lookup(ip));
    let mut shape = None;
    for found in first.take(PROBED_NETWORKS).chain(spread) {
        let found = found.map_err(damaged)?;
        let codes = SHAPES.map(|candidate| found.decode_path::<&str>(candidate));
        if shape.is_none() {
            shape = std::iter::zip(SHAPES, &codes)
                .find(|(_, code)| matches!(code, Ok(Some(code)) if Country::parse(code).is_some()))
                .map(|(candidate, _)| candidate);
        }
        // One error is a value of another type, which means another shape; an error for
        // each is a record that cannot be read at all.
        if codes.iter().all(Result::is_err) {
            let error = codes.into_iter().find_map(Result::err);
            return Err(error.map_or(GeoDbError::Damaged(String::new()), damaged));
        }
    }
    shape.ok_or_else(|| GeoDbError::NoCountries(reader.metadata().database_type.clone()))
}

/// Four addresses of each IPv4 /8 and, where the database has IPv6, one of each /12 of
/// what is assigned there (2000::/3).
pub(super) fn spread_addresses(ip_version: u16) -> impl Iterator<Item = IpAddr> {
    let v4 = (0..1024_u32).map(|n| IpAddr::V4(Ipv4Addr::from_bits((n << 22) | 0x0101)));
    let v6 = (0..512_u128).map(|n| IpAddr::V6(Ipv6Addr::from_bits((0x200 + n) << 116)));
    v4.chain(v6.filter(move |_| ip_version == 6))
}

/// What records say, by their offset: a small table in which a new answer takes the place
/// of an older one. It only saves decoding and never changes an answer, so threads share
/// it without order among them.
#[derive(Debug)]
struct Answers {
    /// Offset (40 bits), kind (8), country (16); 0 is an empty slot.
    slots: Box<[AtomicU64]>,
}

/// More than a country database has records; a city database keeps its busiest here.
const SLOTS_BITS: u32 = 12;

impl Answers {
    fn new() -> Answers {
        Answers {
            slots: (0..1 << SLOTS_BITS).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    fn get_or_insert_with(
        &self,
        offset: u64,
        decode: impl FnOnce() -> CountryLookup,
    ) -> CountryLookup {
        // Fibonacci hashing: neighbouring offsets share their low bits.
        let at = (offset.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - SLOTS_BITS)) as usize;
        let slot = &self.slots[at];
        let held = slot.load(Ordering::Relaxed);
        if held >> 24 == offset
            && let Some(answer) = unpack(held)
        {
            return answer;
        }
        let answer = decode();
        if offset < 1 << 40 {
            slot.store(offset << 24 | pack(answer), Ordering::Relaxed);
        }
        answer
    }
}

fn pack(answer: CountryLookup) -> u64 {
    match answer {
        CountryLookup::Found(country) => {
            1 << 16 | u64::from(u16::from_be_bytes(country.to_bytes()))
        }
        CountryLookup::NotFound => 2 << 16,
        _ => 3 << 16,
    }
}

fn unpack(held: u64) -> Option<CountryLookup> {
    let code = (held as u16).to_be_bytes();
    match (held >> 16) & 0xFF {
        1 => std::str::from_utf8(&code)
            .ok()
            .and_then(Country::parse)
            .map(CountryLookup::Found),
        2 => Some(CountryLookup::NotFound),
        3 => Some(CountryLookup::Failed),
        _ => None,
    }
}
