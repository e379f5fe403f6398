//! The text of a list, in the formats that feeds come in.
//!
//! Owns what an entry may look like and which entries a list may not hold. Each bad entry is
//! an error with its line; what makes the whole file unusable is one, too.

mod delimited;
mod json;
mod made;

use std::fmt::Write;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use ipnet::IpNet;
use sha2::{Digest, Sha256};

use super::ranges::{Builder, Span};
use crate::document::{Diagnostics, SourceFile};
use crate::event::Timestamp;

/// Bad lines of one file that are shown one by one; the rest are only counted.
const SHOWN: usize = 5;

/// [`Read::shape`] of what needs no word.
pub const PLAIN: &str = "an entry a line";

/// What `lists.yaml` says about how to read a list.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    pub format: Format,
    /// Where the address stands in CSV and JSON; two for the first and the last of a range.
    pub columns: Vec<Column>,
    pub may_be_empty: bool,
    pub allow: Allow,
    /// Networks of the site itself.
    pub own: Vec<IpNet>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// By what the file begins with.
    #[default]
    Auto,
    /// An entry a line.
    Plain,
    Csv,
    /// An array, or an object whose `list` is one (MISP).
    Json,
    /// An object a line.
    JsonLines,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Column {
    Name(String),
    /// From 1.
    Number(usize),
}

/// Entries that are a mistake in most lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allow {
    /// Addresses that are never a visitor's.
    pub private: bool,
    /// The site's own networks.
    pub own: bool,
    /// More than an IPv4 /8 or an IPv6 /16.
    pub wide: bool,
}

/// One file of a list.
#[derive(Debug)]
pub struct Read {
    pub entries: Builder,
    /// As what it was read, for people.
    pub shape: String,
    /// When it was made, as it says itself.
    pub made: Option<Timestamp>,
}

/// Reads one file of a list. Each bad entry is an error in `found` and left out; `None`
/// where the text is no list at all, most of it is not, or it holds what it may not.
pub fn read(file: &Arc<SourceFile>, terms: &Terms, found: &mut Diagnostics) -> Option<Read> {
    read_with(file, terms, found, None).0
}

/// The first entry of a file in which `ip` stands: where its text begins, and the text.
pub fn find(file: &Arc<SourceFile>, terms: &Terms, ip: IpAddr) -> Option<(usize, String)> {
    let wanted = Span::between(ip, ip);
    read_with(file, terms, &mut Diagnostics::default(), wanted).1
}

/// The file, and the first entry in which `wanted` stands.
fn read_with(
    file: &Arc<SourceFile>,
    terms: &Terms,
    found: &mut Diagnostics,
    wanted: Option<Span>,
) -> (Option<Read>, Option<(usize, String)>) {
    let mut taking = Taking {
        file,
        terms,
        found,
        entries: Builder::default(),
        good: 0,
        bad: 0,
        forbidden: 0,
        wanted,
        place: None,
    };
    let read = read_into(&mut taking);
    let place = taking.place.take();
    let read = read.and_then(|(shape, made)| {
        taking.finish().map(|entries| Read {
            entries,
            shape,
            made,
        })
    });
    (read, place)
}

/// As what it was read, and when it was made.
fn read_into(taking: &mut Taking<'_>) -> Option<(String, Option<Timestamp>)> {
    let (file, terms) = (Arc::clone(taking.file), taking.terms);
    let format = match terms.format {
        Format::Auto => detect(&file.text),
        format => format,
    };
    if let Some(what) = not_a_list(&file.text, format) {
        taking.found.error(
            &file,
            0..file.text.lines().next().map_or(0, str::len),
            format!("this is {what}, not a list of addresses"),
            Some("write one address or network a line; look at what your download fetched".into()),
        );
        return None;
    }
    Some(match format {
        Format::Csv => (delimited::read(taking)?, made::in_comments(&file.text)),
        Format::Json => json::read(taking)?,
        Format::JsonLines => json::read_lines(taking)?,
        Format::Plain | Format::Auto => (plain(taking), made::in_comments(&file.text)),
    })
}

fn detect(text: &str) -> Format {
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let mut lines = text.lines().map(str::trim);
    let first = lines
        .by_ref()
        .find(|line| !line.is_empty() && !line.starts_with(['#', ';']));
    match first {
        Some(line) if line.starts_with('{') && line.ends_with('}') => Format::JsonLines,
        Some(line) if line.starts_with(['{', '[']) => Format::Json,
        Some(line) if line.split(['#', ';']).next().unwrap_or("").contains(',') => Format::Csv,
        _ => Format::Plain,
    }
}

/// One entry a line; `#` and `;` begin a comment, and fields behind the entry are left out.
fn plain(taking: &mut Taking<'_>) -> String {
    let file = Arc::clone(taking.file);
    let text = file.text.trim_start_matches('\u{feff}');
    let mut offset = file.text.len() - text.len();
    let mut trailing = false;
    for line in text.split_inclusive('\n') {
        let entry = line.split(['#', ';']).next().unwrap_or("").trim();
        if !entry.is_empty() {
            let start = offset + line.find(entry).unwrap_or(0);
            match span_of(entry) {
                Ok(span) => taking.take(span, entry, start),
                Err(help) => match first_field(entry) {
                    Some(span) => {
                        trailing = true;
                        taking.take(span, entry, start);
                    }
                    None => taking.refuse(entry, start..start + entry.len(), help),
                },
            }
        }
        offset += line.len();
    }
    match trailing {
        true => "an entry a line, with further fields".into(),
        false => PLAIN.into(),
    }
}

/// The entry that others follow which are none: two addresses on a line are a mistake.
fn first_field(line: &str) -> Option<Span> {
    let (first, rest) = line
        .split_once([',', '|'])
        .filter(|(first, _)| span_of(first.trim()).is_ok())
        .or_else(|| line.split_once(char::is_whitespace))?;
    let span = span_of(first.trim()).ok()?;
    let second = rest
        .split(|c: char| c.is_whitespace() || ",|".contains(c))
        .find(|field| !field.is_empty())?;
    (span_of(second).is_err() && second != "-").then_some(span)
}

/// What reads a file puts its entries into.
struct Taking<'a> {
    file: &'a Arc<SourceFile>,
    terms: &'a Terms,
    found: &'a mut Diagnostics,
    entries: Builder,
    good: usize,
    bad: usize,
    /// Entries that this list may not hold.
    forbidden: usize,
    /// What somebody asks for, and the first entry that overlaps it.
    wanted: Option<Span>,
    place: Option<(usize, String)>,
}

impl Taking<'_> {
    /// Takes the entry `text`, which stands at byte `start`.
    fn entry(&mut self, text: &str, start: usize) {
        match span_of(text) {
            Ok(span) => self.take(span, text, start),
            Err(help) => self.refuse(text, start..start + text.len(), help),
        }
    }

    fn take(&mut self, span: Span, text: &str, start: usize) {
        self.good += 1;
        if let Some(wanted) = self.wanted
            && self.place.is_none()
            && span.overlaps(wanted)
        {
            self.place = Some((start, text.to_owned()));
        }
        if let Some((message, allow)) = self.forbids(span, text) {
            self.forbidden += 1;
            if self.forbidden <= SHOWN {
                let help =
                    format!("if that is meant, say `allow: [{allow}]` for this list in lists.yaml");
                let place = start..start + text.len();
                self.found.error(self.file, place, message, Some(help));
            }
        }
        self.entries.insert(span);
    }

    fn forbids(&self, span: Span, text: &str) -> Option<(String, &'static str)> {
        let allow = self.terms.allow;
        if !allow.wide && span.is_wide() {
            let text = shortened(text);
            let message = match span {
                Span::V4(0, u32::MAX) | Span::V6(0, u128::MAX) => {
                    format!("`{text}` is every address there is")
                }
                Span::V4(..) => format!("`{text}` takes in more than a /8 network"),
                Span::V6(..) => format!("`{text}` takes in more than a /16 network"),
            };
            return Some((message, "wide"));
        }
        if !allow.private
            && let Some(name) = private(span)
        {
            let text = shortened(text);
            let message = format!("`{text}` overlaps {name}, which no visitor comes from");
            return Some((message, "private"));
        }
        if !allow.own {
            let own = self
                .terms
                .own
                .iter()
                .find(|own| span.overlaps(Span::of(**own)));
            if let Some(own) = own {
                let text = shortened(text);
                return Some((format!("`{text}` overlaps your own network {own}"), "own"));
            }
        }
        None
    }

    fn refuse(&mut self, text: &str, place: Range<usize>, help: String) {
        self.bad += 1;
        if self.bad <= SHOWN {
            let message = format!("`{}` is no address and no network", shortened(text));
            self.found.error(self.file, place, message, Some(help));
        }
    }

    /// An error for the file as a whole, which points at no line.
    fn whole(&mut self, message: String, help: Option<String>) {
        let file = SourceFile::new(self.file.name.as_str(), "");
        self.found.error(&file, 0..0, message, help);
    }

    fn finish(mut self) -> Option<Builder> {
        let (good, bad, forbidden) = (self.good, self.bad, self.forbidden);
        if bad > SHOWN {
            let more = bad - SHOWN;
            self.whole(format!("{more} more lines are no addresses either"), None);
        }
        if bad > good {
            let all = bad + good;
            self.whole(format!("{bad} of {all} entries are unreadable"), None);
            return None;
        }
        if forbidden > 0 {
            let entries = match forbidden {
                1 => "an entry".to_owned(),
                n => format!("{n} entries"),
            };
            self.whole(format!("this list holds {entries} that it may not"), None);
            return None;
        }
        if self.entries.is_empty() && !self.terms.may_be_empty {
            self.whole(
                "this list has no entry".into(),
                Some("if it may be empty, say `may_be_empty: true` in lists.yaml".into()),
            );
            return None;
        }
        Some(self.entries)
    }
}

/// Addresses, of which a list of visitors holds none: what the system's own networks use
/// (RFC 6890), loopback and link-local ones.
fn private(span: Span) -> Option<&'static str> {
    const V4: [(u32, u32, &str); 7] = [
        (0x0000_0000, 0x00FF_FFFF, "0.0.0.0/8"),
        (0x0A00_0000, 0x0AFF_FFFF, "10.0.0.0/8"),
        (0x6440_0000, 0x647F_FFFF, "100.64.0.0/10"),
        (0x7F00_0000, 0x7FFF_FFFF, "127.0.0.0/8"),
        (0xA9FE_0000, 0xA9FE_FFFF, "169.254.0.0/16"),
        (0xAC10_0000, 0xAC1F_FFFF, "172.16.0.0/12"),
        (0xC0A8_0000, 0xC0A8_FFFF, "192.168.0.0/16"),
    ];
    const V6: [(u128, u128, &str); 3] = [
        (0, 1, "::1"),
        (0xFC << 120, (0xFE << 120) - 1, "fc00::/7"),
        (0xFE80 << 112, (0xFEC0 << 112) - 1, "fe80::/10"),
    ];
    match span {
        Span::V4(first, last) => V4
            .iter()
            .find(|(from, to, _)| first <= *to && *from <= last)
            .map(|(_, _, name)| *name),
        Span::V6(first, last) => V6
            .iter()
            .find(|(from, to, _)| first <= *to && *from <= last)
            .map(|(_, _, name)| *name),
    }
}

/// An address, a network, or a range such as `192.0.2.1-192.0.2.9`; v4-mapped ones as IPv4.
///
/// # Errors
/// What to write instead.
pub fn span_of(entry: &str) -> Result<Span, String> {
    let parsed = if entry.contains('/') {
        entry.parse::<IpNet>().ok().map(Span::of)
    } else if let Ok(ip) = entry.parse::<IpAddr>() {
        Span::between(ip, ip)
    } else if let Some((first, last)) = entry.split_once('-') {
        match (first.trim().parse(), last.trim().parse()) {
            (Ok(first), Ok(last)) => return range(first, last),
            _ => None,
        }
    } else {
        None
    };
    parsed.ok_or_else(|| {
        "write one address (`192.0.2.7`, `2001:db8::7`), network (`192.0.2.0/24`) or range \
         (`192.0.2.1-192.0.2.9`) a line; a comment behind it begins with `#` or `;`"
            .into()
    })
}

/// # Errors
/// What to write instead.
fn range(first: IpAddr, last: IpAddr) -> Result<Span, String> {
    Span::between(first, last).ok_or_else(|| {
        "a range goes from a lower to a higher address of the same family".to_owned()
    })
}

/// What a failed download looks like.
fn not_a_list(text: &str, format: Format) -> Option<&'static str> {
    let start = text.trim_start_matches('\u{feff}').trim_start();
    let is_json = matches!(format, Format::Json | Format::JsonLines);
    match start.as_bytes().first()? {
        b'<' => Some("a web page (HTML) or XML"),
        b'{' | b'[' if !is_json => Some("JSON"),
        _ if start.chars().take(512).any(is_binary) => Some("a compressed or binary file"),
        _ => None,
    }
}

fn is_binary(c: char) -> bool {
    c.is_control() && !c.is_whitespace()
}

fn shortened(entry: &str) -> String {
    match entry.char_indices().nth(60) {
        Some((at, _)) => format!("{}…", &entry[..at]),
        None => entry.to_owned(),
    }
}

/// `sha256:` and the hash of `parts`, one after the other.
pub fn hash(parts: &[&[u8]]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part);
    }
    let mut text = "sha256:".to_owned();
    for byte in digest.finalize() {
        let _ = write!(text, "{byte:02x}");
    }
    text
}
