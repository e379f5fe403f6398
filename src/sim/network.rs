//! The way between a client and the brokers, and what happens on it.

use std::rc::Rc;

use rdkafka::error::RDKafkaErrorCode;

use super::cluster::Cluster;
use super::world::{Happening, ProcessId, World};

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ask {
    Register,
    AddPartitions,
    Produce,
    SendOffsets,
    End,
    Committed,
    CommitOffsets,
    StateBounds,
    Publish,
}

impl Ask {
    pub const ALL: [Ask; 9] = [
        Ask::Register,
        Ask::AddPartitions,
        Ask::Produce,
        Ask::SendOffsets,
        Ask::End,
        Ask::Committed,
        Ask::CommitOffsets,
        Ask::StateBounds,
        Ask::Publish,
    ];
}

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It never arrives.
    Lost,
    /// It is done, and nobody hears of it.
    Unanswered,
    /// It takes so long to arrive.
    Slow { ms: u64 },
    /// It arrives when whoever asked has long given up.
    Late { ms: u64 },
    /// The connection breaks; the client library asks again by itself and is answered, but
    /// the first request was only held up, and arrives so much later.
    Twice { ms: u64 },
}

/// Trouble that waits for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misfortune {
    pub process: ProcessId,
    /// `None`: whatever is asked next.
    pub ask: Option<Ask>,
    /// Fitting requests that pass before.
    pub spare: u32,
    pub trouble: Trouble,
}

/// Why a request brought nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    TimedOut,
    Refused(RDKafkaErrorCode),
    /// The process that asked is gone.
    Dead,
}

pub struct Network {
    misfortunes: Vec<Misfortune>,
    /// Processes that reach nobody, and until when.
    cut: Vec<(ProcessId, u64)>,
    /// Processes that are sent no records, and until when.
    starved: Vec<(ProcessId, u64)>,
    /// Processes whose connections broke, as often as they did.
    disturbed: Vec<ProcessId>,
    pub(super) rng: fastrand::Rng,
}

impl Network {
    pub(super) fn new(seed: u64) -> Network {
        Network {
            misfortunes: Vec::new(),
            cut: Vec::new(),
            starved: Vec::new(),
            disturbed: Vec::new(),
            rng: fastrand::Rng::with_seed(seed ^ 0xae7),
        }
    }

    fn meet(&mut self, process: ProcessId, ask: Ask) -> Option<Trouble> {
        let fits = |m: &Misfortune| m.process == process && m.ask.is_none_or(|a| a == ask);
        let at = self.misfortunes.iter().position(fits)?;
        let found = &mut self.misfortunes[at];
        if found.spare > 0 {
            found.spare -= 1;
            return None;
        }
        Some(self.misfortunes.remove(at).trouble)
    }
}

impl World {
    /// Lets trouble wait for a request.
    pub fn arm(&self, misfortune: Misfortune) {
        self.0.network.borrow_mut().misfortunes.push(misfortune);
    }

    /// Forgets trouble that has not happened yet.
    pub fn disarm(&self) {
        self.0.network.borrow_mut().misfortunes.clear();
    }

    /// Cuts a process off from all brokers for `ms`.
    pub fn cut(&self, process: ProcessId, ms: u64) {
        let until = self.now() + ms;
        self.0.network.borrow_mut().cut.push((process, until));
    }

    /// Until when the process reaches nobody.
    pub(super) fn cut_until(&self, process: ProcessId) -> Option<u64> {
        latest(&self.0.network.borrow().cut, process, self.now())
    }

    /// Sends a process no records for `ms`.
    pub fn starve(&self, process: ProcessId, ms: u64) {
        let until = self.now() + ms;
        self.0.network.borrow_mut().starved.push((process, until));
    }

    pub(super) fn is_starved(&self, process: ProcessId) -> bool {
        latest(&self.0.network.borrow().starved, process, self.now()).is_some()
    }

    /// How often connections of the process broke so far.
    pub(super) fn disturbances(&self, process: ProcessId) -> usize {
        let network = self.0.network.borrow();
        let all = network.disturbed.iter();
        all.filter(|disturbed| **disturbed == process).count()
    }

    /// A number below `end`, drawn from the history's seed.
    pub fn draw(&self, end: u64) -> u64 {
        self.0.network.borrow_mut().rng.u64(0..end.max(1))
    }

    /// Asks the brokers for something and waits for the answer. As the client library does,
    /// it asks again where the answer is that somebody is not ready.
    pub fn call<R: 'static>(
        &self,
        process: ProcessId,
        ask: Ask,
        within_ms: u64,
        request: impl Fn(&mut Cluster, u64) -> Result<R, RDKafkaErrorCode> + 'static,
    ) -> Result<R, Failure> {
        let request = Rc::new(request);
        let deadline = self.now() + within_ms;
        if !self.live(process) {
            return Err(Failure::Dead);
        }
        let mut trouble = self.0.network.borrow_mut().meet(process, ask);
        if let Some(trouble) = trouble {
            self.note(|| format!("process {process}: {ask:?} meets {trouble:?}"));
        }
        let mut pause = 5;
        loop {
            self.wait(self.draw(2));
            self.thaw(process)?;
            if let Some(until) = self.cut_until(process) {
                self.wait_until(until.min(deadline));
                if self.now() >= deadline {
                    return Err(Failure::TimedOut);
                }
                continue;
            }
            match trouble.take() {
                None => {}
                Some(Trouble::Lost) => {
                    return self.give_up(process, deadline);
                }
                Some(Trouble::Slow { ms }) => {
                    self.wait_until((self.now() + ms).min(deadline));
                    self.thaw(process)?;
                }
                Some(Trouble::Late { ms }) => {
                    let late = Box::new(move |cluster: &mut Cluster, now: u64| {
                        // Whatever comes of it, nobody hears it.
                        let _ = request(cluster, now);
                    });
                    self.plan(self.now() + ms, Happening::Late(late));
                    return self.give_up(process, deadline);
                }
                Some(Trouble::Unanswered) => {
                    let _ = self.ask(ask, &*request);
                    return self.give_up(process, deadline);
                }
                Some(Trouble::Twice { ms }) => {
                    self.0.network.borrow_mut().disturbed.push(process);
                    let request = Rc::clone(&request);
                    let late = Box::new(move |cluster: &mut Cluster, now: u64| {
                        let _ = request(cluster, now);
                    });
                    self.plan(self.now() + ms, Happening::Late(late));
                }
            }
            match self.ask(ask, &*request) {
                Ok(answer) => {
                    self.wait(self.draw(2));
                    self.thaw(process)?;
                    return Ok(answer);
                }
                Err(code) if is_passing(code) => {
                    if self.now() + pause > deadline {
                        return self.give_up(process, deadline);
                    }
                    self.wait(pause);
                    pause = (pause * 2).min(100);
                }
                Err(code) => return Err(Failure::Refused(code)),
            }
        }
    }

    fn ask<R>(
        &self,
        ask: Ask,
        request: &impl Fn(&mut Cluster, u64) -> Result<R, RDKafkaErrorCode>,
    ) -> Result<R, RDKafkaErrorCode> {
        let now = self.now();
        self.cluster(|cluster| {
            let away_until = match ask {
                Ask::Register | Ask::AddPartitions | Ask::End => cluster.transactions_away_until,
                Ask::SendOffsets => cluster
                    .transactions_away_until
                    .max(cluster.group_away_until),
                Ask::Committed | Ask::CommitOffsets => cluster.group_away_until,
                Ask::Produce | Ask::StateBounds | Ask::Publish => cluster.leaders_away_until,
            };
            if now < away_until {
                return Err(RDKafkaErrorCode::NotCoordinator);
            }
            request(cluster, now)
        })
    }

    fn give_up<R>(&self, process: ProcessId, deadline: u64) -> Result<R, Failure> {
        self.wait_until(deadline);
        self.thaw(process)?;
        Err(Failure::TimedOut)
    }

    /// After a wait: the process may have died or stood still meanwhile.
    pub(super) fn thaw(&self, process: ProcessId) -> Result<(), Failure> {
        while let Some(until) = self.frozen_until(process) {
            self.wait_until(until);
        }
        if self.is_dead(process) {
            return Err(Failure::Dead);
        }
        Ok(())
    }
}

fn latest(of: &[(ProcessId, u64)], process: ProcessId, now: u64) -> Option<u64> {
    let mine = of.iter().filter(|(id, _)| *id == process);
    mine.map(|(_, until)| *until)
        .max()
        .filter(|until| *until > now)
}

/// Answers after which the client library asks again by itself.
fn is_passing(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::NotCoordinator
            | RDKafkaErrorCode::ConcurrentTransactions
            | RDKafkaErrorCode::UnstableOffsetCommit
    )
}
