//! The console in the browser: one page, its two files, the live stream, the mailbox, the
//! buttons, and the stand-in for the site's own password page.
//!
//! Everything is served from here with a policy that allows this origin alone. The HTML of
//! a mail has an address of its own with a sandbox around it. What changes something is a
//! POST, and only from this origin.

mod live;
mod mail;

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Form, Json};
use serde::Deserialize;
use tokio::sync::{Semaphore, mpsc};

use super::actor::{Orders, Refused};
use super::attack::Attack;
use super::stage::Ask;

/// Console pages that may be open at once.
const STREAMS: usize = 64;

const CONSOLE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data:; connect-src 'self'; frame-src 'self'; form-action 'self'; \
    base-uri 'none'; frame-ancestors 'none'";

/// What the console's handlers share.
#[derive(Clone)]
pub struct Console {
    pub asks: mpsc::Sender<Ask>,
    pub orders: Orders,
    /// What addresses of owner's pages begin with.
    pub origin: Arc<str>,
    pub broker: BrokerKind,
    streams: Arc<Semaphore>,
}

/// What stands behind the console, for the note on what the demo leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokerKind {
    Embedded,
    Real,
}

impl Console {
    pub fn new(
        asks: mpsc::Sender<Ask>,
        orders: Orders,
        origin: Arc<str>,
        broker: BrokerKind,
    ) -> Console {
        let streams = Arc::new(Semaphore::new(STREAMS));
        Console {
            asks,
            orders,
            origin,
            broker,
            streams,
        }
    }
}

/// The console's routes: `/` and everything under `/demo/`.
pub fn router(console: Console) -> Router {
    Router::new()
        .route("/", get(index))
        .route(
            "/demo/console.css",
            get(|| {
                asset(
                    "text/css; charset=utf-8",
                    include_str!("../../templates/demo/console.css"),
                )
            }),
        )
        .route(
            "/demo/console.js",
            get(|| {
                asset(
                    "text/javascript; charset=utf-8",
                    include_str!("../../templates/demo/console.js"),
                )
            }),
        )
        .route(
            "/demo/icon.svg",
            get(|| {
                asset(
                    "image/svg+xml",
                    include_str!("../../templates/demo/icon.svg"),
                )
            }),
        )
        .route("/demo/live", get(live::stream))
        .route("/demo/attack/{name}", post(play))
        .route("/demo/mail/{id}", get(mail::page))
        .route("/demo/mail/{id}/html", get(mail::html))
        .route("/demo/mail/{id}/raw", get(mail::raw))
        .route("/demo/password", get(password_form).post(password_change))
        .layer(middleware::from_fn(strict))
        .with_state(console)
}

/// Sets the headers of every answer that does not bring stricter ones, and refuses to be
/// told anything from elsewhere.
async fn strict(request: Request, next: Next) -> Response {
    let changes = !request.method().is_safe();
    if changes && !same_origin(request.headers()) {
        return (
            StatusCode::FORBIDDEN,
            "this button works on the demo's own page only",
        )
            .into_response();
    }
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let mut set = |name: header::HeaderName, value: &'static str| {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    };
    set(header::CONTENT_SECURITY_POLICY, CONSOLE_POLICY);
    set(header::CACHE_CONTROL, "no-store");
    set(header::REFERRER_POLICY, "no-referrer");
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::X_FRAME_OPTIONS, "DENY");
    set(
        header::HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    );
    set(
        header::HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    );
    response
}

/// Browsers say where a POST comes from; programs that are no browsers say nothing.
fn same_origin(headers: &HeaderMap) -> bool {
    match headers.get("sec-fetch-site").map(HeaderValue::as_bytes) {
        Some(site) => site == b"same-origin" || site == b"none",
        None => match (headers.get(header::ORIGIN), headers.get(header::HOST)) {
            (Some(origin), Some(host)) => origin
                .as_bytes()
                .strip_prefix(b"http://")
                .is_some_and(|origin| origin == host.as_bytes()),
            (Some(_), None) => false,
            (None, _) => true,
        },
    }
}

async fn asset(kind: &'static str, content: &'static str) -> impl IntoResponse {
    (
        [
            (header::CONTENT_TYPE, kind),
            (header::CACHE_CONTROL, "no-cache"),
        ],
        content,
    )
}

#[derive(Template)]
#[template(path = "demo/console.html")]
struct Index<'a> {
    attacks: [Attack; 4],
    origin: &'a str,
    embedded: bool,
    version: &'static str,
}

async fn index(State(console): State<Console>) -> Response {
    page(&Index {
        attacks: Attack::ALL,
        origin: &console.origin,
        embedded: console.broker == BrokerKind::Embedded,
        version: env!("CARGO_PKG_VERSION"),
    })
}

fn page(template: &impl Template) -> Response {
    match template.render() {
        Ok(html) => Html(html).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page of the demo cannot be made");
            (
                StatusCode::INTERNAL_SERVER_ERROR,
                "this page cannot be made",
            )
                .into_response()
        }
    }
}

async fn play(State(console): State<Console>, Path(name): Path<String>) -> Response {
    let Some(attack) = Attack::parse(&name) else {
        return (StatusCode::NOT_FOUND, "no such attack").into_response();
    };
    match console.orders.play(attack).await {
        Ok(round) => {
            Json(serde_json::json!({ "round": round.id, "account": round.account })).into_response()
        }
        Err(refused) => (StatusCode::SERVICE_UNAVAILABLE, refused.to_string()).into_response(),
    }
}

#[derive(Template)]
#[template(path = "demo/password.html")]
struct PasswordPage<'a> {
    case: &'a str,
    account: Option<&'a str>,
    done: bool,
    trouble: Option<String>,
}

#[derive(Deserialize)]
struct CaseQuery {
    #[serde(default)]
    case: String,
}

/// The site's own page for a new password, as far as the demo needs one.
async fn password_form(
    State(console): State<Console>,
    axum::extract::Query(query): axum::extract::Query<CaseQuery>,
) -> Response {
    let waiting = console.orders.waiting(&query.case).await;
    let (case, account) = match &waiting {
        Some((case, account)) => (case.as_str(), Some(account.as_str())),
        None => (query.case.as_str(), None),
    };
    page(&PasswordPage {
        case,
        account,
        done: false,
        trouble: None,
    })
}

async fn password_change(State(console): State<Console>, Form(form): Form<CaseQuery>) -> Response {
    match console.orders.change_password(&form.case).await {
        Ok(account) => page(&PasswordPage {
            case: &form.case,
            account: Some(&account),
            done: true,
            trouble: None,
        }),
        Err(refused) => {
            let status = match refused {
                Refused::NothingToChange => StatusCode::CONFLICT,
                _ => StatusCode::SERVICE_UNAVAILABLE,
            };
            let trouble = Some(refused.to_string());
            let body = page(&PasswordPage {
                case: &form.case,
                account: None,
                done: false,
                trouble,
            });
            (status, body).into_response()
        }
    }
}
