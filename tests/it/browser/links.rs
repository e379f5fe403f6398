//! Links that do not open any more, and the way back from there.

use doorward::config::NamedKey;
use doorward::engine::output::RecipientPart;
use doorward::link::{Link, LinkKeys};

use super::{Owner, Visit, World, now, visit};
use crate::support::browser::ENTER;
use crate::support::smtp::ReceivedMail;

/// The link of a mail that stands for `answer`.
fn link(mail: &ReceivedMail, answer: &str) -> String {
    let text = mail.parsed().body_text(0).expect("a text").into_owned();
    let found = text.split_whitespace().find(|word| word.ends_with(answer));
    found
        .unwrap_or_else(|| panic!("no link {answer} in:\n{text}"))
        .to_owned()
}

/// Asks for the mail again where a case reference can be typed.
fn type_the_reference(visit: &Visit<'_>, case: &str) {
    visit.press("a[href='/help']");
    visit.sees("Have the mail sent again", "help");
    visit.phone.tab_to("#case");
    visit.phone.press(case);
    visit.phone.press(ENTER);
    visit.sees("its owner receives a fresh mail", "help-done");
}

/// Answers by the second mail.
fn answer_the_fresh_mail(world: &World, visit: &Visit<'_>, owner: &Owner) {
    visit.open_mail(&world.mail(owner, 2), "fresh-mail");
    visit.press_link("?answer=me");
    visit.phone.wait_for("Yes, this was me");
    visit.press("form[action$='/me'] button");
    visit.phone.wait_for("Your account is unlocked");
    world.wait_for_commands(owner, &["lock_account", "unlock_account"]);
}

#[test]
fn a_link_that_is_cut_off_forged_or_too_old_leads_to_a_fresh_mail_that_works() {
    let Some(world) = World::start("links", "en") else {
        return;
    };
    let visit = visit!(world);
    let owner = world.attack("many-ips");
    let good = link(&world.mail(&owner, 1), "?answer=me");
    let case = world.case(&owner);
    let token = good.trim_end_matches("?answer=me");
    let last = if token.ends_with('A') { "B" } else { "A" };
    visit
        .phone
        .goto(&format!("{}{last}?answer=me", &token[..token.len() - 1]));
    visit.sees("This link does not work", "forged");
    visit.phone.goto(&token[..token.len() - 20]);
    visit.sees("This link does not work", "cut-off");
    type_the_reference(&visit, &case);
    answer_the_fresh_mail(&world, &visit, &owner);

    let owner = world.attack("two-factor");
    let good = link(&world.mail(&owner, 1), "?answer=me");
    let (site, _) = good.split_once("/c/").expect("a token");
    visit
        .phone
        .goto(&format!("{site}/c/{}", too_old(&world.case(&owner))));
    visit.sees("This link has expired", "expired");
    visit.press("form[action$='/resend'] button");
    visit.sees("Your request has arrived", "asked-again");
    answer_the_fresh_mail(&world, &visit, &owner);
    drop(visit);
    world.end();
}

/// A link that the site made long ago.
fn too_old(case: &str) -> String {
    let key = NamedKey {
        id: "1".into(),
        bytes: vec![0x11; 32],
    };
    let link = Link {
        case: case.into(),
        partition: 0,
        part: RecipientPart::Owner,
        case_version: 1,
        expires: now().plus_ms(-1_000),
    };
    let keys = LinkKeys::new(&[key]).expect("a key");
    keys.mint(&link).expect("a token")
}

#[test]
fn a_link_outlives_its_key_while_the_key_is_kept_and_leads_to_a_fresh_mail_afterwards() {
    let Some(mut world) = World::start("rotated", "en") else {
        return;
    };
    let visit = visit!(world);
    let owner = world.attack("many-ips");
    let old = link(&world.mail(&owner, 1), "?answer=me");
    let case = world.case(&owner);
    let key = "{ id = \"1\", file = \"link.key\" }";
    let fresh = "{ id = \"2\", file = \"answer.key\" }";
    let mut restart_with = |from: &str, to: &str| {
        assert!(world.site.terminate().success());
        world.site.reconfigure(from, to);
        world.site.start();
        world.site.wait_until_ready();
    };
    restart_with(key, &format!("{fresh}, {key}"));
    visit.phone.goto(&old);
    visit.sees("Yes, this was me", "key-kept");
    restart_with(&format!("{fresh}, {key}"), fresh);
    visit.phone.goto(&old);
    visit.sees("This link does not work", "key-gone");
    type_the_reference(&visit, &case);
    answer_the_fresh_mail(&world, &visit, &owner);
    drop(visit);
    world.end();
}
