//! The owner's pages as HTML: what is known of a case, in the reader's language.
//!
//! Pure: the same case, link and settings give the same page. Which page is shown when is
//! the handlers' business.

mod guide;
mod recovery;
mod story;
mod view;

pub use recovery::RecoveryState;

use askama::Template;

use crate::config::Site;
use crate::engine::output::{CaseState, RecipientPart};
use crate::link::Link;
use crate::locale::{Words, clean, fill};
use crate::record::CaseRecord;
use view::{Frame, HelpPage, Learned, MeForm, MessagePage, Next, NotMeForm, QuestionPage, Tone};

/// What the site's settings lend to every page.
#[derive(Clone, Debug)]
pub struct Look {
    pub site: Site,
    /// Path of the style sheet, with its hash.
    pub css: String,
    /// Whether "this was me" asks for the code that stands in the mail.
    pub typed_code: bool,
}

/// The answer that a link in the mail stands for. It stands first, and is the one button that
/// is filled; without it the page leans to neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    Me,
    NotMe,
}

/// Why a question is asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The case grew since the page was shown.
    Moved,
    /// The case grew since the mail was sent.
    Newer,
    /// "Me" without one of the places.
    NoPlace,
    /// "Me" with another code than the mail's.
    Code,
}

/// A link and where it stands in a URL.
#[derive(Clone, Copy)]
pub struct Opened<'a> {
    pub token: &'a str,
    pub link: &'a Link,
}

impl Opened<'_> {
    fn path(&self, action: &str) -> String {
        format!("/c/{}{action}", self.token)
    }
}

/// States of a case that ask nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    Unlocked,
    Secured,
    Recovered,
    Closed,
}

impl Settled {
    /// Whether the account is locked all the same, so that its owner may want the mail.
    pub fn is_locked(self) -> bool {
        self == Settled::Secured
    }

    /// `None` where the case waits for an answer, and for a state that this program does not
    /// know: asking is harmless.
    pub fn of(case: &CaseRecord) -> Option<Settled> {
        match CaseState::parse(&case.state)? {
            CaseState::Open | CaseState::Asked => None,
            CaseState::Held
            | CaseState::NeedsOperator
            | CaseState::Released
            | CaseState::Cancelled => None,
            CaseState::Unlocked => Some(Settled::Unlocked),
            CaseState::Secured => Some(Settled::Secured),
            CaseState::Recovered => Some(Settled::Recovered),
            CaseState::Closed => Some(Settled::Closed),
        }
    }
}

/// Pages that say one thing and know no case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plain {
    Forged,
    Forbidden,
    Busy,
    Bad,
    Missing,
    Resent,
    HelpDone,
    /// Posted from another site's page.
    Foreign,
}

/// Renders pages in one language.
#[derive(Clone, Copy)]
pub struct Pages<'a> {
    pub look: &'a Look,
    pub w: &'static Words,
    /// Whether Kafka is away or slow, so that what is known may be old.
    pub stale: bool,
}

impl<'a> Pages<'a> {
    fn frame(&self, title: &'a str, reference: &str) -> Frame<'a> {
        let site = &self.look.site;
        Frame {
            w: self.w,
            title,
            site: clean::line(&site.name, 80),
            css: &self.look.css,
            reference: clean::case_reference(reference).unwrap_or_default(),
            support_url: site.support_url.as_deref(),
            support_email: site.support_email.as_deref(),
            status_url: site.status_url.as_deref(),
            refresh: None,
            stale: self.stale,
        }
    }

    /// "Was this you?", with everything that is known of the case.
    pub fn question(
        &self,
        opened: Opened<'_>,
        case: &CaseRecord,
        notice: Option<Notice>,
        chosen: Option<Choice>,
    ) -> String {
        let p = &self.w.page;
        let locked = is_locked(case);
        let owner = opened.link.part == RecipientPart::Owner;
        let lead = match (owner, locked, case.scope.as_str()) {
            (true, true, "unfamiliar") => &p.lead_unfamiliar,
            (true, true, _) => &p.lead_locked,
            (true, false, _) => &p.lead_asked,
            (false, true, _) => &p.lead_co_owner,
            (false, false, _) => &p.lead_co_owner_asked,
        };
        let chosen = if owner { chosen } else { Some(Choice::NotMe) };
        let scope = locked.then_some(case.scope.as_str());
        let places = self.place_boxes(case);
        let me = owner.then(|| MeForm {
            text: match (locked, places.is_empty()) {
                (false, true) => &p.me_text_asked,
                (false, false) => &p.me_text_asked_places,
                (true, true) => &p.me_text_plain,
                (true, false) => &p.me_text,
            },
            action: opened.path("/me"),
            places,
            places_hint: match locked {
                true => &p.places_hint,
                false => &p.places_hint_asked,
            },
            code: self.look.typed_code,
        });
        render(QuestionPage {
            frame: self.frame(
                if owner {
                    &p.title_question
                } else {
                    &p.title_co_owner
                },
                &case.id,
            ),
            notice: notice.map(|notice| match notice {
                Notice::Moved => p.notice_moved.as_str(),
                Notice::Newer => &p.notice_newer,
                Notice::NoPlace => &p.notice_places,
                Notice::Code => &p.notice_code,
            }),
            lead,
            story: Some(self.story(opened, case, self.w.done(scope, owner))),
            again: opened.path(""),
            co_owner: !owner,
            me,
            not_me: self.not_me(opened, locked),
            chosen,
            not_me_first: chosen == Some(Choice::NotMe),
            version: case.version,
        })
    }

    /// The question before the case is known here: the answer counts for the version that
    /// was mailed.
    pub fn general_question(
        &self,
        opened: Opened<'_>,
        notice: Option<Notice>,
        chosen: Option<Choice>,
    ) -> String {
        let p = &self.w.page;
        let owner = opened.link.part == RecipientPart::Owner;
        let chosen = if owner { chosen } else { Some(Choice::NotMe) };
        render(QuestionPage {
            frame: self.frame(&p.general_title, &opened.link.case),
            notice: notice.map(|_| p.notice_code.as_str()),
            lead: &p.general_text,
            story: None,
            again: opened.path(""),
            co_owner: !owner,
            me: owner.then(|| MeForm {
                text: &p.general_me,
                action: opened.path("/me"),
                places: Vec::new(),
                places_hint: &p.places_hint,
                code: self.look.typed_code,
            }),
            not_me: self.not_me(opened, true),
            chosen,
            not_me_first: chosen == Some(Choice::NotMe),
            version: opened.link.case_version,
        })
    }

    /// How a case stands that needs no answer.
    pub fn settled(&self, opened: Opened<'_>, case: &CaseRecord, state: Settled) -> String {
        let p = &self.w.page;
        let site = &self.look.site;
        let label = fill(&p.unlocked_next, &[("site", &clean::line(&site.name, 80))]);
        let home = Next::link(&label, site.url.clone());
        let owner = opened.link.part == RecipientPart::Owner;
        let told = &self.w.mail.heading_notice;
        let (title, text, next) = match state {
            Settled::Secured if owner => return self.guide(opened, case, state),
            Settled::Recovered if owner && case.steps.is_some() => {
                return self.guide(opened, case, state);
            }
            // A co-owner has nothing more to do, and no way in of another's.
            Settled::Secured => (&p.secured_title, &p.secured_others, None),
            Settled::Recovered if !owner => (told, &self.w.mail.recovered_others, None),
            Settled::Closed if !owner => (told, &p.closed_others, None),
            Settled::Unlocked if !owner => (told, &self.w.mail.unlocked_others, None),
            Settled::Recovered => (&p.recovered_title, &p.recovered_text, Some(home)),
            Settled::Closed => (&p.closed_title, &p.closed_text, Some(home)),
            Settled::Unlocked => (&p.unlocked_title, &p.unlocked_text, Some(home)),
        };
        let learned = matches!(state, Settled::Unlocked | Settled::Closed).then(|| Learned {
            places: self.known_places(case),
            avoid: self.w.avoid(&case.reason),
        });
        // "This wasn't me" is believed for as long as the link lives.
        let mut not_me = matches!(state, Settled::Unlocked | Settled::Closed)
            .then(|| self.not_me(opened, false));
        if let Some(late) = &mut not_me
            && state == Settled::Unlocked
            && owner
        {
            late.text = &p.not_me_text_late;
        }
        render(MessagePage {
            frame: self.frame(title, &case.id),
            tone: Tone::Good,
            paragraphs: vec![text],
            steps: vec![],
            learned: learned.filter(|_| owner),
            next,
            not_me,
            chosen: None,
            version: case.version,
        })
    }

    /// "This wasn't me", or, said by a co-owner, "this wasn't the owner".
    fn not_me(&self, opened: Opened<'_>, locked: bool) -> NotMeForm<'a> {
        let p = &self.w.page;
        let action = opened.path("/not-me");
        if opened.link.part == RecipientPart::Owner {
            NotMeForm {
                title: &p.not_me_title,
                button: &p.not_me_button,
                text: if locked {
                    &p.not_me_text
                } else {
                    &p.not_me_text_asked
                },
                action,
            }
        } else {
            NotMeForm {
                title: &p.not_owner_title,
                button: &p.not_owner_button,
                text: if locked {
                    &p.not_owner_text
                } else {
                    &p.not_owner_text_asked
                },
                action,
            }
        }
    }

    /// The answer is recorded and has yet to show in the case.
    pub fn processing(&self, opened: Opened<'_>, next: String, slow: bool) -> String {
        let p = &self.w.page;
        let mut frame = self.frame(&p.processing_title, &opened.link.case);
        let again = slow.then(|| Next::link(&p.processing_again, next.clone()));
        frame.refresh = (!slow).then_some(next);
        render(MessagePage {
            frame,
            tone: if slow { Tone::Plain } else { Tone::Busy },
            paragraphs: vec![if slow {
                p.processing_slow.as_str()
            } else {
                &p.processing_text
            }],
            steps: vec![],
            learned: None,
            next: again,
            not_me: None,
            chosen: None,
            version: 0,
        })
    }

    /// "Me" was heard, and the account is locked all the same.
    pub fn still_locked(&self, opened: Opened<'_>, case: &CaseRecord) -> String {
        let p = &self.w.page;
        self.message(
            &p.still_title,
            &case.id,
            Tone::Stop,
            &p.still_text,
            Some(Next::link(&p.still_next, opened.path(""))),
        )
    }

    /// A link of ours that is too old.
    pub fn expired(&self, opened: Opened<'_>) -> String {
        let p = &self.w.page;
        self.message(
            &p.expired_title,
            &opened.link.case,
            Tone::Stop,
            &p.expired_text,
            Some(Next::post(&p.expired_button, opened.path("/resend"))),
        )
    }

    /// So many wrong codes that the link takes no more.
    pub fn code_spent(&self, opened: Opened<'_>) -> String {
        let p = &self.w.page;
        self.message(
            &p.code_spent_title,
            &opened.link.case,
            Tone::Stop,
            &p.code_spent_text,
            Some(Next::post(&p.expired_button, opened.path("/resend"))),
        )
    }

    /// Kafka did not acknowledge. `back` leads to where the answer can be given again.
    pub fn failed(&self, reference: &str, back: String) -> String {
        let p = &self.w.page;
        self.of_no_case().message(
            &p.failed_title,
            reference,
            Tone::Fail,
            &p.failed_text,
            Some(Next::link(&p.failed_button, back)),
        )
    }

    pub fn plain(&self, page: Plain, back: Option<String>) -> String {
        let p = &self.w.page;
        let (title, tone, text) = match page {
            Plain::Forged => (&p.forged_title, Tone::Stop, &p.forged_text),
            Plain::Forbidden => (&p.forbidden_title, Tone::Stop, &p.forbidden_text),
            Plain::Busy => (&p.busy_title, Tone::Stop, &p.busy_text),
            Plain::Bad => (&p.bad_title, Tone::Stop, &p.bad_text),
            Plain::Missing => (&p.missing_title, Tone::Plain, &p.missing_text),
            Plain::Resent => (&p.resent_title, Tone::Good, &p.resent_text),
            Plain::HelpDone => (&p.help_done_title, Tone::Good, &p.help_done_text),
            Plain::Foreign => (&p.foreign_title, Tone::Stop, &p.foreign_text),
        };
        let next = match page {
            Plain::Forged => Some(Next::link(&p.forged_help, "/help".to_owned())),
            _ => back.map(|back| Next::link(&p.back, back)),
        };
        self.of_no_case().message(title, "", tone, text, next)
    }

    /// For pages that show nothing of a case, so nothing that may be behind.
    fn of_no_case(self) -> Pages<'a> {
        Pages {
            stale: false,
            ..self
        }
    }

    /// Where a case reference can be entered.
    pub fn help(&self) -> String {
        render(HelpPage {
            frame: self.frame(&self.w.page.help_title, ""),
        })
    }

    fn message(
        &self,
        title: &'a str,
        reference: &str,
        tone: Tone,
        text: &'a str,
        next: Option<Next<'a>>,
    ) -> String {
        render(MessagePage {
            frame: self.frame(title, reference),
            tone,
            paragraphs: vec![text],
            steps: vec![],
            learned: None,
            next,
            not_me: None,
            chosen: None,
            version: 0,
        })
    }
}

/// Whether the account is locked as far as the case says.
pub fn is_locked(case: &CaseRecord) -> bool {
    CaseState::parse(&case.state).is_some_and(CaseState::is_locked)
}

/// `url` with the case in its query. The id goes through percent-encoding, since the site's
/// own page reads it.
fn with_case(url: &str, case: &str) -> String {
    let mut encoded = String::with_capacity(case.len());
    for byte in case.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    let (base, fragment) = match url.split_once('#') {
        Some((base, fragment)) => (base, format!("#{fragment}")),
        None => (url, String::new()),
    };
    let joint = if base.contains('?') { '&' } else { '?' };
    format!("{base}{joint}case={encoded}{fragment}")
}

/// A page's template cannot fail but for memory; an empty page is then the least evil.
fn render(page: impl Template) -> String {
    page.render().unwrap_or_else(|error| {
        tracing::error!(%error, "a page cannot be rendered");
        String::new()
    })
}

#[cfg(test)]
mod tests {
    use super::with_case;

    #[test]
    fn the_case_joins_whatever_query_the_site_has() {
        assert_eq!(with_case("https://s/p", "k-1"), "https://s/p?case=k-1");
        assert_eq!(
            with_case("https://s/p?a=b", "k&1"),
            "https://s/p?a=b&case=k%261"
        );
        assert_eq!(
            with_case("https://s/p#top", "k-1"),
            "https://s/p?case=k-1#top"
        );
    }
}
