//! The harness's own promises: what the other tests lean on really is there.

use std::time::Duration;

use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::{AsyncSmtpTransport, Error};
use lettre::{AsyncTransport, Message, Tokio1Executor};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::support::smtp::{Behaviour, Security, SmtpServer};
use crate::support::{PATIENCE, kafka};

#[test]
fn kafka_takes_messages_and_gives_them_back_in_order() {
    let Some(kafka) = kafka::shared() else { return };
    let topic = kafka.unique("round-trip");
    kafka.create_topic(&topic, 3, &[("message.timestamp.type", "LogAppendTime")]);

    kafka.produce(&topic, [("ann", "1"), ("bob", "2"), ("ann", "3")]);
    kafka.produce_raw(&topic, Some(2), None, Some(b"no key"));

    let records = kafka.read_committed(&topic);
    let of_ann: Vec<_> = records.iter().filter(|r| r.key_text() == "ann").collect();
    assert_eq!(
        of_ann
            .iter()
            .map(|r| r.payload.as_deref())
            .collect::<Vec<_>>(),
        [Some(b"1".as_slice()), Some(b"3")]
    );
    assert_eq!(of_ann[0].partition, of_ann[1].partition);
    let keyless: Vec<_> = records.iter().filter(|r| r.key.is_none()).collect();
    assert_eq!(keyless.len(), 1);
    assert_eq!(keyless[0].partition, 2);
    assert_eq!(records.len(), 4);
}

#[test]
fn a_committed_reader_sees_whole_transactions_and_never_an_aborted_one() {
    let Some(kafka) = kafka::shared() else { return };
    let topic = kafka.unique("transactions");
    kafka.create_topic(&topic, 1, &[]);
    let producer: BaseProducer = kafka
        .client()
        .set("transactional.id", kafka.unique("transactional"))
        .create()
        .expect("a producer");
    producer.init_transactions(PATIENCE).expect("transactions");
    let write = |payload: &str| {
        producer
            .send(BaseRecord::<str, str>::to(&topic).payload(payload))
            .expect("room in the queue");
        producer.flush(PATIENCE).expect("delivered");
    };

    producer.begin_transaction().expect("begun");
    write("aborted");
    producer.abort_transaction(PATIENCE).expect("aborted");
    producer.begin_transaction().expect("begun");
    write("first");
    write("second");
    // The reader starts while the transaction is open, and waits for it.
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| kafka.read_committed(&topic));
        std::thread::sleep(Duration::from_millis(300));
        assert!(
            !reader.is_finished(),
            "it did not wait for the open transaction"
        );
        producer.commit_transaction(PATIENCE).expect("committed");
        let seen: Vec<_> = reader
            .join()
            .expect("a reader")
            .into_iter()
            .map(|r| r.payload)
            .collect();
        assert_eq!(seen, [Some(b"first".to_vec()), Some(b"second".to_vec())]);
    });
}

#[test]
fn a_killed_broker_comes_back_with_what_it_had() {
    let Some(mut kafka) = kafka::start_cluster(1) else {
        return;
    };
    kafka.create_topic("kept", 1, &[]);
    kafka.produce("kept", [("ann", "before")]);
    kafka.kill_broker(0);
    kafka.restart_brokers();
    kafka.produce("kept", [("ann", "after")]);
    let payloads: Vec<_> = kafka
        .read_committed("kept")
        .into_iter()
        .map(|r| r.payload)
        .collect();
    assert_eq!(
        payloads,
        [Some(b"before".to_vec()), Some(b"after".to_vec())]
    );
}

/// Sends one mail to `to` over `tls`, with the right password.
fn send(server: &SmtpServer, tls: Tls, to: &str) -> Result<(), Error> {
    let mail = Message::builder()
        .from(
            "doorward <doorward@example.org>"
                .parse()
                .expect("an address"),
        )
        .to(to.parse().expect("an address"))
        .subject("Grüße")
        .body("A line.\n.\nA line after a dot.\n".to_owned())
        .expect("a mail");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous("localhost")
            .port(server.port)
            .tls(tls)
            .credentials(Credentials::new("mailer".into(), "open sesame".into()))
            .timeout(Some(PATIENCE))
            .build()
            .send(mail)
            .await
            .map(|_| ())
    })
}

fn trusting(server: &SmtpServer) -> TlsParameters {
    let pem = std::fs::read(server.ca_file()).expect("the certificate");
    TlsParameters::builder("localhost".into())
        .add_root_certificate(Certificate::from_pem(&pem).expect("a certificate"))
        .build()
        .expect("TLS settings")
}

const LOGIN: Option<(&str, &str)> = Some(("mailer", "open sesame"));

#[test]
fn mail_arrives_over_starttls_and_over_tls_from_a_client_that_logged_in() {
    for security in [Security::StartTls, Security::Implicit] {
        let Some(server) = SmtpServer::start(&Behaviour {
            security,
            login: LOGIN,
            ..Behaviour::default()
        }) else {
            return;
        };
        let tls = match security {
            Security::StartTls => Tls::Required(trusting(&server)),
            _ => Tls::Wrapper(trusting(&server)),
        };
        send(&server, tls, "ann@example.org").expect("accepted");
        let mails = server.wait_for_mails(1, PATIENCE);
        assert!(mails[0].tls);
        assert_eq!(mails[0].user.as_deref(), Some("mailer"));
        assert_eq!(mails[0].from, "doorward@example.org");
        assert_eq!(mails[0].to, ["ann@example.org"]);
        let parsed = mails[0].parsed();
        assert_eq!(parsed.subject(), Some("Grüße"));
        let body = parsed.body_text(0).expect("a text");
        assert_eq!(
            body.replace("\r\n", "\n").trim_end(),
            "A line.\n.\nA line after a dot."
        );
    }
}

#[test]
fn a_client_that_does_not_know_the_certificate_sends_nothing() {
    let Some(server) = SmtpServer::start(&Behaviour {
        security: Security::StartTls,
        login: LOGIN,
        ..Behaviour::default()
    }) else {
        return;
    };
    let stranger = TlsParameters::new("localhost".into()).expect("TLS settings");
    let error = send(&server, Tls::Required(stranger), "ann@example.org").expect_err("refused");
    assert!(!error.is_permanent() && !error.is_transient(), "{error}");
    assert!(server.attempts().is_empty());
}

#[test]
fn the_mail_server_refuses_defers_and_hangs_up_on_request() {
    let Some(server) = SmtpServer::start(&Behaviour {
        security: Security::StartTls,
        login: LOGIN,
        temporary: 1,
        drop: 1,
        ..Behaviour::default()
    }) else {
        return;
    };
    let tls = || Tls::Required(trusting(&server));

    let cut = send(&server, tls(), "ann@example.org").expect_err("cut");
    assert!(!cut.is_permanent() && !cut.is_transient(), "{cut}");
    let deferred = send(&server, tls(), "ann@example.org").expect_err("deferred");
    assert!(deferred.is_transient(), "{deferred}");
    let refused = send(&server, tls(), "reject-me@example.org").expect_err("refused");
    assert!(refused.is_permanent(), "{refused}");
    send(&server, tls(), "ann@example.org").expect("accepted");

    let attempts = server.attempts();
    let outcomes: Vec<_> = attempts.iter().map(|mail| mail.outcome.as_str()).collect();
    assert_eq!(outcomes, ["dropped", "temporary", "accepted"]);
    assert_eq!(server.refused_recipients(), ["reject-me@example.org"]);
}
