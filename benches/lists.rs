//! A list of a million entries, addresses or networks: how long it takes to load, to ask, and
//! what it weighs; beside a hash set and a sorted vector of the same. Ends with 1 where
//! something is over its bound.
//!
//! `cargo bench --bench lists`; `DOORWARD_BENCH_ENTRIES` sets the size.

#![allow(clippy::expect_used, reason = "a benchmark fails by panicking")]

use std::collections::HashSet;
use std::fmt::Write as _;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::ExitCode;
use std::time::Instant;

use ipnet::IpNet;

use doorward::document::{Diagnostics, SourceFile};
use doorward::enrich::iplist::parse::{self, Terms};

const ENTRIES: usize = 1_000_000;
const LOOK_UPS: usize = 4_000_000;
/// Bounds: a load, and a look-up.
const MOST_SECONDS: f64 = 1.0;
const MOST_NS: f64 = 100.0;

fn main() -> ExitCode {
    if std::env::args().any(|arg| arg == "--test") {
        return ExitCode::SUCCESS;
    }
    let entries = std::env::var("DOORWARD_BENCH_ENTRIES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(ENTRIES);
    let v4 = |n: u64| {
        IpAddr::V4(Ipv4Addr::from_bits(
            spread(n) as u32 % 0xD000_0000 + 0x0B00_0000,
        ))
    };
    let v6 = |n: u64| {
        let low = u128::from(spread(n));
        IpAddr::V6(Ipv6Addr::from_bits(
            (0x2A00 << 112) | low << 48 | u128::from(n),
        ))
    };
    let network = |ip: IpAddr, bits: u8| {
        let net = IpNet::new(ip, bits).expect("a network");
        net.trunc().addr()
    };
    let mut within = true;
    within &= measure("IPv4 addresses", entries, "", &v4);
    within &= measure("IPv4 networks", entries, "/28", &|n| network(v4(n), 28));
    within &= measure("IPv6 addresses", entries, "", &v6);
    within &= measure("IPv6 networks", entries, "/64", &|n| network(v6(n), 64));
    match within {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Numbers that look like chance and are the same in every run (SplitMix64).
fn spread(n: u64) -> u64 {
    let mut x = n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// Of entries that are an address and `suffix`.
fn measure(kind: &str, entries: usize, suffix: &str, address: &dyn Fn(u64) -> IpAddr) -> bool {
    let addresses: Vec<IpAddr> = (0..entries as u64).map(address).collect();
    let mut text = String::new();
    for ip in &addresses {
        let _ = writeln!(text, "{ip}{suffix}");
    }
    let file = SourceFile::new("addresses.txt", text);
    let terms = Terms {
        allow: parse::Allow {
            private: true,
            ..parse::Allow::default()
        },
        ..Terms::default()
    };
    let begun = Instant::now();
    let read = parse::read(&file, &terms, &mut Diagnostics::default()).expect("a list");
    let set = read.entries.build();
    let seconds = begun.elapsed().as_secs_f64();

    let hashed: HashSet<IpAddr> = addresses.iter().copied().collect();
    let mut sorted = addresses.clone();
    sorted.sort_unstable();
    // Every other one stands in the list.
    let asked: Vec<IpAddr> = (0..LOOK_UPS as u64)
        .map(|n| match n % 2 {
            0 => addresses[(spread(n) % entries as u64) as usize],
            _ => address(n + entries as u64),
        })
        .collect();
    let ns = per_look_up(&asked, |ip| set.contains(*ip));
    let ns_hashed = per_look_up(&asked, |ip| hashed.contains(ip));
    let ns_sorted = per_look_up(&asked, |ip| sorted.binary_search(ip).is_ok());
    println!(
        "= lists: {entries} {kind} load in {seconds:.2} s, take {:.1} MB, are looked up in \
         {ns:.0} ns; a hash set {ns_hashed:.0} ns (ratio {:.2}), a binary search {ns_sorted:.0} \
         ns (ratio {:.2})",
        set.bytes() as f64 / 1e6,
        ns / ns_hashed,
        ns / ns_sorted,
    );
    seconds < MOST_SECONDS && ns < MOST_NS
}

fn per_look_up(asked: &[IpAddr], contains: impl Fn(&IpAddr) -> bool) -> f64 {
    let begun = Instant::now();
    let found = asked.iter().filter(|ip| contains(ip)).count();
    let ns = begun.elapsed().as_nanos() as f64 / asked.len() as f64;
    assert!(
        black_box(found) >= asked.len() / 2,
        "half of them are there"
    );
    ns
}
