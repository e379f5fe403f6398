//! A site's translations that change while mails and pages speak them.

use std::fs;

use doorward::config::GeoIp;

use super::files::{Site, write};
use super::many_addresses;

fn translated() -> Site {
    Site::new(
        |folder| {
            fs::create_dir(folder.join("rules")).expect("a folder");
            write(&folder.join("rules/many.rule.yaml"), &many_addresses(5));
            fs::create_dir(folder.join("locale")).expect("a folder");
            write(&folder.join("locale/fr.toml"), &heading("Est-ce vous ?"));
            write(&folder.join("locale/de.toml"), &heading("Du?"));
        },
        |_| GeoIp::default(),
    )
}

fn heading(text: &str) -> String {
    format!("[mail]\nheading = \"{text}\"\n")
}

/// The heading of a mail in this language, as it is sent now.
fn said(site: &Site, tag: &str) -> Option<&'static str> {
    Some(site.languages.of(tag)?.mail.heading.as_str())
}

#[test]
fn a_translation_that_changes_is_spoken_and_one_that_goes_is_not() {
    let site = translated();
    let rules = site.rule_set();
    assert_eq!(said(&site, "fr"), Some("Est-ce vous ?"));
    write(
        &site.path("locale/fr.toml"),
        &heading("Était-ce bien vous ?"),
    );
    site.wait_for("loaded", 1);
    assert_eq!(said(&site, "fr"), Some("Était-ce bien vous ?"));
    assert_eq!(said(&site, "de"), Some("Du?"));

    // A new language, and one that is again as it is built in.
    write(&site.path("locale/it.toml"), &heading("Eri tu?"));
    fs::remove_file(site.path("locale/de.toml")).expect("removed");
    fs::remove_file(site.path("locale/fr.toml")).expect("removed");
    site.wait_for("loaded", 2);
    assert_eq!(said(&site, "it"), Some("Eri tu?"));
    assert_eq!(said(&site, "fr"), None);
    let built_in = doorward::locale::Words::of("de").expect("built in");
    assert_eq!(said(&site, "de"), Some(built_in.mail.heading.as_str()));
    assert_eq!(site.rule_set(), rules);
    assert_eq!(site.notes(), "");
}

#[test]
fn a_mistake_in_one_translation_keeps_all_of_them_while_the_rules_go_on() {
    let site = translated();
    let rules = site.rule_set();
    write(&site.path("locale/de.toml"), &heading("Bist das du?"));
    write(&site.path("locale/fr.toml"), "[mail]\nheadin = \"?\"\n");
    write(&site.path("rules/many.rule.yaml"), &many_addresses(6));
    site.wait_for("partly", 1);
    assert_ne!(site.rule_set(), rules, "the new rules are at work");
    assert_eq!(said(&site, "fr"), Some("Est-ce vous ?"));
    assert_eq!(said(&site, "de"), Some("Du?"));
    assert!(site.readiness.is_ready());
    insta::assert_snapshot!(site.notes());

    write(&site.path("locale/fr.toml"), &heading("C'est vous ?"));
    site.wait_for("loaded", 1);
    assert_eq!(said(&site, "fr"), Some("C'est vous ?"));
    assert_eq!(said(&site, "de"), Some("Bist das du?"));
    assert_eq!(site.notes(), "");
}

#[test]
fn a_rule_that_is_refused_holds_back_the_translations_beside_it() {
    let site = translated();
    write(&site.path("locale/fr.toml"), &heading("C'est vous ?"));
    write(&site.path("rules/many.rule.yaml"), &many_addresses(500));
    site.wait_for("refused", 1);
    assert_eq!(said(&site, "fr"), Some("Est-ce vous ?"));
    write(&site.path("rules/many.rule.yaml"), &many_addresses(5));
    site.wait_for("loaded", 1);
    assert_eq!(said(&site, "fr"), Some("C'est vous ?"));
}
