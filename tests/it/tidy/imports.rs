//! What a source file reaches for: every path in it, `use` trees spelled out.
//!
//! It reads tokens rather than text, so that a comment or a string is no import, and knows
//! just enough of the language for the question that [`super`] asks.

use std::iter::Peekable;
use std::vec::IntoIter;

/// One path such as `["std", "time", "Instant"]`; a glob ends with `*`.
pub type Path = Vec<String>;

/// Every path of the file's own code: its tests, which stand last, may use what they like.
pub fn paths(source: &str) -> Vec<Path> {
    let code = without_comments_and_strings(source);
    let code = code
        .split_once("#[cfg(test)]\nmod ")
        .map_or(code.as_str(), |(before, _)| before);
    let mut tokens = tokens(code).into_iter().peekable();
    let mut found = Vec::new();
    while let Some(token) = tokens.next() {
        if let Token::Name(name) = token {
            path_from(vec![name], &mut tokens, &mut found);
        }
    }
    found
}

enum Token {
    Name(String),
    Colons,
    Open,
    Close,
    Comma,
    Star,
    Other,
}

/// The rest of the path that begins with `path`; a tree in braces becomes one path a leaf.
fn path_from(mut path: Path, tokens: &mut Peekable<IntoIter<Token>>, found: &mut Vec<Path>) {
    while tokens.next_if(|t| matches!(t, Token::Colons)).is_some() {
        match tokens.next() {
            Some(Token::Name(name)) => path.push(name),
            Some(Token::Star) => {
                path.push("*".into());
                break;
            }
            Some(Token::Open) => return tree_under(&path, tokens, found),
            // `::<T>` ends the path; the types inside are read as paths of their own.
            _ => break,
        }
    }
    found.push(path);
}

fn tree_under(path: &Path, tokens: &mut Peekable<IntoIter<Token>>, found: &mut Vec<Path>) {
    while let Some(token) = tokens.next() {
        match token {
            Token::Name(name) if name == "self" => found.push(path.clone()),
            Token::Name(name) => {
                let branch = path.iter().cloned().chain([name]).collect();
                path_from(branch, tokens, found);
                // ` as other`: its name is of no interest.
                while tokens.next_if(|t| matches!(t, Token::Name(_))).is_some() {}
            }
            Token::Star => found.push(path.iter().cloned().chain(["*".into()]).collect()),
            Token::Close => return,
            _ => {}
        }
    }
}

fn tokens(code: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut chars = code.chars().peekable();
    while let Some(c) = chars.next() {
        found.push(match c {
            _ if c.is_whitespace() => continue,
            _ if c.is_alphanumeric() || c == '_' => {
                let mut name = String::from(c);
                while let Some(more) = chars.next_if(|c| c.is_alphanumeric() || *c == '_') {
                    name.push(more);
                }
                Token::Name(name)
            }
            ':' if chars.next_if_eq(&':').is_some() => Token::Colons,
            '{' => Token::Open,
            '}' => Token::Close,
            ',' => Token::Comma,
            '*' => Token::Star,
            _ => Token::Other,
        });
    }
    found
}

/// The code with every comment gone and every string empty.
pub fn without_comments_and_strings(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if c == '"' {
            out.push_str("\"\"");
            string_end(rest, 1)
        } else if let Some(hashes) = raw_string(rest).filter(|_| !ends_in_name(&out)) {
            out.push_str("\"\"");
            let close = format!("\"{}", "#".repeat(hashes));
            let body = hashes + 2;
            rest[body..]
                .find(&close)
                .map_or(rest.len(), |end| body + end + close.len())
        } else if let Some(end) = char_literal(rest) {
            out.push_str("' '");
            end
        } else {
            out.push(c);
            c.len_utf8()
        };
        rest = &rest[skipped..];
    }
    out
}

fn ends_in_name(out: &str) -> bool {
    out.ends_with(|c: char| c == '_' || (c.is_alphanumeric() && c != 'b' && c != 'c'))
}

/// Where the string that begins before `from` ends, its quote included.
fn string_end(text: &str, from: usize) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip_while(|(at, _)| *at < from) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// How many `#` a raw string that begins here has.
fn raw_string(text: &str) -> Option<usize> {
    let after = text.strip_prefix('r')?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    after[hashes..].starts_with('"').then_some(hashes)
}

/// Where a character literal that begins here ends; a lifetime is none.
fn char_literal(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('\'')?;
    if inner.starts_with('\\') {
        return inner[2..].find('\'').map(|end| end + 4);
    }
    let c = inner.chars().next()?;
    inner[c.len_utf8()..]
        .starts_with('\'')
        .then_some(c.len_utf8() + 2)
}
