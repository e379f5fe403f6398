//! When a mail that was not taken is tried again.

use std::time::Duration;

#[derive(Clone, Copy, Debug)]
pub struct RetrySchedule {
    pub first: Duration,
    pub longest: Duration,
}

/// 15 seconds, doubling up to half an hour: greylisting usually ends within minutes.
impl Default for RetrySchedule {
    fn default() -> Self {
        RetrySchedule {
            first: Duration::from_secs(15),
            longest: Duration::from_secs(30 * 60),
        }
    }
}

impl RetrySchedule {
    /// How long to wait after attempt number `attempts` (from 1): doubling from `first` to
    /// `longest`, a fifth more or less by the mail's id, so that mails that failed together
    /// do not all come back together.
    pub fn wait_ms(&self, attempts: u32, mail_id: &str) -> i64 {
        let first = super::millis(self.first);
        let longest = super::millis(self.longest);
        let doubled = first
            .saturating_mul(1_i64 << attempts.saturating_sub(1).min(30))
            .min(longest);
        let hash = mail_id.bytes().fold(u64::from(attempts), |hash, byte| {
            hash.wrapping_mul(31).wrapping_add(u64::from(byte))
        });
        let percent = 80 + i64::try_from(hash % 41).unwrap_or(20);
        (doubled.saturating_mul(percent) / 100).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let schedule = RetrySchedule::default();
        let waits: Vec<i64> = (1..20).map(|n| schedule.wait_ms(n, "m-1")).collect();
        assert!((12_000..=18_000).contains(&waits[0]), "{waits:?}");
        assert!(waits.iter().all(|wait| *wait <= 36 * 60 * 1000));
        assert!(waits[18] >= 24 * 60 * 1000);
    }
}
