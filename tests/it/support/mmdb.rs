//! Small databases in MaxMind's format, for what no published one has.

use std::collections::BTreeMap;

use ipnet::Ipv4Net;

/// Where a record says its country.
#[derive(Clone, Copy)]
pub enum Shape {
    /// `country.iso_code`
    Nested,
    /// `country_code`
    Flat,
}

/// An IPv4 database with these networks and countries, of which none lies in another.
pub fn database(shape: Shape, built: u64, networks: &[(&str, &str)]) -> Vec<u8> {
    const NOTHING: usize = usize::MAX;
    let mut data = Vec::new();
    let mut offsets = BTreeMap::new();
    // Each node has two records: a node, nothing, or data (beyond `DATA`).
    const DATA: usize = 1 << 40;
    let mut nodes = vec![[NOTHING; 2]];
    for (network, country) in networks {
        let offset = *offsets.entry(*country).or_insert_with(|| {
            let offset = data.len();
            match shape {
                Shape::Nested => {
                    data.push(MAP | 1);
                    text(&mut data, "country");
                    data.push(MAP | 1);
                    text(&mut data, "iso_code");
                }
                Shape::Flat => {
                    data.push(MAP | 1);
                    text(&mut data, "country_code");
                }
            }
            text(&mut data, country);
            offset
        });
        let network: Ipv4Net = network.parse().expect("a network");
        let bits = network.network().to_bits();
        let mut node = 0;
        for depth in 0..network.prefix_len() {
            let side = (bits >> (31 - depth) & 1) as usize;
            if depth + 1 == network.prefix_len() {
                nodes[node][side] = DATA + offset;
                break;
            }
            if nodes[node][side] == NOTHING {
                nodes.push([NOTHING; 2]);
                nodes[node][side] = nodes.len() - 1;
            }
            node = nodes[node][side];
        }
    }
    let count = nodes.len();
    let mut bytes = Vec::new();
    for record in nodes.iter().flatten() {
        let value = match *record {
            NOTHING => count,
            data if data >= DATA => count + 16 + data - DATA,
            node => node,
        };
        bytes.extend(&(value as u32).to_be_bytes()[1..]);
    }
    bytes.extend([0; 16]);
    bytes.extend(data);
    bytes.extend(b"\xab\xcd\xefMaxMind.com");
    metadata(&mut bytes, count as u32, built);
    bytes
}

const MAP: u8 = 7 << 5;

fn text(out: &mut Vec<u8>, text: &str) {
    out.push(2 << 5 | text.len() as u8);
    out.extend(text.as_bytes());
}

fn metadata(out: &mut Vec<u8>, nodes: u32, built: u64) {
    out.push(MAP | 9);
    text(out, "node_count");
    out.push(6 << 5 | 4);
    out.extend(nodes.to_be_bytes());
    for (name, value) in [
        ("record_size", 24_u16),
        ("ip_version", 4),
        ("binary_format_major_version", 2),
        ("binary_format_minor_version", 0),
    ] {
        text(out, name);
        out.push(5 << 5 | 2);
        out.extend(value.to_be_bytes());
    }
    text(out, "build_epoch");
    // Types from 8 on stand in a second byte.
    out.extend([8, 9 - 7]);
    out.extend(built.to_be_bytes());
    text(out, "database_type");
    text(out, "Test-Country");
    text(out, "languages");
    out.extend([0, 11 - 7]);
    text(out, "description");
    out.push(MAP);
}
