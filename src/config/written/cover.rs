//! Covers secrets that stand in a configuration file, so that no message shows them.

use std::ops::Range;
use std::sync::Arc;

use crate::document::{Diagnostics, SourceFile};

/// Words in a setting's name that say that its value is secret. They help where the file
/// cannot be parsed; otherwise the reader knows its secrets.
const SECRET_WORDS: [&str; 7] = [
    "password",
    "passphrase",
    "secret",
    "token",
    "credential",
    ".pem",
    "jaas",
];

/// Whether a setting of this name holds a secret.
pub fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_WORDS.iter().any(|word| name.contains(word))
}

/// Puts a copy of the file in which `covered` and everything that looks like a literal
/// secret is starred into every message about it.
pub fn cover(file: &Arc<SourceFile>, covered: &[Range<usize>], found: &mut Diagnostics) {
    let mut text = file.text.clone().into_bytes();
    let literals = literal_secrets(&file.text);
    for range in covered.iter().chain(&literals) {
        if let Some(bytes) = text.get_mut(range.clone()) {
            for byte in bytes.iter_mut().filter(|byte| **byte != b'\n') {
                *byte = b'*';
            }
        }
    }
    // Whole characters were replaced by as many stars as they had bytes.
    let text = String::from_utf8(text).unwrap_or_default();
    let safe = SourceFile::new(file.name.as_str(), text);
    for diagnostic in &mut found.found {
        if Arc::ptr_eq(&diagnostic.file, file) {
            diagnostic.file = Arc::clone(&safe);
        }
    }
}

/// What stands in quotes after `=` on lines whose setting has a secret's name, to the end
/// of the line, or of the string where it has several lines.
fn literal_secrets(text: &str) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut offset = 0;
    while offset < text.len() {
        let line = text[offset..].split_inclusive('\n').next().unwrap_or("");
        let mut next = offset + line.len();
        if let Some((name, value)) = line.split_once('=')
            && is_secret_name(name)
        {
            let start = offset + name.len() + 1 + (value.len() - value.trim_start().len());
            let value = &text[start..];
            let multi = ["\"\"\"", "'''"].into_iter().find(|q| value.starts_with(q));
            if let Some(quotes) = multi {
                let end = value[3..]
                    .find(quotes)
                    .map_or(text.len(), |at| start + 6 + at);
                next = next.max(end);
                ranges.push(start..end);
            } else if !value.starts_with('{') {
                ranges.push(start..next);
            }
        }
        offset = next;
    }
    ranges
}
