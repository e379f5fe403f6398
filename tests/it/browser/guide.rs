//! The way that follows "this wasn't me".

use serde_json::json;

use super::{World, event, visit};

#[test]
fn the_guided_way_is_walked_left_and_come_back_to_until_everything_is_done() {
    let Some(world) = World::start("guide", "en") else {
        return;
    };
    let visit = visit!(world);
    let owner = world.attack("new-country");
    visit.open_mail(&world.mail(&owner, 1), "mail");
    visit.press_link("?answer=not-me");
    visit.phone.wait_for("No, this wasn’t me");
    visit.press("form[action$='/not-me'] button");

    visit.sees("Your account is safe", "secured");
    let thrown_out = ["lock_account", "revoke_sessions", "require_password_change"];
    world.wait_for_commands(&owner, &thrown_out);
    let case = world.case(&owner);
    let done = || visit.phone.count(".step.done");
    let stand = || visit.phone.text_of(".stand strong");
    assert_eq!(done(), 1, "the sessions alone");
    assert_eq!(
        stand(),
        "Your account is locked for everybody until you have set a new password."
    );
    let way = format!("a[href='https://example.com/password?case={case}']");
    assert_eq!(visit.phone.count(&way), 1);

    // The keys have a button of their own, since it breaks what runs on them.
    assert!(
        visit
            .phone
            .text_of("#api-keys .warning")
            .contains("stops working at once")
    );
    visit.press("form[action$='/rotate-keys'] button");
    visit.sees("New keys were ordered", "new-keys");
    let ordered = [&thrown_out[..], &["rotate_api_keys"]].concat();
    world.wait_for_commands(&owner, &ordered);
    assert_eq!(visit.phone.count("form[action$='/rotate-keys']"), 0);

    // The owner goes away, and comes back by the mail that was sent meanwhile.
    visit.open_mail(&world.mail(&owner, 2), "mail-secured");
    visit.press("a.button");
    visit.sees("New keys were ordered", "come-back");
    assert_eq!(done(), 2);
    let mut changed = event("password_changed");
    changed["case"] = json!(case);
    world.publish(&owner, changed);
    visit.looks_again_until("#password.done");
    visit.sees("You are back in", "new-password");
    assert_eq!(
        stand(),
        "Your account is open again, for you alone. The steps above that are not ticked are \
         still worth doing."
    );
    world.publish(&owner, event("two_factor_enabled"));
    visit.looks_again_until("#second-factor.done");
    visit.sees("You are back in", "all-done");
    assert_eq!(done(), 4, "all but what doorward cannot see");
    assert_eq!(visit.phone.count(".step .primary"), 0, "nothing is next");
    assert_eq!(
        stand(),
        "Your account is open again, for you alone, and everything that we can see is done."
    );
    world.wait_for_commands(&owner, &[&ordered[..], &["unlock_account"]].concat());
    visit.open_mail(&world.mail(&owner, 3), "mail-back-in");
    drop(visit);
    world.end();
}
