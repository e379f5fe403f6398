//! Random failures, as long as one wants: `make soak`.

use std::time::{Duration, Instant};

use super::acts;
use crate::support::proxy::Mode;
use crate::support::stage::{self, BROKERS, INSTANCES, Scene, Stage};

/// Acts between two looks of the oracle, and rounds on one site before the next.
const ACTS: std::ops::RangeInclusive<usize> = 1..=4;
const ROUNDS: usize = 5;
/// One act in so many takes the whole cluster away.
const AWAY_ONCE_IN: usize = 20;
/// How long it is away in the first minutes, so that a short run has seen it, and later.
const AWAY: Duration = Duration::from_secs(70);
const AWAY_LONG: Duration = Duration::from_secs(10 * 60);

#[test]
#[ignore = "runs for SOAK_MINUTES (30); `make soak` runs it"]
fn soak() {
    let minutes = std::env::var("SOAK_MINUTES").map_or(30, |text| text.parse().expect("a number"));
    let seed = std::env::var("DOORWARD_SEED")
        .map_or_else(|_| fastrand::u64(..), |text| text.parse().expect("a seed"));
    println!("soak of {minutes} minutes; DOORWARD_SEED={seed} plays the same acts again");
    let Some(mut cluster) = stage::cluster() else {
        return;
    };
    let began = Instant::now();
    let lasts = Duration::from_secs(60 * minutes);
    let mut rng = fastrand::Rng::with_seed(seed);
    while began.elapsed() < lasts {
        let mut stage = Stage::new(cluster, rng.u64(..));
        for _ in 0..ROUNDS {
            let mut names = Vec::new();
            stage.during_traffic(|scene| {
                for _ in 0..rng.usize(ACTS) {
                    let name = act(scene, &mut rng, began.elapsed());
                    println!("{:>5} s  {name}", began.elapsed().as_secs());
                    names.push(name);
                }
            });
            let what = format!("seed {seed}: {}", names.join(", "));
            let (events, commands) = stage.assert_nothing_lost_nothing_twice(&what);
            println!("nothing lost, nothing twice: {events} events, {commands} commands");
            if began.elapsed() >= lasts {
                break;
            }
        }
        cluster = stage.end();
    }
}

/// Does something; its name.
fn act(scene: &mut Scene, rng: &mut fastrand::Rng, elapsed: Duration) -> String {
    let at = rng.usize(..INSTANCES);
    let seconds = |from: u64, to: u64, rng: &mut fastrand::Rng| {
        Duration::from_millis(rng.u64(from * 1_000..to * 1_000))
    };
    if rng.usize(..AWAY_ONCE_IN) == 0 {
        let so_long = if elapsed < AWAY_LONG { AWAY } else { AWAY_LONG };
        acts::away(scene, so_long);
        return format!("cluster away for {so_long:?}");
    }
    match rng.usize(..11) {
        0 => {
            acts::kill(scene, at);
            format!("instance {at} killed")
        }
        1 => {
            let away = seconds(1, 25, rng);
            acts::kill_and_leave(scene, at, away);
            format!("instance {at} killed, back after {away:?}")
        }
        2 => {
            let so_long = seconds(1, 20, rng);
            acts::freeze(scene, at, so_long);
            format!("instance {at} frozen for {so_long:?}")
        }
        3 | 4 => {
            let so_long = seconds(1, 20, rng);
            let how = if rng.bool() { Mode::Cut } else { Mode::Stalled };
            acts::cut_off(scene, at, how, so_long);
            format!("instance {at} {how:?} for {so_long:?}")
        }
        5 => {
            acts::rolling_restart(scene);
            "rolling restart".to_owned()
        }
        6 => {
            let broker = rng.usize(..BROKERS);
            if rng.bool() {
                acts::fill_disk(scene, broker);
                return format!("the disk of broker {broker} full");
            }
            acts::kill_broker(scene, broker);
            format!("broker {broker} killed")
        }
        7 => {
            let so_long = seconds(1, 20, rng);
            acts::freeze_in_a_rebalance(scene, at, so_long);
            format!("instance {at} frozen in a rebalance for {so_long:?}")
        }
        8 | 9 => {
            let (what, kind, then) = acts::TRAPS[rng.usize(..acts::TRAPS.len())];
            acts::trap(scene, at, what, kind, then);
            format!("instance {at}: {what}")
        }
        _ => {
            if rng.bool() {
                acts::slow(scene, at);
                return format!("instance {at} slowed");
            }
            acts::refuse_commands(scene);
            "commands refused".to_owned()
        }
    }
}
