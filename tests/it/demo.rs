//! `doorward demo`: the whole product in one process, seen from outside of it.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use doorward::demo::actor;
use doorward::demo::board::Board;
use doorward::demo::mailbox::Mail;
use doorward::demo::page::{self, BrokerKind, Console};
use doorward::demo::stage;
use doorward::demo::trace::{Seen, What};
use doorward::event::Timestamp;
use tokio::sync::{broadcast, mpsc, watch};

use crate::support::process::{Folder, Process};
use crate::support::{PATIENCE, eventually, kafka};

/// `doorward demo` with `arguments`, run from an empty folder with an empty environment.
fn demo(home: &Folder, output: &Folder, arguments: &[&str]) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_doorward"));
    command
        .arg("demo")
        .args(arguments)
        .current_dir(home.path())
        .env_clear();
    Process::start("demo", output.path(), &mut command)
}

/// A page that is open, and the process behind it.
struct Page {
    process: Process,
    origin: String,
    agent: ureq::Agent,
}

fn open() -> (Page, Folder) {
    let (home, output) = (Folder::new("home"), Folder::new("demo"));
    let process = demo(&home, &output, &["--http", "127.0.0.1:0"]);
    let origin = eventually("the address", PATIENCE, || {
        let printed = process.output();
        printed.ends_with('\n').then(|| printed.trim().to_owned())
    });
    (
        Page {
            process,
            origin,
            agent: agent(),
        },
        output,
    )
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .timeout_global(Some(Duration::from_secs(15)))
        .build()
        .into()
}

type Answer = ureq::http::Response<ureq::Body>;

fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer
        .headers()
        .get(name)
        .map_or("", |value| value.to_str().expect("ASCII"))
}

impl Page {
    fn get(&self, path: &str) -> Answer {
        self.agent
            .get(format!("{}{path}", self.origin))
            .call()
            .expect("an answer")
    }
}

/// That `--once` ended well, and that every round stands in what it printed.
#[track_caller]
fn assert_all_seen(process: &mut Process) {
    let status = process.wait(Duration::from_secs(45));
    assert!(
        status.success(),
        "{status}: {}{}",
        process.output(),
        process.errors()
    );
    let rounds: Vec<serde_json::Value> = process
        .output()
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect();
    let mut played: Vec<(String, String, String)> = Vec::new();
    for round in &rounds {
        let text = |name: &str| round[name].as_str().unwrap_or_default().to_owned();
        played.push((text("attack"), text("answer"), text("result")));
        for measured in ["locked_ms", "mail_ms", "refused_ms", "result_ms"] {
            assert!(round[measured].is_i64(), "{measured} of {round}");
        }
        assert_eq!(round["missing"], serde_json::json!([]));
    }
    let mut expected = Vec::new();
    for attack in ["many-addresses", "second-factor", "new-country", "reset"] {
        // The first account that is secured gets its new password too.
        let secured = if attack == "many-addresses" {
            "recovered"
        } else {
            "secured"
        };
        expected.push((attack.to_owned(), "me".to_owned(), "unlocked".to_owned()));
        expected.push((attack.to_owned(), "not_me".to_owned(), secured.to_owned()));
    }
    assert_eq!(played, expected);
    assert!(rounds[1]["recovered_ms"].is_i64(), "{}", rounds[1]);
}

#[test]
fn once_sees_every_lock_mail_unlock_and_secured_account_from_an_empty_folder() {
    let (home, output) = (Folder::new("home"), Folder::new("demo"));
    assert_all_seen(&mut demo(&home, &output, &["--once"]));
    let left: Vec<_> = fs::read_dir(home.path()).expect("the folder").collect();
    assert!(left.is_empty(), "the demo writes nothing to disk: {left:?}");
}

#[test]
fn once_sees_the_same_on_a_real_broker_and_again_where_it_ran_before() {
    let Some(cluster) = kafka::shared() else {
        return;
    };
    let brokers = cluster.bootstrap();
    for run in ["first", "second"] {
        let (home, output) = (Folder::new("home"), Folder::new(run));
        assert_all_seen(&mut demo(
            &home,
            &output,
            &["--once", "--brokers", &brokers],
        ));
    }
}

#[test]
fn the_page_opens_with_strict_headers_and_the_owners_pages_keep_their_own() {
    let (mut page, _output) = open();
    let mut console = page.get("/");
    assert_eq!(console.status(), 200);
    let policy = header(&console, "content-security-policy").to_owned();
    assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"));
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(header(&console, "cache-control"), "no-store");
    assert_eq!(header(&console, "referrer-policy"), "no-referrer");
    assert_eq!(header(&console, "x-content-type-options"), "nosniff");
    let html = console.body_mut().read_to_string().expect("text");
    assert!(html.contains("What this demo leaves out"));
    assert_eq!(html.matches("data-attack=").count(), 4);
    for foreign in ["https://", "//cdn", "style=", "onclick="] {
        assert!(!html.contains(foreign), "{foreign} on the page");
    }
    assert_eq!(page.get("/demo/console.js").status(), 200);
    assert_eq!(page.get("/demo/console.css").status(), 200);

    let forged = page.get("/c/v4.local.AAAA");
    let policy = header(&forged, "content-security-policy");
    assert!(policy.contains("default-src 'none'"), "{policy}");
    assert!(!policy.contains("script-src 'self'"), "{policy}");

    let status = page.process.terminate(PATIENCE);
    assert!(status.success(), "{status}: {}", page.process.errors());
}

#[test]
fn a_button_works_from_the_page_alone_and_locks_the_account_that_it_names() {
    let (page, _output) = open();
    let attack = format!("{}/demo/attack/reset", page.origin);
    let from_elsewhere = page
        .agent
        .post(&attack)
        .header("sec-fetch-site", "cross-site")
        .send_empty()
        .expect("an answer");
    assert_eq!(from_elsewhere.status(), 403);
    assert_eq!(
        page.get("/demo/attack/reset").status(),
        405,
        "looking plays nothing"
    );

    let mut answer = page
        .agent
        .post(&attack)
        .header("sec-fetch-site", "same-origin")
        .send_empty()
        .expect("an answer");
    let round: serde_json::Value =
        serde_json::from_str(&answer.body_mut().read_to_string().expect("text")).expect("JSON");
    let account = round["account"].as_str().expect("an account").to_owned();
    // The first mail is the one to that account's owner.
    let mail = eventually("the owner's mail", PATIENCE, || {
        let mut answer = page.get("/demo/mail/1");
        let found = answer.status() == 200;
        found.then(|| answer.body_mut().read_to_string().expect("text"))
    });
    let mail: serde_json::Value = serde_json::from_str(&mail).expect("JSON");
    assert_eq!(mail["to"], format!("{account}@example.com"));
    let text = mail["text"].as_str().expect("a text part");
    assert!(text.contains(&format!("{}/c/", page.origin)), "{text}");
    assert_eq!(mail["has_html"], true);
}

#[test]
fn hostile_html_in_a_mail_is_shown_in_a_sandbox_and_nowhere_else() {
    let (seen, watched) = broadcast::channel(16);
    let (orders, _nobody_obeys) = actor::orders();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (asks, asked) = mpsc::channel(4);
    let (stop, stopped) = watch::channel(false);
    runtime.spawn(stage::run(
        Board::new(0, Default::default()),
        watched,
        asked,
        stopped,
    ));
    let address = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let address = listener.local_addr().expect("its address");
        let console = Console::new(
            asks,
            orders,
            "http://demo.test".into(),
            BrokerKind::Embedded,
        );
        let routes = page::router(console);
        tokio::spawn(async move { axum::serve(listener, routes).await });
        address
    });
    let raw = "Subject: <img src=x onerror=alert(1)>\r\nContent-Type: text/html\r\n\r\n\
        <!doctype html><script>parent.document.title='owned'</script>\
        <form action=/demo/attack/reset method=post><button>ok</button></form>\
        <img src=https://tracker.example/x>";
    let mail = Mail::parse(1, Timestamp(0), vec!["u@mail.example".into()], raw.into());
    let what = What::Mail(Arc::new(mail));
    seen.send(Arc::new(Seen {
        at: Timestamp(0),
        what,
    }))
    .expect("the board listens");

    let agent = agent();
    let get = |path: &str| {
        agent
            .get(format!("http://{address}{path}"))
            .call()
            .expect("an answer")
    };
    eventually("the mail", PATIENCE, || {
        (get("/demo/mail/1").status() == 200).then_some(())
    });
    let shown = get("/demo/mail/1/html");
    let policy = header(&shown, "content-security-policy");
    let rules: Vec<&str> = policy.split(';').map(str::trim).collect();
    let sandbox = "sandbox allow-popups allow-popups-to-escape-sandbox";
    assert!(
        rules.contains(&sandbox),
        "no script, no form, no origin: {policy}"
    );
    assert!(
        rules.contains(&"default-src 'none'"),
        "nothing from elsewhere: {policy}"
    );
    assert!(rules.contains(&"frame-ancestors 'self'"), "{policy}");
    assert!(
        !policy.contains("script-src") && !policy.contains("allow-scripts"),
        "{policy}"
    );
    // Everywhere else it is data, never markup.
    assert_eq!(
        header(&get("/demo/mail/1"), "content-type"),
        "application/json"
    );
    let raw = get("/demo/mail/1/raw");
    assert_eq!(header(&raw, "content-type"), "text/plain; charset=utf-8");
    assert_eq!(header(&raw, "x-content-type-options"), "nosniff");
    stop.send_replace(true);
}
