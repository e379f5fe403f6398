//! The links in mails, and the keys behind them.
//!
//! Owns the tokens that stand in links: PASETO v4.local, sealed with one of several named
//! keys, so that a key can be changed while its links still live. A token says which case it
//! is about and what its bearer may answer, and nothing about the person. It knows neither
//! Kafka nor HTTP, and no clock: time is an argument.

use std::fmt;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use pasetors::keys::SymmetricKey;
use pasetors::token::{Local, UntrustedToken};
use pasetors::version4::{LocalToken, V4};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::config::NamedKey;
use crate::engine::output::RecipientPart;
use crate::event::Timestamp;
use crate::event::wire::{MacKey, MacKeys};

/// Bound into every token without standing in it, so that a token that was sealed for
/// another purpose with the same key does not open here.
const PURPOSE: &[u8] = b"doorward owner link 1";

/// The same for codes.
const CODE_PURPOSE: &[u8] = b"doorward owner code 1";
const CODE_LENGTH: usize = 6;
/// Letters and digits that are not taken for each other, 32 of them (Crockford's base 32).
const CODE_LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A code as a person types it: in any letter case, with blanks and dashes, and with the
/// letters that look like digits.
pub fn typed_code(typed: &str) -> String {
    typed
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(CODE_LENGTH + 1)
        .map(|c| match c.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            c => c,
        })
        .collect()
}

/// Longer texts are no tokens of ours, and are not looked at.
pub const MAX_TOKEN_BYTES: usize = 1024;

/// What a link says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub case: Arc<str>,
    /// The partition of `auth.events` that the account lives on, where an answer must go.
    pub partition: i32,
    /// `Owner` or `CoOwner`; a notice carries no links.
    pub part: RecipientPart,
    /// The version of the case that was mailed.
    pub case_version: u32,
    /// The first moment at which the link is no longer good.
    pub expires: Timestamp,
}

/// Why a token does not open.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// Ours, and too old. What it says is still true, so a fresh mail can be offered.
    #[error("the link has expired")]
    Expired(Box<Link>),
    /// Its form is right, but none of our keys sealed it as it stands.
    #[error("the link was not made by this service, or was changed")]
    Forged,
    /// Cut off, or no token at all.
    #[error("the link is incomplete")]
    Malformed,
}

/// Keys that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("no key to seal links with: `keys.link` needs at least one")]
    None,
    #[error("the link key `{id}` has {bytes} bytes; it must have 32")]
    Length { id: String, bytes: usize },
    #[error("two link keys are called `{0}`; give each its own name")]
    Twice(String),
}

/// A token could not be made, which means that the system's random source failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot make a link: the system's random source failed")]
pub struct MintError;

/// The keys that seal links: the first seals, all open.
#[derive(Clone)]
pub struct LinkKeys {
    keys: Arc<[(String, SymmetricKey<V4>)]>,
}

impl fmt::Debug for LinkKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.keys.iter().map(|(id, _)| id))
            .finish()
    }
}

/// The sealed part of a token. Names are short because links are read, copied and wrapped.
#[derive(Serialize, Deserialize)]
struct Sealed {
    #[serde(rename = "c")]
    case: String,
    #[serde(rename = "p")]
    partition: i32,
    #[serde(rename = "r")]
    part: String,
    #[serde(rename = "v")]
    case_version: u32,
    /// Milliseconds since 1970.
    #[serde(rename = "x")]
    expires: i64,
}

/// The readable part of a token: which key sealed it.
#[derive(Serialize, Deserialize)]
struct Footer {
    kid: String,
}

impl LinkKeys {
    /// # Errors
    /// Where there is no key, one is not 32 bytes long, or two share a name.
    pub fn new(keys: &[NamedKey]) -> Result<LinkKeys, KeyError> {
        if keys.is_empty() {
            return Err(KeyError::None);
        }
        let mut usable: Vec<(String, SymmetricKey<V4>)> = Vec::with_capacity(keys.len());
        for key in keys {
            if usable.iter().any(|(id, _)| *id == key.id) {
                return Err(KeyError::Twice(key.id.clone()));
            }
            let sealed = SymmetricKey::from(&key.bytes).map_err(|_| KeyError::Length {
                id: key.id.clone(),
                bytes: key.bytes.len(),
            })?;
            usable.push((key.id.clone(), sealed));
        }
        Ok(LinkKeys {
            keys: usable.into(),
        })
    }

    /// Seals `link` with the newest key.
    ///
    /// # Errors
    /// Where the system has no randomness to give.
    pub fn mint(&self, link: &Link) -> Result<String, MintError> {
        let (id, key) = self.keys.first().ok_or(MintError)?;
        let sealed = serde_json::to_vec(&Sealed {
            case: link.case.to_string(),
            partition: link.partition,
            part: link.part.as_str().to_owned(),
            case_version: link.case_version,
            expires: link.expires.0,
        })
        .map_err(|_| MintError)?;
        let footer = serde_json::to_vec(&Footer { kid: id.clone() }).map_err(|_| MintError)?;
        LocalToken::encrypt(key, &sealed, Some(&footer), Some(PURPOSE)).map_err(|_| MintError)
    }

    /// The short code that stands in the mail beside the link that `token` is: six letters
    /// and digits that nobody can work out from the link. A token of another key's gives
    /// another code.
    pub fn code(&self, token: &str) -> String {
        // Sealed by the key that its footer names; its own first key where that is gone, and
        // then the token does not open either.
        let named = UntrustedToken::<Local, V4>::try_from(token).ok();
        let footer =
            named.and_then(|token| serde_json::from_slice::<Footer>(token.untrusted_footer()).ok());
        let key = self
            .keys
            .iter()
            .find(|(id, _)| footer.as_ref().is_some_and(|footer| footer.kid == *id))
            .or(self.keys.first());
        let Some(mut mac) =
            key.and_then(|(_, key)| Hmac::<Sha256>::new_from_slice(key.as_bytes()).ok())
        else {
            return String::new();
        };
        mac.update(CODE_PURPOSE);
        mac.update(token.as_bytes());
        let digest = mac.finalize().into_bytes();
        let letters = digest.iter().take(CODE_LENGTH);
        letters
            .map(|byte| char::from(CODE_LETTERS[usize::from(byte % 32)]))
            .collect()
    }

    /// Opens `token`, as of `now`.
    ///
    /// # Errors
    /// [`LinkError`] says why it does not open.
    pub fn open(&self, token: &str, now: Timestamp) -> Result<Link, LinkError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(LinkError::Malformed);
        }
        let untrusted =
            UntrustedToken::<Local, V4>::try_from(token).map_err(|_| LinkError::Malformed)?;
        let footer: Footer = serde_json::from_slice(untrusted.untrusted_footer())
            .map_err(|_| LinkError::Malformed)?;
        let trusted = self
            .keys
            .iter()
            .filter(|(id, _)| *id == footer.kid)
            .find_map(|(_, key)| LocalToken::decrypt(key, &untrusted, None, Some(PURPOSE)).ok())
            .ok_or(LinkError::Forged)?;
        // Sealed by us: what does not parse here was sealed by another version of us.
        let sealed: Sealed =
            serde_json::from_str(trusted.payload()).map_err(|_| LinkError::Malformed)?;
        let part = match RecipientPart::parse(&sealed.part) {
            Some(part @ (RecipientPart::Owner | RecipientPart::CoOwner)) => part,
            Some(RecipientPart::Notice) | None => return Err(LinkError::Malformed),
        };
        let link = Link {
            case: sealed.case.into(),
            partition: sealed.partition,
            part,
            case_version: sealed.case_version,
            expires: Timestamp(sealed.expires),
        };
        if now >= link.expires {
            return Err(LinkError::Expired(Box::new(link)));
        }
        Ok(link)
    }
}

/// The keys that sign answers, in the form that [`crate::event::wire`] uses.
pub fn mac_keys(keys: &[NamedKey]) -> MacKeys {
    MacKeys(
        keys.iter()
            .map(|key| MacKey {
                id: key.id.clone(),
                bytes: key.bytes.clone(),
            })
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_327_440_000);

    fn key(id: &str, byte: u8) -> NamedKey {
        NamedKey {
            id: id.into(),
            bytes: vec![byte; 32],
        }
    }

    fn keys(keys: &[NamedKey]) -> LinkKeys {
        LinkKeys::new(keys).expect("usable keys")
    }

    fn link() -> Link {
        Link {
            case: "k-9c41d2".into(),
            partition: 7,
            part: RecipientPart::Owner,
            case_version: 3,
            expires: NOW.plus_ms(1_000),
        }
    }

    #[test]
    fn what_was_sealed_is_what_opens() {
        let keys = keys(&[key("a", 1)]);
        let token = keys.mint(&link()).expect("a token");
        assert_eq!(keys.open(&token, NOW), Ok(link()));
        assert_ne!(keys.mint(&link()).expect("a token"), token);
        assert!(token.len() < 320, "links are copied by hand: {token}");
        assert!(!token.contains("k-9c41d2"));
    }

    #[test]
    fn an_expired_link_still_says_which_case_it_is_about() {
        let keys = keys(&[key("a", 1)]);
        let token = keys.mint(&link()).expect("a token");
        assert!(keys.open(&token, NOW.plus_ms(999)).is_ok());
        assert_eq!(
            keys.open(&token, NOW.plus_ms(1_000)),
            Err(LinkError::Expired(Box::new(link())))
        );
    }

    #[test]
    fn keys_rotate_while_old_links_live() {
        let old = keys(&[key("a", 1)]);
        let both = keys(&[key("b", 2), key("a", 1)]);
        let new = keys(&[key("b", 2)]);
        let by_old = old.mint(&link()).expect("a token");
        let by_new = both.mint(&link()).expect("a token");
        assert!(both.open(&by_old, NOW).is_ok());
        assert!(both.open(&by_new, NOW).is_ok());
        assert_eq!(new.open(&by_old, NOW), Err(LinkError::Forged));
        assert!(new.open(&by_new, NOW).is_ok());
    }

    #[test]
    fn another_key_of_the_same_name_opens_nothing() {
        let token = keys(&[key("a", 1)]).mint(&link()).expect("a token");
        assert_eq!(
            keys(&[key("a", 2)]).open(&token, NOW),
            Err(LinkError::Forged)
        );
    }

    #[test]
    fn no_change_of_any_letter_opens() {
        let keys = keys(&[key("a", 1)]);
        let token = keys.mint(&link()).expect("a token");
        for at in 0..token.len() {
            let mut changed = token.clone();
            let other = if &token[at..=at] == "A" { "B" } else { "A" };
            changed.replace_range(at..=at, other);
            assert!(keys.open(&changed, NOW).is_err(), "{changed}");
            assert!(keys.open(&token[..at], NOW).is_err());
        }
    }

    #[test]
    fn what_is_no_token_is_malformed() {
        let keys = keys(&[key("a", 1)]);
        let long = "v4.local.".to_owned() + &"A".repeat(MAX_TOKEN_BYTES);
        for junk in [
            "",
            "v4.local.",
            "v4.local.AAAA",
            "…",
            "v4.public.AAAA",
            &long,
        ] {
            assert_eq!(keys.open(junk, NOW), Err(LinkError::Malformed), "{junk}");
        }
    }

    #[test]
    fn a_notice_has_no_link() {
        let keys = keys(&[key("a", 1)]);
        let notice = Link {
            part: RecipientPart::Notice,
            ..link()
        };
        let token = keys.mint(&notice).expect("a token");
        assert_eq!(keys.open(&token, NOW), Err(LinkError::Malformed));
    }

    #[test]
    fn unusable_keys_are_named() {
        let short = NamedKey {
            id: "s".into(),
            bytes: vec![0; 16],
        };
        let error = |keys: &[NamedKey]| LinkKeys::new(keys).err();
        assert_eq!(error(&[]), Some(KeyError::None));
        let id = "s".to_owned();
        assert_eq!(error(&[short]), Some(KeyError::Length { id, bytes: 16 }));
        let twice = [key("a", 1), key("a", 2)];
        assert_eq!(error(&twice), Some(KeyError::Twice("a".to_owned())));
    }
}
