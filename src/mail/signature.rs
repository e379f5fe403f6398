//! DKIM: signs mails so that mailboxes know whose they are (RFC 6376, RFC 8463).

use lettre::message::dkim::{
    DkimCanonicalization, DkimCanonicalizationType, DkimConfig, DkimSigningAlgorithm,
    DkimSigningKey, DkimSigningKeyError,
};
use lettre::message::header::HeaderName;

use crate::config::Dkim;

/// Headers that the signature covers, whether or not a mail has them: one that is put in on
/// the way breaks it.
const SIGNED: [&str; 8] = [
    "From",
    "To",
    "Subject",
    "Date",
    "Message-ID",
    "Reply-To",
    "Auto-Submitted",
    "Content-Language",
];

/// A key that signs nothing.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    #[error("it is PKCS#8; convert it with `openssl rsa -in KEY -traditional -out NEW`")]
    Pkcs8,
    #[error("it is neither a PEM file of an RSA key nor an Ed25519 key in base64: {0}")]
    Key(#[from] DkimSigningKeyError),
}

/// What signs mails with the site's key.
///
/// # Errors
/// Where the key is in another form.
pub fn signer(dkim: &Dkim) -> Result<DkimConfig, SignatureError> {
    let key = dkim.key.expose().trim();
    if key.starts_with("-----BEGIN PRIVATE KEY") {
        return Err(SignatureError::Pkcs8);
    }
    let algorithm = match key.starts_with("-----BEGIN") {
        true => DkimSigningAlgorithm::Rsa,
        false => DkimSigningAlgorithm::Ed25519,
    };
    Ok(DkimConfig::new(
        dkim.selector.clone(),
        dkim.domain.clone(),
        DkimSigningKey::new(key, algorithm)?,
        SIGNED.map(HeaderName::new_from_ascii_str).to_vec(),
        // Servers on the way fold headers and strip blanks.
        DkimCanonicalization {
            header: DkimCanonicalizationType::Relaxed,
            body: DkimCanonicalizationType::Relaxed,
        },
    ))
}
