//! A site's own translations: one file dropped into a folder.

use std::path::Path;

use doorward::document::{Diagnostics, render_all};
use doorward::engine::output::RecipientPart;
use doorward::locale::translation;
use doorward::mail::content::render;

use crate::owner::{config, mail};

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).expect("a file");
    }
    folder
}

fn messages(folder: &Path) -> String {
    let mut found = Diagnostics::default();
    translation::load(folder, &mut found);
    render_all(&found, false).replace(&folder.display().to_string(), "FOLDER")
}

#[test]
fn a_third_language_is_one_file_and_what_it_lacks_stays_english() {
    let french = r#"
[mail]
subject_locked = "Est-ce vous ? Nous avons bloqué votre compte {site}"
heading = "Est-ce vous ?"

[countries]
BR = "Brésil"
"#;
    let folder = folder(&[("fr.toml", french)]);
    let mut found = Diagnostics::default();
    let languages = translation::load(folder.path(), &mut found);
    assert!(!found.has_errors(), "{}", render_all(&found, false));
    let listed = render_all(&found, false);
    assert!(
        listed.contains("texts are missing and stay English"),
        "{listed}"
    );
    let mut site = config("").site;
    site.languages = languages;
    let mut record = mail();
    record.locale = Some("fr-CA".into());
    let url = "https://account.example.com";
    let content = render(&record, RecipientPart::Notice, None, url, &site).expect("a mail");
    assert_eq!(content.language, "fr");
    let content = render(&record, RecipientPart::Owner, None, url, &site).expect("a mail");
    assert!(
        content.subject.starts_with("Est-ce vous ?"),
        "{}",
        content.subject
    );
    assert!(content.text.contains("Brésil") && content.text.contains("We locked your account"));
}

#[test]
fn a_site_can_put_its_own_words_in_the_place_of_built_in_ones() {
    let folder = folder(&[("de.toml", "[mail]\nme = \"Ja, ich\"\n")]);
    let mut found = Diagnostics::default();
    let languages = translation::load(folder.path(), &mut found);
    let german = languages.of("de").expect("German");
    assert_eq!(german.mail.me, "Ja, ich");
    assert_eq!(german.mail.not_me, "Das war ich nicht");
}

#[test]
fn every_mistake_of_a_translation_is_named_at_its_place() {
    let wrong = r#"
[mail]
subject_locked = "Est-ce vous ?"
headin = "?"
heading = ""
me = 3

[date]
months = ["janvier"]

[page]
title_question = { a = "b" }
"#;
    let folder = folder(&[
        ("fr.toml", wrong),
        ("french.toml", ""),
        ("it.toml", "[mail"),
    ]);
    insta::assert_snapshot!("translation_mistakes", messages(folder.path()));
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let text = messages(Path::new("/nowhere/locale"));
    assert!(text.contains("cannot be read"), "{text}");
}
