//! Bytes that nobody wrote: whatever stands in a record, reading it ends in an account or an
//! error, in time and memory that its length bounds.

use doorward::engine::Partition;
use proptest::prelude::*;

use super::golden;
use crate::support::story::*;

/// One thing that happens to bytes.
#[derive(Clone, Debug)]
enum Damage {
    Set(prop::sample::Index, u8),
    Insert(prop::sample::Index, u8),
    Remove(prop::sample::Index),
    CutAt(prop::sample::Index),
    Repeat(prop::sample::Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        4 => (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        // Heads of long texts, lists and maps.
        2 => (at(), prop::sample::select(vec![0x9b, 0xbb, 0x7b, 0x5b, 0x9f, 0xbf, 0xff]))
            .prop_map(|(at, byte)| Damage::Set(at, byte)),
        1 => (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        1 => at().prop_map(Damage::Remove),
        1 => at().prop_map(Damage::CutAt),
        1 => at().prop_map(Damage::Repeat),
    ]
}

fn damaged(mut bytes: Vec<u8>, damages: &[Damage]) -> Vec<u8> {
    for damage in damages {
        if bytes.is_empty() {
            break;
        }
        let len = bytes.len();
        match damage {
            Damage::Set(at, byte) => bytes[at.index(len)] = *byte,
            Damage::Insert(at, byte) => bytes.insert(at.index(len), *byte),
            Damage::Remove(at) => drop(bytes.remove(at.index(len))),
            Damage::CutAt(at) => bytes.truncate(at.index(len)),
            Damage::Repeat(at) => {
                let part = bytes[at.index(len)..].to_vec();
                bytes.extend(part);
            }
        }
    }
    bytes
}

/// Reads `bytes` as a record; what came of it stays within what their length allows.
fn reads_in_bounds(story: &Story, bytes: &[u8]) {
    let mut partition = Partition::default();
    let empty = partition.bytes();
    let read = story
        .engine
        .restore_state(&mut partition, &[7; 16], Some(bytes));
    assert_eq!(read.is_ok(), partition.accounts() == 1);
    // The largest element, a rule's state, is written in no less than 14 bytes and takes
    // some 130.
    let most = empty + 8 * 1_024 + 32 * bytes.len();
    assert!(
        partition.bytes() <= most,
        "{} bytes of {}",
        partition.bytes(),
        bytes.len()
    );
    if read.is_ok() {
        // What was read can be written and read again.
        let key = doorward::engine::StateKey([7; 16]);
        if let Some(again) = story.engine.encode_state(&partition, key) {
            let mut other = Partition::default();
            story
                .engine
                .restore_state(&mut other, &key.0, Some(&again))
                .unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

    #[test]
    fn damaged_records_are_read_or_refused_and_nothing_else(
        at in any::<prop::sample::Index>(),
        damages in prop::collection::vec(damage(), 1..6),
    ) {
        let goldens = golden::all();
        let (_, record) = &goldens[at.index(goldens.len())];
        thread_local!(static STORY: Story = Story::new());
        STORY.with(|story| reads_in_bounds(story, &damaged(record.clone(), &damages)));
    }

    #[test]
    fn bytes_out_of_nowhere_are_read_or_refused_and_nothing_else(
        body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let bytes: Vec<u8> = std::iter::once(1).chain(body).collect();
        thread_local!(static STORY: Story = Story::new());
        STORY.with(|story| reads_in_bounds(story, &bytes));
    }
}
