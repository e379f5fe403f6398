//! The words of mails and pages in each language, and how values stand in them.
//!
//! A translation is one file in `templates/locale/`, built in, and named in [`FILES`], or one
//! in a folder of the site's own ([`translation`]). Every key is a field here, so a template
//! cannot use a word that a language lacks. What comes from events goes through [`clean`]
//! before it stands in any text.

pub mod clean;
pub mod device;
pub mod translation;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use arc_swap::ArcSwap;
use serde::Deserialize;

use translation::{Translations, digest_of};

use crate::event::{Country, Timestamp};

/// The languages, English first: it is spoken where no other fits.
pub const FILES: &[(&str, &str)] = &[
    ("en", include_str!("../templates/locale/en.toml")),
    ("de", include_str!("../templates/locale/de.toml")),
];

/// One language.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Words {
    /// The primary subtag of BCP 47, as the pages' `lang`.
    pub language: String,
    pub date: DateWords,
    pub device: DeviceWords,
    /// By the rule's reason; `other` is always there.
    pub reasons: BTreeMap<String, ReasonWords>,
    pub facts: FactWords,
    pub done: DoneWords,
    pub mail: MailWords,
    pub page: PageWords,
    pub guide: GuideWords,
    pub recovery: RecoveryWords,
    pub undone: UndoneWords,
    pub unreached: UnreachedWords,
    /// By ISO 3166-1 alpha-2 code.
    pub countries: BTreeMap<String, String>,
}

/// What happened.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReasonWords {
    /// In a few words.
    pub short: String,
    /// In a sentence.
    pub long: String,
    /// How its owner avoids the next time; where it has none, that of `other` is said.
    pub avoid: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DateWords {
    pub format: String,
    pub months: [String; 12],
}

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident { $($key:ident)+ })+) => {$(
        $(#[$doc])*
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name { $(pub $key: String),+ }
    )+};
}

words! {
    /// How a device is named.
    DeviceWords { on browser unknown_system }
    /// Names of facts.
    FactWords { what happened_others about when r#where device done reference roughly place_unknown }
    /// What was done about it, by the scope of the lock.
    DoneWords { all unfamiliar nothing others others_nothing }
    MailWords {
        subject_locked subject_asked subject_notice subject_notice_asked heading heading_notice
        ask co_owner notice me me_locked_hint me_asked_hint not_me not_owner not_me_hint
        not_me_asked_hint links link_co_owner by_hand_title by_hand no_password support
        automatic automatic_others link_one trust_title trust_name trust_name_others code
        subject_unlocked subject_unlocked_others heading_unlocked unlocked unlocked_done
        unlocked_others unlocked_done_others unlocked_ask unlocked_ask_others not_me_late_hint
        subject_secured subject_secured_others heading_secured secured secured_done
        secured_others secured_ask secured_ask_others go_on go_on_hint
        subject_recovered subject_recovered_others heading_recovered recovered recovered_others
        recovered_done recovered_ask recovered_ask_others
    }
    PageWords {
        skip title_question title_co_owner lead_co_owner lead_co_owner_asked lead_locked lead_unfamiliar lead_asked happened evidence
        evidence_time evidence_place evidence_address me_title me_text me_text_plain
        me_text_asked me_text_asked_places places places_hint places_hint_asked me_button not_me_title not_me_text
        not_me_text_asked not_me_text_late not_me_button not_owner_title not_owner_text not_owner_text_asked
        not_owner_button co_owner general_title general_text
        general_me reload notice_moved notice_newer notice_places safe processing_title
        processing_text processing_slow processing_again unlocked_title unlocked_text
        unlocked_next closed_title closed_text closed_others still_title still_text still_next secured_title
        secured_next_button recovered_title
        recovered_text support_title support_text support_link support_mail
        expired_title expired_text expired_button forged_title forged_text forged_help
        resent_title resent_text forbidden_title forbidden_text back busy_title busy_text
        failed_title failed_text failed_button bad_title bad_text missing_title missing_text
        help_title help_text help_label help_example help_button help_done_title
        help_done_text
        stale look_again learned learned_places avoid_title
        code_label code_hint notice_code code_spent_title code_spent_text
        secured_others
        foreign_title foreign_text
    }
    /// The way that follows "this wasn't me".
    GuideWords {
        title_locked title_open lead come_back done todo optional done_at
        sessions sessions_text sessions_link
        password password_text password_support password_again provider provider_link
        factor factor_text factor_wait factor_link
        keys keys_text keys_warning keys_button keys_done
        payouts payouts_text payouts_link
        status_link
        stand stand_locked stand_left stand_all
    }
    /// The mail that takes a lock back as a mistake.
    UndoneWords { subject subject_others heading happened happened_others done done_others ask }
    /// The mails to co-owners where the owner's own did not arrive.
    UnreachedWords {
        subject heading happened happened_recovery ask ask_secured ask_recovery
    }
    /// The mail and the pages about a recovery.
    RecoveryWords {
        subject subject_notice subject_refused heading happened_others held ask ask_co_owner refused
        refused_done refused_ask stop stop_hint goes_through left title lead lead_soon done
        stop_title stop_text fine stopped_title stopped_text stopped_more disputed_title
        disputed_text disputed_more released_title released_text released_more
        subject_released subject_released_others heading_released released released_others
        released_ask released_ask_others
    }
}

/// The languages of one site: those that are built in, and its own. Clones share them, also
/// where they are replaced.
#[derive(Clone)]
pub struct Languages {
    /// Where its own are read from.
    folder: Option<Arc<Path>>,
    // Replaced a few times a year, and read for each mail and page.
    spoken: Arc<ArcSwap<Spoken>>,
}

/// The languages at one time.
struct Spoken {
    /// The first is English.
    all: Vec<&'static Words>,
    /// The site's own among them, each with what tells its file's content from others.
    own: Vec<(String, &'static Words)>,
}

impl Spoken {
    /// What is built in, with `own` in the place of the languages that they are in.
    fn new(own: Vec<(String, &'static Words)>) -> Spoken {
        let mut all: Vec<&'static Words> = ALL.iter().collect();
        for (_, words) in &own {
            match all.iter_mut().find(|held| held.language == words.language) {
                Some(held) => *held = words,
                None => all.push(words),
            }
        }
        Spoken { all, own }
    }
}

impl Default for Languages {
    fn default() -> Self {
        Languages {
            folder: None,
            spoken: Arc::new(ArcSwap::from_pointee(Spoken::new(Vec::new()))),
        }
    }
}

impl std::fmt::Debug for Languages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let spoken = self.spoken.load();
        let tags = spoken.all.iter().map(|words| &words.language);
        f.debug_list().entries(tags).finish()
    }
}

impl Languages {
    /// Those that are built in, and those of `folder`, which were `read`.
    fn translated(folder: &Path, read: Translations) -> Languages {
        let languages = Languages {
            folder: Some(folder.into()),
            ..Languages::default()
        };
        languages.replace(read);
        languages
    }

    /// The folder of the site's own translations.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// The same for the same translations.
    pub fn digest(&self) -> String {
        let spoken = self.spoken.load();
        digest_of(spoken.own.iter().map(|(digest, _)| digest.as_str()))
    }

    /// Puts what was `read` in the place of the site's own translations, for all who share
    /// them; a mail or page that is being written keeps its words. Words are kept for the life
    /// of the process, as those that are built in; a file that is as before costs nothing.
    pub fn replace(&self, read: Translations) {
        let before = self.spoken.load();
        let own = read.files.into_iter().map(|(digest, words)| {
            let held = before.own.iter().find(|(held, _)| *held == digest);
            let words = held.map_or_else(|| &*Box::leak(Box::new(words)), |(_, held)| *held);
            (digest, words)
        });
        self.spoken.store(Arc::new(Spoken::new(own.collect())));
    }

    /// The words for a BCP 47 tag such as `de-AT`; `None` where the language is not there.
    pub fn of(&self, tag: &str) -> Option<&'static Words> {
        let primary = tag.split(['-', '_']).next().unwrap_or_default();
        let spoken = self.spoken.load();
        let mut all = spoken.all.iter().copied();
        all.find(|words| words.language.eq_ignore_ascii_case(primary))
    }

    /// English.
    pub fn fallback(&self) -> &'static Words {
        self.spoken.load().all.first().copied().unwrap_or(&ALL[0])
    }

    /// The best language for an `Accept-Language` header, by its weights.
    pub fn accepted(&self, header: &str) -> Option<&'static Words> {
        let mut best: Option<(f32, &'static Words)> = None;
        // A browser names a handful; more is somebody else's game.
        for range in header.split(',').take(20) {
            let mut parts = range.split(';').map(str::trim);
            let Some(words) = parts.next().and_then(|tag| self.of(tag)) else {
                continue;
            };
            let weight = parts
                .find_map(|part| part.strip_prefix("q="))
                .map_or(1.0, |q| q.parse::<f32>().unwrap_or(0.0));
            if weight > 0.0 && best.is_none_or(|(highest, _)| weight > highest) {
                best = Some((weight, words));
            }
        }
        best.map(|(_, words)| words)
    }
}

/// Every language of [`FILES`], in its order. A test reads them all, so a build that passed
/// its tests cannot fail here.
static ALL: LazyLock<Vec<Words>> = LazyLock::new(|| {
    FILES
        .iter()
        .map(|(name, text)| {
            toml::from_str(text)
                .unwrap_or_else(|error| unreachable!("templates/locale/{name}.toml: {error}"))
        })
        .collect()
});

impl Words {
    /// The built-in words for a BCP 47 tag.
    pub fn of(tag: &str) -> Option<&'static Words> {
        Languages::default().of(tag)
    }

    /// English.
    pub fn fallback() -> &'static Words {
        &ALL[0]
    }

    /// What happened, by the rule's reason.
    pub fn reason(&self, reason: &str) -> &ReasonWords {
        self.reasons
            .get(reason)
            .unwrap_or_else(|| &self.reasons["other"])
    }

    /// How to avoid that it happens again, by the rule's reason.
    pub fn avoid(&self, reason: &str) -> Option<&str> {
        let of = |reason: &str| self.reasons.get(reason)?.avoid.as_deref();
        of(reason).or_else(|| of("other"))
    }

    /// What was done, by the `scope` that records carry; `None` where nothing was locked.
    /// `owner`: whether it is said to somebody who can answer.
    pub fn done(&self, scope: Option<&str>, owner: bool) -> &str {
        match (scope, owner) {
            (Some("unfamiliar"), true) => &self.done.unfamiliar,
            (Some(_), true) => &self.done.all,
            (None, true) => &self.done.nothing,
            (Some(_), false) => &self.done.others,
            (None, false) => &self.done.others_nothing,
        }
    }

    /// A time with its zone, which is always UTC.
    pub fn time(&self, time: Timestamp) -> String {
        let Ok(time) = jiff::Timestamp::from_millisecond(time.0) else {
            return String::from("–");
        };
        let time = time.to_zoned(jiff::tz::TimeZone::UTC);
        let month = usize::try_from(time.month() - 1).unwrap_or(0);
        fill(
            &self.date.format,
            &[
                ("day", &time.day().to_string()),
                ("month", &self.date.months[month]),
                ("year", &time.year().to_string()),
                ("time", &format!("{:02}:{:02}", time.hour(), time.minute())),
            ],
        )
    }

    /// The name of the country with this code; the code itself where it has no name, and
    /// `None` where it is no country.
    pub fn country(&self, code: &str) -> Option<String> {
        let country = Country::parse(code).filter(|country| country.is_real())?;
        Some(
            self.countries
                .get(country.as_str())
                .cloned()
                .unwrap_or_else(|| country.to_string()),
        )
    }

    /// The name of a place that a case asks about: `country:BR`.
    pub fn place(&self, value: &str) -> String {
        value
            .strip_prefix("country:")
            .and_then(|code| self.country(code))
            .unwrap_or_else(|| self.facts.place_unknown.clone())
    }
}

/// `text` with each `{name}` replaced by its value. Values are not looked at again, so a
/// value that holds braces stays as it is.
pub fn fill(text: &str, values: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(text.len() + 32);
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        let (before, from) = rest.split_at(open);
        out.push_str(before);
        let known = values.iter().find_map(|(name, value)| {
            let after = from.strip_prefix('{')?.strip_prefix(name)?;
            Some((value, after.strip_prefix('}')?))
        });
        rest = match known {
            Some((value, after)) => {
                out.push_str(value);
                after
            }
            None => {
                out.push('{');
                &from[1..]
            }
        };
    }
    out.push_str(rest);
    out
}

/// The names in braces, sorted.
fn holes(text: &str) -> Vec<&str> {
    let mut holes: Vec<&str> = text
        .split('{')
        .skip(1)
        .filter_map(|rest| rest.split_once('}').map(|(name, _)| name))
        .collect();
    holes.sort_unstable();
    holes
}

/// A time as records write it: RFC 3339.
pub fn parse_time(text: &str) -> Option<Timestamp> {
    let time: jiff::Timestamp = text.parse().ok()?;
    Some(Timestamp(time.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every text of a language under its key.
    fn texts(file: &str) -> BTreeMap<String, String> {
        fn walk(prefix: &str, value: &toml::Value, into: &mut BTreeMap<String, String>) {
            match value {
                toml::Value::Table(table) => {
                    for (key, value) in table {
                        walk(&format!("{prefix}.{key}"), value, into);
                    }
                }
                other => {
                    into.insert(prefix.to_owned(), other.to_string());
                }
            }
        }
        let mut found = BTreeMap::new();
        walk("", &toml::from_str(file).expect("TOML"), &mut found);
        found
    }

    #[test]
    fn every_language_has_the_same_keys_and_fills_the_same_values() {
        let english = texts(FILES[0].1);
        for (name, file) in FILES {
            let words = Words::of(name).expect("a language by its file's name");
            assert_eq!(words.language, *name);
            let translated = texts(file);
            let missing: Vec<&String> = english
                .keys()
                .filter(|key| !translated.contains_key(*key))
                .chain(translated.keys().filter(|key| !english.contains_key(*key)))
                .collect();
            assert!(missing.is_empty(), "{name}: {missing:?}");
            for (key, text) in &translated {
                assert_eq!(holes(text), holes(&english[key]), "{name}{key}");
                assert!(!text.trim_matches('"').trim().is_empty(), "{name}{key}");
            }
        }
    }

    #[test]
    fn a_language_is_found_by_its_primary_tag_and_by_weight() {
        let all = Languages::default();
        let language = |header: &str| all.accepted(header).map(|w| w.language.as_str());
        assert_eq!(Words::of("de-AT").map(|w| w.language.as_str()), Some("de"));
        assert!(Words::of("fr").is_none() && Words::of("").is_none());
        assert_eq!(language("fr, de;q=0.5, en;q=0.9"), Some("en"));
        assert_eq!(language("DE"), Some("de"));
        assert_eq!(language("de;q=0, *;q=0.1"), None);
        assert_eq!(language("de;q=x"), None);
    }

    #[test]
    fn times_name_their_zone() {
        let time = parse_time("2026-03-02T07:04:59+02:00").expect("a time");
        let words = |tag| Words::of(tag).expect("a language");
        assert_eq!(words("en").time(time), "2\u{a0}March 2026, 05:04\u{a0}UTC");
        assert_eq!(
            words("de").time(time),
            "2.\u{a0}März 2026, 05:04\u{a0}Uhr\u{a0}(UTC)"
        );
        assert_eq!(words("en").time(Timestamp(i64::MAX)), "–");
    }

    #[test]
    fn places_are_named_or_unknown() {
        let words = Words::fallback();
        assert_eq!(words.place("country:BR"), "Brazil");
        assert_eq!(words.place("country:QQ"), "QQ");
        for value in ["country:XX", "country:<b>", "asn:64500", ""] {
            assert_eq!(words.place(value), "Unknown place", "{value}");
        }
    }

    #[test]
    fn filled_values_are_not_looked_at_again() {
        let values = [("a", "{b}"), ("b", "x")];
        assert_eq!(fill("{a} {b} {c} {", &values), "{b} x {c} {");
    }
}
