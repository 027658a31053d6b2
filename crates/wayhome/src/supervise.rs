//! Children that end with us: whatever happens to the agent, no ssh of its own stays behind. And what
//! a child has to say is bounded, in time and in bytes: it may pass on a stranger's words.

use std::ffi::OsStr;
use std::io;
use std::pin::pin;
use std::process::{Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// How long a child may take to end after TERM.
const GRACE: Duration = Duration::from_secs(1);

/// The most that a child may say on one of its outputs: `ssh -G` says a few thousand bytes, and a
/// `known_hosts` file has a few lines about one server.
const MOST: u64 = 1024 * 1024;

/// How long a program may take that only looks at files of this machine.
pub const LOCAL: Duration = Duration::from_secs(5);

/// How long to wait for what a child wrote just before it ended. What it started may hold its
/// outputs open for longer.
const LAST_WORDS: Duration = Duration::from_millis(100);

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
            return Err(io::Error::from_raw_os_error(rustix::io::Errno::SRCH.raw_os_error()));
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

/// Runs a command to its end, and gives what it said. One that takes longer, or says more than
/// [`MOST`], is ended, and so is all that it started; so it is when nobody waits for it any more.
pub async fn output(command: &mut Command, patience: Duration) -> io::Result<Output> {
    collect(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?, patience).await
}

/// The same, of a child that runs already.
pub async fn collect(mut child: Child, patience: Duration) -> io::Result<Output> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    // It ends before the child is dropped, which would end the child alone.
    let mut group = Group(pid(&child));
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let work = async {
        let mut said =
            pin!(async { tokio::try_join!(read(stdout, &mut out), read(stderr, &mut err)) });
        tokio::select! {
            said = &mut said => {
                said?;
                let status = child.wait().await;
                group.0 = None;
                status
            }
            status = child.wait() => {
                group.0 = None;
                match timeout(LAST_WORDS, said).await {
                    Ok(Err(error)) => Err(error),
                    Ok(Ok(_)) | Err(_) => status,
                }
            }
        }
    };
    match timeout(patience, work).await {
        Ok(status) => Ok(Output { status: status?, stdout: out, stderr: err }),
        Err(_) => {
            let why = format!("it did not end within {} s", patience.as_secs());
            Err(io::Error::new(io::ErrorKind::TimedOut, why))
        }
    }
}

async fn read(from: Option<impl AsyncRead + Unpin>, said: &mut Vec<u8>) -> io::Result<()> {
    if let Some(from) = from {
        from.take(MOST + 1).read_to_end(said).await?;
    }
    if u64::try_from(said.len()).is_ok_and(|len| len <= MOST) {
        return Ok(());
    }
    let why = format!("it said more than {} KiB", MOST / 1024);
    Err(io::Error::new(io::ErrorKind::FileTooLarge, why))
}

/// A child that has not been reaped, and all that it started, which are ended with this.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // They have nothing to put in order: they only looked.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

/// Asks a child and all that it started to end, and makes it end a second later.
pub async fn end(child: &mut Child) {
    signal(child, Signal::TERM);
    if timeout(GRACE, child.wait()).await.is_err() {
        signal(child, Signal::KILL);
        let _ = child.kill().await;
    }
}

/// Sends a signal to the group that a child leads, if it has not been reaped.
fn signal(child: &Child, signal: Signal) {
    if let Some(leader) = pid(child) {
        // It may have ended just now; then there is nothing to signal, which is what was wanted.
        let _ = kill_process_group(leader, signal);
    }
}

fn pid(child: &Child) -> Option<Pid> {
    child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    const LONG: Duration = Duration::from_secs(20);

    fn shell(script: &str) -> Command {
        let mut shell = command("sh");
        shell.args(["-c", script]);
        shell
    }

    fn runs(pid: &str) -> bool {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !state.is_empty() && !state.contains(") Z ")
    }

    #[tokio::test]
    async fn gives_what_was_said_on_both_outputs() {
        let said = output(&mut shell("echo one; echo two >&2; exit 3"), LONG).await.unwrap();
        assert_eq!((said.stdout, said.stderr), (b"one\n".to_vec(), b"two\n".to_vec()));
        assert_eq!(said.status.code(), Some(3));
    }

    #[tokio::test]
    async fn a_flood_is_not_collected() {
        let began = Instant::now();
        let error = output(&mut shell("exec yes >&2"), LONG).await.unwrap_err();
        assert!(error.to_string().contains("more than 1024 KiB"), "{error}");
        assert!(began.elapsed() < LONG / 2);
    }

    #[tokio::test]
    async fn what_does_not_end_is_ended_with_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let script = format!("sleep 300 & echo $! > {}; wait", file.display());
        let error = output(&mut shell(&script), Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let pid = std::fs::read_to_string(&file).unwrap();
        wayhome_lab::assert_eventually!(!runs(pid.trim()), within = LONG, "{pid}");
    }

    #[tokio::test]
    async fn who_holds_the_outputs_open_is_not_waited_for() {
        let began = Instant::now();
        let said = output(&mut shell("sleep 60 & echo $!"), LONG).await.unwrap();
        assert!(said.status.success() && began.elapsed() < LONG / 2);
        let sleeps = String::from_utf8(said.stdout).unwrap().trim().parse().unwrap();
        rustix::process::kill_process(Pid::from_raw(sleeps).unwrap(), Signal::KILL).unwrap();
    }
}
