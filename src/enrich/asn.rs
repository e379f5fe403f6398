//! Network numbers (autonomous systems) from a MaxMind-format database (`.mmdb`), of either
//! shape: `autonomous_system_number` (GeoLite2, DB-IP) or `asn` (IPinfo, as `AS64500`).

use std::borrow::Cow;
use std::net::IpAddr;

use maxminddb::{LookupResult, PathElement, Reader, WithinOptions};

use super::geoip::{GeoDbError, spread_addresses};
use crate::event::{SECOND_MS, Timestamp, canonical_ip};

/// Networks that opening looks at, from the tree's beginning.
const PROBED_NETWORKS: usize = 2_000;

/// Where a record says its number.
const SHAPES: [PathElement<'static>; 2] = [
    PathElement::Key("autonomous_system_number"),
    PathElement::Key("asn"),
];

/// One open database.
#[derive(Debug)]
pub struct AsnDb {
    reader: Reader<Cow<'static, [u8]>>,
    shape: PathElement<'static>,
    /// What tells its file from another, where somebody asked for it.
    digest: Option<String>,
}

impl AsnDb {
    /// Opens the database in `bytes` and looks at some of its records.
    ///
    /// # Errors
    /// Where it is no database, a damaged one, or one without network numbers.
    pub fn open(bytes: impl Into<Cow<'static, [u8]>>) -> Result<AsnDb, GeoDbError> {
        let reader = Reader::from_source(bytes.into())
            .map_err(|error| GeoDbError::Unreadable(error.to_string()))?;
        let every = WithinOptions::default().include_networks_without_data();
        let damaged = |error: maxminddb::MaxMindDbError| GeoDbError::Damaged(error.to_string());
        let first = reader.networks(every).map_err(damaged)?;
        let spread = spread_addresses(reader.metadata().ip_version).map(|ip| reader.lookup(ip));
        let mut shape = None;
        for found in first.take(PROBED_NETWORKS).chain(spread) {
            let found = found.map_err(damaged)?;
            if shape.is_none() {
                shape = SHAPES
                    .into_iter()
                    .find(|candidate| number(&found, candidate).is_some());
            }
        }
        let shape =
            shape.ok_or_else(|| GeoDbError::NoNumbers(reader.metadata().database_type.clone()))?;
        Ok(AsnDb {
            reader,
            shape,
            digest: None,
        })
    }

    /// The same, with the hash of its file.
    pub fn identified_by(mut self, digest: String) -> AsnDb {
        self.digest = Some(digest);
        self
    }

    /// The hash of its file, where it was given one.
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// The number of the network that `ip` belongs to; `None` where the database has none,
    /// or fails at this place.
    pub fn number(&self, ip: IpAddr) -> Option<u32> {
        let ip = canonical_ip(ip);
        if ip.is_ipv6() && self.reader.metadata().ip_version == 4 {
            return None;
        }
        number(&self.reader.lookup(ip).ok()?, &self.shape)
    }

    /// When it was built, as it says itself.
    pub fn built(&self) -> Timestamp {
        let seconds = i64::try_from(self.reader.metadata().build_epoch).unwrap_or(0);
        Timestamp(seconds.saturating_mul(SECOND_MS))
    }

    /// What it calls itself, such as `GeoLite2-ASN`.
    pub fn kind(&self) -> &str {
        &self.reader.metadata().database_type
    }
}

fn number(
    found: &LookupResult<'_, Cow<'static, [u8]>>,
    shape: &PathElement<'static>,
) -> Option<u32> {
    let path = std::slice::from_ref(shape);
    if let Ok(Some(number)) = found.decode_path::<u32>(path) {
        return Some(number);
    }
    let text = found.decode_path::<&str>(path).ok()??;
    text.trim_start_matches("AS").parse().ok()
}
