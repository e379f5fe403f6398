//! The owners whom the demo's attacks can hit, and where attackers come from: the people of
//! [`crate::generate`], as the login pipeline knows them.

use std::net::{IpAddr, Ipv4Addr};

use crate::event::Country;
use crate::generate::World;

/// One account and its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    pub account: String,
    pub email: String,
    /// Where the owner signs in from.
    pub home: IpAddr,
    pub country: Country,
    pub device: &'static str,
    /// BCP 47: the language of the mails.
    pub locale: &'static str,
}

/// The device of whoever attacks.
pub const ATTACKERS_DEVICE: &str = "python-requests/2.32.3";

/// Everybody in `world`, with `prefix` before their accounts.
pub fn people(world: &World, prefix: &str) -> Vec<Person> {
    world
        .people()
        .iter()
        .map(|person| Person {
            account: format!("{prefix}{}", person.account),
            email: person.email.clone(),
            home: address(&person.addresses[0]),
            country: person.home,
            device: person.user_agent,
            locale: person.locale,
        })
        .collect()
}

/// `count` addresses, each once, in countries other than `home`.
pub fn elsewhere(
    world: &World,
    home: Country,
    count: usize,
    rng: &mut fastrand::Rng,
) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = Vec::with_capacity(count);
    while found.len() < count {
        let ip = address(&world.address_outside(home, rng));
        if !found.contains(&ip) {
            found.push(ip);
        }
    }
    found
}

/// Made-up traffic holds addresses as text; all of it can be read.
fn address(text: &str) -> IpAddr {
    text.parse().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}
