//! The four attacks that the shipped rules are about.

use super::{Person, TrafficEvent, World};
use crate::event::{SECOND_MS, Timestamp};

/// One kind of attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Attack {
    /// Wrong passwords from many addresses.
    ManyIps,
    /// Guessed second factors.
    TwoFactor,
    /// A sign-in with the right password from a country that the account never used.
    NewCountry,
    /// A password reset from an address in `malicious_ips`.
    MaliciousReset,
}

impl Attack {
    pub const ALL: &[Attack] = &[
        Attack::ManyIps,
        Attack::TwoFactor,
        Attack::NewCountry,
        Attack::MaliciousReset,
    ];

    /// The label of its events, and its name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Attack::ManyIps => "many-ips",
            Attack::TwoFactor => "two-factor",
            Attack::NewCountry => "new-country",
            Attack::MaliciousReset => "malicious-reset",
        }
    }

    pub fn parse(name: &str) -> Option<Attack> {
        Attack::ALL.iter().copied().find(|a| a.as_str() == name)
    }

    /// The shipped rule that it trips.
    pub fn rule(self) -> &'static str {
        match self {
            Attack::ManyIps => "failed-logins-many-ips",
            Attack::TwoFactor => "two-factor-failure-streak",
            Attack::NewCountry => "first-seen-country",
            Attack::MaliciousReset => "reset-from-malicious-ip",
        }
    }

    /// The attack's events against `person`, the first at `start`, without ids. A new
    /// country is one only to an account that has signed in before.
    pub fn events(
        self,
        person: &Person,
        world: &World,
        start: Timestamp,
        rng: &mut fastrand::Rng,
    ) -> Vec<TrafficEvent> {
        let mut events = match self {
            Attack::ManyIps => distinct_addresses(person, world, 6, rng)
                .iter()
                .map(|ip| {
                    TrafficEvent::new(person, ip, "login", start)
                        .outcome("failure")
                        .method("password")
                        .reason("bad_password")
                })
                .collect(),
            Attack::TwoFactor => {
                let ip = world.address_outside(person.home, rng);
                let guess = TrafficEvent::new(person, &ip, "two_factor", start)
                    .outcome("failure")
                    .method("totp")
                    .reason("wrong_code");
                vec![guess; 6]
            }
            Attack::NewCountry => {
                let ip = world.address_outside(person.home, rng);
                let login = TrafficEvent::new(person, &ip, "login", start)
                    .outcome("success")
                    .method("password");
                vec![login.session(format!("s-{:016x}", rng.u64(..)))]
            }
            Attack::MaliciousReset => {
                // RFC 5737, in the list as it is shipped.
                let ip = format!("198.51.100.{}", rng.u8(1..255));
                let reset = TrafficEvent::new(person, &ip, "password_reset", start)
                    .outcome("requested")
                    .method("email");
                vec![reset]
            }
        };
        let mut time = start;
        for event in &mut events {
            event.time = time;
            event.user_agent = "python-requests/2.32.3";
            event.attributes.insert("label", self.as_str());
            time = time.plus_ms(rng.i64(5 * SECOND_MS..20 * SECOND_MS));
        }
        events
    }
}

fn distinct_addresses(
    person: &Person,
    world: &World,
    count: usize,
    rng: &mut fastrand::Rng,
) -> Vec<String> {
    let mut addresses: Vec<String> = Vec::with_capacity(count);
    // The world has thousands; a repeated one is drawn again.
    for _ in 0..count * 100 {
        let ip = world.address_outside(person.home, rng);
        if addresses.len() < count && !addresses.contains(&ip) {
            addresses.push(ip);
        }
    }
    addresses
}
