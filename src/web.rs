//! The owner's pages: what a link opens, and the answer that goes back.
//!
//! GET and HEAD change nothing, since mail scanners open links. A POST publishes the answer
//! as an event on the account's own partition, which the token names, and says "recorded"
//! only once Kafka has acknowledged it; the engine acts when it reads the event back, and the
//! status page shows that as soon as the case says so. Nothing here decides anything.

mod answers;
pub mod cases;
mod guard;
mod help;
mod listen;
mod pages;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::HttpBody as _;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use ipnet::IpNet;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tracing::warn;

use crate::config::{Config, Site};
use crate::event::wire::MacKeys;
use crate::link::{KeyError, Link, LinkError, LinkKeys, mac_keys};
use crate::locale::Words;
use crate::metrics::Metrics;
use crate::publish::{Publisher, wall_clock};
use crate::record::CaseRecord;
use cases::Cases;
use pages::{Choice, Look, Notice, Opened, Pages, Plain, RecoveryState, Settled};

/// How long Kafka may take to acknowledge an answer.
pub const ACKNOWLEDGE_WITHIN: Duration = Duration::from_secs(10);
/// How long a page waits for a case that the mail was faster than.
const CASE_PATIENCE: Duration = Duration::from_secs(2);
/// Longest any request may take; more than an acknowledgement and a wait.
const REQUEST_LIMIT: Duration = Duration::from_secs(15);
/// Largest form, in bytes.
const MAX_BODY: usize = 16 * 1024;
/// How often the status page looks again by itself, every 2 s.
const LOOKS: u32 = 30;
/// How long a shutdown waits for requests that are being answered.
const DRAIN: Duration = Duration::from_secs(10);

const CSS: &str = include_str!("../templates/page.css");

/// What the pages are made of.
pub struct Parts {
    pub site: Site,
    /// What links begin with; decides whether browsers are told to insist on HTTPS.
    pub public_url: String,
    /// The topic that answers go to.
    pub events_topic: String,
    pub links: LinkKeys,
    pub answer_keys: MacKeys,
    /// Whether "this was me" asks for the code that stands in the mail.
    pub typed_code: bool,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    pub cases: Arc<Cases>,
    /// Made with [`ACKNOWLEDGE_WITHIN`].
    pub publisher: Publisher,
    pub metrics: Arc<Metrics>,
}

impl Parts {
    /// The parts that the configuration describes.
    ///
    /// # Errors
    /// Where a link key cannot be used.
    pub fn new(
        config: &Config,
        cases: Arc<Cases>,
        publisher: Publisher,
        metrics: Arc<Metrics>,
    ) -> Result<Parts, KeyError> {
        Ok(Parts {
            site: config.site.clone(),
            public_url: config.web.public_url.clone(),
            events_topic: config.topics.events.clone(),
            links: LinkKeys::new(&config.keys.link)?,
            answer_keys: mac_keys(&config.keys.answer),
            typed_code: config.web.typed_code,
            trusted_proxies: config.web.trusted_proxies.clone(),
            cases,
            publisher,
            metrics,
        })
    }
}

struct Web {
    parts: Parts,
    look: Look,
    posts: guard::Posts,
    tries: guard::Tries,
    https: bool,
}

type Shared = State<Arc<Web>>;

/// The public listener's routes (docs/contract.md section 6).
pub fn router(parts: Parts) -> Router {
    let css = format!("/assets/page-{}.css", fingerprint(CSS));
    let web = Arc::new(Web {
        look: Look {
            site: parts.site.clone(),
            css: css.clone(),
            typed_code: parts.typed_code,
        },
        posts: guard::Posts::default(),
        tries: guard::Tries::default(),
        https: parts.public_url.starts_with("https://"),
        parts,
    });
    Router::new()
        .route("/c/{token}", get(show))
        .route("/c/{token}/status", get(status))
        .route("/c/{token}/me", post(answers::me))
        .route("/c/{token}/not-me", post(answers::not_me))
        .route("/c/{token}/rotate-keys", post(answers::rotate_keys))
        .route("/c/{token}/cancel-recovery", post(answers::cancel_recovery))
        .route("/c/{token}/resend", post(answers::resend))
        .route("/help", get(help::help).post(help::help_asked))
        .route(&css, get(style))
        .fallback(missing)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(Arc::clone(&web), guarded))
        .with_state(web)
}

/// Serves until `shutdown` is ready and what was being answered then has been, or 10 s have
/// passed.
///
/// # Errors
/// Where the listener fails for good.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let (asked, mut asked_to_stop) = tokio::sync::watch::channel(false);
    let served = axum::serve(
        listen::Bounded::new(listener),
        router.into_make_service_with_connect_info::<listen::Peer>(),
    )
    .with_graceful_shutdown(async move {
        shutdown.await;
        asked.send_replace(true);
    })
    .into_future();
    tokio::select! {
        result = served => result,
        () = async {
            // Ends at once where the server has gone, which the other branch reports.
            let _ = asked_to_stop.wait_for(|asked| *asked).await;
            tokio::time::sleep(DRAIN).await;
        } => {
            warn!("pages were still being answered at shutdown");
            Ok(())
        }
    }
}

/// Limits every request and hardens every answer.
async fn guarded(State(web): Shared, request: Request, next: Next) -> Response {
    let words = web.accepted(request.headers());
    let pages = web.pages(words);
    let post = request.method() == Method::POST;
    let has_body = !request.body().is_end_stream();
    let origin = guard::origin_of(&web.parts.public_url);
    let mut response = if post && guard::is_foreign(request.headers(), origin) {
        web.count("any", "foreign");
        page(StatusCode::FORBIDDEN, pages.plain(Plain::Foreign, None))
    } else if post
        && !web.posts.allows(
            guard::visitor(&request, &web.parts.trusted_proxies),
            web.good_token(request.uri().path()),
        )
    {
        web.count("any", "limited");
        page(
            StatusCode::TOO_MANY_REQUESTS,
            pages.plain(Plain::Busy, None),
        )
    } else {
        match tokio::time::timeout(REQUEST_LIMIT, next.run(request)).await {
            Ok(response) => response,
            Err(_) => page(
                StatusCode::SERVICE_UNAVAILABLE,
                pages.plain(Plain::Busy, None),
            ),
        }
    };
    if has_body && (response.status().is_client_error() || response.status().is_server_error()) {
        // The body may not have been read to its end, and then the connection cannot be used
        // again: a client that is not told would lose its next request.
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    guard::harden(&mut response, web.https);
    response
}

async fn style() -> Response {
    (
        [
            (header::CONTENT_TYPE, "text/css; charset=utf-8"),
            (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
        ],
        CSS,
    )
        .into_response()
}

async fn missing(State(web): Shared, headers: HeaderMap) -> Response {
    let pages = web.pages(web.accepted(&headers));
    page(StatusCode::NOT_FOUND, pages.plain(Plain::Missing, None))
}

#[derive(Default, Deserialize)]
struct Chosen {
    answer: Option<String>,
}

/// The page behind a link.
async fn show(
    State(web): Shared,
    Path(token): Path<String>,
    Query(chosen): Query<Chosen>,
    headers: HeaderMap,
) -> Response {
    let link = match web.open(&token, "page", &headers) {
        Ok(link) => link,
        Err(response) => return *response,
    };
    let opened = Opened {
        token: &token,
        link: &link,
    };
    let chosen_answer = chosen.answer.as_deref();
    let chosen = match chosen_answer {
        Some("me") => Some(Choice::Me),
        Some("not-me") => Some(Choice::NotMe),
        _ => None,
    };
    web.count("page", "shown");
    let Some(case) = web.parts.cases.wait_for(&link.case, CASE_PATIENCE).await else {
        let pages = web.pages(web.accepted(&headers));
        let html = match chosen_answer {
            Some("cancel-recovery") => pages.general_recovery(opened),
            _ => pages.general_question(opened, None, chosen),
        };
        return page(StatusCode::OK, html);
    };
    let pages = web.pages(web.language(Some(&case), &headers));
    if let Some(state) = RecoveryState::of(&case) {
        let html = pages.recovery(opened, &case, state, wall_clock());
        return page(StatusCode::OK, html);
    }
    let html = match Settled::of(&case) {
        Some(settled) => pages.settled(opened, &case, settled),
        None => {
            let newer = (case.version > link.case_version).then_some(Notice::Newer);
            pages.question(opened, &case, newer, chosen)
        }
    };
    page(StatusCode::OK, html)
}

/// What a status page waits for.
#[derive(Deserialize)]
struct Awaited {
    answer: Option<String>,
    /// The version that was answered.
    version: Option<u32>,
    /// How often the page has looked again.
    look: Option<u32>,
}

/// What has become of an answer.
async fn status(
    State(web): Shared,
    Path(token): Path<String>,
    Query(awaited): Query<Awaited>,
    headers: HeaderMap,
) -> Response {
    let answer = awaited.answer.as_deref().unwrap_or_default();
    if answer == "resend" {
        // Shown for an expired link too, since that is where it is asked for; it tells
        // nothing of the case.
        let opens = !matches!(
            web.parts.links.open(&token, wall_clock()),
            Err(LinkError::Forged | LinkError::Malformed)
        );
        if opens {
            let pages = web.pages(web.accepted(&headers));
            return page(StatusCode::OK, pages.plain(Plain::Resent, None));
        }
    }
    let link = match web.open(&token, "page", &headers) {
        Ok(link) => link,
        Err(response) => return *response,
    };
    let opened = Opened {
        token: &token,
        link: &link,
    };
    let version = awaited.version.unwrap_or(link.case_version);
    let look = awaited.look.unwrap_or(0).min(LOOKS);
    let case = web.parts.cases.get(&link.case);
    let pages = web.pages(web.language(case.as_deref(), &headers));
    let again = || {
        let answer = match answer {
            "me" | "cancel-recovery" | "rotate-keys" => answer,
            _ => "not-me",
        };
        format!(
            "/c/{token}/status?answer={answer}&version={version}&look={}",
            look + 1
        )
    };
    let recovery = case.as_deref().and_then(RecoveryState::of);
    let html = match (case.as_deref(), answer) {
        (None, _) => pages.processing(opened, again(), look >= LOOKS),
        (Some(case), answer) if let Some(state) = recovery => match (state, answer) {
            (RecoveryState::Held, "cancel-recovery") => {
                pages.processing(opened, again(), look >= LOOKS)
            }
            _ => pages.recovery(opened, case, state, wall_clock()),
        },
        (Some(case), answer) => match (Settled::of(case), answer) {
            // Only "secured" and what follows it carries out "this wasn't me".
            (Some(Settled::Unlocked | Settled::Closed), "not-me") => {
                pages.processing(opened, again(), look >= LOOKS)
            }
            (Some(Settled::Secured | Settled::Recovered), "rotate-keys") if !has_new_keys(case) => {
                pages.processing(opened, again(), look >= LOOKS)
            }
            (Some(settled), _) => pages.settled(opened, case, settled),
            (None, "me") if case.version > version => match pages::is_locked(case) {
                true => pages.still_locked(opened, case),
                false => pages.question(opened, case, Some(Notice::Moved), None),
            },
            (None, "me" | "not-me") => pages.processing(opened, again(), look >= LOOKS),
            (None, _) => pages.question(opened, case, None, None),
        },
    };
    page(StatusCode::OK, html)
}

impl Web {
    fn pages(&self, words: &'static Words) -> Pages<'_> {
        Pages {
            look: &self.look,
            w: words,
            stale: self.parts.cases.is_behind(),
        }
    }

    /// The token in `path`, where it is a link of ours, be it expired.
    fn good_token<'p>(&self, path: &'p str) -> Option<&'p str> {
        let token = path.strip_prefix("/c/")?.split('/').next()?;
        let opened = self.parts.links.open(token, wall_clock());
        matches!(opened, Ok(_) | Err(LinkError::Expired(_))).then_some(token)
    }

    /// The language of the case, else the browser's, else English.
    fn language(&self, case: Option<&CaseRecord>, headers: &HeaderMap) -> &'static Words {
        case.and_then(|case| case.locale.as_deref())
            .and_then(|tag| self.look.site.languages.of(tag))
            .unwrap_or_else(|| self.accepted(headers))
    }

    fn accepted(&self, headers: &HeaderMap) -> &'static Words {
        let languages = &self.look.site.languages;
        headers
            .get(header::ACCEPT_LANGUAGE)
            .and_then(|value| value.to_str().ok())
            .and_then(|header| languages.accepted(header))
            .unwrap_or_else(|| languages.fallback())
    }

    fn count(&self, answer: &str, result: &str) {
        self.parts
            .metrics
            .links_total
            .with_label_values(&[answer, result])
            .inc();
    }

    /// The link that `token` is, or the page that says why it is none.
    fn open(&self, token: &str, answer: &str, headers: &HeaderMap) -> Result<Link, Box<Response>> {
        self.parts
            .links
            .open(token, wall_clock())
            .map_err(|error| Box::new(self.refuse(token, answer, &error, headers)))
    }

    fn refuse(
        &self,
        token: &str,
        answer: &str,
        error: &LinkError,
        headers: &HeaderMap,
    ) -> Response {
        match error {
            LinkError::Expired(link) => {
                self.count(answer, "expired");
                let case = self.parts.cases.get(&link.case);
                let words = self.language(case.as_deref(), headers);
                let opened = Opened { token, link };
                page(StatusCode::GONE, self.pages(words).expired(opened))
            }
            LinkError::Forged | LinkError::Malformed => {
                self.count(answer, "forged");
                let pages = self.pages(self.accepted(headers));
                page(StatusCode::NOT_FOUND, pages.plain(Plain::Forged, None))
            }
        }
    }
}

fn page(status: StatusCode, html: String) -> Response {
    let mut response = (status, Html(html)).into_response();
    if status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::SERVICE_UNAVAILABLE {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from_static("60"));
    }
    response
}

/// Whether new API keys were ordered for a secured case.
fn has_new_keys(case: &CaseRecord) -> bool {
    let steps = case.steps.as_ref();
    steps.is_some_and(|steps| steps.api_keys.is_some())
}

/// The first half of SHA-256, in hexadecimal: enough to tell versions of a file apart.
fn fingerprint(text: &str) -> String {
    Sha256::digest(text.as_bytes())
        .iter()
        .take(8)
        .fold(String::new(), |mut hex, byte| {
            hex.push_str(&format!("{byte:02x}"));
            hex
        })
}
