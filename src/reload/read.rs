//! Reads rules and facts, and tries the rules' tests, at the start and at each reload.

use std::sync::Arc;

use crate::document::{Diagnostics, Severity, SourceFile};
use crate::facts::{self, Folder, Loaded};
use crate::locale::translation::{self, Translations};
use crate::rules::RuleSet;
use crate::ruletest::judge;
use crate::shard::latest::Knowledge;

use super::Sources;

/// Rules and facts that were read and fit together.
#[derive(Debug)]
pub struct Candidate {
    pub rules: RuleSet,
    pub loaded: Loaded,
    /// Where they are others than those at work.
    pub translations: Option<Translations>,
}

/// Reads everything that `sources` names. Where `before` is at work, a list or database that
/// cannot be used keeps what it had, and so do translations. Every mistake goes to `found`, as
/// does every test beside the rules that fails; with an error among them there may be a
/// candidate all the same, which must not be used.
pub fn candidate(
    sources: &Sources,
    before: Option<&Knowledge>,
    found: &mut Diagnostics,
) -> Option<Candidate> {
    let dir = sources.rules_dir.as_deref();
    let folder = Folder(sources.rules_dir.clone());
    let files = folder.rule_files(found);
    let facts_before = before.map(|known| &*known.facts);
    let mut loaded = match facts::load_after(&sources.geoip, dir, facts_before) {
        Ok(loaded) => loaded,
        Err(mistakes) => {
            found.found.extend(mistakes.found);
            return None;
        }
    };
    let rules = RuleSet::load(&files, &loaded.facts.lists, found)?;
    if !found.has_errors() {
        test(sources, &folder, &files, &loaded, found);
    }
    let translations = match before {
        // The configuration has read them.
        None => None,
        Some(_) => translations(sources, &mut loaded),
    };
    let digest = match &translations {
        Some(new) => new.digest(),
        None => sources.languages.digest(),
    };
    loaded.count_in(digest);
    Some(Candidate {
        rules,
        loaded,
        translations,
    })
}

/// Plays the tests beside the rules in `files`. Those that are built in were tested before
/// they were.
fn test(
    sources: &Sources,
    folder: &Folder,
    files: &[Arc<SourceFile>],
    loaded: &Loaded,
    found: &mut Diagnostics,
) {
    if sources.rules_dir.is_none() {
        return;
    }
    let tests = folder.test_files(found);
    if tests.is_empty() {
        return;
    }
    let geo = judge::database(&sources.geoip, &loaded.facts);
    judge::judge(files, &tests, &loaded.facts.lists, geo, found);
}

/// The site's own translations where they are new and right. Where one has a mistake all of
/// them stay as they are, and `loaded` says why.
fn translations(sources: &Sources, loaded: &mut Loaded) -> Option<Translations> {
    let folder = sources.languages.folder()?;
    let mut found = Diagnostics::default();
    let read = translation::read_folder(folder, &mut found);
    let is_error = |severity| severity == Severity::Error;
    if let Some(first) = found.found.iter().find(|said| is_error(said.severity)) {
        let more = match found.error_count() {
            0 | 1 => String::new(),
            n => format!(" (and {} more, see the log)", n - 1),
        };
        loaded.notes.push((
            "site.locale_dir".to_owned(),
            format!(
                "{}: {}{more}; the translations before stay at work",
                first.place(),
                first.message
            ),
        ));
        let errors = found.found.into_iter();
        let errors = errors.filter(|said| is_error(said.severity));
        loaded.problems.found.extend(errors);
        return None;
    }
    if read.digest() == sources.languages.digest() {
        return None;
    }
    for said in &found.found {
        tracing::warn!(place = said.place(), "{}", said.message);
    }
    Some(read)
}
