//! Children that end with us: whatever happens to the agent, no ssh of its own stays behind.

use std::ffi::OsStr;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

/// How long a child may take to end after TERM.
const GRACE: Duration = Duration::from_secs(1);

/// A command whose process ends when ours does, even after `kill -9`, and which ^C in our terminal
/// does not reach: the agent ends its children itself, in order.
///
/// On Linux the kernel sends the signal when the *thread* that spawned the child ends
/// (`PR_SET_PDEATHSIG`, prctl(2)). The agent's runtime has one thread, the main one, so that thread
/// is the process.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).process_group(0).kill_on_drop(true);
    // The service manager waits to hear from us, and not from what we run.
    for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] {
        command.env_remove(name);
    }
    die_with_parent(&mut command);
    command
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "there is no safe way to run something between fork and exec")]
fn die_with_parent(command: &mut Command) {
    let parent = rustix::process::getpid();
    let hook = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
        // The parent may have ended before the line above; then the signal will never come.
        if rustix::process::getppid() != Some(parent) {
            return Err(std::io::Error::from_raw_os_error(rustix::io::Errno::SRCH.raw_os_error()));
        }
        Ok(())
    };
    // SAFETY: the hook makes two system calls and allocates nothing, so it is safe between fork and
    // exec, where another thread may hold the allocator's lock.
    unsafe {
        command.pre_exec(hook);
    }
}

#[cfg(not(target_os = "linux"))]
fn die_with_parent(_: &mut Command) {}

/// Asks a child to end, and makes it end a second later.
pub async fn end(child: &mut Child) {
    signal(child, Signal::TERM);
    if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}

/// Sends a signal to a child that has not been reaped.
fn signal(child: &Child, signal: Signal) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended just now; then there is nothing to signal, which is what was wanted.
        let _ = kill_process(pid, signal);
    }
}
