//! What addresses tell: the country of one, and which lists it stands in.
//!
//! Owns the loaded databases and lists; hands them out as immutable facts. It never opens
//! files by itself after start: the shell loads, the core asks.

pub mod asn;
pub mod geoip;
pub mod iplist;

use std::net::IpAddr;
use std::sync::Arc;

use crate::event::Country;

/// Everything that rules may ask about an address.
#[derive(Debug, Default)]
pub struct Facts {
    /// `None`: rules that need a country do not apply, and that is counted.
    pub geo: Option<Arc<geoip::GeoDb>>,
    /// The database before the last update, where there is one (docs/rules.md 8).
    pub previous_geo: Option<Arc<geoip::GeoDb>>,
    /// `None`: rules that need a network number do not apply.
    pub asn: Option<Arc<asn::AsnDb>>,
    pub lists: iplist::Lists,
}

/// What a look-up of an address said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountryLookup {
    /// A country; it may be a pseudo-country (`Country::is_real`).
    Found(Country),
    /// No country stands in the database for it.
    NotFound,
    /// Private, loopback or link-local (RFC 6890).
    Special,
    /// The database is broken at this place.
    Failed,
    /// No database is loaded.
    NoDatabase,
}

impl CountryLookup {
    /// The country where it is a real one.
    pub fn country(self) -> Option<Country> {
        match self {
            CountryLookup::Found(country) if country.is_real() => Some(country),
            _ => None,
        }
    }
}

impl Facts {
    /// The country of `ip` in the current database.
    pub fn country(&self, ip: IpAddr) -> CountryLookup {
        look_up(self.geo.as_deref(), ip)
    }

    /// The number of the network that `ip` belongs to; `None` where it is unknown.
    pub fn asn(&self, ip: IpAddr) -> Option<u32> {
        if crate::event::is_special_ip(ip) {
            return None;
        }
        self.asn.as_ref()?.number(ip)
    }

    /// The country of `ip` before the last update; the current one's answer where there is
    /// no previous database.
    pub fn previous_country(&self, ip: IpAddr) -> CountryLookup {
        match &self.previous_geo {
            Some(previous) => look_up(Some(previous), ip),
            None => self.country(ip),
        }
    }
}

fn look_up(geo: Option<&geoip::GeoDb>, ip: IpAddr) -> CountryLookup {
    let ip = crate::event::canonical_ip(ip);
    match geo {
        _ if crate::event::is_special_ip(ip) => CountryLookup::Special,
        Some(geo) => geo.country(ip),
        None => CountryLookup::NoDatabase,
    }
}
