//! The way that follows "this wasn't me": what is done, what is left, and where things stand.
//!
//! Steps tick themselves off as the case learns of them; what doorward cannot see has no box.

use super::view::{GuidePage, Step, Way};
use super::{Opened, Pages, Settled, render, with_case};
use crate::locale::{self, fill};
use crate::record::{CaseRecord, StepsRecord};

impl Pages<'_> {
    /// The page of a case that is or was secured, for its owner.
    pub(super) fn guide(&self, opened: Opened<'_>, case: &CaseRecord, state: Settled) -> String {
        let g = &self.w.guide;
        let nothing = StepsRecord::default();
        let steps = case.steps.as_ref().unwrap_or(&nothing);
        let open = state == Settled::Recovered;
        let until = self.w.time(opened.link.expires);
        let all = steps.password.is_some() && steps.second_factor.is_some();
        render(GuidePage {
            frame: self.frame(if open { &g.title_open } else { &g.title_locked }, &case.id),
            stand: match (open, all) {
                (false, _) => &g.stand_locked,
                (true, false) => &g.stand_left,
                (true, true) => &g.stand_all,
            },
            steps: vec![
                self.sessions(case, steps),
                self.password(case, steps, open),
                self.second_factor(steps, open),
                self.api_keys(opened, steps),
                self.payouts(),
            ],
            come_back: fill(&g.come_back, &[("until", &until)]),
            again: opened.path(""),
        })
    }

    /// "Done on …" for a time of the record.
    fn done_at(&self, time: Option<&str>) -> Option<String> {
        let time = locale::parse_time(time?)?;
        let when = self.w.time(time);
        Some(fill(&self.w.guide.done_at, &[("when", &when)]))
    }

    fn sessions(&self, case: &CaseRecord, steps: &StepsRecord) -> Step<'_> {
        let g = &self.w.guide;
        let since = Some(steps.secured.as_str()).filter(|at| !at.is_empty());
        let done = self.done_at(since.or(Some(&case.updated)));
        Step {
            done: done.or_else(|| Some(g.done.clone())),
            way: self.link(
                self.look.site.sessions_url.as_ref(),
                &g.sessions_link,
                false,
            ),
            ..Step::new("sessions", &g.sessions, &g.sessions_text)
        }
    }

    fn password(&self, case: &CaseRecord, steps: &StepsRecord, open: bool) -> Step<'_> {
        let (g, site) = (&self.w.guide, &self.look.site);
        let done = self.done_at(steps.password.as_deref());
        let is_next = done.is_none();
        let url = site
            .password_url
            .as_ref()
            .map(|url| with_case(url, &case.id));
        let way = url.filter(|_| is_next).map(|url| {
            let label = &self.w.page.secured_next_button;
            (label.as_str(), Way::Link(url), !open)
        });
        // What is done needs no advice any more, but for the places where the old one opens.
        let text = match (open, is_next) {
            (true, true) => &g.password_support,
            (false, true) => &g.password_text,
            (_, false) => &g.password_again,
        };
        let mut notes = Vec::new();
        if is_next {
            notes.push(g.password_again.as_str());
            notes.extend(site.password_note.as_deref());
        }
        let provider = site.provider_url.as_ref();
        let provider = provider.map(|url| (g.provider_link.as_str(), url.clone()));
        Step {
            done,
            way,
            notes,
            aside: is_next.then_some((g.provider.as_str(), provider)),
            ..Step::new("password", &g.password, text)
        }
    }

    fn second_factor(&self, steps: &StepsRecord, open: bool) -> Step<'_> {
        let g = &self.w.guide;
        let url = self.look.site.two_factor_url.as_ref().filter(|_| open);
        let done = self.done_at(steps.second_factor.as_deref());
        let is_next = done.is_none();
        Step {
            done,
            way: self.link(url, &g.factor_link, is_next),
            notes: match open {
                true => Vec::new(),
                false => vec![g.factor_wait.as_str()],
            },
            ..Step::new("second-factor", &g.factor, &g.factor_text)
        }
    }

    fn api_keys(&self, opened: Opened<'_>, steps: &StepsRecord) -> Step<'_> {
        let g = &self.w.guide;
        let done = self.done_at(steps.api_keys.as_deref());
        match done {
            Some(_) => Step {
                done,
                ..Step::new("api-keys", &g.keys, &g.keys_done)
            },
            None => Step {
                way: Some((
                    g.keys_button.as_str(),
                    Way::Post(opened.path("/rotate-keys")),
                    false,
                )),
                warning: Some(&g.keys_warning),
                ..Step::new("api-keys", &g.keys, &g.keys_text)
            },
        }
    }

    fn payouts(&self) -> Step<'_> {
        let g = &self.w.guide;
        Step {
            way: self.link(self.look.site.payouts_url.as_ref(), &g.payouts_link, false),
            ..Step::new("payouts", &g.payouts, &g.payouts_text)
        }
    }

    fn link<'s>(
        &self,
        url: Option<&String>,
        label: &'s str,
        is_next: bool,
    ) -> Option<(&'s str, Way, bool)> {
        url.map(|url| (label, Way::Link(url.clone()), is_next))
    }
}
