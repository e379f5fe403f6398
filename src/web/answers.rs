//! The POSTs behind a link: each becomes one event, acknowledged before it is called recorded.

use axum::extract::rejection::FormRejection;
use axum::extract::{Form, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use tracing::{debug, warn};

use super::guard::Typed;
use super::pages::{Choice, Notice, Opened, Pages, Plain, RecoveryState, Settled};
use super::{Shared, Web, page};
use crate::engine::output::RecipientPart;
use crate::event::wire::{CaseResponse, case_response};
use crate::link::{Link, LinkError, typed_code};
use crate::publish::{Record, wall_clock};
use crate::record::CaseRecord;

type Fields = Result<Form<Vec<(String, String)>>, FormRejection>;

/// "This was me".
pub(super) async fn me(
    State(web): Shared,
    Path(token): Path<String>,
    headers: HeaderMap,
    fields: Fields,
) -> Response {
    let link = match web.open(&token, "me", &headers) {
        Ok(link) => link,
        Err(response) => return *response,
    };
    let opened = Opened {
        token: &token,
        link: &link,
    };
    let case = web.parts.cases.get(&link.case);
    let words = web.language(case.as_deref(), &headers);
    let pages = web.pages(words);
    if link.part != RecipientPart::Owner {
        web.count("me", "forbidden");
        return page(
            StatusCode::FORBIDDEN,
            pages.plain(Plain::Forbidden, Some(format!("/c/{token}"))),
        );
    }
    let Ok(Form(fields)) = fields else {
        web.count("me", "bad");
        return page(
            StatusCode::BAD_REQUEST,
            pages.plain(Plain::Bad, Some(format!("/c/{token}"))),
        );
    };
    let shown = shown_version(&fields).unwrap_or(link.case_version);
    let ticked: Vec<&str> = fields
        .iter()
        .filter(|(name, _)| name == "place")
        .map(|(_, value)| value.as_str())
        .collect();
    let settled = case
        .as_deref()
        .is_some_and(|case| Settled::of(case).is_some() || RecoveryState::of(case).is_some());
    if web.parts.typed_code && !settled {
        let typed = fields.iter().find(|(name, _)| name == "code");
        let typed = typed.map_or("", |(_, value)| value.as_str());
        if let Some(refused) = web.refuse_code(opened, case.as_deref(), typed, pages) {
            return refused;
        }
    }
    let Some(case) = case else {
        let version = shown.min(link.case_version);
        return web
            .answer(&token, &link, None, "me", version, &[], pages)
            .await;
    };
    // A recovery that its owner asked for needs no word of it.
    if settled {
        web.count("me", "repeated");
        return see_status(&token, "me", case.version);
    }
    if case.version > shown {
        web.count("me", "moved");
        return page(
            StatusCode::CONFLICT,
            pages.question(opened, &case, Some(Notice::Moved), None),
        );
    }
    let places: Vec<&str> = case
        .places
        .iter()
        .map(|place| place.value.as_str())
        .filter(|place| ticked.contains(place))
        .collect();
    if places.is_empty() && !case.places.is_empty() {
        web.count("me", "no_place");
        return page(
            StatusCode::UNPROCESSABLE_ENTITY,
            pages.question(opened, &case, Some(Notice::NoPlace), Some(Choice::Me)),
        );
    }
    web.answer(
        &token,
        &link,
        Some(&case),
        "me",
        case.version,
        &places,
        pages,
    )
    .await
}

/// "Replace my API keys": the owner's own button on the guided page. A repeat does nothing.
pub(super) async fn rotate_keys(
    State(web): Shared,
    Path(token): Path<String>,
    headers: HeaderMap,
    // Read, or what was sent would stand before the connection's next request.
    _: Fields,
) -> Response {
    let link = match web.open(&token, "rotate-keys", &headers) {
        Ok(link) => link,
        Err(response) => return *response,
    };
    let case = web.parts.cases.get(&link.case);
    let pages = web.pages(web.language(case.as_deref(), &headers));
    if link.part != RecipientPart::Owner {
        web.count("rotate-keys", "forbidden");
        return page(
            StatusCode::FORBIDDEN,
            pages.plain(Plain::Forbidden, Some(format!("/c/{token}"))),
        );
    }
    let version = case
        .as_deref()
        .map_or(link.case_version, |case| case.version);
    web.answer(
        &token,
        &link,
        case.as_deref(),
        "rotate_keys",
        version,
        &[],
        pages,
    )
    .await
}

/// "This wasn't me": never refused.
pub(super) async fn not_me(
    state: Shared,
    path: Path<String>,
    headers: HeaderMap,
    fields: Fields,
) -> Response {
    deny(state, path, headers, fields, "not_me").await
}

/// "Stop this recovery": never refused either.
pub(super) async fn cancel_recovery(
    state: Shared,
    path: Path<String>,
    headers: HeaderMap,
    fields: Fields,
) -> Response {
    deny(state, path, headers, fields, "cancel_recovery").await
}

async fn deny(
    State(web): Shared,
    Path(token): Path<String>,
    headers: HeaderMap,
    fields: Fields,
    answer: &str,
) -> Response {
    let link = match web.open(&token, answer, &headers) {
        Ok(link) => link,
        Err(response) => return *response,
    };
    let case = web.parts.cases.get(&link.case);
    let words = web.language(case.as_deref(), &headers);
    // A form that cannot be read does not make the answer less clear, nor does a page that
    // did not know yet what it was about.
    let answer = match case.as_deref().map(RecoveryState::of) {
        Some(Some(_)) => "cancel_recovery",
        Some(None) => "not_me",
        None => answer,
    };
    let shown = fields
        .ok()
        .and_then(|Form(fields)| shown_version(&fields))
        .unwrap_or(link.case_version);
    let newest = case
        .as_deref()
        .map_or(link.case_version, |case| case.version);
    let version = shown.min(newest.max(link.case_version));
    web.answer(
        &token,
        &link,
        case.as_deref(),
        answer,
        version,
        &[],
        web.pages(words),
    )
    .await
}

/// A fresh mail, for a link that has expired or got lost among newer ones.
pub(super) async fn resend(
    State(web): Shared,
    Path(token): Path<String>,
    headers: HeaderMap,
    // Read, or what was sent would stand before the connection's next request.
    _: Fields,
) -> Response {
    let link = match web.parts.links.open(&token, wall_clock()) {
        Ok(link) => link,
        Err(LinkError::Expired(link)) => *link,
        Err(error) => return web.refuse(&token, "resend", &error, &headers),
    };
    let case = web.parts.cases.get(&link.case);
    let words = web.language(case.as_deref(), &headers);
    web.answer(
        &token,
        &link,
        case.as_deref(),
        "resend",
        link.case_version,
        &[],
        web.pages(words),
    )
    .await
}

/// One answer on its way to the log.
pub(super) struct Answer<'a> {
    pub(super) link: &'a Link,
    pub(super) case: Option<&'a CaseRecord>,
    pub(super) answer: &'a str,
    pub(super) version: u32,
    pub(super) places: &'a [&'a str],
    /// The recipient's part, or `help`.
    pub(super) by: &'a str,
}

/// Why an answer is not recorded.
#[derive(Debug, thiserror::Error)]
pub(super) enum AnswerError {
    #[error(transparent)]
    Publish(#[from] crate::publish::PublishError),
    #[error("the system's random source failed")]
    Random,
}

impl Web {
    /// The page that says why a typed code does not do; `None` where it does.
    fn refuse_code(
        &self,
        opened: Opened<'_>,
        case: Option<&CaseRecord>,
        typed: &str,
        pages: Pages<'_>,
    ) -> Option<Response> {
        let right = typed_code(typed) == self.parts.links.code(opened.token);
        let ends = opened.link.expires;
        match self.tries.judge(opened.token, ends, right, wall_clock()) {
            Typed::Right => None,
            Typed::Wrong => {
                self.count("me", "wrong_code");
                let (notice, chosen) = (Some(Notice::Code), Some(Choice::Me));
                let html = match case {
                    Some(case) => pages.question(opened, case, notice, chosen),
                    None => pages.general_question(opened, notice, chosen),
                };
                Some(page(StatusCode::UNPROCESSABLE_ENTITY, html))
            }
            Typed::Spent => {
                self.count("me", "code_spent");
                Some(page(StatusCode::FORBIDDEN, pages.code_spent(opened)))
            }
        }
    }

    /// Publishes an answer and leads to its status, or says that it is not recorded.
    #[allow(
        clippy::too_many_arguments,
        reason = "each is a fact of the one request that is being answered"
    )]
    async fn answer(
        &self,
        token: &str,
        link: &Link,
        case: Option<&CaseRecord>,
        answer: &str,
        version: u32,
        places: &[&str],
        pages: Pages<'_>,
    ) -> Response {
        let published = self
            .publish(Answer {
                link,
                case,
                answer,
                version,
                places,
                by: link.part.as_str(),
            })
            .await;
        match published {
            Ok(()) => {
                self.count(answer, "accepted");
                debug!(case = %link.case, answer, "answer recorded");
                see_status(token, &answer.replace('_', "-"), version)
            }
            Err(error) => {
                self.count(answer, "unavailable");
                warn!(case = %link.case, answer, %error, "an owner's answer was not recorded");
                let back = format!("/c/{token}?answer={}", answer.replace('_', "-"));
                page(
                    StatusCode::SERVICE_UNAVAILABLE,
                    pages.failed(&link.case, back),
                )
            }
        }
    }

    /// Returns once Kafka has acknowledged the answer.
    pub(super) async fn publish(&self, answer: Answer<'_>) -> Result<(), AnswerError> {
        let mut random = [0_u8; 16];
        getrandom::fill(&mut random).map_err(|_| AnswerError::Random)?;
        let id = random.iter().fold(String::from("r-"), |mut id, byte| {
            id.push_str(&format!("{byte:02x}"));
            id
        });
        let account = answer.case.map(|case| case.account.as_str());
        let payload = case_response(
            &CaseResponse {
                id: &id,
                account,
                case: &answer.link.case,
                case_version: answer.version,
                answer: answer.answer,
                places: answer.places,
                by: answer.by,
                time: wall_clock(),
            },
            &self.parts.answer_keys,
        );
        self.parts
            .publisher
            .publish(Record {
                topic: &self.parts.events_topic,
                partition: Some(answer.link.partition),
                key: account.map(str::as_bytes),
                payload: &payload,
            })
            .await?;
        Ok(())
    }
}

/// To the status page, which says what has become of the answer.
fn see_status(token: &str, answer: &str, version: u32) -> Response {
    let to = format!("/c/{token}/status?answer={answer}&version={version}");
    Redirect::to(&to).into_response()
}

/// The version that the posted page showed.
fn shown_version(fields: &[(String, String)]) -> Option<u32> {
    fields
        .iter()
        .find(|(name, _)| name == "version")
        .and_then(|(_, value)| value.parse().ok())
}
