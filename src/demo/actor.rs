//! The thread that plays the login pipeline: ordinary traffic, the attacks, and obedience
//! to `auth.commands`, which it reads with a consumer of its own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender, TryRecvError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use serde::Serialize;
use tokio::sync::{broadcast, oneshot};

use crate::event::Timestamp;
use crate::generate::{Traffic, TrafficEvent};
use crate::record::CommandRecord;

use super::attack::{self, Attack, PipelineEvent};
use super::people::{ATTACKERS_DEVICE, Person};
use super::pipeline::{Obeyed, Pipeline};
use super::trace::{Round, Seen, What};
use crate::tail::Tail;

/// Orders that may wait.
const QUEUE: usize = 64;
/// How long one look for commands waits, and so how soon an order is begun.
const LOOK: Duration = Duration::from_millis(10);

/// How fast things happen.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Ordinary events a second, about.
    pub per_second: f64,
    /// Between two events of an attack, so that a visitor can follow it.
    pub attack: Duration,
    /// From the lock to the attacker's next try.
    pub comeback: Duration,
}

/// Why the pipeline does not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("every account was attacked already; start the demo again")]
    NobodyLeft,
    #[error("no account waits for a new password because of this case")]
    NothingToChange,
    #[error("the demo is ending, or busy; try again")]
    Busy,
}

enum Order {
    Play(Attack, oneshot::Sender<Result<Arc<Round>, Refused>>),
    ChangePassword(String, oneshot::Sender<Result<String, Refused>>),
    Waiting(String, oneshot::Sender<Option<(String, String)>>),
    Stop,
}

/// Tells the pipeline what a visitor wants.
#[derive(Clone)]
pub struct Orders(SyncSender<Order>);

impl Orders {
    /// Begins an attack on an account that was not attacked before.
    ///
    /// # Errors
    /// Where no account is left, or the pipeline ends.
    pub async fn play(&self, attack: Attack) -> Result<Arc<Round>, Refused> {
        self.ask(|reply| Order::Play(attack, reply)).await?
    }

    /// The owner proves who they are, as the pipeline's own pages would ask, and sets a
    /// new password because of `case`. Says whose account it was.
    ///
    /// # Errors
    /// Where nobody waits for one because of that case.
    pub async fn change_password(&self, case: &str) -> Result<String, Refused> {
        self.ask(|reply| Order::ChangePassword(case.to_owned(), reply))
            .await?
    }

    /// Case and account that wait for a new password: because of `case`, or, where it is
    /// empty, the only one that waits.
    pub async fn waiting(&self, case: &str) -> Option<(String, String)> {
        self.ask(|reply| Order::Waiting(case.to_owned(), reply))
            .await
            .ok()?
    }

    /// Ends the pipeline.
    pub fn stop(&self) {
        // Where it has ended already, there is nothing to tell.
        let _ = self.0.try_send(Order::Stop);
    }

    async fn ask<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> Result<T, Refused> {
        let (reply, answer) = oneshot::channel();
        self.0.try_send(order(reply)).map_err(|_| Refused::Busy)?;
        answer.await.map_err(|_| Refused::Busy)
    }
}

/// Everything that the pipeline is made of.
pub struct Parts {
    pub producer: ThreadedProducer<DefaultProducerContext>,
    /// Reads `auth.commands`.
    pub commands: Tail,
    pub events_topic: String,
    /// Ordinary traffic, from now on.
    pub traffic: Traffic,
    /// The people of the traffic, with `prefix` before their accounts.
    pub people: Vec<Person>,
    pub prefix: String,
    pub pace: Pace,
    pub rng: fastrand::Rng,
    /// Where the begin of each attack is made known.
    pub seen: broadcast::Sender<Arc<Seen>>,
}

/// What was ordered and not begun.
pub struct Inbox(Receiver<Order>);

/// A way to tell a pipeline what to do, and the pipeline's end of it.
pub fn orders() -> (Orders, Inbox) {
    let (orders, inbox) = mpsc::sync_channel(QUEUE);
    (Orders(orders), Inbox(inbox))
}

/// Plays the pipeline until it is told to stop; for a thread of its own.
///
/// # Errors
/// Where the broker is gone for good.
pub fn run(parts: Parts, inbox: &Inbox) -> anyhow::Result<()> {
    Actor::new(parts).run(&inbox.0)
}

/// An attack that is being played.
struct Play {
    round: Arc<Round>,
    victim: Person,
    from: std::net::IpAddr,
    /// Still to come.
    events: VecDeque<PipelineEvent>,
    next: Instant,
    /// The attacker's try after the lock is still to come.
    comeback: bool,
}

struct Actor {
    parts: Parts,
    pipeline: Pipeline,
    /// Indices of people who were not attacked yet, in random order.
    fresh: Vec<usize>,
    plays: Vec<Play>,
    rounds: u64,
    /// Password changes so far: what their ids are made of.
    changes: u64,
    /// The next of the ordinary events.
    upcoming: Option<TrafficEvent>,
}

impl Actor {
    fn new(mut parts: Parts) -> Actor {
        // Visitors should be able to read the mails of those whom they attack; in German,
        // the other language that mails come in, fewer would.
        let readable = |at: &usize| parts.people[*at].locale != "de";
        let mut fresh: Vec<usize> = (0..parts.people.len()).filter(readable).collect();
        parts.rng.shuffle(&mut fresh);
        Actor {
            upcoming: parts.traffic.next(),
            parts,
            pipeline: Pipeline::default(),
            fresh,
            plays: Vec::new(),
            rounds: 0,
            changes: 0,
        }
    }

    fn run(mut self, orders: &Receiver<Order>) -> anyhow::Result<()> {
        loop {
            match orders.try_recv() {
                Ok(Order::Stop) | Err(TryRecvError::Disconnected) => break,
                Ok(order) => self.take(order)?,
                Err(TryRecvError::Empty) => {}
            }
            self.obey()?;
            self.advance_attacks()?;
            self.ordinary_traffic()?;
        }
        self.parts
            .producer
            .flush(Duration::from_secs(2))
            .context("the login pipeline's last events did not reach the broker")
    }

    fn take(&mut self, order: Order) -> anyhow::Result<()> {
        // Whoever asked may have gone; what they asked for happens all the same.
        match order {
            Order::Play(attack, reply) => {
                let _ = reply.send(self.play(attack)?);
            }
            Order::ChangePassword(case, reply) => {
                let _ = reply.send(self.change_password(&case)?);
            }
            Order::Waiting(case, reply) => {
                let found = match case.as_str() {
                    "" => self.pipeline.only_waiting(),
                    case => self.pipeline.waiting(case).map(|account| (case, account)),
                };
                let _ = reply.send(found.map(|(case, account)| (case.into(), account.into())));
            }
            Order::Stop => {}
        }
        Ok(())
    }

    fn play(&mut self, attack: Attack) -> anyhow::Result<Result<Arc<Round>, Refused>> {
        let Some(victim) = self.fresh.pop() else {
            return Ok(Err(Refused::NobodyLeft));
        };
        let victim = self.parts.people[victim].clone();
        self.rounds += 1;
        let now = now();
        let id = format!("r{}", self.rounds);
        let script = attack::script(
            attack,
            &id,
            &victim,
            self.parts.traffic.world(),
            now,
            &mut self.parts.rng,
        );
        let round = Arc::new(Round {
            completing: script
                .attack
                .last()
                .map(|e| e.id.clone())
                .unwrap_or_default(),
            id,
            attack,
            account: victim.account.clone(),
            email: victim.email.clone(),
            started: now,
        });
        let begun = Seen {
            at: now,
            what: What::Round(Arc::clone(&round)),
        };
        // An error only says that nobody watches.
        let _ = self.parts.seen.send(Arc::new(begun));
        for event in script.past {
            self.publish(event)?;
        }
        self.plays.push(Play {
            round: Arc::clone(&round),
            victim,
            from: script.from,
            events: script.attack.into(),
            next: Instant::now() + self.parts.pace.attack,
            comeback: true,
        });
        Ok(Ok(round))
    }

    fn advance_attacks(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        let mut due = Vec::new();
        for play in &mut self.plays {
            while play.next <= now {
                let Some(event) = play.events.pop_front() else {
                    break;
                };
                due.push(event);
                play.next += self.parts.pace.attack;
            }
        }
        for event in due {
            self.publish(event)?;
        }
        for at in 0..self.plays.len() {
            let play = &mut self.plays[at];
            let locked = self.pipeline.is_locked(&play.victim.account);
            if play.comeback && locked && play.events.is_empty() && play.next <= now {
                play.comeback = false;
                let (victim, from, id) = (
                    play.victim.clone(),
                    play.from,
                    format!("{}-back", play.round.id),
                );
                let device = ATTACKERS_DEVICE;
                let event = self
                    .pipeline
                    .sign_in(&victim, from, device, id, self::now());
                self.publish(event)?;
            }
        }
        // Nothing of a play is needed after the attacker's last try.
        self.plays.retain(|play| play.comeback);
        Ok(())
    }

    fn change_password(&mut self, case: &str) -> anyhow::Result<Result<String, Refused>> {
        let Some(account) = self.pipeline.waiting(case).map(str::to_owned) else {
            return Ok(Err(Refused::NothingToChange));
        };
        let Some(owner) = self
            .parts
            .people
            .iter()
            .find(|p| p.account == account)
            .cloned()
        else {
            return Ok(Err(Refused::NothingToChange));
        };
        self.changes += 1;
        let event = PipelineEvent {
            case: Some(case.to_owned()),
            ..PipelineEvent::new(
                format!("p{}", self.changes),
                "password_changed",
                &owner,
                now(),
            )
        };
        self.publish(event)?;
        Ok(Ok(account))
    }

    fn obey(&mut self) -> anyhow::Result<()> {
        let Some(record) = self.parts.commands.next(LOOK)? else {
            return Ok(());
        };
        let command: CommandRecord = match serde_json::from_slice(&record.payload) {
            Ok(command) => command,
            Err(error) => {
                tracing::warn!(%error, "a command that the login pipeline cannot read");
                return Ok(());
            }
        };
        match self.pipeline.obey(&command) {
            Obeyed::Locked => {
                let comeback = Instant::now() + self.parts.pace.comeback;
                let mine = self
                    .plays
                    .iter_mut()
                    .filter(|p| p.victim.account == command.account);
                mine.for_each(|play| play.next = comeback);
            }
            Obeyed::Ended(sessions) => {
                let owner = self
                    .parts
                    .people
                    .iter()
                    .find(|p| p.account == command.account);
                let Some(owner) = owner.cloned() else {
                    return Ok(());
                };
                for session in sessions {
                    let id = format!("{session}-ended");
                    let event = PipelineEvent {
                        session: Some(session),
                        ip: None,
                        user_agent: None,
                        ..PipelineEvent::new(id, "session_revoked", &owner, now())
                    };
                    self.publish(event)?;
                }
            }
            Obeyed::Quietly => {}
        }
        Ok(())
    }

    fn ordinary_traffic(&mut self) -> anyhow::Result<()> {
        let now = now();
        while let Some(event) = self.upcoming.take_if(|event| event.time <= now) {
            self.upcoming = self.parts.traffic.next();
            self.ordinary_event(event)?;
        }
        Ok(())
    }

    /// What becomes of something that an owner does: as it was made up, unless the account
    /// is locked.
    fn ordinary_event(&mut self, mut event: TrafficEvent) -> anyhow::Result<()> {
        event.account.insert_str(0, &self.parts.prefix);
        // While an attack on somebody is being played, they are away: their own success
        // would break a streak.
        let attacked = |p: &Play| p.victim.account == event.account && !p.events.is_empty();
        if self.plays.iter().any(attacked) {
            return Ok(());
        }
        let refused = match event.ip.parse() {
            Ok(ip) => self.pipeline.refuses(&event.account, ip),
            Err(_) => false,
        };
        if refused {
            // A locked account gets no further than its sign-in.
            if event.kind != "login" {
                return Ok(());
            }
            event.outcome = Some("failure");
            event.reason = Some("account_locked");
            event.session = None;
        } else if let (Some(session), Ok(ip)) = (&event.session, event.ip.parse()) {
            self.pipeline.signed_in(&event.account, ip, session);
        }
        self.send(&event.account, &event)
    }

    fn publish(&mut self, mut event: PipelineEvent) -> anyhow::Result<()> {
        event.time = now().0;
        if let (Some(ip), Some(session)) = (event.ip, &event.session) {
            self.pipeline.signed_in(&event.account, ip, session);
        }
        self.send(&event.account, &event)
    }

    fn send(&self, account: &str, event: &impl Serialize) -> anyhow::Result<()> {
        let payload = serde_json::to_vec(event).context("an event that is no JSON")?;
        let record = BaseRecord::to(&self.parts.events_topic)
            .key(account)
            .payload(&payload);
        self.parts
            .producer
            .send(record)
            .map_err(|(error, _)| error)
            .context("the login pipeline cannot publish an event")
    }
}

/// The machine's clock: the pipeline is the one who says when its events happened.
fn now() -> Timestamp {
    Timestamp(jiff::Timestamp::now().as_millisecond())
}
