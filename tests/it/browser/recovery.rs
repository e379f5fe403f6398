//! A recovery that its owner did not ask for.

use super::{Owner, World, visit};
use serde_json::json;

#[test]
fn a_recovery_that_somebody_else_asked_for_is_stopped_by_its_one_button() {
    stop_it(
        "recovery",
        "en",
        ["It goes through in 23 h", "The recovery is stopped"],
    );
}

#[test]
fn a_recovery_is_stopped_in_german_too() {
    stop_it(
        "recovery-de",
        "de",
        ["in 23 Std.", "Die Wiederherstellung ist gestoppt"],
    );
}

fn stop_it(name: &'static str, language: &'static str, [left, stopped]: [&str; 2]) {
    let Some(world) = World::start(name, language) else {
        return;
    };
    let visit = visit!(world);
    let owner = Owner {
        account: format!("{name}-ada"),
        address: format!("{name}-ada@example.com"),
    };
    let asked = json!({ "type": "recovery", "outcome": "requested", "ip": "203.0.113.9",
                        "country": "BR" });
    world.publish(&owner, asked);
    visit.open_mail(&world.mail(&owner, 1), "mail");
    visit.press_link("?answer=cancel-recovery");
    visit.sees(left, "held");
    assert_eq!(visit.phone.count("form"), 1);
    world.wait_for_commands(&owner, &["hold_recovery"]);
    visit.press("form[action$='/cancel-recovery'] button");
    visit.sees(stopped, "stopped");
    world.wait_for_commands(&owner, &["hold_recovery", "cancel_recovery"]);
    drop(visit);
    world.end();
}
