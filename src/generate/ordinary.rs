//! What people do when nobody attacks them.

use super::{Person, TrafficEvent};
use crate::event::{SECOND_MS, Timestamp};

/// Events that a script has on average, about; a test holds it to the truth.
pub(super) const MEAN_EVENTS: f64 = 1.7;

/// Something that `person` does from `now` on, and whether it ends signed in. It lasts a few
/// minutes at most and never fails often enough in a row to look like an attack.
pub(super) fn script(
    person: &Person,
    now: Timestamp,
    rng: &mut fastrand::Rng,
) -> (Vec<TrafficEvent>, bool) {
    // Mostly at home, sometimes on the phone or at work.
    let place = [0, 0, 0, 1, 1, 2][rng.usize(..6)];
    let mut story = Story {
        person,
        ip: &person.addresses[place],
        now,
        events: Vec::new(),
        rng,
    };
    let signed_in = match story.rng.u8(..100) {
        0..=77 => story.sign_in(0),
        78..=88 => story.sign_in(1),
        89..=92 => story.sign_in(2),
        93..=94 => story.gives_up(),
        95..=96 => story.forgot(),
        97 => story.other("session_revoked"),
        _ => story.other("profile_viewed"),
    };
    (story.events, signed_in)
}

struct Story<'a> {
    person: &'a Person,
    ip: &'a str,
    now: Timestamp,
    events: Vec<TrafficEvent>,
    rng: &'a mut fastrand::Rng,
}

impl Story<'_> {
    fn event(&mut self, kind: &'static str) -> TrafficEvent {
        let event = TrafficEvent::new(self.person, self.ip, kind, self.now);
        self.now = self
            .now
            .plus_ms(self.rng.i64(2 * SECOND_MS..15 * SECOND_MS));
        event
    }

    /// Signs in, after some wrong passwords. The same wrong one again is a `repeat`.
    fn sign_in(&mut self, wrong: usize) -> bool {
        self.wrong_passwords(wrong);
        if self.person.has_two_factor {
            self.second_factor();
        }
        let session = format!("s-{:016x}", self.rng.u64(..));
        let method = match self.rng.u8(..10) {
            0 => "passkey",
            1 => "oidc",
            _ => "password",
        };
        let event = self.event("login").outcome("success").method(method);
        self.events.push(event.session(session));
        true
    }

    fn wrong_passwords(&mut self, wrong: usize) {
        for n in 0..wrong {
            let event = self.event("login").outcome("failure").method("password");
            let mut event = event.reason("bad_password");
            event.repeat = n > 0 && self.rng.bool();
            self.events.push(event);
        }
    }

    /// A code, sometimes after one that had just expired or was mistyped.
    fn second_factor(&mut self) {
        let wrong = match self.rng.u8(..20) {
            0 => 2,
            1..=2 => 1,
            _ => 0,
        };
        for _ in 0..wrong {
            let reason = ["expired_code", "wrong_code"][self.rng.usize(..2)];
            let event = self.event("two_factor").outcome("failure").method("totp");
            self.events.push(event.reason(reason));
        }
        let event = self.event("two_factor").outcome("success").method("totp");
        self.events.push(event);
    }

    /// Three wrong passwords, and another day another try.
    fn gives_up(&mut self) -> bool {
        self.wrong_passwords(3);
        false
    }

    /// Asks for a new password, sets it, and signs in.
    fn forgot(&mut self) -> bool {
        self.wrong_passwords(1);
        for outcome in ["requested", "success"] {
            let event = self.event("password_reset").outcome(outcome);
            self.events.push(event.method("email"));
        }
        let event = self.event("password_changed");
        self.events.push(event);
        self.sign_in(0)
    }

    fn other(&mut self, kind: &'static str) -> bool {
        let event = self.event(kind);
        self.events.push(event);
        false
    }
}
