//! The bytes of `doorward.state`: one record per account, and one of the partition itself, a
//! version byte and CBOR.
//!
//! Fields have numbers that are never used for something else; a field that an older
//! program wrote and this one does not know is skipped, one that it did not write is empty.
//! What cannot be read that way gets a new version byte, and a program refuses versions
//! that it does not know rather than guessing.

use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};

use crate::event::{Country, Timestamp};
use crate::rules::RuleKey;

use super::StateKey;
use super::account::{Account, Entry, Rest, Seen};
use super::budget::Budgets;
use super::output::{CaseState, Evidence, RecipientPart, Scope};
use super::window;

/// The version that this program writes.
const VERSION: u8 = 1;

/// Bytes for which room is made at once: a quiet account's record has no more.
const USUAL_BYTES: usize = 64;

/// A state record that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    #[error(
        "a state record has version {0}, which this doorward does not know: a newer one wrote \
         it; start that version or a newer one"
    )]
    UnknownVersion(u8),
    #[error("a state record is damaged: {0}")]
    Damaged(&'static str),
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Record {
    /// When it last changed, which nobody asks any more. Earlier versions need it.
    #[n(0)]
    _changed_min: u32,
    /// What stands in the account's own bytes, with the rule that it belongs to.
    #[n(1)]
    resident: Option<Resident>,
    #[n(2)]
    rest: Option<Box<Rest>>,
    /// Absent: false.
    #[n(3)]
    by_ip: Option<bool>,
    /// The end of a run in the account's own bytes, with the rule that it belongs to.
    #[n(4)]
    run_end: Option<RunEnd>,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct RunEnd {
    #[n(0)]
    rule: RuleKey,
    #[n(1)]
    at: Timestamp,
}

/// The rules whose memory stands in the account's own bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Residents {
    /// What was seen, and the last end of a run.
    pub seen: Option<RuleKey>,
    pub run: Option<RuleKey>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Resident {
    #[n(0)]
    rule: RuleKey,
    #[n(1)]
    seen: Seen,
}

/// The record of `account`; `None` where nothing is worth keeping.
pub fn encode_account(account: &Account, residents: Residents) -> Option<Vec<u8>> {
    let inline = account.inline_seen();
    let resident = residents
        .seen
        .filter(|_| inline != Seen::default())
        .map(|rule| Resident { rule, seen: inline });
    if resident.is_none() && account.rest.is_none() {
        return None;
    }
    let run_end = residents.run.zip(account.run_end());
    let mut bytes = Vec::with_capacity(USUAL_BYTES);
    bytes.push(VERSION);
    let mut encoder = Encoder::new(&mut bytes);
    encoder
        .map(3 + u64::from(account.by_ip()) + u64::from(run_end.is_some()))
        .and_then(|e| e.u8(0)?.u32(0)?.u8(1)?.encode(&resident))
        .and_then(|e| e.u8(2)?.encode(&account.rest))
        .ok()?;
    if account.by_ip() {
        encoder.u8(3).and_then(|e| e.bool(true)).ok()?;
    }
    if let Some((rule, at)) = run_end {
        let run_end = RunEnd { rule, at };
        encoder.u8(4).and_then(|e| e.encode(run_end)).ok()?;
    }
    Some(bytes)
}

/// The account in `bytes`.
///
/// # Errors
/// Where the bytes are damaged or of a version that this program does not know.
pub fn decode_account(
    key: StateKey,
    bytes: &[u8],
    residents: Residents,
) -> Result<Account, StateError> {
    let record: Record = decode_record(bytes)?;
    let mut account = Account::new(key);
    account.rest = record.rest;
    if record.by_ip == Some(true) {
        account.set_by_ip();
        // Earlier versions kept where mail would go, though nobody is mailed about an address.
        for rule in account.rest.iter_mut().flat_map(|rest| &mut rest.rules) {
            rule.contact = None;
        }
    }
    if let Some(held) = record.resident {
        let left = if Some(held.rule) == residents.seen {
            account.put_inline(held.seen)
        } else {
            Some(held.seen)
        };
        if let Some(seen) = left
            && let Some(state) = account.rule_mut(held.rule, None)
        {
            state.seen = Some(Box::new(seen));
        }
    }
    if let Some(RunEnd { rule, at }) = record.run_end {
        let fits = Some(rule) == residents.run && account.put_run_end(at);
        if !fits && let Some(state) = account.rule_mut(rule, None) {
            window::insert(&mut state.entries, Entry::end_of_run(at));
        }
    }
    Ok(account)
}

/// The partition's own record. To programs that know none it is an account of which nothing
/// is known.
#[derive(Encode, Decode)]
#[cbor(map)]
struct PartitionRecord<B> {
    #[n(0)]
    _account: u32,
    #[n(16)]
    budgets: Option<B>,
}

/// The own record of a partition; `None` where nothing is worth keeping.
pub fn encode_partition(budgets: &Budgets) -> Option<Vec<u8>> {
    if budgets.is_untouched() {
        return None;
    }
    let mut bytes = vec![VERSION];
    let record = PartitionRecord {
        _account: 0,
        budgets: Some(budgets),
    };
    encode(record, &mut bytes).ok()?;
    Some(bytes)
}

/// What is in a partition's own record.
///
/// # Errors
/// Where the bytes are damaged or of a version that this program does not know.
pub fn decode_partition(bytes: &[u8]) -> Result<Budgets, StateError> {
    let record: PartitionRecord<Budgets> = decode_record(bytes)?;
    Ok(record.budgets.unwrap_or_default())
}

/// The record in `bytes`, all of them.
fn decode_record<'b, R: Decode<'b, ()>>(bytes: &'b [u8]) -> Result<R, StateError> {
    let (version, body) = bytes
        .split_first()
        .ok_or(StateError::Damaged("it is empty"))?;
    if *version != VERSION {
        return Err(StateError::UnknownVersion(*version));
    }
    let mut decoder = Decoder::new(body);
    let record = decoder
        .decode()
        .map_err(|_| StateError::Damaged("its fields cannot be read"))?;
    if decoder.position() != body.len() {
        return Err(StateError::Damaged("bytes follow its end"));
    }
    Ok(record)
}

/// Elements for which room is made before they are read: what a damaged record claims must
/// not cost memory.
const ROOM: u64 = 64;

/// A list, in no more memory than it needs: a vector that grows by itself keeps room for
/// four where most accounts have one.
pub fn list<'b, C, T: Decode<'b, C>>(
    d: &mut Decoder<'b>,
    c: &mut C,
) -> Result<Vec<T>, decode::Error> {
    let Some(count) = d.array()? else {
        return Err(decode::Error::message("a list without a length"));
    };
    let mut list = Vec::with_capacity(count.min(ROOM) as usize);
    for _ in 0..count {
        list.push(d.decode_with(c)?);
    }
    Ok(list)
}

type EncodeResult<W> = Result<(), encode::Error<<W as encode::Write>::Error>>;

impl<C> Encode<C> for Timestamp {
    fn encode<W: encode::Write>(&self, e: &mut Encoder<W>, _: &mut C) -> EncodeResult<W> {
        e.i64(self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Timestamp {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        d.i64().map(Timestamp)
    }
}

impl<C> Encode<C> for RuleKey {
    fn encode<W: encode::Write>(&self, e: &mut Encoder<W>, _: &mut C) -> EncodeResult<W> {
        e.u64(self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for RuleKey {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        d.u64().map(RuleKey)
    }
}

/// Written as the name that the topics know it by.
macro_rules! by_name {
    ($($kind:ty: $missing:literal),+ $(,)?) => { $(
        impl<C> Encode<C> for $kind {
            fn encode<W: encode::Write>(&self, e: &mut Encoder<W>, _: &mut C) -> EncodeResult<W> {
                e.str(self.as_str())?.ok()
            }
        }

        impl<'b, C> Decode<'b, C> for $kind {
            fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
                <$kind>::parse(d.str()?).ok_or_else(|| decode::Error::message($missing))
            }
        }
    )+ };
}

by_name! {
    Country: "no country code",
    CaseState: "no state of a case",
    RecipientPart: "no recipient's part",
}

impl<C> Encode<C> for Scope {
    fn encode<W: encode::Write>(&self, e: &mut Encoder<W>, _: &mut C) -> EncodeResult<W> {
        e.bool(*self == Scope::All)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Scope {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        Ok(if d.bool()? {
            Scope::All
        } else {
            Scope::Unfamiliar
        })
    }
}

impl<C> Encode<C> for Evidence {
    fn encode<W: encode::Write>(&self, e: &mut Encoder<W>, c: &mut C) -> EncodeResult<W> {
        e.array(4)?
            .str(&self.id)?
            .i64(self.time.0)?
            .encode_with(self.ip, c)?
            .encode_with(self.country, c)?
            .ok()
    }
}

impl<'b, C> Decode<'b, C> for Evidence {
    fn decode(d: &mut Decoder<'b>, c: &mut C) -> Result<Self, decode::Error> {
        if d.array()? != Some(4) {
            return Err(decode::Error::message("evidence has four parts"));
        }
        Ok(Evidence {
            id: d.str()?.into(),
            time: Timestamp(d.i64()?),
            ip: d.decode_with(c)?,
            country: d.decode_with(c)?,
        })
    }
}
