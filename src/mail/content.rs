//! What a mail says: one record of the outbox, in the reader's language, as text and HTML.
//!
//! Pure: the same record, links and settings give the same words. Everything from an event
//! is a known word (country, device), a time, or goes through [`crate::locale::clean`]; the
//! templates escape what stands in HTML.

mod calm;
mod recovery;
mod undone;
mod unreached;

use std::borrow::Cow;

use askama::Template;

use crate::config::Site;
use crate::engine::mailing::{
    MAIL_RECOVERED, MAIL_SECURED, MAIL_UNLOCKED, MAIL_UNREACHED, MAIL_UNREACHED_SECURED, is_calm,
};
use crate::engine::operator::MAIL_UNDONE;
use crate::engine::output::RecipientPart;
use crate::engine::recovery::{MAIL_HELD, MAIL_HELD_UNREACHED, MAIL_REFUSED, MAIL_RELEASED};
use crate::event::Timestamp;
use crate::locale::{self, Words, clean, device, fill};
use crate::record::MailRecord;

/// Countries that a mail names at most.
const MAX_PLACES: usize = 5;
/// Columns at which plain text is wrapped.
const TEXT_WIDTH: usize = 72;
/// Characters of the account's name that are shown.
const MAX_NAME: usize = 64;

/// What the links of a mail are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leads {
    /// "Was this you?"
    Question,
    /// Only to say that it was not.
    NotMe,
    /// To stop a recovery.
    Recovery,
    /// To the page that leads on.
    On,
}

impl Leads {
    /// `None` where the mail has no links.
    pub fn of(template: &str, part: RecipientPart) -> Option<Leads> {
        match (template, part) {
            (_, RecipientPart::Notice)
            | (
                MAIL_REFUSED
                | MAIL_RELEASED
                | MAIL_RECOVERED
                | MAIL_UNDONE
                | MAIL_UNREACHED_SECURED,
                _,
            ) => None,
            (MAIL_HELD | MAIL_HELD_UNREACHED, _) => Some(Leads::Recovery),
            (MAIL_UNLOCKED, _) => Some(Leads::NotMe),
            (MAIL_SECURED, RecipientPart::Owner) => Some(Leads::On),
            (MAIL_SECURED, RecipientPart::CoOwner) => None,
            _ => Some(Leads::Question),
        }
    }
}

/// Where the links of one mail lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Links {
    /// `None` for a co-owner, who cannot say it, and where nobody is asked.
    pub me: Option<String>,
    /// Where it leads to say that it was not the owner, to stop a recovery, or to go on.
    pub not_me: String,
    /// What the page asks for before "this was me" counts.
    pub code: Option<String>,
    pub valid_until: Timestamp,
}

/// A mail's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    pub language: &'static str,
    pub subject: String,
    pub text: String,
    pub html: String,
}

struct Fact<'a> {
    name: &'a str,
    value: String,
}

struct Choice<'a> {
    label: &'a str,
    hint: &'a str,
    url: &'a str,
    /// Which of the two colours the button has.
    is_me: bool,
}

#[derive(Template)]
#[template(path = "mail/mail.txt")]
struct Text<'a> {
    w: &'a Words,
    happened: &'a str,
    done: &'a str,
    ask: &'a str,
    facts: &'a [Fact<'a>],
    choices: &'a [Choice<'a>],
    links_note: &'a Option<String>,
    by_hand: bool,
    code: &'a Option<String>,
    named: &'a Option<String>,
    reference: &'a str,
    help_url: &'a str,
    support: &'a Option<String>,
    automatic: &'a str,
    site_url: &'a str,
}

#[derive(Template)]
#[template(path = "mail/mail.html")]
struct Html<'a> {
    w: &'a Words,
    subject: &'a str,
    site: &'a str,
    heading: &'a str,
    happened: &'a str,
    done: &'a str,
    ask: &'a str,
    facts: &'a [Fact<'a>],
    choices: &'a [Choice<'a>],
    links_note: &'a Option<String>,
    by_hand: bool,
    code: &'a Option<String>,
    named: &'a Option<String>,
    reference: &'a str,
    help_url: &'a str,
    support: Option<Support<'a>>,
    automatic: &'a str,
    site_url: &'a str,
}

/// Where questions go, with the words around it.
struct Support<'a> {
    before: &'a str,
    /// An address, and what it is called.
    ways: Vec<(String, &'a str)>,
    after: &'a str,
}

/// Writes `mail` for its reader. `links` is `None` for a notice, which also tells nothing
/// of places and devices: its address may be a stranger's.
///
/// # Errors
/// Where a template cannot be rendered, which only memory could cause.
pub fn render(
    mail: &MailRecord,
    part: RecipientPart,
    links: Option<&Links>,
    public_url: &str,
    site: &Site,
) -> Result<Content, askama::Error> {
    let w = mail
        .locale
        .as_deref()
        .and_then(|tag| site.languages.of(tag))
        .unwrap_or_else(|| site.languages.fallback());
    let name = clean::line(&site.name, 80);
    let said = match mail.template.as_str() {
        MAIL_HELD => recovery::held(mail, part, w),
        MAIL_REFUSED => recovery::refused(w),
        MAIL_UNDONE => undone::said(part, w),
        MAIL_RELEASED => recovery::released(part, w),
        MAIL_UNLOCKED => calm::unlocked(part, w),
        MAIL_SECURED => calm::secured(part, w),
        MAIL_RECOVERED => calm::recovered(part, w),
        MAIL_UNREACHED => unreached::asked(mail, w),
        MAIL_UNREACHED_SECURED => unreached::secured(w),
        MAIL_HELD_UNREACHED => unreached::held(mail, w),
        _ => asked(mail, part, links.is_some(), w),
    };
    let reference = clean::case_reference(&mail.case).unwrap_or_else(|| "–".to_owned());
    let facts = facts(mail, part, w);
    let choices = match (links, Leads::of(&mail.template, part)) {
        (None, _) | (_, None) => Vec::new(),
        (Some(links), Some(Leads::Recovery)) => recovery::choices(links, w),
        (Some(links), Some(Leads::NotMe)) => calm::not_me(links, part, w),
        (Some(links), Some(Leads::On)) => calm::go_on(links, w),
        (Some(links), Some(Leads::Question)) => choices(links, mail.locked.is_some(), w),
    };
    let subject = fill(said.subject, &[("site", &name)]);
    let code = links.and_then(|links| links.code.as_ref());
    let code = code.map(|code| fill(&w.mail.code, &[("code", code)]));
    let name_of_account = mail.account_name.as_deref().and_then(account_name);
    let trust_name = match part {
        RecipientPart::Owner => Some(&w.mail.trust_name),
        RecipientPart::CoOwner => Some(&w.mail.trust_name_others),
        // Its address may be a stranger's.
        RecipientPart::Notice => None,
    };
    let named = trust_name
        .zip(name_of_account)
        .map(|(words, name)| fill(words, &[("name", &name)]));
    let links_note = links.filter(|_| !choices.is_empty()).map(|links| {
        let note = match (choices.len(), Leads::of(&mail.template, part)) {
            (1, Some(Leads::On)) => &w.mail.link_one,
            (1, _) => &w.mail.link_co_owner,
            _ => &w.mail.links,
        };
        fill(note, &[("until", &w.time(links.valid_until))])
    });
    let automatic = own(
        part == RecipientPart::Owner,
        &w.mail.automatic,
        &w.mail.automatic_others,
    );
    let automatic = fill(automatic, &[("site", &name)]);
    let support = support(site, w);
    let support_text = support.as_ref().map(Support::as_text);
    let help_url = format!("{public_url}/help");
    let by_hand = !choices.is_empty() && can_be_asked_for(&mail.template, part);

    let text = Text {
        w,
        happened: said.happened,
        done: &said.done,
        ask: said.ask,
        facts: &facts,
        choices: &choices,
        links_note: &links_note,
        by_hand,
        code: &code,
        named: &named,
        reference: &reference,
        help_url: &help_url,
        support: &support_text,
        automatic: &automatic,
        site_url: &site.url,
    }
    .render()?;
    let html = Html {
        w,
        subject: &subject,
        site: &name,
        heading: said.heading,
        happened: said.happened,
        done: &said.done,
        ask: said.ask,
        facts: &facts,
        choices: &choices,
        links_note: &links_note,
        by_hand,
        code: &code,
        named: &named,
        reference: &reference,
        help_url: &help_url,
        support,
        automatic: &automatic,
        site_url: &site.url,
    }
    .render()?;
    Ok(Content {
        language: &w.language,
        subject,
        text: wrap(&text, TEXT_WIDTH),
        html,
    })
}

/// What a mail says besides its facts.
struct Said<'a> {
    subject: &'a str,
    heading: &'a str,
    happened: &'a str,
    done: Cow<'a, str>,
    ask: &'a str,
}

/// What is said to the owner, and what to others about an account that is not theirs.
fn own<'a>(is_owner: bool, own: &'a str, others: &'a str) -> &'a str {
    if is_owner { own } else { others }
}

/// "Was this you?", or, for those who cannot answer, that somebody was asked.
fn asked<'a>(mail: &MailRecord, part: RecipientPart, has_links: bool, w: &'a Words) -> Said<'a> {
    let locked = mail.locked.is_some();
    let (heading, ask) = match (part, has_links) {
        (RecipientPart::Owner, true) => (&w.mail.heading, &w.mail.ask),
        (RecipientPart::CoOwner, true) => (&w.mail.heading_notice, &w.mail.co_owner),
        _ => (&w.mail.heading_notice, &w.mail.notice),
    };
    let subject = match (part, locked) {
        (RecipientPart::Owner, true) => &w.mail.subject_locked,
        (RecipientPart::Owner, false) => &w.mail.subject_asked,
        (_, true) => &w.mail.subject_notice,
        (_, false) => &w.mail.subject_notice_asked,
    };
    let done = w.done(mail.locked.as_deref(), part == RecipientPart::Owner);
    Said {
        subject,
        heading,
        happened: match part {
            RecipientPart::Owner => &w.reason(&mail.reason).long,
            _ => &w.facts.happened_others,
        },
        done: done.into(),
        ask,
    }
}

fn facts<'a>(mail: &MailRecord, part: RecipientPart, w: &'a Words) -> Vec<Fact<'a>> {
    let calm = is_calm(&mail.template);
    let mut facts = vec![Fact {
        name: if calm { &w.facts.about } else { &w.facts.what },
        value: w.reason(&mail.reason).short.clone(),
    }];
    if let Some(time) = locale::parse_time(&mail.time) {
        facts.push(Fact {
            name: &w.facts.when,
            value: w.time(time),
        });
    }
    if [MAIL_HELD, MAIL_HELD_UNREACHED].contains(&mail.template.as_str()) {
        facts.push(Fact {
            name: &w.recovery.goes_through,
            value: recovery::until(mail, w),
        });
    }
    if part == RecipientPart::Notice {
        return facts;
    }
    let mut places: Vec<String> = Vec::new();
    for code in mail.evidence.iter().filter_map(|e| e.country.as_deref()) {
        if let Some(name) = w.country(code)
            && !places.contains(&name)
        {
            places.push(name);
        }
    }
    if !places.is_empty() {
        let more = places.len() > MAX_PLACES;
        places.truncate(MAX_PLACES);
        let mut list = places.join(", ");
        if more {
            list.push_str(", …");
        }
        facts.push(Fact {
            name: &w.facts.r#where,
            value: fill(&w.facts.roughly, &[("place", &list)]),
        });
    }
    if let Some(device) = mail
        .device
        .as_deref()
        .and_then(|agent| device::summary(agent, w))
    {
        facts.push(Fact {
            name: &w.facts.device,
            value: device,
        });
    }
    if !can_be_asked_for(&mail.template, part)
        && let Some(reference) = clean::case_reference(&mail.case)
    {
        facts.push(Fact {
            name: &w.facts.reference,
            value: reference,
        });
    }
    facts
}

fn choices<'a>(links: &'a Links, locked: bool, w: &'a Words) -> Vec<Choice<'a>> {
    let me = links.me.as_deref().map(|url| Choice {
        label: &w.mail.me,
        hint: if locked {
            &w.mail.me_locked_hint
        } else {
            &w.mail.me_asked_hint
        },
        url,
        is_me: true,
    });
    let not_me = Choice {
        label: match links.me {
            Some(_) => &w.mail.not_me,
            None => &w.mail.not_owner,
        },
        hint: if locked {
            &w.mail.not_me_hint
        } else {
            &w.mail.not_me_asked_hint
        },
        url: &links.not_me,
        is_me: false,
    };
    me.into_iter().chain([not_me]).collect()
}

/// Whether `/help` sends it again: only what still waits for somebody.
fn can_be_asked_for(template: &str, part: RecipientPart) -> bool {
    matches!(
        Leads::of(template, part),
        Some(Leads::Question | Leads::Recovery | Leads::On)
    )
}

/// The account's name, as far as it can be shown. Whoever is in the account may have chosen
/// it, and mail programs make links of whatever looks like one.
fn account_name(name: &str) -> Option<String> {
    let name = clean::line(name, MAX_NAME);
    let looks_like_a_link = name.contains("://") || name.contains('/') || name.contains("www.");
    (!name.is_empty() && !looks_like_a_link).then_some(name)
}

/// Where the site wants questions to go.
fn support<'a>(site: &'a Site, w: &'a Words) -> Option<Support<'a>> {
    let url = site.support_url.as_deref().map(|url| (url.to_owned(), url));
    let email = site.support_email.as_deref();
    let email = email.map(|email| (format!("mailto:{email}"), email));
    let ways: Vec<_> = url.into_iter().chain(email).collect();
    let words = &w.mail.support;
    let (before, after) = words.split_once("{support}").unwrap_or((words, ""));
    (!ways.is_empty()).then_some(Support {
        before,
        ways,
        after,
    })
}

impl Support<'_> {
    fn as_text(&self) -> String {
        let ways: Vec<&str> = self.ways.iter().map(|(_, name)| *name).collect();
        format!("{}{}{}", self.before, ways.join(", "), self.after)
    }
}

/// Wraps each line of `text` at `width` columns, between words only, so that a link is
/// never cut.
fn wrap(text: &str, width: usize) -> String {
    let mut out = String::with_capacity(text.len() + 64);
    for line in text.lines() {
        // The signature's mark ends in a blank that must stay.
        if line.chars().count() <= width {
            out.push_str(line);
            out.push('\n');
            continue;
        }
        let mut column = 0;
        // Where a line may not be broken, there is another blank.
        for word in line.split(' ').filter(|word| !word.is_empty()) {
            let length = word.chars().count();
            if column > 0 && column + 1 + length > width {
                out.push('\n');
                column = 0;
            } else if column > 0 {
                out.push(' ');
                column += 1;
            }
            out.push_str(word);
            column += length;
        }
        out.push('\n');
    }
    out
}
