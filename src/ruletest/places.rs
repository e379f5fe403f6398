//! Addresses that a test does not spell out: of a country, or simply different ones.
//!
//! The same test gets the same addresses each time it runs with the same database.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::document::suggest;
use crate::enrich::CountryLookup;
use crate::enrich::geoip::GeoDb;
use crate::event::{Country, is_special_ip};
use crate::locale::Words;

/// Different addresses that one test may ask for.
pub const MAX_DIFFERENT: usize = 200;
/// Addresses tried beside one that lies in a country.
const NEIGHBOURS: u32 = 250;

/// Hands out addresses; one of these reads one file, since finding a country takes a walk
/// over the database.
pub struct Places<'a> {
    geo: Option<&'a GeoDb>,
    /// The first address found in each /16, by its country.
    first: Option<BTreeMap<Country, Vec<Ipv4Addr>>>,
}

/// How an unspelled address is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    V4,
    /// Each in a /64 of its own.
    V6,
    /// IPv6 addresses of one /64.
    Neighbours,
}

/// The country that `text` names, by its code or its English name.
///
/// # Errors
/// What to write instead.
pub fn country(text: &str) -> Result<Country, String> {
    let names = &Words::fallback().countries;
    let by_name = names
        .iter()
        .find(|(_, name)| name.eq_ignore_ascii_case(text))
        .map(|(code, _)| code.as_str());
    if let Some(country) = by_name.or(Some(text)).and_then(Country::parse) {
        return Ok(country);
    }
    let known: Vec<&str> = names.values().map(String::as_str).collect();
    let near = suggest(text, &known);
    Err(match near.starts_with("did you mean") {
        true => near,
        false => "write an English name such as `Norway`, or its code, `NO`".to_owned(),
    })
}

impl<'a> Places<'a> {
    pub fn new(geo: Option<&'a GeoDb>) -> Places<'a> {
        Places { geo, first: None }
    }

    /// The `nth` address without a country: one of those that are kept for documentation.
    pub fn anywhere(kind: Kind, nth: usize) -> IpAddr {
        let nth = nth % MAX_DIFFERENT + 1;
        match kind {
            Kind::V4 => IpAddr::V4(Ipv4Addr::from_bits(0xC000_0200 | nth as u32)),
            Kind::V6 => IpAddr::V6(Ipv6Addr::from_bits(
                (0x2001_0db8_u128 << 96) | (nth as u128) << 64 | 1,
            )),
            Kind::Neighbours => IpAddr::V6(Ipv6Addr::from_bits(
                (0x2001_0db8_u128 << 96) | (0xffff_u128 << 64) | nth as u128,
            )),
        }
    }

    /// The `nth` IPv4 address in `country`; `None` where the database knows fewer.
    pub fn inside(&mut self, country: Country, nth: usize) -> Option<IpAddr> {
        let geo = self.geo?;
        let first = self.first.get_or_insert_with(|| walk(geo, 16));
        if !first.contains_key(&country) {
            // A small country: a look into every /20.
            first.extend(walk(geo, 12).remove_entry(&country));
        }
        let bases = first.get(&country)?;
        bases
            .iter()
            .flat_map(|base| {
                (0..NEIGHBOURS).map(move |n| Ipv4Addr::from_bits(base.to_bits().wrapping_add(n)))
            })
            .map(IpAddr::V4)
            .filter(|ip| geo.country(*ip) == CountryLookup::Found(country))
            .nth(nth)
    }
}

/// One address of every IPv4 block of `host_bits` bits, by country.
fn walk(geo: &GeoDb, host_bits: u32) -> BTreeMap<Country, Vec<Ipv4Addr>> {
    let mut found: BTreeMap<Country, Vec<Ipv4Addr>> = BTreeMap::new();
    for block in (1_u32 << (24 - host_bits))..(224 << (24 - host_bits)) {
        let ip = Ipv4Addr::from_bits(block << host_bits | 0x0101);
        if is_special_ip(IpAddr::V4(ip)) {
            continue;
        }
        if let CountryLookup::Found(country) = geo.country(IpAddr::V4(ip)) {
            found.entry(country).or_default().push(ip);
        }
    }
    found
}
