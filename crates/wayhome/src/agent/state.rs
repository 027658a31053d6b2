//! What outlives an agent: the sessions that it recorded as its own, and the lock that keeps two
//! agents of one name apart.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use wayhome_core::link::Session;
use wayhome_core::name::Name;

use crate::error::{Failure, Outcome};
use crate::paths;

/// How many sessions are kept for each gateway; see `wayhome_core::link`.
const REMEMBERED: usize = 16;

/// Longer than anybody who only looks at the lock ([`Lock::look`]) keeps it: a file is removed.
const LOOK: Duration = Duration::from_millis(200);

/// The agent's folder and what is in it.
#[derive(Debug)]
pub struct State {
    file: PathBuf,
    sessions: Mutex<BTreeMap<String, Vec<Session>>>,
    /// Held as long as the agent runs; the kernel lets go of it with the process.
    _lock: File,
}

impl State {
    /// Opens the state of the agent with this name, and keeps every other agent out of it.
    pub fn open(name: &Name) -> Outcome<Self> {
        let dir = paths::state_dir()?;
        paths::private_dir(&dir)?;
        let lock = lock(&dir, name)?;
        let file = dir.join(format!("sessions-{name}.json"));
        let sessions = match read(&file) {
            Ok(sessions) => sessions,
            Err(error) => {
                tracing::warn!(
                    "the recorded sessions in `{}` cannot be read: {error}; beginning anew",
                    file.display()
                );
                BTreeMap::new()
            }
        };
        Ok(Self { file, sessions: Mutex::new(sessions), _lock: lock })
    }

    /// The sessions that were recorded at a gateway.
    pub fn sessions(&self, gateway: &str) -> Vec<Session> {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.get(gateway).cloned().unwrap_or_default()
    }

    /// Records one more, on disk, before the agent goes on.
    pub fn remember(&self, gateway: &str, session: Session) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = sessions.entry(gateway.to_owned()).or_default();
        kept.push(session);
        let surplus = kept.len().saturating_sub(REMEMBERED);
        kept.drain(..surplus);
        let written = serde_json::to_vec_pretty(&*sessions)
            .map_err(io::Error::from)
            .and_then(|text| paths::write_private(&self.file, &text));
        if let Err(error) = written {
            // The road works without; only after a crash a takeover would have to ask first.
            tracing::warn!("the session cannot be recorded in `{}`: {error}", self.file.display());
        }
    }
}

fn read(file: &Path) -> io::Result<BTreeMap<String, Vec<Session>>> {
    // Looked at before it is opened, which would wait for ever at a pipe.
    match fs::metadata(file) {
        Ok(meta) if meta.is_file() => Ok(serde_json::from_slice(&fs::read(file)?)?),
        Ok(_) => Err(io::Error::other("it is not a file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(error),
    }
}

/// The lock of an agent, as somebody else finds it.
#[derive(Debug)]
pub enum Lock {
    /// An agent has it.
    Held,
    /// No agent has it, and none gets it while this is kept.
    Free(#[allow(dead_code, reason = "it is kept, not read")] File),
    /// There is none here: this agent never ran, or its state lies elsewhere.
    Nowhere,
}

impl Lock {
    /// Looks at the lock of the agent with this name.
    pub fn look(name: &Name) -> Self {
        let file = paths::state_dir().ok().and_then(|dir| File::open(lock_path(&dir, name)).ok());
        let Some(file) = file else { return Self::Nowhere };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Self::Free(file),
            Err(rustix::io::Errno::WOULDBLOCK) => Self::Held,
            Err(_) => Self::Nowhere,
        }
    }
}

fn lock_path(dir: &Path, name: &Name) -> PathBuf {
    dir.join(format!("agent-{name}.lock"))
}

fn lock(dir: &Path, name: &Name) -> Outcome<File> {
    let path = lock_path(dir, name);
    let failed = |error: &io::Error| {
        Failure::new(format!("the lock `{}` cannot be opened", path.display())).because(error)
    };
    let options = File::options().create(true).truncate(false).write(true).open(&path);
    let file = options.map_err(|e| failed(&e))?;
    let deadline = Instant::now() + LOOK;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => {
                std::thread::sleep(LOOK / 10);
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(Failure::new(format!("an agent for `{name}` is running already"))
                    .hint(
                        "see `wayhome status`; another home on this machine needs another `name`",
                    ));
            }
            Err(error) => return Err(failed(&error.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_in_the_place_of_the_sessions_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sessions-home.json");
        assert!(read(&path).unwrap().is_empty());
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        assert_eq!(read(&path).unwrap_err().to_string(), "it is not a file");
    }
}
