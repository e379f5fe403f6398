//! The link that stops a recovery.

use doorward::link::LinkKeys;
use doorward::mail::transport::{Mailbox, Transport};
use doorward::publish::wall_clock;
use doorward::record::MailRecord;

use super::{Running, link_in};
use crate::mail::recovery::held;
use crate::owner::Broker;
use crate::support::{PATIENCE, eventually};

#[test]
fn the_link_lives_as_long_as_the_recovery_is_held() {
    let mut broker = Broker::start();
    broker.config.web.link_valid = std::time::Duration::from_secs(60);
    let mailbox = Mailbox::new();
    let mailer = Running::start(&broker, Transport::Mailbox(mailbox.clone()));
    let until = wall_clock().plus_ms(86_400_000);
    broker.write_mail(&MailRecord {
        until: Some(until.to_string()),
        ..held()
    });
    let mails = eventually("the mail", PATIENCE, || {
        Some(mailbox.all()).filter(|mails| !mails.is_empty())
    });
    let link = link_in(&mails[0], "cancel-recovery");
    let token = link
        .strip_prefix("/c/")
        .and_then(|link| link.split_once('?'))
        .map(|(token, _)| token)
        .expect("a token");
    let keys = LinkKeys::new(&broker.config.keys.link).expect("keys");
    let opened = keys.open(token, wall_clock()).expect("a link of ours");
    assert_eq!((&*opened.case, opened.expires), ("k-4e1f77", until));
    mailer.stop(&broker);
}
