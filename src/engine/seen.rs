//! Values never seen before: `first_seen` (docs/rules.md 8).

use crate::event::{DAY_MS, Timestamp};
use crate::rules::Learn;

use super::account::{Account, Inline, KnownValue, MAX_KNOWN, PendingValue, Seen};

/// Last-seen is rewritten when it is this stale, and a value is forgotten this long after
/// `forget_after`, so that an account in daily use writes its record once a month.
const STALE_DAYS: u16 = 30;
/// After this, a value whose hits did nothing (`shadow`, `stale`) counts as known.
const PENDING_MS: i64 = 7 * DAY_MS;

#[derive(Clone, Copy, Debug)]
pub struct SeenSpec {
    pub forget_after_ms: i64,
    pub learn: Learn,
}

/// What a value was to the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Known; `true` where the record changed (its day was rewritten).
    Known(bool),
    /// Not known, but by the name that the previous database gives its network; `true` where
    /// the record changed.
    Moved(bool),
    /// Taught while learning.
    Taught,
    /// Neither known nor taught: nothing to judge by yet, and it must not teach.
    Ignored,
    New,
}

/// How to judge one value.
#[derive(Clone, Copy, Debug)]
pub struct Judged {
    pub value: u64,
    /// Event time.
    pub time: Timestamp,
    /// Whether it may be learned: an address in `anonymizers` never teaches.
    pub may_teach: bool,
}

impl Seen {
    /// Judges a value, and learns from it where it may.
    pub fn judge(&mut self, judged: Judged, spec: SeenSpec) -> Verdict {
        let day = judged.time.day();
        if self.is_known(judged.value, day, spec) {
            let changed = self.refresh(judged.value, day);
            let learning = judged.may_teach && self.count_learning(judged.time, spec);
            return Verdict::Known(changed || learning);
        }
        if self.is_learning(judged.time, spec) {
            if !judged.may_teach {
                return Verdict::Ignored;
            }
            self.count_learning(judged.time, spec);
            self.teach(judged.value, day);
            return Verdict::Taught;
        }
        let ripe = self.pending.iter().any(|pending| {
            pending.value == judged.value && judged.time.since_ms(pending.since) >= PENDING_MS
        });
        if ripe && judged.may_teach {
            self.teach(judged.value, day);
            return Verdict::Taught;
        }
        Verdict::New
    }

    /// Whether `value` is known on `day`: seen, and not forgotten since. The value that was
    /// seen last is never forgotten.
    pub fn is_known(&self, value: u64, day: u16, spec: SeenSpec) -> bool {
        let Some(known) = self.known.iter().find(|known| known.value == value) else {
            return false;
        };
        let newest = self.known.iter().map(|known| known.day).max();
        newest == Some(known.day) || !forgotten(known.day, day, spec.forget_after_ms)
    }

    /// Makes `value` known as of `day`.
    pub fn teach(&mut self, value: u64, day: u16) {
        self.pending.retain(|pending| pending.value != value);
        if let Some(known) = self.known.iter_mut().find(|known| known.value == value) {
            known.day = known.day.max(day);
            return;
        }
        if self.known.len() >= MAX_KNOWN
            && let Some(oldest) = (0..self.known.len()).min_by_key(|at| self.known[*at].day)
        {
            self.known.swap_remove(oldest);
        }
        self.known.push(KnownValue { value, day });
    }

    /// Makes `value` unknown.
    pub fn forget(&mut self, value: u64) {
        self.known.retain(|known| known.value != value);
        self.pending.retain(|pending| pending.value != value);
    }

    /// Remembers a hit that did nothing.
    pub fn note_pending(&mut self, value: u64, since: Timestamp) {
        if self.pending.iter().any(|pending| pending.value == value) {
            return;
        }
        if self.pending.len() >= MAX_KNOWN {
            self.pending.remove(0);
        }
        self.pending.push(PendingValue { value, since });
    }

    fn refresh(&mut self, value: u64, day: u16) -> bool {
        match self.known.iter_mut().find(|known| known.value == value) {
            Some(known) if day.saturating_sub(known.day) >= STALE_DAYS => {
                known.day = day;
                true
            }
            _ => false,
        }
    }

    fn is_learning(&self, time: Timestamp, spec: SeenSpec) -> bool {
        match spec.learn {
            Learn::Events(events) => self.learned < events,
            Learn::SpanMs(span) => self.since.is_none_or(|since| time.since_ms(since) <= span),
        }
    }

    /// Counts one event that was learned from; true where that changed something.
    fn count_learning(&mut self, time: Timestamp, spec: SeenSpec) -> bool {
        match spec.learn {
            Learn::Events(events) if self.learned < events => {
                self.learned += 1;
                true
            }
            Learn::Events(_) => false,
            Learn::SpanMs(_) if self.since.is_none() => {
                self.since = Some(time);
                true
            }
            Learn::SpanMs(_) => false,
        }
    }

    /// Whether it fits into the account's own bytes: two countries, nothing pending.
    fn fits_inline(&self) -> bool {
        self.known.len() <= 2
            && self.pending.is_empty()
            && self.since.is_none()
            && self.learned <= u32::from(u8::MAX)
    }
}

/// Whether a value last seen on `seen` is forgotten on `day`.
fn forgotten(seen: u16, day: u16, forget_after_ms: i64) -> bool {
    let days = forget_after_ms.div_euclid(DAY_MS) + i64::from(STALE_DAYS);
    i64::from(day.saturating_sub(seen)) > days
}

/// A country as the value of a `first_seen` rule.
pub fn country_value(country: [u8; 2]) -> u64 {
    u64::from(u16::from_be_bytes(country))
}

impl Account {
    /// The ordinary case of the resident rule, without touching the heap: the country is
    /// one of the two in the account's own bytes, not stale, and nothing is being learned.
    pub fn knows_inline(&self, country: [u8; 2], day: u16, learn_events: u8) -> bool {
        self.learned >= learn_events
            && self
                .inline
                .iter()
                .any(|known| known.country == country && known.day.abs_diff(day) < STALE_DAYS)
    }

    /// What the resident rule knows, taken out of the account's own bytes.
    pub fn take_inline(&mut self) -> Seen {
        let seen = self.inline_seen();
        self.inline = [Inline::default(); 2];
        self.learned = 0;
        seen
    }

    /// What the resident rule knows and has in the account's own bytes.
    pub fn inline_seen(&self) -> Seen {
        let known = self
            .inline
            .iter()
            .filter(|inline| inline.country != [0; 2])
            .map(|inline| KnownValue {
                value: country_value(inline.country),
                day: inline.day,
            })
            .collect();
        Seen {
            learned: u32::from(self.learned),
            known,
            ..Seen::default()
        }
    }

    /// Puts it back; hands it out again where it does not fit.
    pub fn put_inline(&mut self, seen: Seen) -> Option<Seen> {
        if !seen.fits_inline() {
            return Some(seen);
        }
        for (slot, known) in self.inline.iter_mut().zip(&seen.known) {
            *slot = Inline {
                country: (known.value as u16).to_be_bytes(),
                day: known.day,
            };
        }
        self.learned = seen.learned as u8;
        None
    }
}
