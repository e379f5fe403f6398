//! Whether a set of rules passes the tests beside it, before it goes to work.

use std::ops::Range;
use std::sync::Arc;

use crate::builtin;
use crate::config::GeoIp;
use crate::document::{Diagnostics, Kind, SourceFile};
use crate::enrich::Facts;
use crate::enrich::geoip::GeoDb;
use crate::enrich::iplist::Lists;
use crate::rules::Mode;

use super::play::Player;
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
    play(&read, &shelf, geo, found);
}

/// Plays tests that were read with `shelf` and `geo`. Each that fails is an error in `found`;
/// each that passes only in another mode than the one that its rule is in, a warning.
pub fn play(files: &[TestFile], shelf: &Shelf, geo: Option<Arc<GeoDb>>, found: &mut Diagnostics) {
    let player = Player::new(shelf, geo);
    for TestFile { file, tests } in files {
        for test in tests {
            let Some(verdict) = verdict(&player, test) else {
                let message = format!("the rules of the test `{}` cannot be read", test.name);
                found.error(file, test.span.clone(), message, None);
                continue;
            };
            let (mode, span, problem) = match verdict {
                Verdict::Passes => continue,
                Verdict::PassesIn(mode, span, problem) => (Some(mode), span, problem),
                Verdict::Fails(span, problem) => (None, span, problem),
            };
            match mode {
                Some(mode) => found.doubt(
                    Kind::FailedTest,
                    file,
                    span,
                    format!(
                        "the test `{}` passes only in mode {}: {problem}",
                        test.name,
                        mode.as_str()
                    ),
                    Some(
                        "a reload takes such rules, since a rule must be put into another mode in \
                         a hurry; `doorward test` fails"
                            .into(),
                    ),
                ),
                None => found.mistake(
                    Kind::FailedTest,
                    file,
                    span,
                    format!("the test `{}` fails: {problem}", test.name),
                    Some(
                        "`doorward test` shows the whole timeline; mend the rule, or the test"
                            .into(),
                    ),
                ),
            }
        }
    }
}

/// The database that finds the countries of tests: the built-in one, since a test that passes
/// today must not fail tomorrow because a feed brought another.
pub fn database(geoip: &GeoIp, facts: &Facts) -> Option<Arc<GeoDb>> {
    match geoip.database {
        None => facts.geo.clone(),
        Some(_) => builtin::geoip().ok().map(Arc::new),
    }
}

/// What a test says of the rules, with the place and the words of what fails first.
enum Verdict {
    Passes,
    PassesIn(Mode, Range<usize>, String),
    Fails(Range<usize>, String),
}

/// `None` where the rules of the test cannot be read.
fn verdict(player: &Player<'_>, test: &Test) -> Option<Verdict> {
    let played = player.play(test)?;
    let failed = played
        .rows
        .iter()
        .find_map(|row| Some((row.span.clone(), row.problems.first()?.clone())));
    let Some((span, problem)) = failed else {
        return Some(Verdict::Passes);
    };
    let passes_in = |mode: &Mode| {
        player
            .play_in(test, Some(*mode))
            .is_some_and(|played| played.passed())
    };
    let mode = [Mode::Enforce, Mode::Shadow].into_iter().find(passes_in);
    Some(match mode {
        Some(mode) => Verdict::PassesIn(mode, span, problem),
        None => Verdict::Fails(span, problem),
    })
}
