//! Thousands of histories on a simulated cluster, each judged by a plain single pass.

mod bug;
mod fate;
mod host;
mod judge;
mod mailer;
mod people;
mod play;
mod tale;

use doorward::event::Timestamp;

use play::play;
use tale::Tale;

/// 2026-11-22T06:00:00Z, when every history begins.
const START: Timestamp = Timestamp(1_795_327_200_000);

#[test]
fn whatever_happens_nothing_is_lost_and_nothing_comes_twice() {
    let began = std::time::Instant::now();
    let from: u64 = std::env::var("DOORWARD_SEED").map_or(0, |s| s.parse().unwrap());
    let count: u64 = std::env::var("DOORWARD_SEEDS").map_or(20, |s| s.parse().unwrap());
    let (mut commands, mut mails) = (0, 0);
    let mut failed = 0;
    for seed in from..from + count {
        let ending = play(&Tale::of(seed), None, false);
        commands += ending.commands;
        mails += ending.mails;
        if !ending.complaints.is_empty() {
            failed += 1;
            println!("seed {seed}: {:#?}", ending.complaints.iter().take(4).collect::<Vec<_>>());
            if count == 1 {
                println!("{}", Tale::of(seed));
                for (at, line) in play(&Tale::of(seed), None, true).diary {
                    println!("{:>9.3} {line}", at as f64 / 1000.0);
                }
            }
        }
    }
    println!("{count} histories, {failed} failed, {commands} commands, {mails} mails, {:?}", began.elapsed());
    assert_eq!(failed, 0);
}

#[test]
fn every_planted_bug_is_found() {
    let most: u64 = std::env::var("DOORWARD_SEEDS").map_or(150, |s| s.parse().unwrap());
    for bug in bug::Bug::ALL {
        let found = (0..most).find_map(|seed| {
            let ending = play(&Tale::of(seed), Some(bug), false);
            (!ending.complaints.is_empty()).then(|| (seed, ending.complaints[0].clone()))
        });
        match found {
            Some((seed, why)) => println!("{bug:?}: seed {seed}: {:.160}", why),
            None => println!("{bug:?}: NOT FOUND in {most}"),
        }
    }
}
