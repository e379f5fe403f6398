//! Cases that are over: their details are gone from the account, and only what it takes to
//! remove their records from `doorward.cases` is left.

use minicbor::{Decode, Encode};

use crate::event::{DAY_MS, Timestamp};

use super::account::{Account, Rest, boxed, list_bytes, text_bytes};
use super::case::Case;
use super::output::CaseId;
use super::recovery::Recovery;

/// The record of a case stays in `doorward.cases` this long after the case was closed.
pub const KEEP_LISTED_MS: i64 = 30 * DAY_MS;
/// Cases of one account that are remembered; past it the oldest record goes early.
pub const MAX_ENDED: usize = 32;

/// The ended cases of one account.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Ended {
    /// Timers are published under the account's name, which its key does not tell.
    #[n(0)]
    pub account: Box<str>,
    #[n(1)]
    pub cases: Vec<EndedCase>,
}

/// A case of which only the record in `doorward.cases` is left.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct EndedCase {
    #[n(0)]
    pub id: Box<str>,
    /// Broker time.
    #[n(1)]
    pub closed: Timestamp,
}

impl Ended {
    /// The case whose record goes next, and when.
    pub fn next(&self) -> Option<(&str, Timestamp)> {
        let oldest = self.cases.iter().min_by_key(|case| case.closed)?;
        let keep_ms = if self.cases.len() > MAX_ENDED {
            0
        } else {
            KEEP_LISTED_MS
        };
        Some((&oldest.id, oldest.closed.plus_ms(keep_ms)))
    }

    /// Forgets the cases whose records are to go by broker time `now`, and names them.
    pub fn take_due(&mut self, now: Timestamp) -> Vec<CaseId> {
        let mut due = Vec::new();
        while let Some(id) = self
            .next()
            .filter(|(_, at)| *at <= now)
            .map(|(id, _)| Box::<str>::from(id))
        {
            self.cases.retain(|case| case.id != id);
            due.push(CaseId(id.into()));
        }
        due
    }

    /// Bytes of a box with it.
    pub fn heap_bytes(&self) -> usize {
        boxed::<Ended>()
            + text_bytes(&self.account)
            + list_bytes(&self.cases)
            + self
                .cases
                .iter()
                .map(|case| text_bytes(&case.id))
                .sum::<usize>()
    }
}

impl Rest {
    fn end(&mut self, account: &str, id: Box<str>, closed: Timestamp) {
        let ended = self.ended.get_or_insert_with(|| {
            Box::new(Ended {
                account: account.into(),
                cases: Vec::new(),
            })
        });
        if ended.cases.is_empty() {
            ended.cases.reserve_exact(1);
        }
        ended.cases.push(EndedCase { id, closed });
    }
}

impl Account {
    /// Makes `case` the account's own; a closed one before it is over with that.
    pub fn begin_case(&mut self, case: Case) {
        let rest = self.rest_mut();
        if let Some(before) = rest.case.replace(Box::new(case)) {
            let closed = before.closed_at.unwrap_or(before.updated);
            rest.end(&before.account, before.id.clone(), closed);
        }
    }

    /// The same for a recovery.
    pub fn begin_recovery(&mut self, recovery: Recovery) {
        let rest = self.rest_mut();
        let recoveries = rest.recoveries.get_or_insert_default();
        if let Some(before) = recoveries.current.replace(Box::new(recovery)) {
            let closed = before.closed_at.unwrap_or(before.updated);
            rest.end(&before.account, before.id.clone(), closed);
        }
    }

    /// Lets go of what was closed so long ago that it is over. `true` where the durable
    /// record changed with that.
    pub fn retire(&mut self, now: Timestamp) -> bool {
        let Some(rest) = self.rest.as_mut() else {
            return false;
        };
        let case = rest.case.take_if(|case| case.is_over(now));
        let recovery = rest
            .recoveries
            .as_mut()
            .and_then(|recoveries| recoveries.current.take_if(|held| held.is_over(now)));
        if let Some(case) = &case {
            let closed = case.closed_at.unwrap_or(case.updated);
            rest.end(&case.account, case.id.clone(), closed);
        }
        if let Some(recovery) = &recovery {
            let closed = recovery.closed_at.unwrap_or(recovery.updated);
            rest.end(&recovery.account, recovery.id.clone(), closed);
        }
        case.is_some() || recovery.is_some()
    }

    /// Every case whose record may stand in `doorward.cases`.
    pub fn case_ids(&self) -> Vec<CaseId> {
        let Some(rest) = self.rest.as_ref() else {
            return Vec::new();
        };
        let case = rest.case.as_deref().map(Case::case_id);
        let recovery = self.recovery().map(Recovery::case_id);
        let ended = rest.ended.iter().flat_map(|ended| &ended.cases);
        case.into_iter()
            .chain(recovery)
            .chain(ended.map(|case| CaseId((&*case.id).into())))
            .collect()
    }

    /// Whether a case of this id is over.
    pub fn has_ended(&self, id: &str) -> bool {
        let ended = self.rest.as_ref().and_then(|rest| rest.ended.as_ref());
        ended.is_some_and(|ended| ended.cases.iter().any(|case| *case.id == *id))
    }
}
