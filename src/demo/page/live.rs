//! The stream of server-sent events that keeps an open console up to date.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, broadcast, oneshot};

use super::Console;
use crate::demo::stage::{Ask, Message};

/// A page's place in the stream.
struct Reader {
    first: Option<Message>,
    changes: broadcast::Receiver<Arc<Message>>,
    _seat: OwnedSemaphorePermit,
}

/// A snapshot, then every change. A page that fell behind is disconnected: it comes back
/// by itself and begins with a new snapshot.
pub async fn stream(State(console): State<Console>) -> Response {
    let Ok(seat) = Arc::clone(&console.streams).try_acquire_owned() else {
        let words = "too many consoles are open; close one";
        return (StatusCode::SERVICE_UNAVAILABLE, words).into_response();
    };
    let (reply, answer) = oneshot::channel();
    let asked = console.asks.send(Ask::Subscribe(reply)).await;
    let (Ok(()), Ok((first, changes))) = (asked, answer.await) else {
        return (StatusCode::SERVICE_UNAVAILABLE, "the demo is ending").into_response();
    };
    let reader = Reader {
        first: Some(first),
        changes,
        _seat: seat,
    };
    let events = stream::unfold(reader, |mut reader| async move {
        let event = match reader.first.take() {
            Some(first) => Event::default()
                .event(first.name)
                .data(&first.json)
                .retry(Duration::from_secs(1)),
            None => match reader.changes.recv().await {
                Ok(change) => Event::default().event(change.name).data(&change.json),
                Err(RecvError::Lagged(_) | RecvError::Closed) => return None,
            },
        };
        Some((Ok::<_, Infallible>(event), reader))
    });
    Sse::new(events)
        .keep_alive(KeepAlive::new().interval(Duration::from_secs(10)))
        .into_response()
}
