//! Ordinary login traffic for benchmarks, the same on every run: mostly sign-ins that
//! succeed, some that fail once or twice, second factors, a few resets.

#![allow(
    dead_code,
    reason = "helpers are used by some benchmarks and not by others"
)]

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::json;

/// Event time of the first event: 2026-11-22T06:00:00Z.
pub const START_MS: i64 = 1_795_327_200_000;

/// Addresses in Norway, Germany, Brazil, Japan and the United States.
const HOMES: [[u8; 2]; 5] = [[81, 167], [84, 128], [200, 160], [133, 11], [24, 151]];

const AGENTS: [&str; 3] = [
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/126.0",
];

/// `count` events, one a millisecond, of `accounts` accounts in turn.
pub fn events(count: usize, accounts: usize) -> Vec<Vec<u8>> {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    (0..count)
        .map(|n| {
            // xorshift64: the same sequence everywhere.
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            event(n, n % accounts, random)
        })
        .collect()
}

fn event(n: usize, account: usize, random: u64) -> Vec<u8> {
    let [a, b] = HOMES[account % HOMES.len()];
    let (kind, outcome, reason) = match random % 100 {
        0..80 => ("login", "success", None),
        80..88 => ("login", "failure", Some("bad_password")),
        88..98 => ("two_factor", "success", None),
        _ => ("password_reset", "requested", None),
    };
    let time = jiff::Timestamp::from_millisecond(START_MS + n as i64)
        .map(|time| format!("{time:.3}"))
        .unwrap_or_default();
    let mut event = json!({
        "id": format!("{:016x}", random),
        "type": kind,
        "time": time,
        "account": format!("u-{account:07}"),
        "outcome": outcome,
        "ip": format!("{a}.{b}.{}.{}", account / 250 % 250, account % 250 + 1),
        "method": "password",
        "user_agent": AGENTS[account % AGENTS.len()],
        "session": format!("s-{:012x}", random >> 16),
    });
    if let Some(reason) = reason {
        event["reason"] = json!(reason);
    }
    serde_json::to_vec(&event).unwrap_or_default()
}

/// The fields of an event as a plain program would declare them: the parse that everything
/// is compared with.
#[derive(Deserialize)]
#[allow(dead_code, reason = "they are parsed, which is what is measured")]
pub struct Plain<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
    #[serde(borrow)]
    account: Option<Cow<'a, str>>,
    #[serde(borrow)]
    outcome: Option<Cow<'a, str>>,
    #[serde(borrow)]
    ip: Option<Cow<'a, str>>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    reason: Option<Cow<'a, str>>,
    #[serde(borrow)]
    email: Option<Cow<'a, str>>,
    #[serde(borrow)]
    user_agent: Option<Cow<'a, str>>,
    #[serde(borrow)]
    session: Option<Cow<'a, str>>,
}
