//! The links in mails, and the keys behind them.
//!
//! Owns the tokens that stand in links: PASETO v4.local, sealed with one of several named
//! keys, so that a key can be changed while its links still live. A token says which case it
//! is about and what its bearer may answer, and nothing about the person. It knows neither
//! Kafka nor HTTP, and no clock: time is an argument.

use std::fmt;
use std::sync::Arc;

use pasetors::keys::SymmetricKey;
use pasetors::token::{Local, UntrustedToken};
use pasetors::version4::{LocalToken, V4};
use serde::{Deserialize, Serialize};

use crate::config::NamedKey;
use crate::engine::output::RecipientPart;
use crate::event::Timestamp;
use crate::event::wire::{MacKey, MacKeys};

/// Bound into every token without standing in it, so that a token that was sealed for
/// another purpose with the same key does not open here.
const PURPOSE: &[u8] = b"doorward owner link 1";

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
