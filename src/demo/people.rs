//! The accounts that the demo's login pipeline knows, and where their owners are at home.
//!
//! Addresses come from large consumer networks all over the world; what country each lies
//! in is not written here but looked up in the country database that doorward itself uses,
//! so that the two can never disagree.

use std::net::{IpAddr, Ipv4Addr};

use crate::enrich::Facts;
use crate::event::Country;

/// A small generator of numbers (splitmix64): good enough for traffic, never for secrets.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from 0 to `bound - 1`; 0 where `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        match u64::try_from(bound) {
            Ok(0) | Err(_) => 0,
            Ok(bound) => (self.roll() % bound) as usize,
        }
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len()))
    }
}

/// One account and its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    pub account: String,
    pub email: String,
    /// Where ordinary sign-ins come from.
    pub home: IpAddr,
    pub country: Option<Country>,
    pub device: &'static str,
    /// BCP 47: the language of the mails.
    pub locale: &'static str,
}

/// A network that people sign in from, with the country that the database names.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    prefix: [u8; 2],
    pub country: Country,
}

impl Place {
    /// Some address of it.
    pub fn address(&self, dice: &mut Dice) -> IpAddr {
        let [a, b] = self.prefix;
        let host = dice.roll().to_be_bytes();
        IpAddr::V4(Ipv4Addr::new(a, b, host[0], host[1].clamp(1, 254)))
    }
}

/// Consumer networks of /16 and wider.
const NETWORKS: &[[u8; 2]] = &[
    [84, 128],
    [79, 192],
    [73, 32],
    [98, 192],
    [24, 16],
    [81, 128],
    [86, 128],
    [90, 0],
    [82, 64],
    [177, 32],
    [189, 6],
    [126, 10],
    [60, 32],
    [49, 36],
    [117, 192],
    [105, 112],
    [1, 120],
    [58, 160],
    [70, 24],
    [99, 224],
    [83, 0],
    [79, 0],
    [87, 0],
    [80, 24],
    [77, 160],
    [81, 224],
    [121, 128],
    [187, 128],
    [41, 0],
    [78, 160],
    [113, 160],
    [36, 64],
];

const DEVICES: &[&str] = &[
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_6) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Safari/605.1.15",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0",
];

/// The device of whoever attacks.
pub const ATTACKERS_DEVICE: &str = "python-requests/2.32.3";

/// The networks for which `facts` name a real country.
pub fn places(facts: &Facts) -> Vec<Place> {
    NETWORKS
        .iter()
        .filter_map(|&[a, b]| {
            let ip = IpAddr::V4(Ipv4Addr::new(a, b, 77, 77));
            let country = facts.country(ip).country()?;
            Some(Place {
                prefix: [a, b],
                country,
            })
        })
        .collect()
}

/// `count` accounts whose ids begin with `prefix`, at home in `places`.
pub fn population(
    prefix: &str,
    count: usize,
    places: &[Place],
    facts: &Facts,
    dice: &mut Dice,
) -> Vec<Person> {
    (1..=count)
        .map(|n| {
            // Without a country database everybody lives in a documentation network.
            let fallback = IpAddr::V4(Ipv4Addr::new(192, 0, 2, (n % 254 + 1) as u8));
            let home = dice
                .pick(places)
                .copied()
                .map_or(fallback, |place| place.address(dice));
            Person {
                account: format!("{prefix}u-{n:04}"),
                email: format!("u-{n:04}@mail.example"),
                home,
                country: facts.country(home).country(),
                device: dice.pick(DEVICES).copied().unwrap_or_default(),
                locale: "en",
            }
        })
        .collect()
}

/// `count` addresses in networks of different countries, none of them `home`'s.
pub fn elsewhere(
    places: &[Place],
    home: Option<Country>,
    count: usize,
    dice: &mut Dice,
) -> Vec<IpAddr> {
    let mut countries: Vec<Country> = home.into_iter().collect();
    let mut found = Vec::with_capacity(count);
    let start = dice.below(places.len());
    for place in places.iter().cycle().skip(start).take(places.len()) {
        if found.len() == count {
            break;
        }
        if !countries.contains(&place.country) {
            countries.push(place.country);
            found.push(place.address(dice));
        }
    }
    // Fewer countries than asked for: documentation addresses, which have none.
    while found.len() < count {
        found.push(IpAddr::V4(Ipv4Addr::new(
            203,
            0,
            113,
            found.len() as u8 + 1,
        )));
    }
    found
}
