//! What happens in a history: a list of traffic and a list of misfortunes, both drawn from
//! one seed, and both able to lose items, so that a failing history can be made short.

mod more;

use std::fmt;

use doorward::sim::network::{Ask, Trouble};
use doorward::sim::topic::Topic;

/// One history before it happens.
#[derive(Clone, Debug)]
pub struct Tale {
    pub seed: u64,
    pub partitions: i32,
    /// Processes, and shards in each.
    pub hosts: usize,
    pub shards: usize,
    /// The account whose owner's mailbox takes nothing.
    pub dead: Option<u8>,
    pub traffic: Vec<Moment>,
    pub faults: Vec<Fault>,
}

/// One message of the login pipeline, or something that a person does.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Milliseconds from the beginning.
    pub at: u64,
    pub what: What,
}

#[derive(Clone, Copy, Debug)]
pub enum What {
    Event {
        id: u32,
        account: u8,
        kind: Kind,
        /// How long ago it happened when the broker receives it.
        late_ms: i64,
    },
    /// The pipeline publishes the event of this id again.
    Again { id: u32 },
    /// A message that is no event.
    Junk { account: u8 },
    /// An owner follows the link of a mail.
    Answer { mail: u8, answer: Answer },
    /// An operator asks for something about an account.
    Operate { account: u8, request: Request },
    /// Nothing, for so long: all clocks move at once, when everybody is idle.
    Leap { minutes: u64 },
}

#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Login {
        country: u8,
    },
    WrongPassword {
        ip: u8,
    },
    WrongCode,
    RightCode,
    Reset {
        malicious: bool,
    },
    PasswordChanged,
    Stolen,
    Deleted,
    /// A recovery is asked for; with a `role`, of a team's account.
    Recovery {
        role: bool,
    },
}

#[derive(Clone, Copy, Debug)]
pub enum Answer {
    Me,
    NotMe,
    Resend,
    CancelRecovery,
}

#[derive(Clone, Copy, Debug)]
pub enum Request {
    Unlock,
    /// The lock of this rule was a mistake.
    Undo {
        rule: &'static str,
    },
    Resend,
}

/// One misfortune.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub at: u64,
    pub what: Mishap,
}

#[derive(Clone, Copy, Debug)]
pub enum Mishap {
    /// The process dies at its `calls`-th request from here on, and comes back later.
    Kill {
        host: usize,
        calls: u32,
        back_ms: u64,
    },
    /// It is asked to end, does, and comes back.
    Stop {
        host: usize,
        back_ms: u64,
    },
    /// It stands still from its `calls`-th request on.
    Freeze {
        host: usize,
        calls: u32,
        ms: u64,
    },
    /// A request meets trouble.
    Meet {
        host: usize,
        ask: Ask,
        spare: u32,
        trouble: Trouble,
    },
    /// It reaches no broker.
    Cut {
        host: usize,
        ms: u64,
    },
    /// It is sent no records.
    Starve {
        host: usize,
        ms: u64,
    },
    /// Brokers restart: coordinators or leaders are away.
    MoveGroup {
        ms: u64,
    },
    MoveTransactions {
        ms: u64,
    },
    MoveLeaders {
        ms: u64,
    },
    /// For a while, markers for this topic (`None`: the offsets) land late.
    SlowMarkers {
        topic: Option<Topic>,
        ms: u64,
    },
    /// One more process joins for a while.
    Guest {
        stay_ms: u64,
    },
    /// A second process starts under the same name.
    Twin {
        host: usize,
    },
    /// It takes over the other of two rule sets that decide alike.
    Reload {
        host: usize,
    },
    /// The machine's time of day is set wrong.
    Clock {
        host: usize,
        ms: i64,
    },
    /// A mailer dies, or stands still, at its `calls`-th mail or receipt from here on.
    KillMailer {
        mailer: usize,
        calls: u32,
    },
    FreezeMailer {
        mailer: usize,
        calls: u32,
        ms: u64,
    },
    /// How the mail server answers the next attempts.
    Smtp {
        attempts: u8,
        answer: Smtp,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Smtp {
    Later,
    Never,
    /// Taken, and the connection is cut before the answer.
    Unanswered,
    Slow {
        ms: u64,
    },
}

impl Mishap {
    /// The process that it is about, where it is about one.
    pub fn host(self) -> Option<usize> {
        match self {
            Mishap::Kill { host, .. }
            | Mishap::Stop { host, .. }
            | Mishap::Freeze { host, .. }
            | Mishap::Meet { host, .. }
            | Mishap::Cut { host, .. }
            | Mishap::Starve { host, .. }
            | Mishap::Twin { host }
            | Mishap::Reload { host }
            | Mishap::Clock { host, .. } => Some(host),
            _ => None,
        }
    }
}

/// Accounts that anything happens to.
pub const ACCOUNTS: u8 = 8;
/// Accounts that are attacked where everybody is.
pub const CROWD: u8 = 16;
/// How long traffic and misfortune last.
pub const SPAN_MS: u64 = 40_000;

impl Tale {
    /// The history of a seed.
    pub fn of(seed: u64) -> Tale {
        let rng = &mut fastrand::Rng::with_seed(seed);
        // Neighbouring seeds should have nothing in common.
        for _ in 0..4 {
            rng.u64(..);
        }
        let hosts = rng.usize(2..4);
        let mut tale = Tale {
            seed,
            partitions: rng.i32(2..5),
            hosts,
            shards: if hosts == 3 { 1 } else { rng.usize(1..3) },
            // Not drawn, so that no other history changes with it.
            dead: (seed % 2 == 1).then_some((seed / 2 % u64::from(ACCOUNTS)) as u8),
            traffic: Vec::new(),
            faults: Vec::new(),
        };
        tale.draw_traffic(rng);
        for _ in 0..rng.usize(0..6) {
            let at = rng.u64(500..SPAN_MS);
            if rng.u8(0..3) == 0 {
                tale.draw_unhappy_move(at, rng);
            } else {
                let what = mishap(hosts, rng);
                tale.faults.push(Fault { at, what });
            }
        }
        tale.draw_more(rng);
        tale.traffic.sort_by_key(|moment| moment.at);
        tale.faults.sort_by_key(|fault| fault.at);
        tale
    }

    /// A partition moves while something about it is under way.
    fn draw_unhappy_move(&mut self, at: u64, rng: &mut fastrand::Rng) {
        let host = rng.usize(0..self.hosts);
        let ask = if rng.bool() {
            Ask::End
        } else {
            Ask::SendOffsets
        };
        let before = match rng.u8(0..5) {
            0 | 1 => slow_marker(4_000, rng),
            2 => Mishap::Meet {
                host,
                ask,
                spare: 0,
                trouble: trouble(rng),
            },
            3 => Mishap::MoveTransactions {
                ms: rng.u64(500..8_000),
            },
            _ => Mishap::MoveLeaders {
                ms: rng.u64(500..8_000),
            },
        };
        self.faults.push(Fault { at, what: before });
        let calls = rng.u32(0..6);
        let back_ms = rng.u64(100..15_000);
        let mover = match rng.u8(0..6) {
            0 => Mishap::Kill {
                host,
                calls,
                back_ms,
            },
            1 | 2 => Mishap::Stop { host, back_ms },
            3 => Mishap::Freeze {
                host,
                calls,
                ms: rng.u64(11_000..30_000),
            },
            _ => Mishap::Guest {
                stay_ms: rng.u64(1_000..20_000),
            },
        };
        let after = at + rng.u64(0..3_000);
        self.faults.push(Fault {
            at: after,
            what: mover,
        });
        // Something that must be known after the move as it was before.
        let account = rng.u8(0..ACCOUNTS);
        let mut at = at;
        for _ in 0..rng.u8(2..7) {
            at += rng.u64(50..1_500);
            let (id, late_ms) = (self.next_id(), 0);
            let kind = Kind::WrongCode;
            let what = What::Event {
                id,
                account,
                kind,
                late_ms,
            };
            self.traffic.push(Moment { at, what });
        }
    }

    fn next_id(&self) -> u32 {
        let ids = self.traffic.iter().filter_map(|moment| match moment.what {
            What::Event { id, .. } => Some(id),
            _ => None,
        });
        ids.max().unwrap_or(0) + 1
    }

    fn draw_traffic(&mut self, rng: &mut fastrand::Rng) {
        let mut id = 0;
        let mut event = |at: u64, account: u8, kind: Kind, late_ms: i64| {
            id += 1;
            let what = What::Event {
                id,
                account,
                kind,
                late_ms,
            };
            Moment { at, what }
        };
        // Everybody signs in from home once, which teaches.
        for account in 0..ACCOUNTS {
            let at = rng.u64(100..4_000);
            let home = Kind::Login { country: 0 };
            self.traffic.push(event(at, account, home, 0));
        }
        for _ in 0..rng.usize(3..9) {
            let (mut at, account) = (rng.u64(1_000..SPAN_MS), rng.u8(0..ACCOUNTS));
            let times = rng.u8(1..6);
            let attack = rng.u8(0..4);
            for n in 0..times {
                let kind = match attack {
                    0 => Kind::WrongPassword { ip: n },
                    1 => Kind::WrongCode,
                    2 => Kind::Login {
                        country: rng.u8(0..4),
                    },
                    _ => Kind::Reset {
                        malicious: rng.bool(),
                    },
                };
                let late_ms = if rng.u8(0..8) == 0 {
                    rng.i64(0..20_000)
                } else {
                    0
                };
                self.traffic.push(event(at, account, kind, late_ms));
                at += rng.u64(0..1_500);
            }
        }
        for _ in 0..rng.usize(0..20) {
            let kind = match rng.u8(0..17) {
                0..=6 => Kind::Login { country: 0 },
                7 | 8 => Kind::WrongCode,
                9 | 10 => Kind::RightCode,
                11 => Kind::PasswordChanged,
                12 => Kind::Stolen,
                13 => Kind::Deleted,
                _ => Kind::Recovery {
                    role: rng.u8(0..4) == 0,
                },
            };
            let at = rng.u64(1_000..SPAN_MS);
            self.traffic.push(event(at, rng.u8(0..ACCOUNTS), kind, 0));
        }
        for _ in 0..rng.usize(0..14) {
            let at = rng.u64(2_000..SPAN_MS);
            let what = match rng.u8(0..12) {
                0 | 1 => What::Again {
                    id: rng.u32(1..=id),
                },
                2 => What::Junk {
                    account: rng.u8(0..ACCOUNTS),
                },
                3 => What::Operate {
                    account: rng.u8(0..ACCOUNTS),
                    request: Request::Unlock,
                },
                4 => What::Leap {
                    // Now and then past a question's 72 hours.
                    minutes: match rng.u64(1..30) {
                        28.. => 73 * 60,
                        minutes => minutes,
                    },
                },
                n => What::Answer {
                    mail: rng.u8(..),
                    answer: match n {
                        5 | 6 => Answer::Me,
                        7 | 8 => Answer::NotMe,
                        9 => Answer::Resend,
                        _ => Answer::CancelRecovery,
                    },
                },
            };
            self.traffic.push(Moment { at, what });
        }
    }
}

fn mishap(hosts: usize, rng: &mut fastrand::Rng) -> Mishap {
    let host = rng.usize(0..hosts);
    let calls = rng.u32(0..12);
    match rng.u8(0..29) {
        0..=3 => Mishap::Kill {
            host,
            calls,
            back_ms: rng.u64(100..20_000),
        },
        4 | 5 => Mishap::Stop {
            host,
            back_ms: rng.u64(100..10_000),
        },
        6..=8 => Mishap::Freeze {
            host,
            calls,
            ms: rng.u64(1_000..30_000),
        },
        9..=14 => {
            let ask = match rng.u8(0..8) {
                0..=3 => Ask::End,
                4 => Ask::SendOffsets,
                5 => Ask::Produce,
                _ => Ask::ALL[rng.usize(0..Ask::ALL.len())],
            };
            Mishap::Meet {
                host,
                ask,
                spare: rng.u32(0..3),
                trouble: trouble(rng),
            }
        }
        15 => Mishap::Cut {
            host,
            ms: rng.u64(500..20_000),
        },
        16 => Mishap::Starve {
            host,
            ms: rng.u64(500..10_000),
        },
        17 => match rng.u8(0..3) {
            0 => Mishap::MoveGroup {
                ms: rng.u64(500..8_000),
            },
            1 => Mishap::MoveTransactions {
                ms: rng.u64(500..8_000),
            },
            _ => Mishap::MoveLeaders {
                ms: rng.u64(500..8_000),
            },
        },
        18 | 19 => slow_marker(200, rng),
        20 => Mishap::Guest {
            stay_ms: rng.u64(1_000..20_000),
        },
        21 => Mishap::Twin { host },
        22 => Mishap::Clock {
            host,
            ms: rng.i64(-7_200_000..7_200_000),
        },
        23 | 24 => Mishap::KillMailer {
            mailer: rng.usize(0..2),
            calls: rng.u32(0..3),
        },
        25..=27 => Mishap::FreezeMailer {
            mailer: rng.usize(0..2),
            calls: rng.u32(0..3),
            ms: rng.u64(1_000..30_000),
        },
        _ => Mishap::Smtp {
            attempts: rng.u8(1..4),
            answer: match rng.u8(0..5) {
                0 | 1 => Smtp::Later,
                2 => Smtp::Unanswered,
                3 => Smtp::Never,
                _ => Smtp::Slow {
                    ms: rng.u64(1_000..20_000),
                },
            },
        },
    }
}

fn slow_marker(least_ms: u64, rng: &mut fastrand::Rng) -> Mishap {
    let topics = [
        None,
        None,
        Some(Topic::State),
        Some(Topic::State),
        Some(Topic::Events),
        Some(Topic::Commands),
    ];
    Mishap::SlowMarkers {
        topic: topics[rng.usize(0..topics.len())],
        ms: rng.u64(least_ms..25_000),
    }
}

fn trouble(rng: &mut fastrand::Rng) -> Trouble {
    match rng.u8(0..5) {
        0 => Trouble::Lost,
        1 => Trouble::Unanswered,
        2 => Trouble::Slow {
            ms: rng.u64(10..6_000),
        },
        3 => Trouble::Late {
            ms: rng.u64(10..12_000),
        },
        _ => Trouble::Twice {
            ms: rng.u64(5..3_000),
        },
    }
}

impl fmt::Display for Tale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seed {}: {} partitions, {} processes of {} shards",
            self.seed, self.partitions, self.hosts, self.shards
        )?;
        if let Some(account) = self.dead {
            writeln!(f, "  the mailbox of u-{account} takes nothing")?;
        }
        let traffic = self.traffic.iter().map(|m| (m.at, format!("{:?}", m.what)));
        let faults = self
            .faults
            .iter()
            .map(|f| (f.at, format!("! {:?}", f.what)));
        let mut lines: Vec<(u64, String)> = traffic.chain(faults).collect();
        lines.sort();
        for (at, what) in lines {
            writeln!(f, "  {:>7.3} s  {what}", at as f64 / 1_000.0)?;
        }
        Ok(())
    }
}
