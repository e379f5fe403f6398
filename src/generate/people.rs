//! The people of made-up traffic: where they live, which networks they use, their devices.

use std::net::{IpAddr, Ipv4Addr};

use crate::enrich::{CountryLookup, Facts};
use crate::event::{Country, is_special_ip};

/// Networks that are looked at to find countries with some.
const SAMPLED: usize = 20_000;

/// Somebody with an account.
#[derive(Clone, Debug)]
pub struct Person {
    pub account: String,
    pub email: String,
    pub locale: &'static str,
    pub user_agent: &'static str,
    pub home: Country,
    /// Three addresses of the home country: at home, on the phone, at work.
    pub addresses: [String; 3],
    pub has_two_factor: bool,
}

/// Everybody, and where addresses of each country are.
#[derive(Clone, Debug)]
pub struct World {
    people: Vec<Person>,
    /// Countries with at least three sampled networks, each an address of one.
    networks: Vec<(Country, Vec<Ipv4Addr>)>,
}

const USER_AGENTS: [&str; 6] = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.1 Safari/605.1.15",
    "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 26_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.1 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:145.0) Gecko/20100101 Firefox/145.0",
];

impl World {
    /// `accounts` people, at most 2^32, living where `facts` knows networks. `None` where it
    /// knows too few, as without a country database.
    pub fn new(seed: u64, accounts: u32, facts: &Facts) -> Option<World> {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x7065_6F70_6C65);
        let networks = sample(facts, &mut rng);
        if networks.len() < 2 {
            return None;
        }
        // A country is as likely as it has networks.
        let total: usize = networks.iter().map(|(_, at)| at.len()).sum();
        let people = (0..accounts)
            .map(|number| {
                let mut left = rng.usize(..total);
                let (home, at) = networks
                    .iter()
                    .find(|(_, at)| match left.checked_sub(at.len()) {
                        Some(rest) => {
                            left = rest;
                            false
                        }
                        None => true,
                    })
                    .unwrap_or(&networks[0]);
                person(number, *home, at, &mut rng)
            })
            .collect();
        Some(World { people, networks })
    }

    pub fn people(&self) -> &[Person] {
        &self.people
    }

    /// An address of some country other than `home`.
    pub fn address_outside(&self, home: Country, rng: &mut fastrand::Rng) -> String {
        let (country, at) = &self.networks[rng.usize(..self.networks.len())];
        if *country != home {
            return host(at[rng.usize(..at.len())], rng);
        }
        let other = self.networks.iter().find(|(country, _)| *country != home);
        other.map_or_else(String::new, |(_, at)| host(at[0], rng))
    }
}

/// Addresses by country, from /24 networks all over the map.
fn sample(facts: &Facts, rng: &mut fastrand::Rng) -> Vec<(Country, Vec<Ipv4Addr>)> {
    let mut found: std::collections::BTreeMap<Country, Vec<Ipv4Addr>> = Default::default();
    for _ in 0..SAMPLED {
        let network = Ipv4Addr::from_bits(rng.u32(0x0100_0000..0xE000_0000) & !0xFF);
        if is_special_ip(IpAddr::V4(network)) {
            continue;
        }
        // Both ends: the whole network lies in one country.
        let last = Ipv4Addr::from_bits(network.to_bits() | 0xFF);
        match (facts.country(network.into()), facts.country(last.into())) {
            (CountryLookup::Found(country), other)
                if country.is_real() && other == CountryLookup::Found(country) =>
            {
                found.entry(country).or_default().push(network);
            }
            _ => {}
        }
    }
    found.retain(|_, networks| networks.len() >= 3);
    found.into_iter().collect()
}

/// A host of a /24 network.
fn host(network: Ipv4Addr, rng: &mut fastrand::Rng) -> String {
    Ipv4Addr::from_bits(network.to_bits() | rng.u32(1..255)).to_string()
}

fn person(number: u32, home: Country, networks: &[Ipv4Addr], rng: &mut fastrand::Rng) -> Person {
    Person {
        account: format!("u-{number:06}"),
        email: format!("u-{number:06}@example.com"),
        locale: locale(home),
        user_agent: USER_AGENTS[rng.usize(..USER_AGENTS.len())],
        home,
        addresses: std::array::from_fn(|_| host(networks[rng.usize(..networks.len())], rng)),
        has_two_factor: rng.u8(..10) < 4,
    }
}

fn locale(home: Country) -> &'static str {
    match home.as_str() {
        "DE" | "AT" | "CH" => "de",
        "FR" | "BE" => "fr",
        "BR" => "pt-BR",
        "ES" | "MX" | "AR" | "CO" => "es",
        "JP" => "ja",
        "IT" => "it",
        _ => "en",
    }
}
