//! A `wayhome` of a trial that runs until it is ended: the agent, the gateway.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use wayhome_lab::{Here, Host, process};

use super::program;
use crate::error::{Failure, Outcome};
use crate::{paths, report};

/// How long it may take to end in order.
const GRACE: Duration = Duration::from_secs(5);

/// A process; ended in order when it is dropped.
pub struct Daemon {
    who: &'static str,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts it in a seat's folder, in which its configuration lies.
    pub fn start(seat: &Path, args: &[&str], config: &str, who: &'static str) -> Outcome<Self> {
        let failed = |error: &std::io::Error| {
            Failure::new(format!("{who} cannot be started")).because(error)
        };
        let log = seat.join(config).with_extension("log");
        let run = seat.join("run");
        paths::private_dir(&run)?;
        let child = Here
            .command(OsStr::new(&program()?))
            .args(args)
            .arg("--config")
            .arg(seat.join(config))
            .env("STATE_DIRECTORY", seat.join("state"))
            .env("RUNTIME_DIRECTORY", &run)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).map_err(|e| failed(&e))?)
            .spawn()
            .map_err(|e| failed(&e))?;
        Ok(Self { who, child, log })
    }

    /// The number of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it runs no more.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Ends it at once (kill -9).
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// A failure of which it may know more: shows the end of its log.
    pub fn failure(&self, why: String) -> Failure {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let who = self.who;
        report::note(format!("what {who} said last:\n  {}", last_words(&log)));
        Failure::new(why).hint("what is shown above tells what to mend")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if !self.has_ended() {
            process::signal(self.child.id(), Signal::TERM);
            let deadline = Instant::now() + GRACE;
            while Instant::now() < deadline && !self.has_ended() {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        self.kill();
    }
}

/// The end of a log: its error, if it ended with one.
fn last_words(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let error = lines.iter().rposition(|line| line.starts_with("error: "));
    let from = error.unwrap_or(lines.len().saturating_sub(5));
    lines.into_iter().skip(from).collect::<Vec<_>>().join("\n  ")
}
