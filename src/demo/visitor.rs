//! What `demo --once` uses in place of a browser: asks for a page, finds the form on it,
//! sends it, follows where it leads.
//!
//! Plain HTTP/1.1 to this process's own server, and just enough HTML to find forms; it is
//! no browser and no general client.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

/// No page of the demo is larger.
const MAX_ANSWER: u64 = 4 << 20;
const PATIENCE: Duration = Duration::from_secs(10);

/// An answer of the server.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// Path of a redirect.
    pub location: Option<String>,
    pub body: String,
}

/// A form on a page, filled in as the page shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Form {
    pub action: String,
    pub fields: Vec<(String, String)>,
    /// Boxes that are not ticked.
    pub boxes: Vec<(String, String)>,
}

impl Form {
    /// Ticks every box, as somebody who recognises all that the page asks about.
    pub fn tick_all(mut self) -> Form {
        self.fields.append(&mut self.boxes);
        self
    }
}

/// Visits one server.
#[derive(Clone, Debug)]
pub struct Visitor {
    address: SocketAddr,
    origin: String,
}

impl Visitor {
    pub fn new(address: SocketAddr, origin: &str) -> Visitor {
        Visitor {
            address,
            origin: origin.to_owned(),
        }
    }

    /// # Errors
    /// Where the server does not answer, or not in HTTP.
    pub fn get(&self, url: &str) -> anyhow::Result<Answer> {
        self.ask("GET", url, None)
    }

    /// # Errors
    /// As [`Visitor::get`].
    pub fn send(&self, form: &Form) -> anyhow::Result<Answer> {
        let fields: Vec<String> = form
            .fields
            .iter()
            .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)))
            .collect();
        self.ask("POST", &form.action, Some(&fields.join("&")))
    }

    fn ask(&self, method: &str, url: &str, body: Option<&str>) -> anyhow::Result<Answer> {
        let path = url.strip_prefix(&self.origin).unwrap_or(url);
        ensure!(
            path.starts_with('/'),
            "{url} is not an address of this demo"
        );
        let body = body.unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nOrigin: {}\r\nConnection: close\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            self.origin.trim_start_matches("http://"),
            self.origin,
            body.len(),
        );
        let mut stream = TcpStream::connect_timeout(&self.address, PATIENCE)
            .with_context(|| format!("no connection to {}", self.address))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream
            .write_all(request.as_bytes())
            .context("the request was not taken")?;
        let mut answer = Vec::new();
        stream
            .take(MAX_ANSWER)
            .read_to_end(&mut answer)
            .with_context(|| format!("no whole answer to {method} {}", without_token(path)))?;
        read_answer(&answer).with_context(|| format!("{method} {}", without_token(path)))
    }
}

fn read_answer(bytes: &[u8]) -> anyhow::Result<Answer> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text
        .split_once("\r\n\r\n")
        .context("the answer is not HTTP")?;
    let mut lines = head.lines();
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .and_then(|status| status.parse().ok())
        .context("the answer has no status")?;
    let header = |wanted: &str| {
        head.lines().skip(1).find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case(wanted)
                .then(|| value.trim().to_owned())
        })
    };
    if header("transfer-encoding").is_some() {
        bail!("the answer comes in pieces, which this visitor does not read");
    }
    Ok(Answer {
        status,
        location: header("location"),
        body: body.to_owned(),
    })
}

/// A path with a token is as good as its link: it is not repeated in errors.
fn without_token(path: &str) -> &str {
    if path.starts_with("/c/") {
        "/c/…"
    } else {
        path
    }
}

fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

/// The forms of a page, each with its hidden fields and ticked boxes.
pub fn forms(html: &str) -> Vec<Form> {
    let mut forms: Vec<Form> = Vec::new();
    let mut inside = false;
    for tag in tags(html) {
        match tag.name {
            "form" => {
                inside = true;
                let action = tag.attribute("action").unwrap_or_default();
                forms.push(Form {
                    action,
                    ..Form::default()
                });
            }
            "/form" => inside = false,
            "input" if inside => {
                let kind = tag.attribute("type").unwrap_or_default();
                let (Some(name), Some(form)) = (tag.attribute("name"), forms.last_mut()) else {
                    continue;
                };
                let field = (name, tag.attribute("value").unwrap_or_default());
                match (kind.as_str(), tag.attribute("checked")) {
                    ("hidden", _) | ("checkbox", Some(_)) => form.fields.push(field),
                    ("checkbox", None) => form.boxes.push(field),
                    _ => {}
                }
            }
            _ => {}
        }
    }
    forms
}

struct Tag<'a> {
    name: &'a str,
    attributes: &'a str,
}

fn tags(html: &str) -> impl Iterator<Item = Tag<'_>> {
    html.split('<').skip(1).filter_map(|piece| {
        let tag = piece.split_once('>')?.0;
        let (name, attributes) = tag.split_once(char::is_whitespace).unwrap_or((tag, ""));
        Some(Tag { name, attributes })
    })
}

impl Tag<'_> {
    /// The attribute's value without entities; empty where it has none.
    fn attribute(&self, wanted: &str) -> Option<String> {
        let mut rest = self.attributes.trim_start();
        while !rest.is_empty() {
            let end = rest
                .find(|c: char| c == '=' || c.is_whitespace())
                .unwrap_or(rest.len());
            let (name, after) = rest.split_at(end);
            let (value, after) = match after.strip_prefix("=\"") {
                Some(quoted) => quoted.split_once('"')?,
                None => ("", after.trim_start_matches('=')),
            };
            if name == wanted {
                return Some(unescaped(value));
            }
            // A stray `=` or quote would otherwise be looked at for ever.
            rest = match after.trim_start() {
                same if same.len() == rest.len() => return None,
                shorter => shorter,
            };
        }
        None
    }
}

fn unescaped(text: &str) -> String {
    text.replace("&#34;", "\"")
        .replace("&quot;", "\"")
        .replace("&#39;", "'")
        .replace("&#60;", "<")
        .replace("&lt;", "<")
        .replace("&#62;", ">")
        .replace("&gt;", ">")
        .replace("&#38;", "&")
        .replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_found_with_what_the_page_filled_in() {
        let page = r#"<p>x</p><form method="post" action="/c/t/me?a=1&amp;b=2">
            <input type="hidden" name="version" value="3">
            <input type="checkbox" name="place" value="country:BR" checked>
            <input type="checkbox" name="place" value="country:JP">
            <button type="submit">Yes</button></form><form action="/c/t/not-me"></form>"#;
        let found = forms(page);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].action, "/c/t/me?a=1&b=2");
        let expected = [("version", "3"), ("place", "country:BR")];
        let expected = expected.map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(found[0].fields, expected);
        assert_eq!(found[0].clone().tick_all().fields.len(), 3);
        assert_eq!(encoded("country:BR ü"), "country%3ABR%20%C3%BC");
    }
}
