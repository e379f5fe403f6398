//! The task that owns the board and tells every open page what changed.
//!
//! Pages ask it for a snapshot together with their subscription, so that no change can
//! fall between the two. It ends when told to, which closes every page's stream.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::board::{Board, Update};
use super::mailbox::Mail;
use super::trace::Seen;

/// Changes that a slow page may lag behind before it gets a new snapshot instead.
const BACKLOG: usize = 1024;

/// One server-sent event.
#[derive(Debug)]
pub struct Message {
    pub name: &'static str,
    pub json: String,
}

/// What pages ask of the stage.
pub enum Ask {
    /// The state of everything, and all changes after it.
    Subscribe(oneshot::Sender<(Message, broadcast::Receiver<Arc<Message>>)>),
    /// A mail by its id.
    Mail(u64, oneshot::Sender<Option<Arc<Mail>>>),
}

/// Runs until `stop` is set or nobody can tell it anything.
pub async fn run(
    mut board: Board,
    mut seen: broadcast::Receiver<Arc<Seen>>,
    mut asks: mpsc::Receiver<Ask>,
    mut stop: watch::Receiver<bool>,
) {
    let (changes, _) = broadcast::channel(BACKLOG);
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut updates: Vec<Update> = Vec::new();
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            one = seen.recv() => match one {
                Ok(one) => board.observe(&one, &mut updates),
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "the console could not keep up; it shows less than happened");
                }
                Err(broadcast::error::RecvError::Closed) => return,
            },
            Some(ask) = asks.recv() => answer(&board, ask, &changes),
            _ = second.tick() => updates.push(board.tick()),
        }
        for update in updates.drain(..) {
            let (name, json) = update.message();
            // An error only says that no page is open.
            let _ = changes.send(Arc::new(Message { name, json }));
        }
    }
}

fn answer(board: &Board, ask: Ask, changes: &broadcast::Sender<Arc<Message>>) {
    // Whoever asked may be gone already; that is no concern of the stage.
    match ask {
        Ask::Subscribe(reply) => {
            let json = serde_json::to_string(&board.snapshot()).unwrap_or_default();
            let _ = reply.send((
                Message {
                    name: "snapshot",
                    json,
                },
                changes.subscribe(),
            ));
        }
        Ask::Mail(id, reply) => {
            let _ = reply.send(board.mail(id));
        }
    }
}
