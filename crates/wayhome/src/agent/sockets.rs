//! The folder of ssh's control sockets, and a path in it for each dial that was never used before.
//!
//! ssh runs *without* a control socket if it finds one left over, and `kill -9` leaves them. So each
//! agent has a folder of its own, made anew, and what dead agents left is cleared away.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;
use wayhome_core::link::ConnId;

use crate::error::{Failure, Outcome};
use crate::paths;

/// What our folders begin with; nobody else's do. (`ssh-…` in `/tmp` are those of ssh-agents.)
pub const PREFIX: &str = "wayhome-ssh-";

/// The longest folder under which a control socket's path still has room: it may have 108 bytes
/// (unix(7)), of which ssh wants 17 for itself, and we some 30.
const LONGEST: usize = 56;

/// A folder this young may belong to an agent that has not locked it yet.
const YOUNG: Duration = Duration::from_secs(60);

/// The folder, removed with the agent.
#[derive(Debug)]
pub struct Folder {
    dir: TempDir,
    /// Locked as long as the agent lives: how others see that it does.
    _lock: Option<File>,
}

impl Folder {
    /// Makes it: below the runtime folder, or in `/tmp` where that is too deep, or not for ssh.
    pub fn make(runtime: &Path) -> Outcome<Self> {
        let deep = runtime.as_os_str().len() > LONGEST || paths::for_ssh(runtime).is_err();
        let parent = if deep { Path::new("/tmp") } else { runtime };
        if !deep {
            clear(parent);
        }
        let mut builder = tempfile::Builder::new();
        builder.prefix(PREFIX).rand_bytes(6).permissions(fs::Permissions::from_mode(0o700));
        let dir = builder.tempdir_in(parent).map_err(|error| {
            Failure::new(format!("no folder for sockets can be made in `{}`", parent.display()))
                .because(&error)
        })?;
        let lock = lock(dir.path());
        Ok(Self { dir, _lock: lock })
    }

    /// The paths of one link.
    pub fn of_link(&self, index: usize) -> Sockets {
        Sockets { dir: self.dir.path().to_owned(), link: index, lock: None }
    }
}

/// One link's paths.
#[derive(Debug)]
pub struct Sockets {
    dir: PathBuf,
    link: usize,
    /// Held once the folder had to be made again.
    lock: Option<File>,
}

impl Sockets {
    /// The path for one dial. Dials are numbered and no number comes again.
    ///
    /// A folder that was taken away is made again: a user's runtime folder goes with the last login,
    /// and an agent may stay.
    pub fn path(&mut self, id: ConnId) -> PathBuf {
        if !self.dir.is_dir() {
            match paths::private_dir(&self.dir) {
                Ok(()) => self.lock = lock(&self.dir),
                // ssh will say that it has no place for its socket.
                Err(why) => tracing::warn!("{why}"),
            }
        }
        self.dir.join(format!("{}-{id}", self.link))
    }
}

/// Locks a folder. `None` if somebody has it.
fn lock(dir: &Path) -> Option<File> {
    let file = File::open(dir).ok()?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(file)
}

/// Removes what dead agents left. What cannot be removed is in nobody's way.
fn clear(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX)
            && entry.file_type().is_ok_and(|kind| kind.is_dir());
        let changed = entry.metadata().and_then(|meta| meta.modified());
        let is_young = changed.is_ok_and(|at| at + YOUNG > SystemTime::now());
        if is_ours && !is_young && lock(&entry.path()).is_some() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clears_what_the_dead_left_and_nothing_else() {
        let runtime = tempfile::tempdir().unwrap();
        let old = SystemTime::now() - YOUNG * 2;
        let make = |name: &str| {
            let path = runtime.path().join(name);
            fs::create_dir(&path).unwrap();
            File::open(&path).unwrap().set_modified(old).unwrap();
            path
        };
        let (dead, alive) = (make("wayhome-ssh-dead"), make("wayhome-ssh-alive"));
        // An ssh-agent's looks much like it, and is not locked.
        let other = make("ssh-XXXXXXabcdef");
        let _held = lock(&alive).unwrap();
        let folder = Folder::make(runtime.path()).unwrap();
        assert!(!dead.exists() && alive.exists() && other.exists());
        assert_eq!(folder.dir.path().metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_folder_that_was_taken_away_is_made_again() {
        let runtime = tempfile::tempdir().unwrap();
        let run = runtime.path().join("run");
        fs::create_dir(&run).unwrap();
        let folder = Folder::make(&run).unwrap();
        let mut sockets = folder.of_link(0);
        fs::remove_dir_all(&run).unwrap();
        let path = sockets.path(ConnId::default());
        let mode = path.parent().unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn a_deep_folder_is_left_for_tmp() {
        let runtime = tempfile::tempdir().unwrap();
        let deep = runtime.path().join("d".repeat(80));
        fs::create_dir(&deep).unwrap();
        let folder = Folder::make(&deep).unwrap();
        assert!(folder.dir.path().starts_with("/tmp"));
    }
}
