//! What SIGHUP says: to a daemon, that its configuration is to be read again; to a program in a
//! terminal, that the terminal is gone.

use std::fs;
use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What was meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hangup {
    /// Read the configuration again.
    Reload,
    /// The terminal that the agent was started in is gone: end, as `ssh` would.
    TerminalGone,
}

/// The signals as they come.
#[derive(Debug)]
pub struct Hangups {
    /// `None` if whoever started us had it ignored (`nohup`), which is then respected.
    signals: Option<Signal>,
    had_terminal: bool,
}

impl Hangups {
    /// Begins to listen.
    pub fn listen() -> io::Result<Self> {
        let signals = if is_ignored() { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self { signals, had_terminal: has_terminal() })
    }

    /// The next one.
    pub async fn next(&mut self) -> Hangup {
        match &mut self.signals {
            Some(signals) => {
                signals.recv().await;
            }
            None => std::future::pending().await,
        }
        if self.had_terminal && !has_terminal() { Hangup::TerminalGone } else { Hangup::Reload }
    }
}

fn has_terminal() -> bool {
    fs::File::open("/dev/tty").is_ok()
}

/// Whether SIGHUP was ignored when we began (`SigIgn` in proc(5): a mask in which bit 0 is signal 1).
fn is_ignored() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 == 1)
}
