//! Makes a failing history short: whatever can be left out while it still fails, is.

use std::fmt::Write as _;

use super::bug::Bug;
use super::play::{Ending, play};
use super::tale::Tale;

/// Histories that are played to shorten one.
const MOST: usize = 600;

/// The shortest tale found that fails in the same way, and how it ends.
pub fn shrink(tale: &Tale, bug: Option<Bug>) -> (Tale, Ending) {
    let mut search = Search {
        kind: kind(&play(tale, bug, false)),
        bug,
        left: MOST,
    };
    let mut best = tale.clone();
    for (hosts, shards) in [(1, 1), (2, 1)] {
        let fewer = Tale {
            hosts,
            shards,
            ..best.clone()
        };
        let fits = !best
            .faults
            .iter()
            .any(|fault| fault.what.host() >= Some(hosts));
        if hosts < best.hosts && fits && search.fails(&fewer) {
            best = fewer;
        }
    }
    let healthy = Tale {
        dead: None,
        ..best.clone()
    };
    if best.dead.is_some() && search.fails(&healthy) {
        best = healthy;
    }
    // Leaving out one thing may make another one needless.
    loop {
        let before = best.faults.len() + best.traffic.len();
        best = search.without(best, |tale| &mut tale.faults);
        best = search.without(best, |tale| &mut tale.traffic);
        if best.faults.len() + best.traffic.len() == before || search.left == 0 {
            break;
        }
    }
    let ending = play(&best, bug, true);
    (best, ending)
}

struct Search {
    kind: String,
    bug: Option<Bug>,
    left: usize,
}

impl Search {
    fn fails(&mut self, tale: &Tale) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        kind(&play(tale, self.bug, false)) == self.kind
    }

    /// Delta debugging: leaves out halves, quarters, and at last single items of a list.
    fn without<T: Clone>(&mut self, mut best: Tale, list: fn(&mut Tale) -> &mut Vec<T>) -> Tale {
        let mut size = list(&mut best).len().div_ceil(2);
        while size > 0 {
            let mut at = 0;
            while at < list(&mut best).len() {
                let mut tried = best.clone();
                let items = list(&mut tried);
                let end = (at + size).min(items.len());
                items.drain(at..end);
                if self.fails(&tried) {
                    best = tried;
                } else {
                    at += size;
                }
            }
            size = if size == 1 { 0 } else { size.div_ceil(2) };
        }
        best
    }
}

/// What a history complains of, without the names in it: a shorter one must not fail for
/// another reason.
fn kind(ending: &Ending) -> String {
    let Some(first) = ending.complaints.first() else {
        return String::new();
    };
    let words = first.split([' ', ':']);
    words
        .filter(|word| word.len() > 2 && word.chars().all(char::is_alphabetic))
        .take(5)
        .collect()
}

/// The story of a failing seed, as a test prints it.
pub fn report(seed: u64, bug: Option<Bug>) -> String {
    let (tale, ending) = shrink(&Tale::of(seed), bug);
    let mut text = format!(
        "seed {seed} fails; run it again with\n\
         DOORWARD_SEED={seed} cargo test --test it simulation::whatever -- --nocapture\n\n\
         What is wrong:\n"
    );
    for complaint in ending.complaints.iter().take(8) {
        let _ = writeln!(text, "  {complaint}");
    }
    let _ = writeln!(text, "\nThe shortest such story, {tale}");
    let _ = writeln!(text, "What happened:");
    for (at, what) in &ending.diary {
        let _ = writeln!(text, "  {:>7.3} s  {what}", *at as f64 / 1_000.0);
    }
    text
}
