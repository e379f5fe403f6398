//! A call that never returns: the process ends, and says why.

use std::fs;
use std::time::Duration;

use crate::support::doorward::Doorward;
use crate::support::{PATIENCE, eventually, kafka};

/// The watchdog's patience, and a little.
const WATCHED: Duration = Duration::from_secs(75);

#[test]
fn a_shard_that_never_returns_from_a_call_ends_the_process_with_three() {
    let Some(cluster) = kafka::shared() else {
        return;
    };
    let mut site = Doorward::new(cluster, "shards = 1");
    site.create_topics(1);
    site.start();
    site.wait_until_ready();
    // To everything around it, a thread that is stopped for ever is in such a call.
    stop_thread(site.id(), "shard-0");
    let (status, said) = site.wait(WATCHED);
    assert_eq!(status.code(), Some(3), "{said}");
    assert!(said.contains("hangs in a call"), "{said}");
}

/// Stops one thread of a child process, while its others run, until the child ends.
fn stop_thread(process: u32, name: &str) {
    let what = format!("a thread {name}");
    let thread = eventually(&what, PATIENCE, || thread_of(process, name));
    // Who stops a thread must be there for its end, or the child never ends.
    std::thread::spawn(move || {
        ptrace(libc::PTRACE_SEIZE, thread);
        ptrace(libc::PTRACE_INTERRUPT, thread);
        wait_for_end(thread);
    });
}

fn thread_of(process: u32, name: &str) -> Option<libc::pid_t> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).ok()?;
    threads.filter_map(Result::ok).find_map(|thread| {
        let called = fs::read_to_string(thread.path().join("comm")).ok()?;
        (called.trim_end() == name).then(|| thread.file_name().to_str()?.parse().ok())?
    })
}

#[allow(unsafe_code, reason = "libc has the only call that waits for a thread")]
fn wait_for_end(thread: libc::pid_t) {
    let mut status = 0;
    loop {
        // SAFETY: `status` is ours.
        let found = unsafe { libc::waitpid(thread, &raw mut status, libc::__WALL) };
        if found < 0 || libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
            return;
        }
    }
}

#[allow(unsafe_code, reason = "libc has the only call that stops one thread")]
fn ptrace(request: libc::c_uint, thread: libc::pid_t) {
    let nothing = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: neither request reads or writes memory.
    let done = unsafe { libc::ptrace(request, thread, nothing, nothing) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}
