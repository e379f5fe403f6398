//! A set of addresses as sorted ranges that do not overlap.
//!
//! An address, a network and a range from one address to another are the same to it. A
//! look-up is a search in every 64th start, which stay in the processor's cache, and one
//! among the 64 behind it. A million single IPv4 addresses take 8 MB, IPv6 32 MB.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::event::canonical_ip;

/// Ranges that one entry of the coarse index stands for.
const BLOCK: usize = 64;

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

    pub fn build(mut self) -> IpSet {
        self.v4.sort_unstable();
        self.v4.dedup();
        self.v6.sort_unstable();
        self.v6.dedup();
        IpSet {
            entries: self.v4.len() + self.v6.len(),
            v4: Ranges::new(self.v4),
            v6: Ranges::new(self.v6),
        }
    }
}

/// Addresses, networks and ranges of both families.
#[derive(Debug, Default)]
pub struct IpSet {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
    entries: usize,
}

impl IpSet {
    pub fn contains(&self, ip: IpAddr) -> bool {
        match canonical_ip(ip) {
            IpAddr::V4(v4) => self.v4.contains(v4.to_bits()),
            IpAddr::V6(v6) => self.v6.contains(v6.to_bits()),
        }
    }

    /// Distinct entries that it was made of, those that lie in others included.
    pub fn len(&self) -> usize {
        self.entries
    }

    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.v4.bytes() + self.v6.bytes()
    }
}

#[derive(Debug, Default)]
struct Ranges<T> {
    starts: Box<[T]>,
    ends: Box<[T]>,
    /// Every [`BLOCK`]th start.
    coarse: Box<[T]>,
}

impl<T: Copy + Ord> Ranges<T> {
    /// Of sorted ranges, which may overlap.
    fn new(sorted: Vec<(T, T)>) -> Ranges<T> {
        let mut starts: Vec<T> = Vec::with_capacity(sorted.len());
        let mut ends: Vec<T> = Vec::with_capacity(sorted.len());
        for (start, end) in sorted {
            match ends.last_mut() {
                Some(last) if start <= *last => *last = end.max(*last),
                _ => {
                    starts.push(start);
                    ends.push(end);
                }
            }
        }
        Ranges {
            coarse: starts.iter().step_by(BLOCK).copied().collect(),
            starts: starts.into_boxed_slice(),
            ends: ends.into_boxed_slice(),
        }
    }

    fn contains(&self, ip: T) -> bool {
        let block = self.coarse.partition_point(|start| *start <= ip);
        let Some(from) = block.checked_sub(1).map(|block| block * BLOCK) else {
            return false;
        };
        let to = (from + BLOCK).min(self.starts.len());
        let within = self.starts[from..to].partition_point(|start| *start <= ip);
        // At least the block's first start is not beyond it.
        ip <= self.ends[from + within - 1]
    }

    fn bytes(&self) -> usize {
        size_of_val(&*self.starts) + size_of_val(&*self.ends) + size_of_val(&*self.coarse)
    }
}
