//! Sets of addresses, against a look at each entry in turn.

use std::net::IpAddr;

use doorward::enrich::iplist::ranges::{Builder, Span};
use proptest::prelude::*;

/// A range from its first address, and how many follow.
type Range = (u128, u128);

#[derive(Clone, Copy, Debug)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn bits(self) -> u32 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }

    fn address(self, n: u128) -> IpAddr {
        match self {
            Family::V4 => IpAddr::from((n as u32).to_be_bytes()),
            Family::V6 => IpAddr::from(n.to_be_bytes()),
        }
    }
}

/// Ranges far apart or close together, short or long, one or many, at any place; and numbers
/// to ask for.
fn ranges() -> impl Strategy<Value = (Family, Vec<Range>, Vec<u128>)> {
    let family = prop_oneof![Just(Family::V4), Just(Family::V6)];
    family
        .prop_flat_map(|family| {
            let bits = family.bits();
            (Just(family), any::<u128>(), 1..=bits, 0..=bits)
        })
        .prop_flat_map(|(family, base, apart, long)| {
            let all = ones(family.bits());
            let base = base & all & !ones(apart);
            let range = (any::<u128>(), any::<u128>()).prop_map(move |(first, more)| {
                let first = base | first & ones(apart);
                (first, (more & ones(long)).min(all - first))
            });
            let asked = any::<u128>().prop_map(move |n| n & all);
            (
                Just(family),
                prop::collection::vec(range, 1..100),
                prop::collection::vec(asked, 20),
            )
        })
}

/// So many ones at the end.
fn ones(bits: u32) -> u128 {
    u128::MAX.checked_shr(128 - bits).unwrap_or(0)
}

proptest! {
    #[test]
    fn an_address_is_found_exactly_where_a_range_holds_it((family, ranges, asked) in ranges()) {
        let mut builder = Builder::default();
        for (first, more) in &ranges {
            let span = Span::between(family.address(*first), family.address(first + more));
            builder.insert(span.expect("a range"));
        }
        let set = builder.build();
        let all = ones(family.bits());
        let edges = ranges.iter().flat_map(|(first, more)| {
            let last = first + more;
            [first.saturating_sub(1), *first, last, last.saturating_add(1).min(all)]
        });
        for n in edges.chain(asked) {
            let held = ranges.iter().any(|(first, more)| (*first..=first + more).contains(&n));
            prop_assert_eq!(set.contains(family.address(n)), held, "{}", family.address(n));
        }
    }
}
