//! The admin listener: what operations ask over HTTP.
//!
//! `GET /metrics`, `/healthz` (the process answers), `/readyz` (it can do its work, or why
//! it cannot, a reason a line; what else is worth knowing follows as `note:`) and `/version`. It listens on loopback by default and shows
//! nothing about any account.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};

use crate::metrics::{CONTENT_TYPE, Metrics};

/// Why the process cannot do its work at the moment, by component. Clones share one state.
///
/// A component sets its reason when it loses something that it needs (its partitions, a
/// list, the mail server) and clears it when that is back. No reason: ready.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    // Written a few times an hour and read by probes, never on the path of an event.
    said: Arc<Mutex<Said>>,
}

#[derive(Debug, Default)]
struct Said {
    reasons: BTreeMap<String, String>,
    notes: BTreeMap<String, String>,
}

impl Readiness {
    pub fn new() -> Readiness {
        Readiness::default()
    }

    /// Sets or replaces the reason of `component`, for example `shard 3` or `list
    /// malicious_ips`. It is shown to whoever may ask: no addresses, no account, no secret.
    pub fn set(&self, component: impl Into<String>, reason: impl Into<String>) {
        self.lock().reasons.insert(component.into(), reason.into());
    }

    pub fn clear(&self, component: &str) {
        self.lock().reasons.remove(component);
    }

    /// Sets or replaces what is worth knowing of `component` though it does its work: rules
    /// that were refused while others are at work, a list that is old. It is shown with
    /// either status, and keeps nobody from being ready: a bad file on all instances at once
    /// must not take all of them out of a balancer.
    pub fn note(&self, component: impl Into<String>, text: impl Into<String>) {
        self.lock().notes.insert(component.into(), text.into());
    }

    pub fn clear_note(&self, component: &str) {
        self.lock().notes.remove(component);
    }

    /// `component: text`, in order of component.
    pub fn notes(&self) -> Vec<String> {
        lines(&self.lock().notes)
    }

    pub fn is_ready(&self) -> bool {
        self.lock().reasons.is_empty()
    }

    /// `component: reason`, in order of component; empty when ready.
    pub fn reasons(&self) -> Vec<String> {
        lines(&self.lock().reasons)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Said> {
        // A map insert cannot leave the map half written, so a panic elsewhere while it
        // was held does not matter.
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lines(said: &BTreeMap<String, String>) -> Vec<String> {
    said.iter()
        .map(|(component, text)| format!("{component}: {text}"))
        .collect()
}

/// Serves until `shutdown` resolves; requests under way are answered first.
///
/// # Errors
/// Where the listener fails.
pub async fn serve(
    listener: tokio::net::TcpListener,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    axum::serve(listener, routes(metrics, readiness))
        .with_graceful_shutdown(shutdown)
        .await
}

/// The routes alone, for a server that has others beside them.
pub fn routes(metrics: Arc<Metrics>, readiness: Readiness) -> Router {
    Router::new()
        .route("/metrics", get(show_metrics))
        .with_state(metrics)
        .route("/readyz", get(show_readiness))
        .with_state(readiness)
        .route("/healthz", get(async || "ok\n"))
        .route("/version", get(show_version))
}

async fn show_metrics(State(metrics): State<Arc<Metrics>>) -> Response {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], metrics.text()).into_response()
}

async fn show_readiness(State(readiness): State<Readiness>) -> Response {
    let reasons = readiness.reasons();
    let status = match reasons.is_empty() {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut body = match reasons.is_empty() {
        true => "ready\n".to_owned(),
        false => reasons.join("\n") + "\n",
    };
    for note in readiness.notes() {
        body += &format!("note: {note}\n");
    }
    (status, body).into_response()
}

async fn show_version() -> Json<serde_json::Value> {
    Json(serde_json::json!({
        "name": "doorward",
        "version": crate::VERSION,
        "revision": crate::REVISION,
    }))
}
