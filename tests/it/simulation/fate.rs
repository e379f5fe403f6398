//! Misfortune, as the tale has it.

use std::cell::RefCell;
use std::rc::Rc;

use doorward::sim::cluster::SlowMarkers;
use doorward::sim::network::Misfortune;
use doorward::sim::world::{Actor, World};

use super::host::{self, SharedHosts};
use super::mailer::SharedPost;
use super::tale::{Fault, Mishap, Smtp};

/// How the mail server answers next.
pub type Server = Rc<RefCell<Vec<Smtp>>>;

pub struct Fate {
    pub faults: Vec<Fault>,
    pub next: usize,
    pub hosts: SharedHosts,
    pub server: Server,
    /// Processes to be started again, or asked to end, and when.
    pub later: Vec<(u64, Later)>,
    pub guests: usize,
    pub post: SharedPost,
}

#[derive(Clone, Copy, Debug)]
pub enum Later {
    Start(usize),
    Dismiss(usize),
}

/// Transactions that are decided within such a time have their markers written late.
const MARKERS_MS: u64 = 2_500;
/// How long a supervisor waits before it starts a process that ended by itself.
const SUPERVISOR_MS: u64 = 1_000;

impl Actor for Fate {
    fn step(&mut self, world: &World) -> Option<u64> {
        if world.is_over() {
            return None;
        }
        let now = world.now();
        while let Some(fault) = self.faults.get(self.next) {
            if fault.at > now {
                break;
            }
            let what = fault.what;
            self.next += 1;
            self.befall(world, what);
        }
        let due: Vec<Later> = self
            .later
            .extract_if(.., |(at, _)| *at <= now)
            .map(|(_, later)| later)
            .collect();
        for later in due {
            match later {
                Later::Start(host) => host::start_again(&self.hosts, host),
                Later::Dismiss(host) => {
                    self.hosts.borrow_mut().all[host].wanted = false;
                    host::stop(&self.hosts, host);
                }
            }
        }
        self.supervise(world);
        let next = self.faults.get(self.next).map(|fault| fault.at);
        let later = self.later.iter().map(|(at, _)| *at);
        let soonest = later.chain(next).min();
        Some(soonest.unwrap_or(u64::MAX).min(now + SUPERVISOR_MS))
    }
}

impl Fate {
    fn befall(&mut self, world: &World, what: Mishap) {
        world.note(|| format!("! {what:?}"));
        let now = world.now();
        let process = |host: usize| self.hosts.borrow().all[host].process;
        match what {
            Mishap::Kill {
                host,
                calls,
                back_ms,
            } => {
                match calls {
                    0 => world.kill(process(host)),
                    _ => world.kill_in(process(host), calls - 1),
                }
                self.later.push((now + back_ms, Later::Start(host)));
            }
            Mishap::Stop { host, back_ms } => {
                host::stop(&self.hosts, host);
                self.later.push((now + back_ms, Later::Start(host)));
            }
            Mishap::Freeze { host, calls, ms } => world.freeze_in(process(host), calls, ms),
            Mishap::Meet {
                host,
                ask,
                spare,
                trouble,
            } => world.arm(Misfortune {
                process: process(host),
                ask: Some(ask),
                spare,
                trouble,
            }),
            Mishap::Cut { host, ms } => world.cut(process(host), ms),
            Mishap::Starve { host, ms } => world.starve(process(host), ms),
            Mishap::MoveGroup { ms } => world.cluster(|c| c.move_group(now + ms)),
            Mishap::MoveTransactions { ms } => {
                world.cluster(|c| c.transactions_away_until = now + ms);
            }
            Mishap::MoveLeaders { ms } => world.cluster(|c| c.leaders_away_until = now + ms),
            Mishap::SlowMarkers { topic, ms } => {
                let slow = SlowMarkers {
                    topic,
                    until: now + MARKERS_MS,
                    delay_ms: ms,
                };
                world.cluster(|cluster| cluster.slow_markers.push(slow));
            }
            Mishap::KillMailer { mailer, calls } => {
                let process = self.post.borrow().processes[mailer];
                match calls {
                    0 => world.kill(process),
                    _ => world.kill_in(process, calls - 1),
                }
            }
            Mishap::FreezeMailer { mailer, calls, ms } => {
                let process = self.post.borrow().processes[mailer];
                world.freeze_in(process, calls, ms);
            }
            Mishap::Guest { stay_ms } => {
                self.guests += 1;
                let guest = host::add(&self.hosts, format!("guest{}", self.guests));
                self.later.push((now + stay_ms, Later::Dismiss(guest)));
            }
            Mishap::Twin { host } => {
                let name = {
                    let mut hosts = self.hosts.borrow_mut();
                    hosts.all[host].wanted = false;
                    let name = hosts.all[host].name.clone();
                    hosts.twins.push(name.clone());
                    name
                };
                host::add(&self.hosts, name);
            }
            Mishap::Reload { host } => host::reload(&self.hosts, host),
            Mishap::Clock { host, ms } => world.set_wall_off(process(host), ms),
            Mishap::Smtp { attempts, answer } => {
                let mut server = self.server.borrow_mut();
                server.extend((0..attempts).map(|_| answer));
            }
        }
    }

    /// Starts what ended by itself and is not about to be started anyway.
    fn supervise(&mut self, world: &World) {
        let hosts = self.hosts.borrow();
        for (number, host) in hosts.all.iter().enumerate() {
            let awaited = self
                .later
                .iter()
                .any(|(_, later)| matches!(later, Later::Start(of) if *of == number));
            if host.wanted && !awaited && world.is_dead(host.process) {
                let at = world.now() + SUPERVISOR_MS;
                self.later.push((at, Later::Start(number)));
            }
        }
    }
}
