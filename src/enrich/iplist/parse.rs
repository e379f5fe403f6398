//! The text of a list: one address or network a line, `#` and `;` begin a comment.

use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};
use sha2::{Digest, Sha256};

use super::IpSet;
use crate::document::{Diagnostics, SourceFile};

/// Bad lines of one file that are shown one by one; the rest are only counted.
const SHOWN: usize = 5;

/// Reads one file of a list. Each bad line is an error in `found` and left out; `None`
/// where the text is no list at all, or most of it is not.
pub fn read(file: &Arc<SourceFile>, may_be_empty: bool, found: &mut Diagnostics) -> Option<IpSet> {
    if let Some(what) = not_a_list(&file.text) {
        found.error(
            file,
            0..file.text.lines().next().map_or(0, str::len),
            format!("this is {what}, not a list of addresses"),
            Some("write one address or network a line; look at what your download fetched".into()),
        );
        return None;
    }
    let mut set = IpSet::default();
    let (mut good, mut bad) = (0_usize, 0_usize);
    let text = file.text.trim_start_matches('\u{feff}');
    let mut offset = file.text.len() - text.len();
    for line in text.split_inclusive('\n') {
        let entry = line.split(['#', ';']).next().unwrap_or("").trim();
        if !entry.is_empty() {
            match network(entry) {
                Ok(network) => {
                    good += 1;
                    set.insert(network);
                }
                Err(help) => {
                    bad += 1;
                    if bad <= SHOWN {
                        let start = offset + line.find(entry).unwrap_or(0);
                        found.error(
                            file,
                            start..start + entry.len(),
                            format!("`{}` is no address and no network", shortened(entry)),
                            Some(help),
                        );
                    }
                }
            }
        }
        offset += line.len();
    }
    // What concerns the file as a whole points at no line.
    let whole = SourceFile::new(file.name.as_str(), "");
    if bad > SHOWN {
        found.error(
            &whole,
            0..0,
            format!("{} more lines are no addresses either", bad - SHOWN),
            None,
        );
    }
    if bad > good {
        found.error(
            &whole,
            0..0,
            format!("{bad} of {} entries are unreadable", bad + good),
            None,
        );
        return None;
    }
    if set.is_empty() && !may_be_empty {
        found.error(
            &whole,
            0..0,
            "this list has no entry",
            Some("if it may be empty, say `may_be_empty: true` in lists.yaml".into()),
        );
        return None;
    }
    Some(set)
}

/// An address or network; v4-mapped ones as IPv4.
///
/// # Errors
/// What to write instead.
pub fn network(entry: &str) -> Result<IpNet, String> {
    let parsed = match entry.split_once('/') {
        None => entry.parse::<IpAddr>().ok().map(IpNet::from),
        Some(_) => entry.parse::<IpNet>().ok(),
    };
    let Some(network) = parsed else {
        return Err(
            "write one address (`192.0.2.7`, `2001:db8::7`) or network (`192.0.2.0/24`) a line; \
             after it only a comment may follow, with `#` or `;`"
                .into(),
        );
    };
    if network.prefix_len() == 0 {
        return Err("it would mean every address there is; remove the line".into());
    }
    Ok(unmapped(network))
}

/// `::ffff:192.0.2.0/120` is `192.0.2.0/24`.
fn unmapped(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else {
        return network;
    };
    let v4 = v6.addr().to_ipv4_mapped();
    match (v4, v6.prefix_len().checked_sub(96)) {
        (Some(v4), Some(prefix)) => Ipv4Net::new(v4, prefix).map_or(IpNet::V6(v6), IpNet::V4),
        _ => IpNet::V6(v6),
    }
}

/// What a failed download looks like.
fn not_a_list(text: &str) -> Option<&'static str> {
    let start = text.trim_start_matches('\u{feff}').trim_start();
    match start.as_bytes().first()? {
        b'<' => Some("a web page (HTML) or XML"),
        b'{' | b'[' => Some("JSON"),
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
