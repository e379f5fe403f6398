//! What is drawn last, so that a seed keeps what it drew before: attacks on everybody, operators,
//! and other rules.

use super::{ACCOUNTS, CROWD, Fault, Kind, Mishap, Moment, Request, SPAN_MS, Tale, What};

/// Rules whose locks operators take back.
const UNDONE: [&str; 3] = ["wrong-codes", "new-country", "malicious-reset"];

impl Tale {
    pub(super) fn draw_more(&mut self, rng: &mut fastrand::Rng) {
        if rng.u8(0..5) == 0 {
            self.draw_flood(rng);
        }
        for _ in 0..rng.usize(0..4) {
            let at = rng.u64(2_000..SPAN_MS);
            let what = What::Operate {
                account: rng.u8(0..ACCOUNTS),
                request: match rng.u8(0..4) {
                    0 => Request::Unlock,
                    1 => Request::Resend,
                    _ => Request::Undo {
                        rule: UNDONE[rng.usize(0..UNDONE.len())],
                    },
                },
            };
            self.traffic.push(Moment { at, what });
        }
        if rng.u8(0..4) == 0 {
            for _ in 0..rng.usize(1..4) {
                let at = rng.u64(1_000..SPAN_MS);
                let host = rng.usize(0..self.hosts);
                let what = Mishap::Reload { host };
                self.faults.push(Fault { at, what });
            }
        }
    }

    /// Everybody is attacked at once, so that a rule's locks run out, while partitions move.
    fn draw_flood(&mut self, rng: &mut fastrand::Rng) {
        let began = rng.u64(2_000..SPAN_MS - 12_000);
        for account in 0..CROWD {
            let id = self.next_id();
            let kind = Kind::Reset { malicious: true };
            let what = What::Event {
                id,
                account,
                kind,
                late_ms: 0,
            };
            let at = began + rng.u64(0..12_000);
            self.traffic.push(Moment { at, what });
        }
        let (at, host) = (began + rng.u64(2_000..8_000), rng.usize(0..self.hosts));
        let what = match rng.u8(0..3) {
            0 => Mishap::Kill {
                host,
                calls: rng.u32(0..6),
                back_ms: rng.u64(100..10_000),
            },
            1 => Mishap::Stop {
                host,
                back_ms: rng.u64(100..10_000),
            },
            _ => Mishap::Guest {
                stay_ms: rng.u64(1_000..20_000),
            },
        };
        self.faults.push(Fault { at, what });
    }
}
