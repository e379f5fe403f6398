//! Bytes of a file into text.

use std::sync::Arc;

use super::{Diagnostics, Kind, SourceFile};

/// The text in `bytes`; `None`, and a mistake at the place where it ends to be UTF-8.
pub fn read_text(
    name: impl Into<String>,
    bytes: Vec<u8>,
    found: &mut Diagnostics,
) -> Option<Arc<SourceFile>> {
    let name = name.into();
    let error = match String::from_utf8(bytes) {
        Ok(text) => return Some(SourceFile::new(name, text)),
        Err(error) => error,
    };
    let bytes = error.as_bytes();
    let utf16 = bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]);
    let (file, span, message) = if utf16 || bytes.contains(&0) {
        let what = if utf16 {
            "this file is UTF-16, not UTF-8"
        } else {
            "this is no text file"
        };
        (SourceFile::new(name, ""), 0..0, what.to_owned())
    } else {
        let at = error.utf8_error().valid_up_to();
        let byte = bytes[at];
        // What cannot be shown takes the replacement character's place.
        let shown = String::from_utf8_lossy(bytes).into_owned();
        let message = format!("this file is not UTF-8: the byte 0x{byte:02X} is no character");
        (
            SourceFile::new(name, shown),
            at..at + '\u{FFFD}'.len_utf8(),
            message,
        )
    };
    let help = "save it as UTF-8; editors have a setting for it";
    found.mistake(Kind::Encoding, &file, span, message, Some(help.into()));
    None
}
