//! The way that follows "this wasn't me", the typed code, and what "this was me" taught.

use doorward::engine::output::RecipientPart;
use doorward::link::LinkKeys;
use doorward::record::{CaseRecord, StepsRecord};

use super::{genuine, with_case};
use crate::owner::{Broker, Pages, STATES, case, token};

fn secured(state: &str, steps: StepsRecord) -> CaseRecord {
    CaseRecord {
        version: 2,
        steps: Some(StepsRecord {
            secured: "2026-11-22T06:10:00.000Z".into(),
            ..steps
        }),
        ..case(state)
    }
}

fn at(minute: u32) -> Option<String> {
    Some(format!("2026-11-22T06:{minute:02}:00.000Z"))
}

/// The page without its one moving part, when the link ends.
pub fn still(page: &str) -> String {
    let end = regex::Regex::new(r"(until|bis) .*?UTC\)?").expect("a pattern");
    end.replace_all(page, "$1 END").into_owned()
}

#[test]
fn the_guided_way_shows_what_is_done_what_is_left_and_where_things_stand() {
    let broker = Broker::start();
    let pages = Pages::start(&broker);
    let halfway = StepsRecord {
        password: at(20),
        api_keys: at(25),
        ..StepsRecord::default()
    };
    let all = StepsRecord {
        second_factor: at(30),
        ..halfway.clone()
    };
    for (name, state, steps) in [
        ("first", "secured", StepsRecord::default()),
        ("halfway", "recovered", halfway),
        ("all", "recovered", all),
        ("support", "recovered", StepsRecord::default()),
    ] {
        for locale in ["en", "de"] {
            let case = CaseRecord {
                id: format!("k-{name}-{locale}"),
                locale: Some(locale.into()),
                ..secured(state, steps.clone())
            };
            broker.write_case(&case);
            pages.wait_for_case(&case);
            let link = token(&broker.config, &case, RecipientPart::Owner);
            let page = pages.get(&format!("/c/{link}"));
            let shown = still(&page.content());
            insta::assert_snapshot!(format!("guide_{name}_{locale}"), shown);
        }
    }
}

#[test]
fn new_api_keys_have_a_button_of_their_own_that_ends_in_a_tick() {
    let (broker, pages, link) = with_case(&secured("secured", StepsRecord::default()));
    assert!(pages.get(&link).body.contains("/rotate-keys\""));
    let answer = pages.post(&format!("{link}/rotate-keys"), &[]);
    let status = answer.location().to_owned();
    let stored = broker.wait_for(&broker.config.topics.events, 1);
    let json = genuine(&stored[0]);
    assert_eq!(json["answer"], "rotate_keys");
    assert_eq!(json["by"], "owner");
    let waiting = pages.get(&status);
    assert!(waiting.body.contains("http-equiv=\"refresh\""));
    let done = CaseRecord {
        version: 3,
        ..secured(
            "secured",
            StepsRecord {
                api_keys: at(25),
                ..StepsRecord::default()
            },
        )
    };
    broker.write_case(&done);
    pages.wait_for_case(&done);
    let page = pages.get(&status);
    assert!(!page.body.contains("/rotate-keys\""), "{}", page.body);
    assert!(page.body.contains("New keys were ordered"));
}

#[test]
fn a_co_owner_is_led_nowhere_and_orders_no_keys() {
    let case = secured("secured", StepsRecord::default());
    let (broker, pages, _) = with_case(&case);
    let link = format!(
        "/c/{}",
        token(&broker.config, &case, RecipientPart::CoOwner)
    );
    let page = pages.get(&link);
    assert!(!page.body.contains("/rotate-keys") && !page.body.contains("password/new"));
    insta::assert_snapshot!("guide_co_owner", page.content());
    assert_eq!(pages.post(&format!("{link}/rotate-keys"), &[]).status, 403);
    assert!(broker.answers().is_empty());
}

#[test]
fn this_was_me_ends_with_what_was_learned() {
    let mut case = CaseRecord {
        version: 2,
        ..case("unlocked")
    };
    case.places[0].known = true;
    let (_broker, pages, link) = with_case(&case);
    insta::assert_snapshot!("page_learned", pages.get(&link).content());
}

/// Pages that ask for the code.
fn asking_for_a_code() -> (Broker, Pages, String) {
    let mut broker = Broker::start();
    broker.config.web.typed_code = true;
    let pages = Pages::start(&broker);
    broker.write_case(&case("open"));
    pages.wait_for_case(&case("open"));
    let token = token(&broker.config, &case("open"), RecipientPart::Owner);
    (broker, pages, token)
}

fn me(pages: &Pages, token: &str, code: &str) -> crate::owner::Answer {
    let fields = [("version", "1"), ("place", "country:BR"), ("code", code)];
    pages.post(&format!("/c/{token}/me"), &fields)
}

#[test]
fn where_the_site_wants_it_this_was_me_takes_the_code_from_the_mail_and_five_tries() {
    let (broker, pages, token) = asking_for_a_code();
    let code = LinkKeys::new(&broker.config.keys.link)
        .expect("keys")
        .code(&token);
    assert_eq!(code.len(), 6);
    let page = pages.get(&format!("/c/{token}"));
    assert!(!page.body.contains(&code), "the page does not know it");
    insta::assert_snapshot!("page_code", page.content());
    for wrong in ["", "000000", "code", &code[..5]] {
        let again = me(&pages, &token, wrong);
        assert_eq!(again.status, 422, "{wrong}");
        assert!(again.body.contains("role=\"alert\""));
    }
    assert!(broker.answers().is_empty());
    let typed = format!(" {}-{} ", &code[..3].to_lowercase(), &code[3..]);
    me(&pages, &token, &typed).location();
    let stored = broker.wait_for(&broker.config.topics.events, 1);
    assert_eq!(genuine(&stored[0])["answer"], "me");
    // One more wrong one, and the link takes none at all; "not me" needs none.
    assert_eq!(me(&pages, &token, "nope").status, 422);
    let spent = me(&pages, &token, &code);
    assert_eq!(spent.status, 403);
    insta::assert_snapshot!("page_code_spent", spent.content());
    pages.post(&format!("/c/{token}/not-me"), &[]).location();
    assert_eq!(broker.wait_for(&broker.config.topics.events, 2).len(), 2);
}

#[test]
fn each_mail_has_a_code_of_its_own() {
    let (broker, _pages, first) = asking_for_a_code();
    let second = token(&broker.config, &case("open"), RecipientPart::Owner);
    let keys = LinkKeys::new(&broker.config.keys.link).expect("keys");
    assert_ne!(keys.code(&first), keys.code(&second));
    assert_eq!(keys.code(&first), keys.code(&first));
}

#[test]
fn a_co_owner_reads_of_the_account_and_never_of_theirs() {
    let broker = Broker::start();
    let pages = Pages::start(&broker);
    for state in STATES {
        for (locale, yours) in [("en", "your account"), ("de", "ihr konto")] {
            let case = CaseRecord {
                id: format!("k-{state}-{locale}"),
                locale: Some(locale.into()),
                ..secured(state, StepsRecord::default())
            };
            broker.write_case(&case);
            pages.wait_for_case(&case);
            let link = token(&broker.config, &case, RecipientPart::CoOwner);
            let page = pages.get(&format!("/c/{link}")).content().to_lowercase();
            assert!(!page.contains(yours), "{state}: {page}");
        }
    }
}

#[test]
fn a_place_that_is_left_unticked_keeps_open_what_was_never_locked() {
    let (_broker, pages, link) = with_case(&case("asked"));
    let page = pages.get(&link).content();
    assert!(page.contains("If a place stays without a tick, the matter stays open."));
    assert!(!page.contains("stays locked"), "{page}");
}
