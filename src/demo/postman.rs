//! Takes every mail that arrives in the mailbox to whoever watches.

use std::sync::Arc;

use tokio::sync::{broadcast, watch};

use crate::mail::transport::Mailbox;

use super::mailbox::Mail;
use super::trace::{Seen, What};

/// Runs until `stop` is set.
pub async fn run(
    mailbox: Mailbox,
    seen: broadcast::Sender<Arc<Seen>>,
    mut stop: watch::Receiver<bool>,
) {
    let mut arrivals = mailbox.arrivals();
    let mut next = 0;
    loop {
        for mail in mailbox.since(next) {
            next = mail.number + 1;
            let parsed = Mail::parse(
                mail.number + 1,
                mail.received,
                mail.to.clone(),
                mail.raw.clone(),
            );
            let what = What::Mail(Arc::new(parsed));
            // An error only says that nobody watches.
            let _ = seen.send(Arc::new(Seen {
                at: mail.received,
                what,
            }));
        }
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            changed = arrivals.changed() => if changed.is_err() { return },
        }
    }
}
