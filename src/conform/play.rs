//! A labelled scenario: made-up accounts, each with a sign-in of its owner and then an attack
//! that one of the shipped rules is about, as a pipeline should publish it.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::PLAYED;
use crate::event::{SECOND_MS, Timestamp};

/// Addresses for documentation (RFC 5737): nobody has them.
const HOME: &str = "192.0.2.1";
const NETWORK: &str = "203.0.113";

/// One attack, played.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    /// Stands in `attributes.label` of each event.
    pub label: &'static str,
    /// The shipped rule that it trips.
    pub rule: &'static str,
    /// What happens, for people.
    pub title: &'static str,
    pub account: String,
    /// In order of time. The last one is the attack's last.
    pub events: Vec<Value>,
}

/// The scenes, which end at `now`. `run` tells this play from any other; `malicious` is an
/// address of the list `malicious_ips`, without which no reset is played.
pub fn scenes(run: &str, now: Timestamp, malicious: Option<IpAddr>) -> Vec<Scene> {
    let failures = (1..=5)
        .map(|n| {
            json!({ "type": "login", "outcome": "failure", "method": "password",
                    "reason": "bad_password", "ip": format!("{NETWORK}.{n}") })
        })
        .collect();
    let guesses = vec![
        json!({ "type": "two_factor", "outcome": "failure", "method": "totp",
                "reason": "wrong_code", "ip": HOME });
        5
    ];
    let abroad = vec![
        json!({ "type": "login", "outcome": "success", "method": "password",
                              "session": "s-2", "ip": format!("{NETWORK}.9"), "country": "BR" }),
    ];
    let mut scenes = vec![
        scene(
            "many-ips",
            "failed-logins-many-ips",
            "five failed sign-ins from five addresses",
            failures,
        ),
        scene(
            "two-factor",
            "two-factor-failure-streak",
            "five failed second factors in a row",
            guesses,
        ),
        scene(
            "new-country",
            "first-seen-country",
            "a sign-in from a country that is new to the account",
            abroad,
        ),
    ];
    if let Some(ip) = malicious {
        let reset = json!({ "type": "password_reset", "outcome": "requested",
                            "method": "email", "ip": ip.to_string() });
        scenes.push(scene(
            "malicious-reset",
            "reset-from-malicious-ip",
            "a password reset asked for from a malicious address",
            vec![reset],
        ));
    }
    for scene in &mut scenes {
        scene.account = format!("{PLAYED}{run}/{}", scene.label);
        complete(scene, run, now);
    }
    scenes
}

/// The end of an account: doorward forgets it, and its case.
pub fn deleted(scene: &Scene, run: &str, now: Timestamp) -> Value {
    json!({ "id": format!("{run}-{}-deleted", scene.label), "type": "account_deleted",
            "time": now.0, "account": scene.account })
}

fn scene(
    label: &'static str,
    rule: &'static str,
    title: &'static str,
    attack: Vec<Value>,
) -> Scene {
    let home = json!({ "type": "login", "outcome": "success", "method": "password",
                       "session": "s-1", "ip": HOME, "country": "NO" });
    let mut events = vec![home];
    events.extend(attack);
    Scene {
        label,
        rule,
        title,
        account: String::new(),
        events,
    }
}

/// Fills in what all events have, a second apart. They have no `email`: nobody is mailed.
fn complete(scene: &mut Scene, run: &str, now: Timestamp) {
    let count = scene.events.len() as i64;
    for (at, event) in scene.events.iter_mut().enumerate() {
        let before = (count - 1 - at as i64) * SECOND_MS;
        event["id"] = format!("{run}-{}-{at}", scene.label).into();
        event["time"] = now.plus_ms(-before).0.into();
        event["account"] = scene.account.as_str().into();
        event["user_agent"] = "doorward-conform".into();
        event["locale"] = "en".into();
        event["attributes"] = json!({ "label": scene.label });
    }
}
