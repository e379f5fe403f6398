//! The real program, on topics of its own.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Output};
use std::time::{Duration, Instant};

use super::kafka::Cluster;
use super::process::{Folder, Process};
use super::{PATIENCE, eventually};

/// A site: a configuration, its topics, and the process while one runs.
pub struct Doorward {
    // Before the folder, so that the end of its log can be shown.
    process: Option<Process>,
    folder: Folder,
    /// What all names of topics and the group begin with.
    pub prefix: String,
    starts: usize,
}

impl Doorward {
    /// Writes a configuration for `cluster` with topics of its own, which do not exist yet.
    /// `engine` is added to its `[engine]` section.
    pub fn new(cluster: &Cluster, engine: &str) -> Doorward {
        let folder = Folder::new("site");
        let prefix = cluster.unique("site");
        let keys = [
            ("state.key", "000102030405060708090a0b0c0d0e0f".to_owned()),
            ("link.key", "11".repeat(32)),
            ("answer.key", "22".repeat(32)),
        ];
        for (name, key) in keys {
            fs::write(folder.path().join(name), key).expect("a key written");
        }
        let topics: String = [
            "events",
            "commands",
            "decisions",
            "cases",
            "mail",
            "receipts",
            "state",
            "dead_letters",
        ]
        .iter()
        .map(|role| format!("{role} = \"{prefix}.{role}\"\n"))
        .collect();
        let text = format!(
            "[kafka]\n\
             brokers = \"{brokers}\"\n\
             group = \"{prefix}\"\n\
             instance = \"one\"\n\
             session_timeout = \"6s\"\n\
             [topics]\n{topics}\
             [engine]\n{engine}\n\
             [mail]\n\
             host = \"127.0.0.1\"\n\
             port = 9\n\
             security = \"none\"\n\
             from = \"Example <safety@example.com>\"\n\
             [web]\n\
             listen = \"127.0.0.1:0\"\n\
             public_url = \"https://login.example.com\"\n\
             [admin]\n\
             listen = \"127.0.0.1:0\"\n\
             [site]\n\
             name = \"Example\"\n\
             url = \"https://example.com\"\n\
             [keys]\n\
             state = {{ file = \"state.key\" }}\n\
             link = [{{ id = \"1\", file = \"link.key\" }}]\n\
             answer = [{{ id = \"1\", file = \"answer.key\" }}]\n\
             [log]\n\
             format = \"json\"\n",
            brokers = cluster.bootstrap(),
        );
        fs::write(folder.path().join("doorward.toml"), text).expect("a configuration written");
        Doorward {
            folder,
            prefix,
            starts: 0,
            process: None,
        }
    }

    /// One shard whose mails go to `port`, at work on topics of `partitions`.
    pub fn at_work_with_mail(cluster: &Cluster, port: u16, partitions: i32) -> Doorward {
        let mut site = Doorward::new(cluster, "shards = 1");
        site.reconfigure("port = 9\n", &format!("port = {port}\n"));
        site.create_topics(partitions);
        site.start();
        site.wait_until_ready();
        site
    }

    /// Another process with the same configuration, instance name included.
    pub fn twin(&self) -> Doorward {
        let folder = Folder::new("twin");
        for entry in fs::read_dir(self.folder.path()).expect("the site's folder") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|e| e == "key" || e == "toml") {
                let name = path.file_name().expect("a name");
                fs::copy(&path, folder.path().join(name)).expect("a copy");
            }
        }
        Doorward {
            folder,
            prefix: self.prefix.clone(),
            starts: 0,
            process: None,
        }
    }

    /// Another instance of the same group, which reaches the cluster at `brokers`.
    pub fn sibling(&self, instance: &str, brokers: &str) -> Doorward {
        let twin = self.twin();
        twin.set("instance", instance);
        twin.set("brokers", brokers);
        twin
    }

    /// Gives a text setting of the configuration another value.
    pub fn set(&self, name: &str, value: &str) {
        let text = fs::read_to_string(self.config()).expect("the configuration");
        let start = format!("{name} = ");
        let line = text.lines().find(|line| line.starts_with(&start));
        let line = line.unwrap_or_else(|| panic!("no setting {name}"));
        self.reconfigure(&format!("{line}\n"), &format!("{name} = \"{value}\"\n"));
    }

    /// The name of the topic that plays `role`.
    pub fn topic(&self, role: &str) -> String {
        format!("{}.{role}", self.prefix)
    }

    pub fn config(&self) -> PathBuf {
        self.folder.path().join("doorward.toml")
    }

    /// Replaces a line of the configuration.
    pub fn reconfigure(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.config()).expect("the configuration");
        assert!(text.contains(from), "{from}");
        fs::write(self.config(), text.replace(from, to)).expect("a configuration written");
    }

    /// Lets every rule lock as many accounts as it wants.
    pub fn lift_lock_budgets(&self) {
        for name in doorward::builtin::rules_file_names() {
            let text = doorward::builtin::rules_file(name).expect("a built-in file");
            let path = self.folder.path().join("rules").join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder made");
            let text = match text.contains("lock_account") {
                true => text.replace("\nthen:", "\nlock_budget: 1000000\nthen:"),
                false => text.to_owned(),
            };
            fs::write(path, text).expect("a rule written");
        }
        let folder = self.folder.path().join("rules");
        let dir = format!("[rules]\ndir = \"{}\"\n[mail]\n", folder.display());
        self.reconfigure("[mail]\n", &dir);
    }

    /// Runs a command with `--config` to its end.
    pub fn command(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_doorward"))
            .args(args)
            .arg("--config")
            .arg(self.config())
            .output()
            .expect("doorward can be run")
    }

    /// `doorward topics create`, which must work.
    pub fn create_topics(&self, partitions: i32) {
        let made = self.command(&["topics", "create", "--partitions", &partitions.to_string()]);
        assert!(
            made.status.success(),
            "topics were not made: {}",
            String::from_utf8_lossy(&made.stderr)
        );
    }

    /// `doorward run`, without waiting for anything.
    pub fn start(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        self.starts += 1;
        let name = format!("doorward-{}", self.starts);
        let mut command = Command::new(env!("CARGO_BIN_EXE_doorward"));
        command.arg("run").arg("--config").arg(self.config());
        self.process = Some(Process::start(&name, self.folder.path(), &mut command));
    }

    /// Waits until `/readyz` says that it can do its work.
    #[track_caller]
    pub fn wait_until_ready(&mut self) {
        self.wait_until_ready_for(PATIENCE);
    }

    /// The same, for at most so long.
    #[track_caller]
    pub fn wait_until_ready_for(&mut self, patience: Duration) {
        let deadline = Instant::now() + patience;
        loop {
            let answer = self.ask_readiness();
            if matches!(answer, Ok((200, _))) {
                return;
            }
            let site = &self.prefix;
            assert!(Instant::now() < deadline, "{site} is not ready: {answer:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until `/metrics` has a line that begins with `start` and ends with `value`.
    #[track_caller]
    pub fn wait_for_metric(&mut self, start: &str, value: &str) {
        let address = self.admin_address();
        eventually(&format!("{start} {value}"), PATIENCE, || {
            let mut answer = ureq::get(format!("http://{address}/metrics")).call().ok()?;
            let text = answer.body_mut().read_to_string().ok()?;
            let mut lines = text.lines();
            lines.find(|line| line.starts_with(start) && line.ends_with(&format!(" {value}")))?;
            Some(())
        });
    }

    /// All of `/metrics`.
    #[track_caller]
    pub fn metrics(&mut self) -> String {
        let address = self.admin_address();
        let mut answer = ureq::get(format!("http://{address}/metrics"))
            .call()
            .expect("metrics");
        answer.body_mut().read_to_string().expect("text")
    }

    #[track_caller]
    fn admin_address(&mut self) -> String {
        eventually("the admin listener's address", PATIENCE, || {
            let process = self.process.as_mut()?;
            if let Some(status) = process.ended() {
                panic!("doorward ended with {status}: {}", process.errors());
            }
            admin_address(&process.errors())
        })
    }

    /// What `/readyz` says: the status, and the reasons.
    #[track_caller]
    pub fn readiness(&mut self) -> (u16, String) {
        self.ask_readiness()
            .expect("an answer from the admin listener")
    }

    #[track_caller]
    fn ask_readiness(&mut self) -> Result<(u16, String), ureq::Error> {
        let address = self.admin_address();
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .build()
            .into();
        let mut answer = agent.get(format!("http://{address}/readyz")).call()?;
        let text = answer.body_mut().read_to_string()?;
        Ok((answer.status().as_u16(), text))
    }

    /// Sends the running process a signal such as `STOP`.
    #[track_caller]
    pub fn signal(&mut self, name: &str) {
        self.process
            .as_mut()
            .expect("a running process")
            .signal(name);
    }

    /// Memory that the running process holds, in KiB.
    pub fn resident_kib(&self) -> Option<u64> {
        self.process.as_ref()?.resident_kib()
    }

    /// The running process.
    pub fn id(&self) -> u32 {
        self.process.as_ref().expect("a running process").id()
    }

    pub fn is_running(&mut self) -> bool {
        self.process.is_some() && !self.has_ended()
    }

    /// What the running process has logged so far.
    pub fn log(&self) -> String {
        self.process
            .as_ref()
            .map(Process::errors)
            .unwrap_or_default()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.take().expect("a running process").kill();
    }

    /// SIGTERM, and how it ended.
    #[track_caller]
    pub fn terminate(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("a running process");
        process.terminate(PATIENCE)
    }

    pub fn has_ended(&mut self) -> bool {
        let process = self.process.as_mut();
        process.is_some_and(|process| process.ended().is_some())
    }

    /// Waits until it ends by itself: its status, and what it wrote to standard error.
    #[track_caller]
    pub fn wait(&mut self, patience: Duration) -> (ExitStatus, String) {
        let mut process = self.process.take().expect("a running process");
        let status = process.wait(patience);
        (status, process.errors())
    }
}

/// From the log line that says where it listens.
fn admin_address(log: &str) -> Option<String> {
    log.lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find_map(|line| Some(line.get("admin")?.as_str()?.to_owned()))
}
