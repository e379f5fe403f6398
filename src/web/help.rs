//! `/help`: a fresh mail for somebody without a usable link.

use std::time::Duration;

use axum::extract::rejection::FormRejection;
use axum::extract::{Form, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use tracing::warn;

use super::answers::Answer;
use super::pages::{Plain, RecoveryState, Settled};
use super::{Shared, page};
use crate::engine::output::RecipientPart;
use crate::link::Link;
use crate::locale::clean;
use crate::publish::wall_clock;
use crate::record::CaseRecord;

/// How long it takes, whether the case exists or not.
const HELP_TAKES: Duration = Duration::from_millis(400);

#[derive(Default, Deserialize)]
pub(super) struct HelpState {
    sent: Option<String>,
}

/// Where somebody without a usable link enters a case reference.
pub(super) async fn help(
    State(web): Shared,
    Query(state): Query<HelpState>,
    headers: HeaderMap,
) -> Response {
    let pages = web.pages(web.accepted(&headers));
    page(
        StatusCode::OK,
        match state.sent {
            Some(_) => pages.plain(Plain::HelpDone, None),
            None => pages.help(),
        },
    )
}

#[derive(Deserialize)]
pub(super) struct HelpForm {
    case: String,
}

/// The same answer in the same time, whether the case exists or not.
pub(super) async fn help_asked(
    State(web): Shared,
    headers: HeaderMap,
    form: Result<Form<HelpForm>, FormRejection>,
) -> Response {
    let Ok(Form(form)) = form else {
        web.count("help", "bad");
        let pages = web.pages(web.accepted(&headers));
        return page(
            StatusCode::BAD_REQUEST,
            pages.plain(Plain::Bad, Some("/help".to_owned())),
        );
    };
    let case = clean::case_reference(&form.case).and_then(|id| web.parts.cases.get(&id));
    let ask = async {
        let waits = |case: &CaseRecord| match RecoveryState::of(case) {
            Some(recovery) => recovery == RecoveryState::Held,
            None => Settled::of(case).is_none_or(Settled::is_locked),
        };
        let Some(case) = case.filter(|case| waits(case)) else {
            return;
        };
        let link = Link {
            case: case.id.as_str().into(),
            partition: case.partition,
            part: RecipientPart::Owner,
            case_version: case.version,
            expires: wall_clock(),
        };
        let asked = Answer {
            link: &link,
            case: Some(&case),
            answer: "resend",
            version: case.version,
            places: &[],
            by: "help",
        };
        if let Err(error) = web.publish(asked).await {
            warn!(%error, "a mail that was asked for through /help cannot be requested");
        }
    };
    // The record is handed to Kafka's client at once; whether it arrives within this time
    // changes nothing that the visitor sees.
    tokio::join!(
        async {
            let _ = tokio::time::timeout(HELP_TAKES, ask).await;
        },
        tokio::time::sleep(HELP_TAKES),
    );
    web.count("help", "accepted");
    Redirect::to("/help?sent=1").into_response()
}
