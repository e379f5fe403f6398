//! A set of addresses: single ones hashed, networks and ranges sorted and indexed.
//!
//! Nearly every entry of a large list is a single address. Hashed, it costs one read of
//! memory that is not in the processor's cache, whatever the addresses have in common; a
//! search among a million costs several. Ranges are found by their leading bits in a table,
//! and among those of one place in it by a search.

use std::hash::Hash;
use std::net::IpAddr;

use hashbrown::HashSet;
use ipnet::IpNet;

use crate::event::canonical_ip;

/// Most leading bits that the table of ranges goes by: 4 MB.
const MOST_BITS: u32 = 20;

/// Addresses from the first to the last, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    V4(u32, u32),
    V6(u128, u128),
}

impl Span {
    /// From `first` to `last`; `None` where that is no range. Mapped addresses are IPv4.
    pub fn between(first: IpAddr, last: IpAddr) -> Option<Span> {
        match (canonical_ip(first), canonical_ip(last)) {
            (IpAddr::V4(first), IpAddr::V4(last)) if first <= last => {
                Some(Span::V4(first.to_bits(), last.to_bits()))
            }
            (IpAddr::V6(first), IpAddr::V6(last)) if first <= last => {
                Some(Span::V6(first.to_bits(), last.to_bits()))
            }
            _ => None,
        }
    }

    /// A whole network; host bits are ignored.
    pub fn of(network: IpNet) -> Span {
        let whole = match network {
            IpNet::V4(net) => Span::V4(net.network().to_bits(), net.broadcast().to_bits()),
            IpNet::V6(net) => Span::V6(net.network().to_bits(), net.broadcast().to_bits()),
        };
        // Only a network within ::ffff:0:0/96 has both ends mapped.
        Span::between(network.network(), network.broadcast()).unwrap_or(whole)
    }

    pub fn overlaps(self, other: Span) -> bool {
        match (self, other) {
            (Span::V4(a, b), Span::V4(c, d)) => a <= d && c <= b,
            (Span::V6(a, b), Span::V6(c, d)) => a <= d && c <= b,
            _ => false,
        }
    }

    /// Whether it takes in more than an IPv4 /8 or an IPv6 /16.
    pub fn is_wide(self) -> bool {
        match self {
            Span::V4(first, last) => last - first >= 1 << 24,
            Span::V6(first, last) => last - first >= 1 << 112,
        }
    }
}

/// What becomes an [`IpSet`].
#[derive(Debug, Default)]
pub struct Builder {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl Builder {
    pub fn insert(&mut self, span: Span) {
        match span {
            Span::V4(first, last) => self.v4.push((first, last)),
            Span::V6(first, last) => self.v6.push((first, last)),
        }
    }

    /// Everything in `other` too.
    pub fn extend(&mut self, other: Builder) {
        self.v4.extend(other.v4);
        self.v6.extend(other.v6);
    }

    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    pub fn build(self) -> IpSet {
        IpSet {
            v4: Addresses::new(self.v4),
            v6: Addresses::new(self.v6),
        }
    }
}

/// Addresses, networks and ranges of both families.
#[derive(Debug, Default)]
pub struct IpSet {
    v4: Addresses<u32>,
    v6: Addresses<u128>,
}

impl IpSet {
    /// Whether `ip` lies in it; a mapped address is IPv4.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(v4) => self.v4.contains(v4.to_bits()),
            IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
                Some(v4) => self.v4.contains(v4.to_bits()),
                // From where it stands: taken apart and put together again it would wait
                // for the writes before, and with it for the last look-up's memory.
                None => self.v6.contains(v6.to_bits()),
            },
        }
    }

    /// Distinct entries that it was made of, those that lie in others included.
    pub fn len(&self) -> usize {
        self.v4.entries() + self.v6.entries()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.v4.bytes() + self.v6.bytes()
    }
}

/// Addresses of one family.
#[derive(Debug, Default)]
struct Addresses<T> {
    single: HashSet<T>,
    ranges: Ranges<T>,
    /// Distinct ranges before those that overlap became one.
    ranges_given: usize,
}

impl<T: Copy + Ord + Hash + Into<u128>> Addresses<T> {
    fn new(spans: Vec<(T, T)>) -> Addresses<T> {
        let (single, mut ranges): (Vec<_>, Vec<_>) =
            spans.into_iter().partition(|(first, last)| first == last);
        ranges.sort_unstable();
        ranges.dedup();
        Addresses {
            single: single.into_iter().map(|(ip, _)| ip).collect(),
            ranges_given: ranges.len(),
            ranges: Ranges::new(ranges),
        }
    }

    fn contains(&self, ip: T) -> bool {
        self.single.contains(&ip) || self.ranges.contains(ip)
    }

    fn entries(&self) -> usize {
        self.single.len() + self.ranges_given
    }

    fn bytes(&self) -> usize {
        self.single.allocation_size() + self.ranges.bytes()
    }
}

/// Sorted ranges that do not overlap.
#[derive(Debug, Default)]
struct Ranges<T> {
    ranges: Box<[(T, T)]>,
    /// For each value of the leading bits, how many ranges start below it; and one more.
    below: Box<[u32]>,
    /// Bits of an address, counted from the first start, that are not leading ones: fewer
    /// than it has, since two ranges differ in one bit at least, and one is all in one place.
    shift: u32,
}

impl<T: Copy + Ord + Into<u128>> Ranges<T> {
    /// Of sorted ranges, which may overlap.
    fn new(sorted: Vec<(T, T)>) -> Ranges<T> {
        let mut ranges: Vec<(T, T)> = Vec::with_capacity(sorted.len());
        for (start, end) in sorted {
            match ranges.last_mut() {
                Some((_, last)) if start <= *last => *last = end.max(*last),
                _ => ranges.push((start, end)),
            }
        }
        let (Some((first, _)), Some((last, _))) = (ranges.first(), ranges.last()) else {
            return Ranges {
                ranges: Box::default(),
                below: Box::default(),
                shift: 0,
            };
        };
        let (first, last): (u128, u128) = ((*first).into(), (*last).into());
        let width = u128::BITS - (last - first).leading_zeros();
        let shift = width.saturating_sub(ranges.len().ilog2().min(MOST_BITS));
        let place = |start: u128| ((start - first) >> shift) as usize;
        let mut below = vec![0; place(last) + 2];
        for (start, _) in &ranges {
            below[place((*start).into()) + 1] += 1;
        }
        let mut sum = 0;
        for count in &mut below {
            sum += *count;
            *count = sum;
        }
        Ranges {
            ranges: ranges.into_boxed_slice(),
            below: below.into_boxed_slice(),
            shift,
        }
    }

    fn contains(&self, ip: T) -> bool {
        let Some((first, _)) = self.ranges.first() else {
            return false;
        };
        let Some(beyond) = ip.into().checked_sub((*first).into()) else {
            return false;
        };
        // Addresses after the last start are in its place.
        let place = (beyond >> self.shift).min(self.below.len() as u128 - 2) as usize;
        let (from, to) = (self.below[place] as usize, self.below[place + 1] as usize);
        let within = self.ranges[from..to].partition_point(|(start, _)| *start <= ip);
        // None before it only where nothing starts in this place and below.
        match (from + within).checked_sub(1) {
            Some(at) => ip <= self.ranges[at].1,
            None => false,
        }
    }

    fn bytes(&self) -> usize {
        size_of_val(&*self.ranges) + size_of_val(&*self.below)
    }
}
