//! Why a rule decided nothing, in the few words that tests compare and reports show.

use crate::engine::trace::{Off, Said, Standing};

/// `4 of 5`, `late`, `reason does not match`; `None` where it decided.
pub fn why(said: &Said) -> Option<String> {
    let words = match said {
        Said::Hit(_) => return None,
        Said::Counted(Standing { value, needed, .. })
        | Said::Redundant(Standing { value, needed, .. }) => format!("{value} of {needed}"),
        Said::Off(Off::Mode) => "off".to_owned(),
        Said::Off(Off::ListMissing) => "list missing".to_owned(),
        Said::Off(Off::DatabaseMissing) => "no database".to_owned(),
        Said::NotMatching(unmet) => format!("{} does not match", unmet.field),
        Said::Unkeyed { field } => format!("no {field}"),
        Said::NoValue { field } => format!("no {field}"),
        Said::NoCountry(_) => "no country".to_owned(),
        Said::Deleted => "account deleted".to_owned(),
        Said::BeforeCut { .. } => "before the answer".to_owned(),
        Said::Late { .. } => "late".to_owned(),
        Said::Duplicate => "duplicate".to_owned(),
        Said::NoRoom => "too many users".to_owned(),
        Said::EndedRun { length } => format!("ended a run of {length}"),
        Said::Learned { .. } => "learned".to_owned(),
        Said::Known { .. } => "known".to_owned(),
        Said::Moved { .. } => "moved on the map".to_owned(),
        Said::NotTaught { .. } => "not taught".to_owned(),
        Said::Ignored { exception } => format!("ignored by {exception}"),
    };
    Some(words)
}
