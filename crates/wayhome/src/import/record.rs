//! What a switch has done so far, on disk: for the terminal that watches it, for whoever asks later
//! (`wayhome import --result`), and for the hand that cleans up after a crash.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use wayhome_core::name::Name;

use super::find::Manager;
use crate::error::{Failure, Outcome};
use crate::paths;

/// A switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The old tunnel's unit.
    pub old: String,
    /// Whether it is started with the machine; if not, there is nothing to disable.
    pub old_enabled: bool,
    /// Whether both are of the person's own manager.
    pub own: bool,
    /// The agent's name.
    pub name: Name,
    /// The new road was proven: from here on there is no way back.
    pub proven: bool,
    /// What was done, a line each.
    pub story: Vec<String>,
    /// How it ended.
    pub end: Option<Ending>,
}

/// How a switch ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// The exit code.
    pub code: u8,
    /// In words.
    pub text: String,
}

impl Record {
    /// Which manager has both services.
    pub fn manager(&self) -> Manager {
        if self.own { Manager::User } else { Manager::System }
    }

    /// Reads a record; `None` if there is none.
    pub fn read(path: &Path) -> Outcome<Option<Self>> {
        let failed = |error: &dyn std::error::Error| {
            Failure::usage(format!("the record `{}` cannot be read", path.display())).because(error)
        };
        match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| failed(&e)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Err(failed(&error).hint("it is root's: run this with sudo"))
            }
            Err(error) => Err(failed(&error)),
        }
    }

    /// Writes it, as a whole.
    pub fn write(&self, path: &Path) -> Outcome {
        let failed = |error: &dyn std::error::Error| {
            Failure::new(format!("the record `{}` cannot be written", path.display()))
                .because(error)
        };
        let mut text = serde_json::to_vec_pretty(self).map_err(|e| failed(&e))?;
        text.push(b'\n');
        paths::write_private(path, &text).map_err(|e| failed(&e))
    }
}

/// Where the last switch is recorded. Beside the agent's own folder, which is its user's alone.
pub fn place(manager: Manager) -> Outcome<PathBuf> {
    match manager {
        Manager::System => Ok(PathBuf::from("/var/lib/wayhome-take-over.json")),
        Manager::User => Ok(paths::state_dir()?.join("take-over.json")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record.json");
        assert_eq!(Record::read(&path).unwrap(), None);
        let record = Record {
            old: "reverse-ssh.service".into(),
            old_enabled: true,
            own: false,
            name: "home-ubuntu".parse().unwrap(),
            proven: false,
            story: vec!["stopped it".into()],
            end: Some(Ending { code: 1, text: "back".into() }),
        };
        record.write(&path).unwrap();
        assert_eq!(Record::read(&path).unwrap(), Some(record));
        fs::write(&path, "{}").unwrap();
        assert!(Record::read(&path).is_err());
    }
}
