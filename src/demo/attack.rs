//! The four attacks that a visitor can play, as the events that a login pipeline would
//! publish of them. Pure: who, from where and with what chance are arguments.

use std::net::{IpAddr, Ipv4Addr};

use serde::Serialize;

use crate::event::Timestamp;
use crate::generate::World;

use super::people::{self, ATTACKERS_DEVICE, Person};

/// One attack for each of the shipped rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Attack {
    ManyAddresses,
    SecondFactor,
    NewCountry,
    Reset,
}

impl Attack {
    pub const ALL: [Attack; 4] = [
        Attack::ManyAddresses,
        Attack::SecondFactor,
        Attack::NewCountry,
        Attack::Reset,
    ];

    /// The name in addresses and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Attack::ManyAddresses => "many-addresses",
            Attack::SecondFactor => "second-factor",
            Attack::NewCountry => "new-country",
            Attack::Reset => "reset",
        }
    }

    pub fn parse(name: &str) -> Option<Attack> {
        Attack::ALL.into_iter().find(|a| a.as_str() == name)
    }

    /// The rule that must see it.
    pub fn rule(self) -> &'static str {
        match self {
            Attack::ManyAddresses => "failed-logins-many-ips",
            Attack::SecondFactor => "two-factor-failure-streak",
            Attack::NewCountry => "first-seen-country",
            Attack::Reset => "reset-from-malicious-ip",
        }
    }

    pub fn title(self) -> &'static str {
        match self {
            Attack::ManyAddresses => "Stuff leaked passwords",
            Attack::SecondFactor => "Guess the second factor",
            Attack::NewCountry => "Sign in from abroad",
            Attack::Reset => "Hijack the password reset",
        }
    }

    /// What the attacker does, in one sentence.
    pub fn sentence(self) -> &'static str {
        match self {
            Attack::ManyAddresses => {
                "A botnet tries leaked passwords on one account, each from another address, \
                 so that no single address stands out."
            }
            Attack::SecondFactor => {
                "A thief who already has the right password types five wrong codes in a row, \
                 hoping that one fits."
            }
            Attack::NewCountry => {
                "A thief with a stolen password signs in at the first try, from a country \
                 that the owner has never signed in from."
            }
            Attack::Reset => {
                "Someone asks to reset the password from an address that is on a list of \
                 known attackers."
            }
        }
    }
}

/// An event as the login pipeline publishes it (docs/contract.md section 2).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PipelineEvent {
    pub id: String,
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Milliseconds since 1970.
    pub time: i64,
    pub account: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub case: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locale: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
}

impl PipelineEvent {
    /// An event of `person`'s account, from home, with everything optional left out.
    pub fn new(id: String, kind: &'static str, person: &Person, time: Timestamp) -> Self {
        PipelineEvent {
            id,
            kind,
            time: time.0,
            account: person.account.clone(),
            outcome: None,
            ip: Some(person.home),
            method: None,
            reason: None,
            email: Some(person.email.clone()),
            case: None,
            locale: Some(person.locale),
            user_agent: Some(person.device),
            session: None,
        }
    }
}

/// What the attacker does, step by step.
#[derive(Clone, Debug)]
pub struct Script {
    /// The owner's own sign-ins of before, from home: what makes elsewhere unusual.
    pub past: Vec<PipelineEvent>,
    /// The attack. The last event is the one that a rule should decide on.
    pub attack: Vec<PipelineEvent>,
    /// Where the attacker comes back from when the account is locked.
    pub from: IpAddr,
}

/// The events of `attack` on `person`. Their ids begin with `round`; each time is set
/// again when the event is published.
pub fn script(
    attack: Attack,
    round: &str,
    person: &Person,
    world: &World,
    now: Timestamp,
    rng: &mut fastrand::Rng,
) -> Script {
    let sign_in = |id: String| PipelineEvent {
        outcome: Some("success"),
        method: Some("password"),
        ..PipelineEvent::new(id, "login", person, now)
    };
    let by_thief = |n: usize, kind, ip: IpAddr| PipelineEvent {
        ip: Some(ip),
        user_agent: Some(ATTACKERS_DEVICE),
        ..PipelineEvent::new(format!("{round}-{n}"), kind, person, now)
    };
    let past = (1..=2)
        .map(|n| PipelineEvent {
            session: Some(format!("s-{round}-home{n}")),
            ..sign_in(format!("{round}-home{n}"))
        })
        .collect();
    let addresses = people::elsewhere(world, person.country, 5, rng);
    let abroad = addresses[0];
    let (attack, from) = match attack {
        Attack::ManyAddresses => {
            let events = addresses.iter().enumerate().map(|(n, ip)| PipelineEvent {
                outcome: Some("failure"),
                method: Some("password"),
                reason: Some("bad_password"),
                ..by_thief(n + 1, "login", *ip)
            });
            (events.collect(), abroad)
        }
        Attack::SecondFactor => {
            let events = (1..=5).map(|n| PipelineEvent {
                outcome: Some("failure"),
                method: Some("totp"),
                reason: Some("bad_code"),
                ..by_thief(n, "two_factor", abroad)
            });
            (events.collect(), abroad)
        }
        Attack::NewCountry => {
            let event = PipelineEvent {
                outcome: Some("success"),
                method: Some("password"),
                session: Some(format!("s-{round}-thief")),
                ..by_thief(1, "login", abroad)
            };
            (vec![event], abroad)
        }
        Attack::Reset => {
            let listed = IpAddr::V4(Ipv4Addr::new(198, 51, 100, rng.u8(1..255)));
            let event = PipelineEvent {
                outcome: Some("requested"),
                ..by_thief(1, "password_reset", listed)
            };
            (vec![event], listed)
        }
    };
    Script { past, attack, from }
}
