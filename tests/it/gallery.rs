//! Writes every page and mail as a file, for people who want to look at them:
//! `DOORWARD_GALLERY=/tmp/gallery cargo test --test it gallery`. Without the variable there
//! is nobody to look, and nothing is written.

use std::path::Path;

use doorward::engine::output::RecipientPart;
use doorward::mail::content::{Leads, Links, render};
use doorward::publish::wall_clock;
use doorward::record::{CaseRecord, MailRecord, StepsRecord};

use crate::owner::{Broker, Pages, STATES, case, config, evidence, expired_token, mail, token};

#[test]
fn gallery() {
    let Some(folder) = std::env::var_os("DOORWARD_GALLERY") else {
        return;
    };
    let folder = Path::new(&folder);
    std::fs::create_dir_all(folder).expect("a folder");
    let broker = Broker::start();
    let pages = Pages::start(&broker);
    for locale in ["en", "de"] {
        for template in ["unlocked", "secured", "recovered", "our_mistake"] {
            for part in ["owner", "co_owner"] {
                let record = MailRecord {
                    locale: Some(locale.into()),
                    template: template.into(),
                    account_name: Some("ann_1987".into()),
                    part: part.into(),
                    ..mail()
                };
                let name = format!("mail-{template}-{part}-{locale}");
                write_mail(folder, &name, &record);
            }
        }
        for template in ["recovery_held", "recovery_refused", "recovery_released"] {
            for part in ["owner", "co_owner"] {
                let record = MailRecord {
                    locale: Some(locale.into()),
                    template: template.into(),
                    part: part.into(),
                    ..crate::mail::recovery::held()
                };
                write_mail(folder, &format!("mail-{template}-{part}-{locale}"), &record);
            }
        }
        for template in [
            "owner_unreached",
            "owner_unreached_secured",
            "recovery_owner_unreached",
        ] {
            let record = crate::mail::unreached::record(template, locale, Some("all"));
            write_mail(folder, &format!("mail-{template}-{locale}"), &record);
        }
        for (part, locked) in [
            ("owner", Some("unfamiliar")),
            ("owner", None),
            ("co_owner", Some("all")),
            ("notice", Some("all")),
        ] {
            let record = MailRecord {
                locale: Some(locale.into()),
                part: part.into(),
                locked: locked.map(str::to_owned),
                ..mail()
            };
            let name = format!("mail-{part}-{}-{locale}", locked.unwrap_or("asked"));
            write_mail(folder, &name, &record);
        }
        let steps = StepsRecord {
            secured: "2026-11-22T06:10:00.000Z".into(),
            password: Some("2026-11-22T06:20:00.000Z".into()),
            second_factor: None,
            api_keys: Some("2026-11-22T06:25:00.000Z".into()),
        };
        let case = CaseRecord {
            id: format!("k-back-{locale}-5f2a9c41d20b"),
            steps: Some(steps),
            ..grown("recovered", locale)
        };
        broker.write_case(&case);
        pages.wait_for_case(&case);
        let link = token(&broker.config, &case, RecipientPart::Owner);
        let path = format!("/c/{link}");
        write(folder, &pages, &format!("back-{locale}"), &path);
        for state in STATES {
            let case = grown(state, locale);
            broker.write_case(&case);
            pages.wait_for_case(&case);
            for part in [RecipientPart::Owner, RecipientPart::CoOwner] {
                let link = format!("/c/{}", token(&broker.config, &case, part));
                let name = format!("{state}-{}-{locale}", part.as_str());
                write(folder, &pages, &name, &link);
            }
            let again = format!(
                "/c/{}/status?answer=resend",
                token(&broker.config, &case, RecipientPart::Owner)
            );
            save(
                folder,
                &pages,
                &format!("resent-{locale}"),
                pages.get_in(&again, locale).body,
            );
        }
        for state in ["held", "needs_operator", "released", "cancelled"] {
            let recovery = recovery(state, locale);
            broker.write_case(&recovery);
            pages.wait_for_case(&recovery);
            let link = token(&broker.config, &recovery, RecipientPart::Owner);
            write(
                folder,
                &pages,
                &format!("recovery-{state}-{locale}"),
                &format!("/c/{link}"),
            );
        }
        for (name, path) in [
            ("forged", "/c/x"),
            ("help", "/help"),
            ("help-done", "/help?sent=1"),
            ("missing", "/"),
        ] {
            let html = pages.get_in(path, locale).body;
            save(folder, &pages, &format!("{name}-{locale}"), html);
        }
        write_mail(
            folder,
            &format!("mail-{locale}"),
            &MailRecord {
                locale: Some(locale.into()),
                ..mail()
            },
        );
    }
    let mut coded = Broker::start();
    coded.config.web.typed_code = true;
    let coded_pages = Pages::start(&coded);
    coded.write_case(&case("open"));
    coded_pages.wait_for_case(&case("open"));
    let link = token(&coded.config, &case("open"), RecipientPart::Owner);
    write(
        folder,
        &coded_pages,
        "code",
        &format!("/c/{link}?answer=me"),
    );
    for _ in 0..6 {
        let page = coded_pages.post(&format!("/c/{link}/me"), &[("code", "000000")]);
        let name = match page.status {
            422 => "code-wrong",
            _ => "code-spent",
        };
        save(folder, &coded_pages, name, page.body);
    }
    let open = grown("open", "en");
    let told = token(&broker.config, &open, RecipientPart::CoOwner);
    let forbidden = pages.post(&format!("/c/{told}/me"), &[("version", "1")]);
    save(folder, &pages, "forbidden", forbidden.body);
    let link = format!("/c/{}", token(&broker.config, &open, RecipientPart::Owner));
    let elsewhere = [("origin", "https://evil.example")];
    let foreign = pages.post_with(&format!("{link}/not-me"), &[("version", "1")], &elsewhere);
    save(folder, &pages, "foreign", foreign.body);
    let unknown = format!(
        "/c/{}",
        token(&broker.config, &case("open"), RecipientPart::Owner)
    );
    let expired = format!("/c/{}", expired_token(&broker.config, &open));
    write(
        folder,
        &pages,
        "open-not-me",
        &format!("{link}?answer=not-me"),
    );
    write(
        folder,
        &pages,
        "processing",
        &format!("{link}/status?answer=me"),
    );
    write(
        folder,
        &pages,
        "slow",
        &format!("{link}/status?answer=me&look=99"),
    );
    write(
        folder,
        &pages,
        "still",
        &format!("{link}/status?answer=me&version=0"),
    );
    write(folder, &pages, "general", &unknown);
    write(folder, &pages, "expired", &expired);
    let again = pages.post(&format!("{link}/me"), &[("version", "1")]).body;
    save(folder, &pages, "no-place", again);
    broker.go_away();
    let failed = pages.post(&format!("{link}/not-me"), &[("version", "1")]);
    assert_eq!(failed.status, 503, "nobody takes the answer");
    save(folder, &pages, "failed", failed.body);
    let busy = (0..100).find_map(|_| {
        let page = pages.post("/help", &[("case", "k-9c41d2")]);
        (page.status == 429).then_some(page.body)
    });
    save(folder, &pages, "busy", busy.expect("a limit"));
}

/// A recovery that was asked for twice.
fn recovery(state: &str, locale: &str) -> CaseRecord {
    let until = wall_clock().plus_ms(52_000_000).to_string();
    CaseRecord {
        id: format!("k-{}-{locale}-4e1f77", state.replace('_', "-")),
        reason: "recovery_requested".into(),
        places: Vec::new(),
        until: Some(until),
        ..grown(state, locale)
    }
}

/// A case with more to show.
fn grown(state: &str, locale: &str) -> CaseRecord {
    let mut case = CaseRecord {
        id: format!("k-{state}-{locale}-5f2a9c41d20b"),
        locale: Some(locale.into()),
        ..case(state)
    };
    for (minute, ip, country) in [("05", "198.51.100.23", "VN"), ("06", "2001:db8::7", "DE")] {
        let time = format!("2026-11-22T06:{minute}:00.000Z");
        case.evidence.insert(0, evidence("e", &time, ip, country));
    }
    let mut second = case.places[0].clone();
    second.value = "country:VN".into();
    case.places.push(second);
    for place in &mut case.places {
        place.known = state == "unlocked";
    }
    case
}

fn write(folder: &Path, pages: &Pages, name: &str, path: &str) {
    save(folder, pages, name, pages.get(path).body);
}

/// The page with its style sheet inside, so that the file stands alone.
fn save(folder: &Path, pages: &Pages, name: &str, html: String) {
    let css = html
        .split("href=\"/assets/")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .map(|file| pages.get(&format!("/assets/{file}")).body)
        .expect("a style sheet");
    let html = html
        .replace("</head>", &format!("<style>{css}</style></head>"))
        .replace("http-equiv=\"refresh\"", "data-refresh");
    std::fs::write(folder.join(format!("{name}.html")), html).expect("a file");
}

fn write_mail(folder: &Path, name: &str, mail: &MailRecord) {
    let config = config("");
    let part = RecipientPart::parse(&mail.part).expect("a part");
    let leads = Leads::of(&mail.template, part);
    let links = leads.map(|leads| Links {
        me: (part == RecipientPart::Owner && leads == Leads::Question)
            .then(|| "https://example.com/c/x?answer=me".into()),
        not_me: "https://example.com/c/x?answer=not-me".into(),
        code: None,
        valid_until: wall_clock().plus_ms(86_400_000),
    });
    let content = render(
        mail,
        part,
        links.as_ref(),
        &config.web.public_url,
        &config.site,
    )
    .expect("a mail");
    std::fs::write(folder.join(format!("{name}.html")), content.html).expect("a file");
    std::fs::write(folder.join(format!("{name}.txt")), content.text).expect("a file");
}
