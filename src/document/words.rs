//! What a misspelt word was probably meant to be.

use strsim::osa_distance;

/// The word of `known` that `written` is probably a slip of: at most two letters off, and
/// no more than a third of it. For names that may also be somebody's own.
pub fn slip_of<'k>(written: &str, known: &[&'k str]) -> Option<&'k str> {
    known
        .iter()
        .map(|word| (osa_distance(written, word), *word))
        .filter(|(distance, word)| *distance <= 2.min(word.len() / 3))
        .min()
        .map(|(_, word)| word)
}

/// "did you mean …?" where one of `known` is near, else the list of them.
pub fn suggest(written: &str, known: &[&str]) -> String {
    let near = known
        .iter()
        .map(|word| (osa_distance(written, word), *word))
        .filter(|(distance, word)| *distance <= word.len().max(3) / 3)
        .min();
    match near {
        Some((_, word)) => format!("did you mean `{word}`?"),
        None => {
            let words: Vec<String> = known.iter().map(|word| format!("`{word}`")).collect();
            format!("it can be {}", words.join(", "))
        }
    }
}

/// The word of `known` that `written` is, but for capitals, hyphens and spaces.
pub fn spelled_otherwise<'k>(written: &str, known: &[&'k str]) -> Option<&'k str> {
    let plain = |word: &str| -> String {
        word.chars()
            .filter(|c| !"_- .".contains(*c))
            .map(|c| c.to_ascii_lowercase())
            .collect()
    };
    let wanted = plain(written);
    known.iter().copied().find(|word| plain(word) == wanted)
}
