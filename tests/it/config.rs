//! The configuration: what it means, and what is said about every mistake in it.

use std::path::Path;
use std::time::Duration;

use doorward::config::{Config, LogFormat, MailSecurity, written};
use doorward::document::{Diagnostics, render_all};
use tempfile::TempDir;

const DOCUMENTED: &str = include_str!("../../doorward.toml");

/// 16 and 32 bytes, in hexadecimal and in base64.
const STATE_KEY: &str = "000102030405060708090a0b0c0d0e0f";
const LINK_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const ANSWER_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// The seed of an Ed25519 key, in base64.
const DKIM_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

fn env(name: &str) -> Option<String> {
    let value = match name {
        "HOSTNAME" => "machine-7",
        "DOORWARD_STATE_KEY" => STATE_KEY,
        "DOORWARD_LINK_KEY" => LINK_KEY,
        "DOORWARD_ANSWER_KEY" => ANSWER_KEY,
        "DOORWARD_DKIM_KEY" => DKIM_KEY,
        "DOORWARD_KAFKA_PASSWORD" | "DOORWARD_KAFKA_KEY_PASSWORD" | "DOORWARD_SMTP_PASSWORD" => {
            "hunter2\n"
        }
        _ => return None,
    };
    Some(value.to_owned())
}

/// Reads `text` as `doorward.toml` in a folder with `files`; the folder's name is taken out
/// of what is said.
fn read(text: &str, files: &[(&str, &str)]) -> (Option<Config>, String, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    // What the documented examples name.
    std::fs::create_dir(folder.path().join("locale")).expect("a folder");
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).expect("written");
    }
    let path = folder.path().join("doorward.toml");
    std::fs::write(&path, text).expect("written");
    let (config, found) = written::read(&path, &env);
    let said = said(&found, folder.path());
    (config, said, folder)
}

fn said(found: &Diagnostics, folder: &Path) -> String {
    render_all(found, false).replace(&format!("{}/", folder.display()), "")
}

fn mistakes(text: &str) -> String {
    let (config, said, _folder) = read(text, &[]);
    assert!(config.is_none(), "this should be refused:\n{text}");
    said
}

/// What `doorward.toml` documents, with `[section]` extended by `lines`.
fn with(section: &str, lines: &str) -> String {
    let header = format!("[{section}]\n");
    assert!(DOCUMENTED.contains(&header), "{section}");
    DOCUMENTED.replace(&header, &format!("{header}{lines}\n"))
}

fn config(text: &str) -> Config {
    let (config, said, _folder) = read(text, &[]);
    config.unwrap_or_else(|| panic!("{said}"))
}

/// `#name = …` and `# name = …` lines of the documentation, made settings.
fn uncommented(mark: &str) -> String {
    let setting = |line: &str| {
        let rest = line.strip_prefix(mark)?;
        let (name, _) = rest.split_once(" = ")?;
        let is_name = |c: char| c.is_ascii_lowercase() || "\"._".contains(c);
        name.chars().all(is_name).then(|| rest.to_owned())
    };
    DOCUMENTED
        .lines()
        .map(|line| setting(line).unwrap_or_else(|| line.to_owned()))
        .fold(String::new(), |text, line| text + &line + "\n")
}

#[test]
fn the_documented_file_is_a_configuration_without_mistakes() {
    let (config, said, _folder) = read(DOCUMENTED, &[]);
    assert_eq!(said, "");
    let config = config.expect("nothing was said");
    assert_eq!(config.kafka.instance, "machine-7");
    assert_eq!(config.keys.state[15], 15);
    assert_eq!(config.keys.link[0].bytes, config.keys.answer[0].bytes);
    assert!(config.kafka.transactions);
}

#[test]
fn each_documented_default_is_the_default() {
    let with_defaults = uncommented("#");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("doorward.toml");
    let read = |text: &str| {
        std::fs::write(&path, text).expect("written");
        let (config, found) = written::read(&path, &env);
        format!(
            "{:#?}",
            config.unwrap_or_else(|| panic!("{}", render_all(&found, false)))
        )
    };
    assert_ne!(with_defaults, DOCUMENTED);
    assert_eq!(read(&with_defaults), read(DOCUMENTED));
}

#[test]
fn each_documented_example_is_valid_and_changes_something() {
    let all = uncommented("# ");
    let config = config(&all);
    assert_eq!(config.kafka.instance, "doorward-1");
    assert_eq!(config.kafka.properties["sasl.mechanism"], "SCRAM-SHA-512");
    assert_eq!(config.kafka.secrets["sasl.password"].expose(), "hunter2");
    assert_eq!(config.mail.login.as_ref().expect("a login").0, "doorward");
    assert_eq!(config.mail.dkim.expect("a key").selector, "doorward");
    assert!(config.rules_dir.is_some() && config.geoip.previous.is_some());
}

#[test]
fn every_setting_that_is_read_is_documented() {
    let mut section = "";
    let mut documented = Vec::new();
    for line in DOCUMENTED.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
            documented.push(section.to_owned());
        } else if let Some((name, _)) = line.split_once(" = ") {
            let name = name.trim_start_matches("# ").trim_start_matches('#');
            documented.push(format!("{section}.{name}"));
        }
    }
    let missing: Vec<String> = written::settings()
        .into_iter()
        .filter(|setting| !documented.contains(setting))
        .collect();
    assert_eq!(missing, [""; 0]);
}

#[test]
fn an_empty_file_is_told_everything_that_it_needs() {
    insta::assert_snapshot!(mistakes(""));
}

#[test]
fn all_mistakes_are_said_at_once_each_at_its_place() {
    insta::assert_snapshot!(mistakes(
        r##"
[kafka]
brokers = 9092
grup = "typo"
session_timeout = "1min"
transaction_timeout = 5

[topics]
events = "auth events"
state = "doorward.mail"

[engine]
shards = 0
commit_every = "5ms"
max_lateness = "soon"

[mail]
host = "  "
security = "ssl"
port = 70000
from = "nobody"
user = "someone"

[web]
listen = "8080"
public_url = "account-safety.example.com"

[site]
name = "Example"
url = "https://exa mple.com"
support_email = "Help <help@example.com>"

[log]
filter = "doorward=loud"
format = "yaml"

[kees]
"##
    ));
}

#[test]
fn a_setting_in_the_wrong_place_or_of_the_wrong_kind_is_named() {
    insta::assert_snapshot!(mistakes(&format!(
        "brokers = \"a:1\"\nadmin = \"127.0.0.1:1\"\n{}",
        DOCUMENTED.replace("[admin]", "[unused]")
    )));
}

#[test]
fn what_is_no_toml_is_shown_where_it_breaks() {
    insta::assert_snapshot!(mistakes(
        "[kafka]\nbrokers = localhost:9092\ngroup = \"a\ninstance = 'b'\n[mail\n"
    ));
}

#[test]
fn a_missing_file_is_named() {
    let error = written::load(Path::new("no/such/doorward.toml")).expect_err("it is not there");
    insta::assert_snapshot!(render_all(&error, false));
}

#[test]
fn a_secret_in_the_file_is_refused_and_never_shown() {
    let secret = "hunter2-and-more";
    let cases = [
        with(
            "kafka.secrets",
            &format!("\"sasl.password\" = \"{secret}\""),
        ),
        with(
            "kafka.properties",
            &format!("\"sasl.password\" = \"{secret}\""),
        ),
        with("kafka.properties", &format!("ssl.key.pem = \"{secret}\"")),
        with(
            "kafka.properties",
            &format!("\"ssl.key.pem\" = \"\"\"\nBEGIN\n{secret}\n\"\"\""),
        ),
        with("mail", &format!("user = \"a\"\npassword = \"{secret}\"")),
        with(
            "mail",
            &format!("user = \"a\"\npassword = {{ value = \"{secret}\" }}"),
        ),
        with("mail", &format!("user = \"a\"\npassword = \"{secret}")),
        with("mail", &format!("user = \"a\"\npassword = [\"{secret}\"]")),
        DOCUMENTED.replace("{ env = \"DOORWARD_STATE_KEY\" }", &format!("\"{secret}\"")),
        DOCUMENTED.replace(
            "env = \"DOORWARD_LINK_KEY\"",
            &format!("key = \"{secret}\""),
        ),
        DOCUMENTED.replace(
            "[{ id = \"1\", env = \"DOORWARD_ANSWER_KEY\" }]",
            &format!("[\"{secret}\"]"),
        ),
    ];
    let mut all = String::new();
    for text in &cases {
        let said = mistakes(text);
        assert!(!said.contains("hunter2"), "{said}");
        all += &said;
        all += "\n\n----\n\n";
    }
    insta::assert_snapshot!(all);
}

#[test]
fn a_secret_file_is_named_and_its_content_is_not() {
    let text = DOCUMENTED
        .replace(
            "{ env = \"DOORWARD_STATE_KEY\" }",
            "{ file = \"state.key\" }",
        )
        .replace("env = \"DOORWARD_LINK_KEY\"", "file = \"link.key\"")
        .replace("env = \"DOORWARD_ANSWER_KEY\"", "env = \"NOT_SET\"")
        .replace(
            "[mail]\n",
            "[mail]\nuser = \"a\"\npassword = { file = \"gone\", env = \"X\" }\n",
        )
        .replace(
            "[kafka.secrets]\n",
            "[kafka.secrets]\nsasl.password = { file = \"empty\" }\n",
        );
    let files = [
        ("state.key", "00112233445566778899\n"),
        ("link.key", "not a key, but a secret all the same\n"),
        ("empty", "\n"),
    ];
    let (config, said, _folder) = read(&text, &files);
    assert!(config.is_none());
    for content in ["0011", "not a key"] {
        assert!(!said.contains(content), "{said}");
    }
    insta::assert_snapshot!(said);
}

#[test]
fn secrets_come_from_files_beside_the_configuration_in_hexadecimal_or_base64() {
    let text = DOCUMENTED
        .replace(
            "{ env = \"DOORWARD_STATE_KEY\" }",
            "{ file = \"state.key\" }",
        )
        .replace(
            "{ id = \"1\", env = \"DOORWARD_LINK_KEY\" }",
            "{ id = \"new\", file = \"link.key\" }, { id = \"old\", env = \"DOORWARD_LINK_KEY\" }",
        );
    let url_safe = "__79_Pv6-fj39vX08_Lx8O_u7ezr6uno5-bl5OPi4eA";
    let files = [
        ("state.key", "AAECAwQFBgcICQoLDA0ODw==\r\n"),
        ("link.key", url_safe),
    ];
    let (config, said, _folder) = read(&text, &files);
    let config = config.unwrap_or_else(|| panic!("{said}"));
    assert_eq!(config.keys.state[..3], [0, 1, 2]);
    assert_eq!(config.keys.link[0].id, "new");
    assert_eq!(config.keys.link[0].bytes[0], 0xFF);
    assert_eq!(config.keys.link[1].id, "old");
}

#[test]
fn a_debug_print_of_the_configuration_shows_no_secret() {
    let text = with(
        "mail",
        "user = \"a\"\npassword = { env = \"DOORWARD_SMTP_PASSWORD\" }",
    );
    let printed = format!("{:?}", config(&text));
    assert!(!printed.contains("hunter2"), "{printed}");
}

#[test]
fn settings_of_librdkafka_are_passed_on_but_for_those_that_doorward_owns() {
    let text = with(
        "kafka.properties",
        "security.protocol = \"ssl\"\n\"socket.keepalive.enable\" = true\n\
         fetch.max.bytes = 1000000\n",
    );
    let properties = config(&text).kafka.properties;
    assert_eq!(properties["security.protocol"], "ssl");
    assert_eq!(properties["socket.keepalive.enable"], "true");
    assert_eq!(properties["fetch.max.bytes"], "1000000");

    insta::assert_snapshot!(mistakes(&with(
        "kafka.properties",
        "\"isolation.level\" = \"read_uncommitted\"\ngroup.id = \"x\"\n\
         \"enable.auto.commit\" = true\n\"debug\" = [\"all\"]\n",
    )));
}

#[test]
fn a_transaction_must_end_before_its_session() {
    insta::assert_snapshot!(mistakes(&with(
        "kafka",
        "session_timeout = \"10s\"\ntransaction_timeout = \"10s\"",
    )));
}

#[test]
fn mail_without_encryption_is_for_this_machine() {
    let local = DOCUMENTED.replace("host = \"smtp.example.com\"", "host = \"127.0.0.1\"");
    let local = local.replace("[mail]\n", "[mail]\nsecurity = \"none\"\n");
    let (config, said, _folder) = read(&local, &[]);
    let mail = config.expect("it is fine").mail;
    assert_eq!(
        (mail.security, mail.port, said.as_str()),
        (MailSecurity::None, 25, "")
    );

    let (config, said, _folder) = read(&with("mail", "security = \"none\""), &[]);
    assert!(
        config.is_some(),
        "a relay in one's own network is a warning"
    );
    assert!(
        said.contains("warning: mails, and the links in them"),
        "{said}"
    );

    let login =
        "security = \"none\"\nuser = \"a\"\npassword = { env = \"DOORWARD_SMTP_PASSWORD\" }";
    assert!(mistakes(&with("mail", login)).contains("error: mails, and the links in them"));
}

#[test]
fn settings_mean_what_they_say() {
    let text = with("mail", "security = \"tls\"\ntimeout = \"90s\"")
        .replace(
            "[log]\n",
            "[log]\nformat = \"json\"\nfilter = \"warn,doorward::shard=debug\"\n",
        )
        .replace(
            "\"https://account-safety.example.com\"",
            "\"https://a.example.com/safe/\"",
        )
        .replace("[rules]\n", "[rules]\ndir = \"our/rules\"\n");
    let (config, said, folder) = read(&text, &[]);
    let config = config.unwrap_or_else(|| panic!("{said}"));
    assert_eq!(config.mail.port, 465);
    assert_eq!(config.mail.timeout, Duration::from_secs(90));
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.web.public_url, "https://a.example.com/safe");
    assert_eq!(config.rules_dir, Some(folder.path().join("our/rules")));
}
