//! "Was this you?" and its two answers.

use super::{Owner, Visit, World, visit};
use crate::support::browser::SPACE;
use crate::support::{PATIENCE, eventually};

const ATTACKS: [&str; 4] = ["many-ips", "two-factor", "new-country", "malicious-reset"];

/// From the mail to the question, by the button that stands for `answer`.
fn come_to_the_question(world: &World, visit: &Visit<'_>, owner: &Owner, answer: &str, says: &str) {
    world.wait_for_commands(owner, &["lock_account"]);
    visit.open_mail(&world.mail(owner, 1), "mail");
    visit.press_link(&format!("?answer={answer}"));
    visit.sees(says, "question");
}

fn say_it_was_me(visit: &Visit<'_>) {
    if visit.phone.count("input[name=place]") > 0 {
        visit.phone.tab_to("input[name=place]");
        visit.phone.press(SPACE);
    }
    visit.press("form[action$='/me'] button");
}

fn say_it_wasnt_me(visit: &Visit<'_>) {
    visit.press("form[action$='/not-me'] button");
}

/// What "this wasn't me" makes the pipeline do. What was locked for unfamiliar devices alone is
/// locked once more, for all.
fn assert_thrown_out(world: &World, owner: &Owner) {
    let last = ["revoke_sessions", "require_password_change"];
    let mut seen = eventually("everybody thrown out", PATIENCE, || {
        let seen = world.commands(owner);
        let named = seen.iter().filter_map(|c| c["command"].as_str());
        let named: Vec<String> = named.map(str::to_owned).collect();
        Some(named).filter(|named| named.ends_with(&last.map(str::to_owned)))
    });
    seen.dedup();
    assert_eq!(seen, ["lock_account", last[0], last[1]]);
}

#[test]
fn an_owner_says_this_was_me_after_each_attack() {
    let Some(world) = World::start("me", "en") else {
        return;
    };
    let visit = visit!(world);
    for label in ATTACKS {
        let owner = world.attack(label);
        come_to_the_question(&world, &visit, &owner, "me", "Yes, this was me");
        say_it_was_me(&visit);
        visit.sees("Your account is unlocked", "unlocked");
        assert!(visit.phone.path().ends_with("/status"));
        world.wait_for_commands(&owner, &["lock_account", "unlock_account"]);
        visit.open_mail(&world.mail(&owner, 2), "mail-unlocked");
    }
    drop(visit);
    world.end();
}

#[test]
fn an_owner_says_this_wasnt_me_after_each_attack() {
    let Some(world) = World::start("not-me", "en") else {
        return;
    };
    let visit = visit!(world);
    for label in ATTACKS {
        let owner = world.attack(label);
        come_to_the_question(&world, &visit, &owner, "not-me", "No, this wasn’t me");
        say_it_wasnt_me(&visit);
        visit.sees("Your account is safe", "secured");
        assert_thrown_out(&world, &owner);
    }
    drop(visit);
    world.end();
}

#[test]
fn an_owner_who_reads_german_is_spoken_to_in_german_from_the_mail_to_the_last_page() {
    let Some(world) = World::start("de", "de") else {
        return;
    };
    let visit = visit!(world);
    let owner = world.attack("new-country");
    let mail = world.mail(&owner, 1);
    assert_eq!(
        mail.parsed().subject(),
        Some("Waren Sie das? Wir haben Ihr Konto bei Example gesperrt")
    );
    come_to_the_question(&world, &visit, &owner, "me", "Ja, das war ich");
    for words in [
        "Waren Sie das?",
        "aus einem Land angemeldet",
        "Brasilien",
        "Fallnummer",
    ] {
        visit.phone.wait_for(words);
    }
    say_it_was_me(&visit);
    visit.sees("Ihr Konto ist entsperrt", "unlocked");
    world.wait_for_commands(&owner, &["lock_account", "unlock_account"]);
    visit.open_mail(&world.mail(&owner, 2), "mail-unlocked");

    let owner = world.attack("many-ips");
    come_to_the_question(&world, &visit, &owner, "not-me", "Nein, das war ich nicht");
    say_it_wasnt_me(&visit);
    visit.sees("Ihr Konto ist sicher", "secured");
    visit
        .phone
        .wait_for("bis Sie ein neues Passwort gesetzt haben");
    assert_thrown_out(&world, &owner);
    visit.open_mail(&world.mail(&owner, 2), "mail-secured");
    drop(visit);
    world.end();
}
