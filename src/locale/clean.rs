//! Makes text from events harmless: one line, no hidden characters, of bounded length.
//!
//! Markup is escaped by the templates; this is about what escaping leaves: line breaks that
//! would begin a header or a paragraph, and characters that turn text round or hide it.

/// `text` as one line of at most `max` characters: control characters, line separators and
/// runs of blanks become one blank, invisible and direction-changing characters disappear,
/// and what is cut ends in an ellipsis.
pub fn line(text: &str, max: usize) -> String {
    let mut out = String::new();
    let mut length = 0;
    let mut blank = false;
    for c in text.chars() {
        if c.is_control() || c.is_whitespace() {
            blank = length > 0;
            continue;
        }
        if is_hidden(c) {
            continue;
        }
        let needed = if blank { 2 } else { 1 };
        if length + needed > max.saturating_sub(1) {
            out.push('…');
            return out;
        }
        if blank {
            out.push(' ');
            blank = false;
        }
        out.push(c);
        length += needed;
    }
    out
}

/// Characters that show nothing, or change the direction of what stands after them: the
/// default-ignorable code points of Unicode, and the private-use planes.
fn is_hidden(c: char) -> bool {
    matches!(c,
        '\u{00AD}' | '\u{034F}' | '\u{061C}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}'
        | '\u{180B}'..='\u{180F}'
        | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}'
        | '\u{3164}' | '\u{E000}'..='\u{F8FF}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFA0}'
        | '\u{FFF0}'..='\u{FFFB}' | '\u{1BCA0}'..='\u{1BCA3}' | '\u{1D173}'..='\u{1D17A}'
        | '\u{E0000}'..='\u{10FFFF}')
}

/// A case reference as a person typed it: without the blanks and signs that copying adds,
/// lower case. `None` where it cannot be one.
pub fn case_reference(typed: &str) -> Option<String> {
    let reference: String = typed
        .trim()
        .trim_matches(|c: char| !c.is_ascii_alphanumeric())
        .chars()
        .filter(|c| !c.is_whitespace())
        .collect();
    let valid = (3..=80).contains(&reference.len())
        && reference
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-');
    valid.then(|| reference.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_breaks_and_controls_become_one_blank() {
        assert_eq!(line("a\r\nBcc: x\t\u{0}\u{2028}y\u{85}", 80), "a Bcc: x y");
        assert_eq!(line("\n\n a \n", 80), "a");
    }

    #[test]
    fn hidden_and_direction_changing_characters_disappear() {
        assert_eq!(
            line("a\u{202E}b\u{2066}c\u{200B}d\u{FEFF}e\u{E0041}", 80),
            "abcde"
        );
    }

    #[test]
    fn length_is_bounded_in_characters() {
        let long = line(&"ü".repeat(300), 40);
        assert_eq!(long.chars().count(), 40);
        assert!(long.ends_with('…'));
    }

    #[test]
    fn a_case_reference_survives_copying() {
        assert_eq!(case_reference(" “K-12ab”. ").as_deref(), Some("k-12ab"));
        assert_eq!(case_reference("k-<script>"), None);
        assert_eq!(case_reference(""), None);
    }
}
