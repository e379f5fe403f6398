//! The mailbox: the mail in parts, its HTML behind a sandbox, its bytes as sent.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::oneshot;

use super::Console;
use crate::demo::mailbox::Mail;
use crate::demo::stage::Ask;

/// The HTML of a mail may show its own styles and open links in a new tab, as in any mail
/// program; no script, no picture from elsewhere, no form, no origin.
const MAIL_POLICY: &str = "sandbox allow-popups allow-popups-to-escape-sandbox; \
    default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; \
    base-uri 'none'; frame-ancestors 'self'";

/// Put before the mail's own HTML where it is shown: a mail program opens links outside
/// of the mail.
const OPEN_OUTSIDE: &str = "<base target=\"_blank\">";

async fn find(console: &Console, id: u64) -> Option<Arc<Mail>> {
    let (reply, answer) = oneshot::channel();
    console.asks.send(Ask::Mail(id, reply)).await.ok()?;
    answer.await.ok()?
}

fn missing() -> Response {
    let words = "this mail is not in the mailbox: the demo keeps the newest 500";
    (StatusCode::NOT_FOUND, words).into_response()
}

pub async fn page(State(console): State<Console>, Path(id): Path<u64>) -> Response {
    match find(&console, id).await {
        Some(mail) => Json(mail.page()).into_response(),
        None => missing(),
    }
}

pub async fn html(State(console): State<Console>, Path(id): Path<u64>) -> Response {
    let Some(mail) = find(&console, id).await else {
        return missing();
    };
    let Some(html) = &mail.html else {
        return (StatusCode::NOT_FOUND, "this mail has no HTML part").into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, MAIL_POLICY),
        (header::X_FRAME_OPTIONS, "SAMEORIGIN"),
    ];
    (headers, with_base(html)).into_response()
}

/// `html` with [`OPEN_OUTSIDE`] after its doctype, so that the page keeps its mode.
fn with_base(html: &str) -> String {
    let start = html.trim_start();
    let is_doctype = start
        .get(..9)
        .is_some_and(|s| s.eq_ignore_ascii_case("<!doctype"));
    match start.find('>') {
        Some(end) if is_doctype => {
            let (doctype, rest) = start.split_at(end + 1);
            format!("{doctype}{OPEN_OUTSIDE}{rest}")
        }
        _ => format!("{OPEN_OUTSIDE}{html}"),
    }
}

pub async fn raw(State(console): State<Console>, Path(id): Path<u64>) -> Response {
    match find(&console, id).await {
        Some(mail) => {
            let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
            (headers, mail.raw.clone()).into_response()
        }
        None => missing(),
    }
}
