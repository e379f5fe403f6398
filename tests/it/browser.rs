//! The owner's journey as an owner makes it: a real service on a real Kafka, a mail that a
//! real SMTP server took, and a real browser on a phone's screen, without scripts, by keyboard
//! alone. Every mail and page is checked with axe-core and photographed, light and dark.

mod answers;
mod guide;
mod links;
mod recovery;

use std::cell::Cell;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use doorward::conform::play::scenes;
use doorward::event::Timestamp;
use serde_json::{Value, json};

use crate::support::browser::{Browser, Driver, ENTER, Kind, Looks, Scheme};
use crate::support::doorward::Doorward;
use crate::support::kafka::{self, Cluster};
use crate::support::smtp::{Behaviour, ReceivedMail, SmtpServer};
use crate::support::{PATIENCE, eventually, service};

const MALICIOUS: [u8; 4] = [198, 51, 100, 7];

/// What a finger hits without trying, in CSS pixels.
const FINGER: f64 = 44.0;

/// Everything that a journey passes.
struct World {
    cluster: &'static Cluster,
    smtp: SmtpServer,
    site: Doorward,
    driver: Driver,
    axe: PathBuf,
    /// Tells this journey's accounts and pictures from any other's.
    name: &'static str,
    language: &'static str,
}

/// Whose account it is.
struct Owner {
    account: String,
    address: String,
}

impl World {
    /// `None` where a part is not installed.
    fn start(name: &'static str, language: &'static str) -> Option<World> {
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
        site.reconfigure(
            "[keys]\n",
            "password_url = \"https://example.com/password\"\n\
             two_factor_url = \"https://example.com/security\"\n\
             payouts_url = \"https://example.com/payouts\"\n\
             support_url = \"https://example.com/support\"\n\
             support_email = \"support@example.com\"\n\
             [keys]\n",
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
            name,
            language,
        })
    }

    /// Plays the attack that `label` names against an account of its own.
    fn attack(&self, label: &str) -> Owner {
        let played = scenes(self.name, now(), Some(MALICIOUS.into()));
        let scene = played.into_iter().find(|scene| scene.label == label);
        let scene = scene.unwrap_or_else(|| panic!("no scene {label}"));
        let owner = Owner {
            address: format!("{}-{label}@example.com", self.name),
            account: scene.account,
        };
        for event in scene.events {
            self.publish(&owner, event);
        }
        owner
    }

    /// An event about the account of `owner`, as the login pipeline publishes it.
    fn publish(&self, owner: &Owner, mut event: Value) {
        event["account"] = owner.account.as_str().into();
        event["email"] = owner.address.as_str().into();
        event["locale"] = self.language.into();
        event["user_agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 \
                               Firefox/145.0"
            .into();
        if event["time"].is_null() {
            event["time"] = now().0.into();
            event["id"] = format!("{}-{}", owner.account, event["type"]).into();
        }
        let message = (owner.account.as_str(), event.to_string());
        let topic = self.site.topic("events");
        self.cluster
            .produce(&topic, [(message.0, message.1.as_str())]);
    }

    /// The `nth` mail that `owner` got, counted from 1, as soon as it is there.
    fn mail(&self, owner: &Owner, nth: usize) -> ReceivedMail {
        let what = format!("mail {nth} to {}", owner.address);
        eventually(&what, PATIENCE, || {
            let mut mails = self.smtp.mails();
            mails.retain(|mail| mail.to == [owner.address.as_str()]);
            mails.into_iter().nth(nth - 1)
        })
    }

    /// The commands about an account so far.
    fn commands(&self, owner: &Owner) -> Vec<Value> {
        let records = self.cluster.read_committed(&self.site.topic("commands"));
        let mine = records
            .iter()
            .filter(|record| record.key_text() == owner.account);
        mine.map(kafka::Record::json).collect()
    }

    /// Waits until the pipeline can read as many commands as are expected, which must be these.
    #[track_caller]
    fn wait_for_commands(&self, owner: &Owner, expected: &[&str]) {
        let what = format!("the commands {expected:?} for {}", owner.account);
        let seen = eventually(&what, PATIENCE, || {
            Some(self.commands(owner)).filter(|seen| seen.len() >= expected.len())
        });
        let seen: Vec<&str> = seen
            .iter()
            .map(|c| c["command"].as_str().unwrap())
            .collect();
        assert_eq!(seen, expected);
    }

    /// The reference of the owner's case.
    fn case(&self, owner: &Owner) -> String {
        let commands = self.commands(owner);
        let case = commands.iter().find_map(|command| command["case"].as_str());
        case.expect("a command of a case").to_owned()
    }

    fn end(mut self) {
        assert!(self.site.terminate().success());
    }
}

/// A person with a phone, and whoever checks what stands on it.
struct Visit<'w> {
    phone: Browser<'w>,
    desk: Browser<'w>,
    axe: &'w Path,
    name: &'static str,
    pictures: Cell<usize>,
}

impl<'w> Visit<'w> {
    fn of(driver: &'w Driver, axe: &'w Path, name: &'static str, language: &str) -> Visit<'w> {
        Visit {
            phone: driver.open(Looks::Phone, language),
            desk: driver.open(Looks::Desk, language),
            axe,
            name,
            pictures: Cell::new(0),
        }
    }

    /// Opens a mail as the phone's mail program shows it.
    fn open_mail(&self, mail: &ReceivedMail, what: &str) {
        let mail = mail.parsed();
        let html = mail.body_html(0).expect("a mail in HTML");
        self.phone.show(&html);
        self.desk.show(&html);
        self.check(what, Kind::Mail);
    }

    /// Presses the mail's button whose link ends in `answer`.
    #[track_caller]
    fn press_link(&self, answer: &str) {
        self.press(&format!("a[href$='{answer}']"));
    }

    /// Goes to what `css` selects by the keyboard alone, and presses it.
    #[track_caller]
    fn press(&self, css: &str) {
        self.phone.tab_to(css);
        self.phone.press(ENTER);
    }

    /// Waits until the page on the phone says `words`, and checks that page.
    #[track_caller]
    fn sees(&self, words: &str, what: &str) {
        self.phone.wait_for(words);
        self.desk.goto(&self.phone.url());
        self.check(what, Kind::Page);
    }

    /// Waits until events have ticked off the step that `css` selects, looking again by the
    /// page's own link.
    #[track_caller]
    fn looks_again_until(&self, css: &str) {
        eventually(css, PATIENCE, || {
            if self.phone.count(css) > 0 {
                return Some(());
            }
            self.press(".stand a");
            self.phone.wait_for("k-");
            None
        });
    }

    /// Nothing that axe-core objects to, nothing wider than the screen, nothing too small for
    /// a finger; and pictures of it all.
    #[track_caller]
    fn check(&self, what: &str, kind: Kind) {
        let nth = self.pictures.get() + 1;
        self.pictures.set(nth);
        let name = format!("{}-{nth:02}-{what}", self.name);
        assert!(
            !self.phone.scrolls_sideways(),
            "{name} is wider than a phone"
        );
        let small = self
            .phone
            .lower_than(FINGER, ".button, button, summary, label.tick");
        assert_eq!(small, [""; 0], "{name}: lower than a finger needs");
        for scheme in Scheme::ALL {
            for (browser, on) in [(&self.phone, "phone"), (&self.desk, "desk")] {
                browser.prefer(scheme);
                browser.picture(&format!("{name}-{on}-{}", scheme.name()));
            }
            let found = self.desk.violations(self.axe, kind);
            assert_eq!(found, [""; 0], "{name}, {}", scheme.name());
        }
    }
}

/// Opens a [`Visit`] of the world's browser: two fields are borrowed, the site stays free.
macro_rules! visit {
    ($world:ident) => {
        crate::browser::Visit::of(&$world.driver, &$world.axe, $world.name, $world.language)
    };
}
use visit;

fn now() -> Timestamp {
    doorward::publish::wall_clock()
}

fn free_port() -> u16 {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    socket.local_addr().expect("an address").port()
}

/// An event of this type that has nothing more to say.
fn event(kind: &str) -> Value {
    json!({ "type": kind })
}
