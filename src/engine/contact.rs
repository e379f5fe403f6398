//! Where an account's mail goes, as its events said.

use minicbor::{Decode, Encode};

use crate::event::Timestamp;

use super::account::{boxed, list_bytes, text_bytes};

/// Where mail goes, as the newest evidence said.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Contact {
    /// Event time of that evidence.
    #[n(0)]
    pub time: Timestamp,
    #[n(1)]
    pub email: Option<Box<str>>,
    #[n(2)]
    pub verified: bool,
    #[n(3)]
    pub locale: Option<Box<str>>,
    #[n(4)]
    #[cbor(decode_with = "super::codec::list")]
    pub owners: Vec<Box<str>>,
    /// The account's name as its owner knows it.
    #[n(5)]
    pub name: Option<Box<str>>,
}

impl Contact {
    /// Bytes of a box with it.
    pub fn heap_bytes(&self) -> usize {
        boxed::<Contact>()
            + self.email.as_deref().map_or(0, text_bytes)
            + self.locale.as_deref().map_or(0, text_bytes)
            + list_bytes(&self.owners)
            + self.owners.iter().map(|o| text_bytes(o)).sum::<usize>()
            + self.name.as_deref().map_or(0, text_bytes)
    }

    /// Field by field the newer one, and the older one's where that has none.
    pub fn merged_with(self, other: Contact) -> Contact {
        let (newer, older) = if other.time > self.time {
            (other, self)
        } else {
            (self, other)
        };
        let (email, verified) = match newer.email {
            Some(email) => (Some(email), newer.verified),
            None => (older.email, older.verified),
        };
        Contact {
            time: newer.time,
            email,
            verified,
            locale: newer.locale.or(older.locale),
            owners: if newer.owners.is_empty() {
                older.owners
            } else {
                newer.owners
            },
            name: newer.name.or(older.name),
        }
    }
}
