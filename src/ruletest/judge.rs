//! Whether a set of rules passes the tests beside it, before it goes to work.

use std::sync::Arc;

use crate::document::{Diagnostics, SourceFile};
use crate::enrich::geoip::GeoDb;
use crate::enrich::iplist::Lists;
use crate::rules::Mode;

use super::play::{Played, Player};
use super::{Known, Shelf, Test, TestFile, parse};

/// Plays the tests in the files `tests` on the rules in the files `rules`. Each that fails,
/// and each mistake in a file, is an error in `found` at its place.
///
/// Which mode a rule is in is a matter of its roll-out: to set it to `shadow`, `enforce` or
/// `off` must never be refused because its tests were written for another.
pub fn judge(
    rules: &[Arc<SourceFile>],
    tests: &[Arc<SourceFile>],
    lists: &Lists,
    geo: Option<Arc<GeoDb>>,
    found: &mut Diagnostics,
) {
    let Some(shelf) = Shelf::new(rules, lists, found) else {
        return;
    };
    let known = Known {
        shelf: &shelf,
        geo: geo.as_deref(),
    };
    let read: Vec<TestFile> = tests
        .iter()
        .filter_map(|file| parse::read(file, &known, found))
        .collect();
    let player = Player::new(&shelf, geo.clone());
    for TestFile { file, tests } in &read {
        for test in tests {
            let Some(played) = in_some_mode(&player, test) else {
                let message = format!("the rules of the test `{}` cannot be read", test.name);
                found.error(file, test.span.clone(), message, None);
                continue;
            };
            let failed = played
                .rows
                .iter()
                .find_map(|row| Some((row, row.problems.first()?)));
            if let Some((row, problem)) = failed {
                let message = format!("the test `{}` fails: {problem}", test.name);
                let help = "`doorward test` shows the whole timeline; mend the rule, or the test";
                found.error(file, row.span.clone(), message, Some(help.to_owned()));
            }
        }
    }
}

/// As the rules stand; where that fails, in a mode in which it passes, if there is one.
fn in_some_mode(player: &Player<'_>, test: &Test) -> Option<Played> {
    let first = player.play(test)?;
    if first.passed() {
        return Some(first);
    }
    let again = [Mode::Enforce, Mode::Shadow].into_iter();
    let passed = again
        .filter_map(|mode| player.play_in(test, Some(mode)))
        .find(Played::passed);
    Some(passed.unwrap_or(first))
}
