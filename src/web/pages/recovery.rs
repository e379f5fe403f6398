//! The pages about a recovery: one that can be stopped, and how one ended.

use super::view::{Frame, MessagePage, Next, RecoveryPage, Story, Tone};
use super::{Opened, Pages, render};
use crate::engine::output::{CaseState, RecipientPart};
use crate::event::{HOUR_MS, MINUTE_MS, Timestamp};
use crate::locale::{self, clean, fill};
use crate::record::CaseRecord;

/// How a recovery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecoveryState {
    Held,
    NeedsOperator,
    Released,
    Cancelled,
}

impl RecoveryState {
    /// `None` where the record is about an ordinary case.
    pub fn of(case: &CaseRecord) -> Option<RecoveryState> {
        match CaseState::parse(&case.state)? {
            CaseState::Held => Some(RecoveryState::Held),
            CaseState::NeedsOperator => Some(RecoveryState::NeedsOperator),
            CaseState::Released => Some(RecoveryState::Released),
            CaseState::Cancelled => Some(RecoveryState::Cancelled),
            _ => None,
        }
    }
}

impl Pages<'_> {
    /// How the recovery stands at `now`, with the button that stops it while it is held.
    pub fn recovery(
        &self,
        opened: Opened<'_>,
        case: &CaseRecord,
        state: RecoveryState,
        now: Timestamp,
    ) -> String {
        let r = &self.w.recovery;
        let (title, tone, text, more) = match state {
            RecoveryState::Held => return self.held(opened, case, now),
            RecoveryState::NeedsOperator => (
                &r.disputed_title,
                Tone::Plain,
                &r.disputed_text,
                &r.disputed_more,
            ),
            RecoveryState::Released => (
                &r.released_title,
                Tone::Stop,
                &r.released_text,
                &r.released_more,
            ),
            RecoveryState::Cancelled => (
                &r.stopped_title,
                Tone::Good,
                &r.stopped_text,
                &r.stopped_more,
            ),
        };
        let site = &self.look.site;
        let label = fill(
            &self.w.page.unlocked_next,
            &[("site", &clean::line(&site.name, 80))],
        );
        render(MessagePage {
            frame: self.frame(title, &case.id),
            tone,
            paragraphs: vec![text, more],
            steps: vec![],
            learned: None,
            next: (state == RecoveryState::Cancelled).then(|| Next::link(&label, site.url.clone())),
            not_me: None,
            chosen: None,
            version: case.version,
        })
    }

    fn held(&self, opened: Opened<'_>, case: &CaseRecord, now: Timestamp) -> String {
        let r = &self.w.recovery;
        let until = case.until.as_deref().and_then(locale::parse_time);
        let left_ms = until.map_or(0, |until| until.since_ms(now));
        let lead = if left_ms > 0 {
            let hours = (left_ms / HOUR_MS).to_string();
            let minutes = (left_ms % HOUR_MS / MINUTE_MS).to_string();
            let left = fill(&r.left, &[("hours", &hours), ("minutes", &minutes)]);
            fill(&r.lead, &[("left", &left)])
        } else {
            r.lead_soon.clone()
        };
        let mut story = self.story(opened, case, &r.done);
        if let Some(until) = until {
            story.add_fact_before_last(&r.goes_through, self.w.time(until));
        }
        if opened.link.part != RecipientPart::Owner {
            story.happened = &r.happened_others;
        }
        let frame = self.frame(&r.title, &case.id);
        self.stop(opened, frame, &lead, Some(story), case.version)
    }

    /// The button before the recovery is known here: it stops the one that was mailed.
    pub fn general_recovery(&self, opened: Opened<'_>) -> String {
        let frame = self.frame(&self.w.recovery.title, &opened.link.case);
        let lead = &self.w.page.general_text;
        self.stop(opened, frame, lead, None, opened.link.case_version)
    }

    fn stop(
        &self,
        opened: Opened<'_>,
        frame: Frame<'_>,
        lead: &str,
        story: Option<Story<'_>>,
        version: u32,
    ) -> String {
        render(RecoveryPage {
            frame,
            lead,
            story,
            again: opened.path("?answer=cancel-recovery"),
            action: opened.path("/cancel-recovery"),
            version,
        })
    }
}
