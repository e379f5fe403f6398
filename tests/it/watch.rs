//! What operations see: metrics and the admin listener.

use std::process::{Command, Stdio};
use std::sync::Arc;

use doorward::admin::{self, Readiness};
use doorward::engine::output::Counts;
use doorward::event::{EventType, KnownType, Outcome};
use doorward::metrics::Metrics;
use doorward::metrics::local::ShardCounters;

/// Every metric with at least one series, as after some work.
pub fn busy_metrics() -> Arc<Metrics> {
    let metrics = Arc::new(Metrics::new());
    let mut shard = ShardCounters::new(Arc::clone(&metrics));
    let login = EventType::Known(KnownType::Login);
    shard.event(&login, Some(Outcome::Failure));
    shard.event(&login, Some(Outcome::Failure));
    shard.event(&EventType::Other("coffee_made".into()), None);
    shard.dropped(&["ip"]);
    shard.rejected("not_json");
    shard.engine(&Counts {
        late: 3,
        geo_found: 1,
        geo_failed: 1,
        mail_capped: 2,
        answers_forged: 1,
        ..Counts::default()
    });
    shard.command(doorward::engine::output::CommandKind::LockAccount);
    shard.flush();
    let label = |vec: &prometheus::IntCounterVec, labels: &[&str]| {
        vec.with_label_values(labels).inc();
    };
    label(&metrics.decisions_total, &["failed-logins", "acted"]);
    label(&metrics.transactions_total, &["committed"]);
    label(&metrics.mail_total, &["sent"]);
    label(&metrics.links_total, &["me", "published"]);
    label(&metrics.owner_answers_total, &["failed-logins", "me"]);
    label(&metrics.shadow_answers_total, &["watched", "me"]);
    label(&metrics.exception_hits_total, &["scanner"]);
    label(&metrics.exception_expired_total, &["scanner"]);
    let expires = &metrics.exception_expires_timestamp_seconds;
    expires.with_label_values(&["scanner"]).set(1_790_000_000);
    let left = &metrics.lock_budget_remaining;
    left.with_label_values(&["failed-logins"]).set(3);
    metrics.consumer_lag.with_label_values(&["0"]).set(7);
    metrics.list_entries.with_label_values(&["bad"]).set(2);
    metrics.list_stale.with_label_values(&["bad"]).set(0);
    metrics
        .list_made_timestamp_seconds
        .with_label_values(&["bad"])
        .set(1_795_327_200);
    metrics
        .list_loaded_timestamp_seconds
        .with_label_values(&["bad"])
        .set(1_790_000_000);
    metrics.set_rule_set("sha256:old");
    metrics.set_rule_set("sha256:new");
    metrics
}

fn line<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find(|line| line.starts_with(name))
}

#[test]
fn what_a_shard_counts_locally_arrives_under_the_contracts_names() {
    let text = busy_metrics().text();
    for expected in [
        r#"doorward_events_total{outcome="failure",type="login"} 2"#,
        r#"doorward_events_total{outcome="none",type="other"} 1"#,
        r#"doorward_geoip_lookups_total{result="found"} 1"#,
        r#"doorward_geoip_lookups_total{result="failed"} 1"#,
        r#"doorward_event_fields_dropped_total{field="ip"} 1"#,
        r#"doorward_events_rejected_total{reason="not_json"} 1"#,
        r#"doorward_mail_total{result="capped"} 2"#,
        "doorward_events_late_total 3",
        r#"doorward_answers_total{result="forged"} 1"#,
        r#"doorward_commands_total{command="lock_account"} 1"#,
        r#"doorward_consumer_lag{partition="0"} 7"#,
        r#"doorward_rules_info{rule_set="sha256:new"} 1"#,
    ] {
        assert!(line(&text, expected).is_some(), "{expected} in\n{text}");
    }
    assert_eq!(
        line(&text, r#"doorward_rules_info{rule_set="sha256:old"}"#),
        None
    );
    assert!(line(&text, "doorward_build_info{").is_some());
}

#[test]
fn shards_add_up_in_gauges_and_leave_nothing_behind() {
    let metrics = Arc::new(Metrics::new());
    let mut one = ShardCounters::new(Arc::clone(&metrics));
    let mut two = ShardCounters::new(Arc::clone(&metrics));
    one.state(10, 1_000, 1);
    two.state(5, 500, 0);
    one.state(11, 1_100, 2);
    assert_eq!(metrics.state_accounts.get(), 16);
    assert_eq!(metrics.state_bytes.get(), 1_600);
    drop(one);
    assert_eq!(metrics.state_accounts.get(), 5);
    assert_eq!(metrics.cases_open.get(), 0);
}

#[test]
fn what_was_counted_is_not_lost_with_the_shard() {
    let metrics = Arc::new(Metrics::new());
    let mut shard = ShardCounters::new(Arc::clone(&metrics));
    shard.event(
        &EventType::Known(KnownType::TwoFactor),
        Some(Outcome::Success),
    );
    drop(shard);
    let counted = metrics
        .events_total
        .with_label_values(&["two_factor", "success"]);
    assert_eq!(counted.get(), 1);
}

#[test]
fn promtool_accepts_names_and_help() {
    let Some(promtool) = crate::support::service("DOORWARD_PROMTOOL") else {
        return;
    };
    let mut child = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool starts");
    let mut stdin = child.stdin.take().expect("it was asked for");
    std::io::Write::write_all(&mut stdin, busy_metrics().text().as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("promtool ends");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert_eq!(said, "", "promtool has advice");
}

#[test]
fn the_admin_listener_says_why_it_is_not_ready_until_it_is() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let readiness = Readiness::new();
    readiness.set("shard 1", "restoring partition 3");
    readiness.set("list malicious_ips", "the file is missing");
    let listener = runtime
        .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
        .expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = runtime.spawn(admin::serve(
        listener,
        busy_metrics(),
        readiness.clone(),
        async {
            let _ = stopped.await;
        },
    ));

    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build()
        .into();
    let get = |path: &str| {
        let mut answer = agent
            .get(format!("http://{address}{path}"))
            .call()
            .expect("an answer");
        let body = answer.body_mut().read_to_string().expect("text");
        (answer.status().as_u16(), body)
    };
    assert_eq!(get("/healthz"), (200, "ok\n".to_owned()));
    let reasons = "list malicious_ips: the file is missing\nshard 1: restoring partition 3\n";
    assert_eq!(get("/readyz"), (503, reasons.to_owned()));
    readiness.clear("shard 1");
    readiness.clear("list malicious_ips");
    assert_eq!(get("/readyz"), (200, "ready\n".to_owned()));
    let (status, metrics) = get("/metrics");
    assert_eq!(status, 200);
    assert!(metrics.contains("# HELP doorward_events_total Events read, by type"));
    let (_, version) = get("/version");
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    assert_eq!(get("/").0, 404);

    stop.send(()).expect("the server listens for it");
    runtime
        .block_on(server)
        .expect("no panic")
        .expect("a clean end");
}
