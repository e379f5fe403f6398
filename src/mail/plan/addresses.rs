//! How many mails an hour one address gets, best effort: the engine's own cap, by account and
//! broker time, is the one that holds over restarts.

use std::collections::HashMap;

use super::MailKey;

const HOUR_MS: i64 = 60 * 60 * 1000;
/// Addresses remembered, 32 bytes each. Past it, those with nothing to wait for are
/// forgotten; where all have, the cap lets mails through.
const MAX_ADDRESSES: usize = 100_000;

/// The generic cell rate algorithm (ITU-T I.371): so many at once, and one more each time
/// that the hour's share of one has passed.
#[derive(Debug)]
pub struct Addresses {
    per_hour: i64,
    /// When each address would have used up what it has got, at an even pace.
    used_until: HashMap<MailKey, i64>,
}

impl Addresses {
    /// `per_hour` of at least 1.
    pub fn new(per_hour: u32) -> Addresses {
        Addresses {
            per_hour: i64::from(per_hour.max(1)),
            used_until: HashMap::new(),
        }
    }

    /// Counts a mail to `address`, or says when it may go.
    pub fn admit(&mut self, address: MailKey, now_ms: i64) -> Result<(), i64> {
        let each = HOUR_MS / self.per_hour;
        let used = self.used_until.get(&address).copied().unwrap_or(now_ms);
        let used = used.max(now_ms);
        let earliest = used + each - self.per_hour * each;
        if earliest > now_ms {
            return Err(earliest);
        }
        if self.used_until.len() >= MAX_ADDRESSES && !self.used_until.contains_key(&address) {
            self.used_until.retain(|_, until| *until > now_ms);
            if self.used_until.len() >= MAX_ADDRESSES {
                return Ok(());
            }
        }
        self.used_until.insert(address, used + each);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_at_once_then_one_every_twenty_minutes() {
        let mut addresses = Addresses::new(3);
        let one = MailKey::of("one@example.com");
        for _ in 0..3 {
            assert_eq!(addresses.admit(one, 1_000), Ok(()));
        }
        let turn = 1_000 + HOUR_MS / 3;
        assert_eq!(addresses.admit(one, 1_000), Err(turn));
        assert_eq!(
            addresses.admit(MailKey::of("two@example.com"), 1_000),
            Ok(())
        );
        assert_eq!(addresses.admit(one, turn), Ok(()));
        assert_eq!(addresses.admit(one, turn), Err(turn + HOUR_MS / 3));
        let later = turn + 2 * HOUR_MS;
        for _ in 0..3 {
            assert_eq!(addresses.admit(one, later), Ok(()));
        }
        assert!(addresses.admit(one, later).is_err());
    }
}
