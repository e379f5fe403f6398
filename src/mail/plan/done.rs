//! Which mails are done, by what the receipts say.

use std::collections::{HashSet, VecDeque};
use std::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher13};

/// Mails of which is remembered that they are done, 50 bytes each; the oldest are forgotten
/// first. The receipts of seven days of very many mails.
const MAX_DONE: usize = 2_000_000;

/// A mail's id as 128 bits of hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MailKey(u128);

impl MailKey {
    pub fn of(id: &str) -> MailKey {
        MailKey::of_bytes(id.as_bytes())
    }

    /// The same for the key of a receipt, which is the mail's id.
    pub fn of_bytes(id: &[u8]) -> MailKey {
        let mut hasher = SipHasher13::new();
        hasher.write(id);
        MailKey(hasher.finish128().as_u128())
    }
}

#[derive(Debug, Default)]
pub struct Done {
    known: HashSet<MailKey>,
    order: VecDeque<MailKey>,
}

impl Done {
    pub fn insert(&mut self, key: MailKey) {
        if !self.known.insert(key) {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > MAX_DONE
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    pub fn contains(&self, key: MailKey) -> bool {
        self.known.contains(&key)
    }
}
