//! Thousands of histories on a simulated cluster, each judged by a plain single pass.
//!
//! `DOORWARD_SEEDS=n` plays so many, `DOORWARD_SEED=n` one, with all that happens in it;
//! `DOORWARD_BUG=…` looks for one of the planted bugs alone.
//! ARCHITECTURE.md says how to read what a failing one prints.

mod bug;
mod fate;
mod host;
mod judge;
mod mailer;
mod people;
mod play;
mod shrink;
mod tale;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use doorward::event::Timestamp;

use bug::Bug;
use play::play;
use tale::Tale;

/// 2026-11-22T06:00:00Z, when every history begins.
const START: Timestamp = Timestamp(1_795_327_200_000);
/// Histories that are played where nobody says how many.
const HISTORIES: u64 = 2_000;
/// Histories in which a planted bug must be found; most are found in the first hundred.
const CHANCES: u64 = 12_000;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

#[test]
fn whatever_happens_nothing_is_lost_and_nothing_comes_twice() {
    if let Some(seed) = number("DOORWARD_SEED") {
        let tale = Tale::of(seed);
        let ending = play(&tale, None, true);
        println!("{tale}");
        for (at, what) in &ending.diary {
            println!("  {:>7.3} s  {what}", *at as f64 / 1_000.0);
        }
        println!("history {:016x}", ending.digest);
        assert!(
            ending.complaints.is_empty(),
            "{}",
            shrink::report(seed, None)
        );
        return;
    }
    let count = number("DOORWARD_SEEDS").unwrap_or(HISTORIES);
    let began = Instant::now();
    let (next, failed) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
    let [commands, held, mails, unanswered] = [const { AtomicUsize::new(0) }; 4];
    let work = || {
        // A later seed is not worth playing once an earlier one failed.
        while failed.load(Ordering::Relaxed) == u64::MAX {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= count {
                return;
            }
            let ending = play(&Tale::of(seed), None, false);
            commands.fetch_add(ending.commands, Ordering::Relaxed);
            held.fetch_add(ending.held, Ordering::Relaxed);
            mails.fetch_add(ending.mails, Ordering::Relaxed);
            unanswered.fetch_add(ending.unanswered, Ordering::Relaxed);
            if !ending.complaints.is_empty() {
                failed.fetch_min(seed, Ordering::Relaxed);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    println!(
        "{} histories in {:.1} s: {} commands, {} hits held, {} mails, {} unanswered",
        count.min(next.into_inner()),
        began.elapsed().as_secs_f64(),
        commands.into_inner(),
        held.into_inner(),
        mails.into_inner(),
        unanswered.into_inner(),
    );
    let failed = failed.into_inner();
    assert!(failed == u64::MAX, "{}", shrink::report(failed, None));
}

#[test]
fn one_seed_is_one_history_byte_for_byte() {
    for seed in 0..20 {
        let first = play(&Tale::of(seed), None, true);
        let again = thread::spawn(move || play(&Tale::of(seed), None, true));
        let again = again.join().expect("the same history");
        assert_eq!(first.diary, again.diary, "seed {seed}");
        assert_eq!(first.digest, again.digest, "seed {seed}");
    }
}

#[test]
fn every_planted_bug_is_found() {
    let chances = number("DOORWARD_SEEDS").unwrap_or(CHANCES);
    let mut unfound = Vec::new();
    let only = std::env::var("DOORWARD_BUG").ok();
    let wanted = |bug: &Bug| only.as_ref().is_none_or(|only| *only == format!("{bug:?}"));
    for bug in Bug::ALL.into_iter().filter(wanted) {
        let found = (0..chances).find_map(|seed| {
            let ending = play(&Tale::of(seed), Some(bug), false);
            let complaint = ending.complaints.into_iter().next()?;
            Some((seed, complaint))
        });
        match found {
            Some((seed, complaint)) => println!("{bug:?}: seed {seed}: {complaint:.140}"),
            None => unfound.push(bug),
        }
    }
    assert!(unfound.is_empty(), "not found: {unfound:?}");
}

#[test]
fn a_failing_history_becomes_a_short_story() {
    let seed = (0..CHANCES)
        .find(|seed| {
            let ending = play(&Tale::of(*seed), Some(Bug::StaleGeneration), false);
            !ending.complaints.is_empty()
        })
        .expect("the bug is found");
    let long = Tale::of(seed);
    let (short, ending) = shrink::shrink(&long, Some(Bug::StaleGeneration));
    assert!(!ending.complaints.is_empty());
    let items = |tale: &Tale| tale.traffic.len() + tale.faults.len();
    assert!(items(&short) * 3 < items(&long), "{short}");
    println!("{}", shrink::report(seed, Some(Bug::StaleGeneration)));
}
