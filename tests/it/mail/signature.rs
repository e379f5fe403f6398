//! DKIM: what lettre signs is verified here by other means: ring's signatures over the
//! canonical form of RFC 6376, section 3.4, written down once more.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use doorward::config::{Dkim, Secret};
use doorward::mail::signature::signer;
use lettre::message::Mailbox;
use regex::Regex;
use ring::signature::{
    ED25519, Ed25519KeyPair, KeyPair, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
};
use sha2::{Digest, Sha256};

use super::{NOW, rendered};
use crate::owner::mail;

/// A key made for this test alone (`openssl genrsa -traditional 2048`); it protects nothing.
const RSA: &str = include_str!("dkim-rsa.pem");
const RSA_PUBLIC: &[u8] = include_bytes!("dkim-rsa.pub.der");
const SEED: [u8; 32] = [7; 32];

fn dkim(key: &str) -> Dkim {
    Dkim {
        selector: "doorward".into(),
        domain: "example.com".into(),
        key: Secret::new(key.to_owned()),
    }
}

/// A mail with a long subject in another script, signed with `key`, as it goes out.
fn signed(key: &str) -> String {
    let mut content = rendered(&mail());
    content.subject = "Были это Вы? Мы заблокировали Ваш аккаунт, и это длинная строка".into();
    let mut message = doorward::mail::message::build(
        "m-1",
        &"Example Security <security@example.com>"
            .parse::<Mailbox>()
            .expect("an address"),
        None,
        Mailbox::new(None, "owner@example.org".parse().expect("an address")),
        content,
        NOW,
    )
    .expect("a message");
    message.sign(&signer(&dkim(key)).expect("a key"));
    String::from_utf8(message.formatted()).expect("text")
}

fn single_blanks(line: &str) -> String {
    let blanks = Regex::new("[ \t]+").expect("a pattern");
    blanks.replace_all(line, " ").into_owned()
}

/// `relaxed` for a body.
fn relaxed_body(body: &str) -> String {
    let lines = body.split("\r\n");
    let lines: Vec<String> = lines
        .map(|line| single_blanks(line).trim_end().to_owned())
        .collect();
    let text = lines.join("\r\n");
    format!("{}\r\n", text.trim_end_matches("\r\n"))
}

/// `relaxed` for one header, without its line's end.
fn relaxed_header(header: &str) -> String {
    let (name, value) = header.split_once(':').expect("a header");
    let value = single_blanks(&value.replace("\r\n", ""));
    format!("{}:{}", name.trim().to_lowercase(), value.trim())
}

/// What the signature is over, the signature, and whether the body's hash fits.
fn taken_apart(mail: &str) -> (String, Vec<u8>, bool) {
    let (head, body) = mail.split_once("\r\n\r\n").expect("headers");
    let fold = Regex::new("\r\n([ \t])").expect("a pattern");
    let head = fold.replace_all(head, "$1").into_owned();
    let headers: Vec<&str> = head.split("\r\n").collect();
    let named = |name: &str| {
        headers.iter().copied().find(|header| {
            header
                .split_once(':')
                .is_some_and(|(held, _)| held.eq_ignore_ascii_case(name))
        })
    };
    let signature = named("DKIM-Signature").expect("a signature");
    let tag = |name: &str| {
        let pattern = Regex::new(&format!(r"[;:]\s*{name}=([^;]*)")).expect("a pattern");
        let found = pattern.captures(signature).expect("a tag");
        found[1]
            .chars()
            .filter(|c| !c.is_whitespace())
            .collect::<String>()
    };
    assert_eq!(
        (tag("d").as_str(), tag("s").as_str()),
        ("example.com", "doorward")
    );
    let listed = tag("h");
    assert!(listed.to_lowercase().starts_with("from:"), "{listed}");
    let mut data = String::new();
    for header in listed.split(':').filter_map(named) {
        data.push_str(&relaxed_header(header));
        data.push_str("\r\n");
    }
    let emptied = Regex::new(r"([;\s]b=)[^;]*").expect("a pattern");
    data.push_str(&relaxed_header(&emptied.replace(signature, "$1")));
    let hash = STANDARD.encode(Sha256::digest(relaxed_body(body).as_bytes()));
    let bytes = STANDARD.decode(tag("b")).expect("base64");
    (data, bytes, hash == tag("bh"))
}

#[test]
fn a_mail_signed_with_rsa_is_verified_by_another_library() {
    let mail = signed(RSA);
    let (data, signature, body_fits) = taken_apart(&mail);
    assert!(body_fits);
    let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, RSA_PUBLIC);
    assert!(key.verify(data.as_bytes(), &signature).is_ok(), "{data}");
    let other = data.replacen("owner@example.org", "thief@example.org", 1);
    assert!(key.verify(other.as_bytes(), &signature).is_err());
    let changed = mail.replace("This was me", "This was you");
    assert!(!taken_apart(&changed).2);
}

#[test]
fn a_mail_signed_with_ed25519_is_too() {
    let (data, signature, body_fits) = taken_apart(&signed(&STANDARD.encode(SEED)));
    assert!(body_fits);
    let pair = Ed25519KeyPair::from_seed_unchecked(&SEED).expect("a key");
    let key = UnparsedPublicKey::new(&ED25519, pair.public_key().as_ref());
    // RFC 8463: the hash is what is signed.
    let hash = Sha256::digest(data.as_bytes());
    assert!(key.verify(&hash, &signature).is_ok(), "{data}");
}

#[test]
fn a_key_of_another_form_is_refused_with_the_way_out() {
    let error = |key: &str| signer(&dkim(key)).err().map(|error| error.to_string());
    let pkcs8 = error("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----");
    assert!(pkcs8.expect("an error").contains("-traditional"));
    let junk = error("not a key").expect("an error");
    assert!(junk.contains("neither a PEM file"), "{junk}");
}
