//! What the templates of the pages are filled with.

use askama::Template;

use super::Choice;
use crate::locale::{Words, fill};

/// What stands around every page.
pub(super) struct Frame<'a> {
    pub(super) w: &'static Words,
    pub(super) title: &'a str,
    pub(super) site: String,
    pub(super) css: &'a str,
    /// Empty where no case is known.
    pub(super) reference: String,
    pub(super) support_url: Option<&'a str>,
    pub(super) support_email: Option<&'a str>,
    pub(super) status_url: Option<&'a str>,
    /// Loaded again from here after two seconds.
    pub(super) refresh: Option<String>,
    /// Kafka is away or slow: what the page shows may be old.
    pub(super) stale: bool,
}

impl Frame<'_> {
    pub(super) fn has_support(&self) -> bool {
        self.support_url.is_some() || self.support_email.is_some() || self.status_url.is_some()
    }

    pub(super) fn support_mail_words(&self) -> String {
        fill(
            &self.w.page.support_mail,
            &[("email", self.support_email.unwrap_or_default())],
        )
    }
}

pub(super) struct Fact<'a> {
    pub(super) name: &'a str,
    pub(super) value: String,
}

pub(super) struct Row {
    pub(super) time: String,
    pub(super) place: String,
    pub(super) address: String,
}

/// What happened.
pub(super) struct Story<'a> {
    pub(super) happened: &'a str,
    pub(super) facts: Vec<Fact<'a>>,
    pub(super) evidence_title: String,
    pub(super) evidence: Vec<Row>,
}

impl<'a> Story<'a> {
    /// What was done stands last.
    pub(super) fn add_fact_before_last(&mut self, name: &'a str, value: String) {
        let at = self.facts.len().saturating_sub(1);
        self.facts.insert(at, Fact { name, value });
    }
}

pub(super) struct PlaceBox {
    pub(super) value: String,
    pub(super) name: String,
    /// When it was seen.
    pub(super) seen: Option<String>,
    pub(super) ticked: bool,
}

pub(super) struct MeForm<'a> {
    pub(super) text: &'a str,
    pub(super) action: String,
    pub(super) places: Vec<PlaceBox>,
    pub(super) places_hint: &'a str,
    /// Whether it asks for the code that stands in the mail.
    pub(super) code: bool,
}

pub(super) struct NotMeForm<'a> {
    pub(super) title: &'a str,
    pub(super) button: &'a str,
    pub(super) text: &'a str,
    pub(super) action: String,
}

#[derive(Template)]
#[template(path = "page/question.html")]
pub(super) struct QuestionPage<'a> {
    pub(super) frame: Frame<'a>,
    pub(super) notice: Option<&'a str>,
    pub(super) lead: &'a str,
    pub(super) story: Option<Story<'a>>,
    pub(super) again: String,
    pub(super) co_owner: bool,
    pub(super) me: Option<MeForm<'a>>,
    pub(super) not_me: NotMeForm<'a>,
    pub(super) chosen: Option<Choice>,
    pub(super) not_me_first: bool,
    pub(super) version: u32,
}

#[derive(Template)]
#[template(path = "page/message.html")]
pub(super) struct MessagePage<'a> {
    pub(super) frame: Frame<'a>,
    pub(super) tone: Tone,
    pub(super) paragraphs: Vec<&'a str>,
    pub(super) steps: Vec<&'a str>,
    pub(super) learned: Option<Learned<'a>>,
    pub(super) next: Option<Next<'a>>,
    pub(super) not_me: Option<NotMeForm<'a>>,
    pub(super) chosen: Option<Choice>,
    pub(super) version: u32,
}

/// What "this was me" left behind.
pub(super) struct Learned<'a> {
    pub(super) places: Vec<String>,
    pub(super) avoid: Option<&'a str>,
}

/// One thing to do after "this wasn't me".
pub(super) struct Step<'a> {
    /// As the page's anchor names it.
    pub(super) id: &'static str,
    pub(super) title: &'a str,
    pub(super) text: &'a str,
    /// Since when it is done.
    pub(super) done: Option<String>,
    pub(super) notes: Vec<&'a str>,
    pub(super) warning: Option<&'a str>,
    /// Its button: what stands on it, where it leads, and whether it is what comes next.
    pub(super) way: Option<(&'a str, Way, bool)>,
    /// For those to whom it does not apply, with where they are helped.
    pub(super) aside: Option<(&'a str, Option<(&'a str, String)>)>,
}

impl<'a> Step<'a> {
    pub(super) fn new(id: &'static str, title: &'a str, text: &'a str) -> Step<'a> {
        Step {
            id,
            title,
            text,
            done: None,
            notes: Vec::new(),
            warning: None,
            way: None,
            aside: None,
        }
    }

    /// What its state is called: some cannot be seen from here.
    pub(super) fn state<'w>(&'w self, w: &'w Words) -> &'w str {
        match (&self.done, self.id) {
            (Some(done), _) => done,
            (None, "password" | "second-factor") => &w.guide.todo,
            (None, _) => &w.guide.optional,
        }
    }
}

#[derive(Template)]
#[template(path = "page/guide.html")]
pub(super) struct GuidePage<'a> {
    pub(super) frame: Frame<'a>,
    pub(super) stand: &'a str,
    pub(super) steps: Vec<Step<'a>>,
    pub(super) come_back: String,
    pub(super) again: String,
}

#[derive(Template)]
#[template(path = "page/recovery.html")]
pub(super) struct RecoveryPage<'a> {
    pub(super) frame: Frame<'a>,
    pub(super) lead: &'a str,
    pub(super) story: Option<Story<'a>>,
    pub(super) again: String,
    pub(super) action: String,
    pub(super) version: u32,
}

#[derive(Template)]
#[template(path = "page/help.html")]
pub(super) struct HelpPage<'a> {
    pub(super) frame: Frame<'a>,
}

#[derive(Clone, Copy)]
pub(super) enum Tone {
    Good,
    Stop,
    Fail,
    Busy,
    Plain,
}

impl Tone {
    pub(super) fn class(self) -> &'static str {
        match self {
            Tone::Good => "good",
            Tone::Stop => "stop",
            Tone::Fail => "fail",
            Tone::Busy => "busy",
            Tone::Plain => "plain",
        }
    }

    pub(super) fn sign(self) -> &'static str {
        match self {
            Tone::Good => "✓",
            Tone::Stop | Tone::Fail => "!",
            Tone::Busy | Tone::Plain => "i",
        }
    }
}

pub(super) enum Way {
    Link(String),
    Post(String),
}

/// The one thing to do next.
pub(super) struct Next<'a> {
    pub(super) title: Option<&'a str>,
    pub(super) text: Option<&'a str>,
    pub(super) label: String,
    pub(super) way: Way,
    pub(super) after: Option<&'a str>,
}

impl<'a> Next<'a> {
    pub(super) fn link(label: &str, href: String) -> Next<'a> {
        Next {
            title: None,
            text: None,
            label: label.to_owned(),
            way: Way::Link(href),
            after: None,
        }
    }

    pub(super) fn post(label: &str, action: String) -> Next<'a> {
        Next {
            way: Way::Post(action),
            ..Next::link(label, String::new())
        }
    }
}
