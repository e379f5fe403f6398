//! Child processes and folders that never outlive the test run.
//!
//! A value dropped ends its process or removes its folder. A `static` is never dropped, and
//! a killed test binary drops nothing, so a keeper stands by each: a small shell that waits
//! on a pipe from this process and clears up when the pipe closes, however that came about.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::eventually;

/// A running child. Its output goes to `NAME.out` and `NAME.err` in the folder that it was
/// given; the end of both is shown where the test that holds it fails.
pub struct Process {
    name: String,
    child: Child,
    folder: PathBuf,
    keeper: Option<Keeper>,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts `command`. Its standard input is a pipe that stays open and empty.
    pub fn start(name: &str, folder: &Path, command: &mut Command) -> Process {
        let create = |suffix: &str| {
            let path = folder.join(format!("{name}.{suffix}"));
            File::options()
                .create(true)
                .append(true)
                .open(&path)
                .unwrap_or_else(|e| panic!("cannot write {}: {e}", path.display()))
        };
        let child = command
            .stdin(Stdio::piped())
            .stdout(create("out"))
            .stderr(create("err"))
            // Its own group, so that Ctrl-C at the terminal reaches the tests alone.
            .process_group(0)
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {name} ({command:?}): {e}"));
        let keeper = Keeper::new("kill -9 \"$1\"", &child.id().to_string());
        Process {
            name: name.to_owned(),
            child,
            folder: folder.to_owned(),
            keeper: Some(keeper),
            ended: None,
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to standard output so far.
    pub fn output(&self) -> String {
        self.read("out")
    }

    /// What it has written to standard error so far.
    pub fn errors(&self) -> String {
        self.read("err")
    }

    fn read(&self, suffix: &str) -> String {
        let path = self.folder.join(format!("{}.{suffix}", self.name));
        String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
    }

    /// The exit status, once it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
            if self.ended.is_some() {
                // The id is free for others from here on, so nothing may kill it later.
                self.keeper = None;
            }
        }
        self.ended
    }

    /// Waits for it to end by itself.
    #[track_caller]
    pub fn wait(&mut self, patience: Duration) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        eventually(&what, patience, || self.ended())
    }

    /// SIGKILL: it gets no chance to tidy up.
    pub fn kill(&mut self) {
        if self.ended().is_none() {
            // Fails only where it ended in between, which is what is wanted.
            let _ = self.child.kill();
            self.ended = self.child.wait().ok();
            self.keeper = None;
        }
    }

    /// SIGTERM, and the status with which it ends.
    #[track_caller]
    pub fn terminate(&mut self, patience: Duration) -> ExitStatus {
        self.signal("TERM");
        self.wait(patience)
    }

    /// Sends a signal such as `STOP`, unless it has ended.
    #[track_caller]
    pub fn signal(&mut self, name: &str) {
        if self.ended().is_some() {
            return;
        }
        let done = Command::new("kill")
            .args(["-s", name, &self.id().to_string()])
            .status()
            .unwrap_or_else(|e| panic!("cannot run kill: {e}"));
        assert!(
            done.success() || self.ended().is_some(),
            "cannot signal {}",
            self.name
        );
    }

    /// From now on it cannot write past this many bytes of any file.
    #[track_caller]
    pub fn limit_files(&self, bytes: u64) {
        let done = Command::new("prlimit")
            .arg(format!("--pid={}", self.id()))
            .arg(format!("--fsize={bytes}:"))
            .status()
            .unwrap_or_else(|e| panic!("cannot run prlimit: {e}"));
        assert!(done.success(), "cannot limit {}", self.name);
    }

    /// Memory that it holds, in KiB; `None` once it has ended.
    pub fn resident_kib(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let died_before = self.ended();
        self.kill();
        if std::thread::panicking() {
            eprintln!(
                "---- {} ({}), its last output:\n{}{}",
                self.name,
                died_before.map_or("was running".to_owned(), |status| status.to_string()),
                last_lines(&self.output()),
                last_lines(&self.errors()),
            );
        }
    }
}

/// Without what a site whose mail server is away repeats for each mail, and what every
/// broker says of its own logging.
fn last_lines(text: &str) -> String {
    let tells =
        |line: &&str| !line.contains("mail not accepted yet") && !line.starts_with("SLF4J: ");
    let lines: Vec<&str> = text.lines().filter(tells).collect();
    let from = lines.len().saturating_sub(60);
    lines[from..]
        .iter()
        .map(|line| format!("{line}\n"))
        .collect()
}

/// A folder of its own that is removed with this value, or else with the test run.
pub struct Folder {
    path: tempfile::TempDir,
    _keeper: Keeper,
}

impl Folder {
    pub fn new(stem: &str) -> Folder {
        let path = tempfile::Builder::new()
            .prefix(&format!("doorward-{stem}-"))
            .tempdir()
            .unwrap_or_else(|e| panic!("cannot make a temporary folder: {e}"));
        // Once is not enough where a process that is just being killed still writes there.
        let keeper = Keeper::new(
            "for i in 1 2 3 4 5; do rm -rf \"$1\" && break; sleep 1; done",
            &path.path().to_string_lossy(),
        );
        Folder {
            path,
            _keeper: keeper,
        }
    }

    pub fn path(&self) -> &Path {
        self.path.path()
    }
}

/// A shell that runs `script` with `argument` as `$1` when this process has ended without
/// dropping it.
struct Keeper {
    shell: Child,
}

impl Keeper {
    fn new(script: &str, argument: &str) -> Keeper {
        let shell = Command::new("sh")
            .args(["-c", &format!("read -r _; {script}"), "keeper", argument])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|e| panic!("cannot run sh: {e}"));
        Keeper { shell }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // Killed before its pipe closes, so that it does nothing.
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}
