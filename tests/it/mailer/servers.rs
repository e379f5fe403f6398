//! A real SMTP server that misbehaves on command.

use std::net::TcpListener;
use std::time::Duration;

use doorward::config::{MailSecurity, Secret};

use super::{Running, addresses, receipts, write_to};
use crate::owner::{Broker, mail, redacted};
use crate::support::smtp::{Behaviour, ReceivedMail, Security, SmtpServer};
use crate::support::{PATIENCE, eventually};

/// An embedded broker whose mails go to the server at `port`.
fn broker(port: u16) -> Broker {
    let mut broker = Broker::start();
    broker.config.mail.port = port;
    broker
}

/// A server that behaves so, and a mailer that sends to it.
fn with_server(behaviour: &Behaviour) -> Option<(SmtpServer, Broker, Running)> {
    let server = SmtpServer::start(behaviour)?;
    let broker = broker(server.port);
    let mailer = Running::by_smtp(&broker);
    Some((server, broker, mailer))
}

/// Ends the story: every mail has its receipt and none is left.
fn end(broker: &Broker, mailer: Running, mails: usize) {
    receipts(broker, mails);
    eventually("nothing to be left", PATIENCE, || {
        (mailer.metrics.mail_pending.get() == 0).then_some(())
    });
    assert_eq!(mailer.count("unclear"), 0);
    mailer.stop(broker);
}

fn recipients(mails: &[ReceivedMail]) -> Vec<String> {
    let mut all: Vec<String> = mails.iter().flat_map(|mail| mail.to.clone()).collect();
    all.sort();
    all
}

/// Sends one mail through a real server, and says how it arrived.
fn through_a_real_server(
    behaviour: &Behaviour,
    security: MailSecurity,
    login: Option<(&str, &str)>,
) -> Option<(SmtpServer, Broker, Running)> {
    let server = SmtpServer::start(behaviour)?;
    let mut broker = broker(server.port);
    broker.config.mail.security = security;
    broker.config.mail.ca_file = Some(server.ca_file());
    broker.config.mail.login =
        login.map(|(user, password)| (user.to_owned(), Secret::new(password.to_owned())));
    let mailer = Running::by_smtp(&broker);
    broker.write_mail(&mail());
    Some((server, broker, mailer))
}

#[test]
fn a_real_server_gets_the_mail_over_starttls_and_tls_with_a_login() {
    for (server_security, security) in [
        (Security::StartTls, MailSecurity::StartTls),
        (Security::Implicit, MailSecurity::Tls),
    ] {
        let behaviour = Behaviour {
            security: server_security,
            login: Some(("mailer", "secret")),
            temporary: 1,
            ..Behaviour::default()
        };
        let Some((server, broker, mailer)) =
            through_a_real_server(&behaviour, security, Some(("mailer", "secret")))
        else {
            return;
        };
        let mails = server.wait_for_mails(1, PATIENCE);
        assert!(mails[0].tls);
        assert_eq!(mails[0].user.as_deref(), Some("mailer"));
        let parsed = mails[0].parsed();
        assert_eq!(
            parsed.subject(),
            Some("Was this you? We locked your Example account")
        );
        assert_eq!(parsed.message_id(), Some("m-5f2a@example.com"));
        assert!(redacted(&parsed.body_text(0).expect("text")).contains("/c/TOKEN"));
        assert_eq!(
            receipts(&broker, 1)[0].attempts,
            2,
            "the first was answered 451"
        );
        mailer.stop(&broker);
    }
}

#[test]
fn a_server_without_starttls_or_with_another_login_gets_nothing_and_loses_nothing() {
    let wrong_login = Behaviour {
        security: Security::StartTls,
        login: Some(("mailer", "secret")),
        ..Behaviour::default()
    };
    for (behaviour, login) in [
        (Behaviour::default(), None),
        (wrong_login, Some(("mailer", "wrong"))),
    ] {
        let Some((server, broker, mailer)) =
            through_a_real_server(&behaviour, MailSecurity::StartTls, login)
        else {
            return;
        };
        eventually("some attempts", PATIENCE, || {
            (mailer.count("retried") >= 2).then_some(())
        });
        assert!(server.attempts().is_empty());
        assert_eq!(mailer.count("failed"), 0, "settings can be mended");
        mailer.stop(&broker);
    }
}

#[test]
fn a_repeat_after_a_lost_answer_has_the_same_message_id() {
    let behaviour = Behaviour {
        drop: 1,
        ..Behaviour::default()
    };
    let Some((server, broker, mailer)) =
        through_a_real_server(&behaviour, MailSecurity::None, None)
    else {
        return;
    };
    server.wait_for_mails(1, PATIENCE);
    let attempts = server.attempts();
    assert_eq!(attempts.len(), 2);
    assert_eq!(
        attempts[0].parsed().message_id(),
        attempts[1].parsed().message_id()
    );
    receipts(&broker, 1);
    assert_eq!(mailer.count("unclear"), 1);
    mailer.stop(&broker);
}

#[test]
fn greylisting_ends_and_the_mail_arrives_once() {
    let behaviour = Behaviour {
        grey: Duration::from_millis(500),
        ..Behaviour::default()
    };
    let Some((server, broker, mailer)) = with_server(&behaviour) else {
        return;
    };
    broker.write_mail(&mail());
    let receipts = receipts(&broker, 1);
    assert_eq!(receipts[0].result, "sent");
    let refused = server.refused_recipients().len();
    assert!(refused >= 1);
    assert_eq!(receipts[0].attempts as usize, refused + 1);
    assert_eq!(server.attempts().len(), 1);
    end(&broker, mailer, 1);
}

#[test]
fn a_server_that_is_away_at_first_gets_every_mail_once_it_is_there() {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = socket.local_addr().expect("an address").port();
    drop(socket);
    let behaviour = Behaviour {
        port,
        ..Behaviour::default()
    };
    let broker = broker(port);
    let mailer = Running::by_smtp(&broker);
    let people = addresses("person", "example.org", 10);
    write_to(&broker, &people);
    eventually("tries in vain", PATIENCE, || {
        (mailer.count("retried") >= 15).then_some(())
    });
    let Some(server) = SmtpServer::start(&behaviour) else {
        return mailer.stop(&broker);
    };
    server.wait_for_mails(10, PATIENCE);
    end(&broker, mailer, 10);
    assert_eq!(recipients(&server.attempts()), people);
}

#[test]
fn one_refused_recipient_fails_alone() {
    let Some((server, broker, mailer)) = with_server(&Behaviour::default()) else {
        return;
    };
    let people = ["reject@example.org", "fine@example.org"].map(str::to_owned);
    write_to(&broker, &people);
    let receipts = receipts(&broker, 2);
    let result = |id: &str| {
        let receipt = receipts.iter().find(|receipt| receipt.id == id);
        receipt.map(|receipt| (receipt.result.as_str(), receipt.attempts))
    };
    assert_eq!(result("m-reject@example.org"), Some(("failed", 1)));
    assert_eq!(result("m-fine@example.org"), Some(("sent", 1)));
    assert_eq!(mailer.count("failed"), 1);
    end(&broker, mailer, 2);
    assert_eq!(recipients(&server.attempts()), ["fine@example.org"]);
}

#[test]
fn a_server_that_is_too_busy_for_every_third_connection_gets_each_mail_once() {
    let behaviour = Behaviour {
        busy_every: 3,
        delay: Duration::from_millis(50),
        ..Behaviour::default()
    };
    let Some((server, broker, mailer)) = with_server(&behaviour) else {
        return;
    };
    let people = addresses("person", "example.org", 12);
    write_to(&broker, &people);
    server.wait_for_mails(12, PATIENCE);
    assert!(mailer.count("retried") >= 1, "one of them was sent away");
    assert_eq!(mailer.count("failed"), 0);
    end(&broker, mailer, 12);
    assert_eq!(recipients(&server.attempts()), people);
}

#[test]
fn a_connection_cut_in_the_middle_of_a_mail_costs_an_attempt() {
    let behaviour = Behaviour {
        cut_data: 2,
        ..Behaviour::default()
    };
    let Some((server, broker, mailer)) = with_server(&behaviour) else {
        return;
    };
    broker.write_mail(&mail());
    let receipts = receipts(&broker, 1);
    assert_eq!(
        (receipts[0].result.as_str(), receipts[0].attempts),
        ("sent", 3)
    );
    assert_eq!(server.attempts().len(), 1);
    mailer.stop(&broker);
}

#[test]
fn a_server_that_is_too_slow_to_greet_is_left_and_tried_again() {
    let Some(server) = SmtpServer::start(&Behaviour {
        banner: Duration::from_secs(20),
        ..Behaviour::default()
    }) else {
        return;
    };
    let mut broker = broker(server.port);
    broker.config.mail.timeout = Duration::from_secs(1);
    let mailer = Running::by_smtp(&broker);
    broker.write_mail(&mail());
    let receipts = receipts(&broker, 1);
    assert_eq!(
        (receipts[0].result.as_str(), receipts[0].attempts),
        ("sent", 2)
    );
    end(&broker, mailer, 1);
}

#[test]
fn a_server_that_takes_a_mail_and_hangs_up_gets_it_once() {
    let Some((server, broker, mailer)) = with_server(&Behaviour::default()) else {
        return;
    };
    let people = addresses("bye", "example.org", 6);
    write_to(&broker, &people);
    server.wait_for_mails(6, PATIENCE);
    end(&broker, mailer, 6);
    assert_eq!(recipients(&server.attempts()), people);
}

#[test]
fn the_answer_to_a_whole_mail_is_waited_for_longer_than_others() {
    let Some(server) = SmtpServer::start(&Behaviour {
        delay: Duration::from_millis(2_500),
        ..Behaviour::default()
    }) else {
        return;
    };
    let mut broker = broker(server.port);
    broker.config.mail.timeout = Duration::from_secs(1);
    let mailer = Running::by_smtp(&broker);
    broker.write_mail(&mail());
    end(&broker, mailer, 1);
    assert_eq!(server.attempts().len(), 1);
}

#[test]
fn a_shutdown_with_mails_under_way_loses_none_and_repeats_none() {
    let behaviour = Behaviour {
        delay: Duration::from_millis(700),
        ..Behaviour::default()
    };
    let Some((server, broker, mailer)) = with_server(&behaviour) else {
        return;
    };
    let people = addresses("person", "example.org", 12);
    write_to(&broker, &people);
    server.wait_for_mails(1, PATIENCE);
    mailer.stop(&broker);
    assert!(server.mails().len() < 12, "it was stopped in the middle");
    let mailer = Running::by_smtp(&broker);
    server.wait_for_mails(12, PATIENCE);
    end(&broker, mailer, 12);
    assert_eq!(recipients(&server.attempts()), people);
}
