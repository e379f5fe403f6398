//! The owner's journey as an owner makes it: a real service on a real Kafka, a mail that a
//! real SMTP server took, and a real browser on a phone's screen, without scripts, by keyboard
//! alone.

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;

use doorward::conform::play::scenes;
use doorward::event::Timestamp;

use crate::support::browser::{Browser, Driver, ENTER, Looks, SPACE};
use crate::support::doorward::Doorward;
use crate::support::kafka::{self, Cluster};
use crate::support::smtp::{Behaviour, SmtpServer};
use crate::support::{PATIENCE, eventually, service};

const MALICIOUS: [u8; 4] = [198, 51, 100, 7];

/// Everything that a journey passes.
struct World {
    cluster: &'static Cluster,
    smtp: SmtpServer,
    site: Doorward,
    driver: Driver,
    axe: PathBuf,
}

impl World {
    /// `None` where a part is not installed.
    fn start() -> Option<World> {
        let cluster = kafka::shared()?;
        let smtp = SmtpServer::start(&Behaviour::default())?;
        let driver = Driver::start()?;
        let axe = service("DOORWARD_AXE")?;
        let mut site = Doorward::new(cluster, "shards = 1");
        let port = free_port();
        site.reconfigure("port = 9\n", &format!("port = {}\n", smtp.port));
        site.reconfigure(
            "listen = \"127.0.0.1:0\"\npublic_url = \"https://login.example.com\"\n",
            &format!("listen = \"127.0.0.1:{port}\"\npublic_url = \"http://127.0.0.1:{port}\"\n"),
        );
        site.create_topics(2);
        site.start();
        site.wait_until_ready();
        Some(World {
            cluster,
            smtp,
            site,
            driver,
            axe,
        })
    }

    /// Plays the attack that `label` names against an account of its own; its address.
    fn attack(&self, label: &str, run: &str) -> String {
        let played = scenes(run, now(), Some(MALICIOUS.into()));
        let scene = played.iter().find(|scene| scene.label == label);
        let scene = scene.unwrap_or_else(|| panic!("no scene {label}"));
        let address = format!("{run}-{label}@example.com");
        let events: Vec<String> = scene
            .events
            .iter()
            .map(|event| {
                let mut event = event.clone();
                event["email"] = address.as_str().into();
                event.to_string()
            })
            .collect();
        let messages = events
            .iter()
            .map(|event| (scene.account.as_str(), event.as_str()));
        self.cluster.produce(&self.site.topic("events"), messages);
        address
    }

    /// The link with `answer` in the mail to `address`, as soon as the mail is there.
    fn link(&self, address: &str, answer: &str) -> String {
        let text = eventually(&format!("a mail to {address}"), PATIENCE, || {
            let mails = self.smtp.mails();
            let mail = mails.iter().find(|mail| mail.to == [address])?;
            Some(mail.parsed().body_text(0)?.into_owned())
        });
        let link = text
            .split_whitespace()
            .find(|word| word.ends_with(&format!("?answer={answer}")));
        link.unwrap_or_else(|| panic!("no link {answer} in:\n{text}"))
            .to_owned()
    }

    /// The commands about an account so far.
    fn commands(&self, run: &str, label: &str) -> Vec<String> {
        let account = format!("{}{run}/{label}", doorward::conform::PLAYED);
        let records = self.cluster.read_committed(&self.site.topic("commands"));
        records
            .iter()
            .filter(|record| record.key_text() == account)
            .filter_map(|record| record.json()["command"].as_str().map(str::to_owned))
            .collect()
    }

    fn wait_for_commands(&self, run: &str, label: &str, expected: &[&str]) {
        let what = format!("the commands {expected:?} for {label}");
        let seen = eventually(&what, PATIENCE, || {
            Some(self.commands(run, label)).filter(|seen| seen.len() >= expected.len())
        });
        assert_eq!(seen, expected);
    }

    /// Whoever checks the page: nothing that axe-core objects to, nothing wider than the
    /// screen, and a picture of it.
    fn look(&self, phone: &Browser<'_>, desk: &Browser<'_>, url: &str, name: &str) {
        assert!(!phone.scrolls_sideways(), "{name} is wider than a phone");
        phone.picture(&format!("{name}-phone"));
        desk.goto(url);
        assert_eq!(desk.violations(&self.axe), [""; 0], "{name}");
        desk.picture(name);
    }
}

fn now() -> Timestamp {
    doorward::publish::wall_clock()
}

fn free_port() -> u16 {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    socket.local_addr().expect("an address").port()
}

const ATTACKS: [&str; 4] = ["many-ips", "two-factor", "new-country", "malicious-reset"];

#[test]
fn an_owner_says_this_was_me_after_each_attack() {
    let Some(mut world) = World::start() else {
        return;
    };
    let (phone, desk) = (
        world.driver.open(Looks::Phone),
        world.driver.open(Looks::Desk),
    );
    for label in ATTACKS {
        let address = world.attack(label, "me");
        let link = world.link(&address, "me");
        phone.goto(&link);
        phone.wait_for("This was me");
        world.look(&phone, &desk, &link, &format!("me-{label}-1-question"));
        world.wait_for_commands("me", label, &["lock_account"]);
        if phone.count("input[name=place]") > 0 {
            phone.tab_to("input[name=place]");
            phone.press(SPACE);
        }
        phone.tab_to("form[action$='/me'] button");
        phone.press(ENTER);
        phone.wait_for("unlocked");
        assert!(phone.path().ends_with("/status"), "{}", phone.path());
        let shown = format!("{}{}", origin(&link), phone.path());
        world.look(&phone, &desk, &shown, &format!("me-{label}-2-unlocked"));
        world.wait_for_commands("me", label, &["lock_account", "unlock_account"]);
    }
    drop((phone, desk));
    assert!(world.site.terminate().success());
}

#[test]
fn an_owner_says_this_wasnt_me_after_each_attack() {
    let Some(mut world) = World::start() else {
        return;
    };
    let (phone, desk) = (
        world.driver.open(Looks::Phone),
        world.driver.open(Looks::Desk),
    );
    for label in ATTACKS {
        let address = world.attack(label, "not-me");
        let link = world.link(&address, "not-me");
        phone.goto(&link);
        phone.wait_for("This wasn’t me");
        world.look(&phone, &desk, &link, &format!("not-me-{label}-1-question"));
        phone.tab_to("form[action$='/not-me'] button");
        phone.press(ENTER);
        // The question speaks of a password, too.
        phone.wait_for("Your account is safe");
        let shown = format!("{}{}", origin(&link), phone.path());
        world.look(&phone, &desk, &shown, &format!("not-me-{label}-2-secured"));
        let commands = world.commands("not-me", label);
        for command in ["revoke_sessions", "require_password_change"] {
            assert!(commands.iter().any(|c| c == command), "{commands:?}");
        }
        assert!(!commands.iter().any(|c| c == "unlock_account"));
    }
    drop((phone, desk));
    assert!(world.site.terminate().success());
}

/// Scheme, host and port.
fn origin(url: &str) -> String {
    let url = url::Url::parse(url).expect("an address");
    url.origin().ascii_serialization()
}
