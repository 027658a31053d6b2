//! The folder of a trial: with the process's number in its name, and locked while that runs, so that
//! the next trial can tell what was left behind, and remove it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, test_kill_process};
use tempfile::TempDir;
use wayhome_lab::{Here, Host};

use crate::error::{Failure, Outcome};

const PREFIX: &str = "wayhome-try-";

/// The longest folder for temporary files under which the agent's control socket still has room: its
/// path may have 107 bytes (unix(7)), of which a trial's own names take some 50.
const LONGEST: usize = 50;

/// Where a trial's folder lies: among the temporary files, unless `TMPDIR` is too long for a socket,
/// or has in it what sshd's configuration, ssh's, or the shell that a command is pasted into would
/// read otherwise.
fn parent() -> PathBuf {
    let named = std::path::absolute(std::env::temp_dir()).unwrap_or_default();
    if is_plain(&named) { named } else { PathBuf::from("/tmp") }
}

fn is_plain(folder: &Path) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+,".contains(byte);
    let bytes = folder.as_os_str().as_bytes();
    !bytes.is_empty() && bytes.len() <= LONGEST && bytes.iter().all(plain)
}

/// Makes the folder of this process's trial.
pub fn make() -> Outcome<TempDir> {
    let failed = |error: &std::io::Error| {
        Failure::new("no temporary folder can be made")
            .because(error)
            .hint("see whether there is room, or set `TMPDIR` to another folder")
    };
    let prefix = format!("{PREFIX}{}-", std::process::id());
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).permissions(fs::Permissions::from_mode(0o700));
    let folder = builder.tempdir_in(parent()).map_err(|e| failed(&e))?;
    let lock = File::open(folder.path()).map_err(|e| failed(&e))?;
    // Where a file system has no locks, the number has to do.
    let _ = flock(&lock, FlockOperation::NonBlockingLockExclusive);
    // Kept open as long as this process runs; the programs that it starts do not inherit it.
    std::mem::forget(lock);
    Ok(folder)
}

/// Removes what trials of this user left that were killed. Gives their folders.
pub fn clear() -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent()) else { return Vec::new() };
    let left = entries.flatten().map(|entry| entry.path()).filter(|path| is_left(path));
    left.filter(|path| fs::remove_dir_all(path).is_ok()).collect()
}

fn is_left(path: &Path) -> bool {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let number = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
    let pid = number.and_then(|number| Pid::from_raw(number.parse().ok()?));
    let (Some(pid), Ok(meta)) = (pid, fs::symlink_metadata(path)) else { return false };
    let ours = meta.is_dir() && meta.uid() == rustix::process::geteuid().as_raw();
    if !ours || test_kill_process(pid) != Err(rustix::io::Errno::SRCH) {
        return false;
    }
    // A container may share the folder and count its processes otherwise.
    File::open(path)
        .is_ok_and(|folder| flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok())
}

/// This machine, with a folder of its own for what is thrown away.
#[derive(Clone, Copy, Debug)]
pub struct InFolder<'a>(pub &'a Path);

impl Host for InFolder<'_> {
    fn command(&self, program: &OsStr) -> Command {
        Here.command(program)
    }

    fn file(&self, path: &Path) -> PathBuf {
        Here.file(path)
    }

    fn scratch(&self) -> PathBuf {
        self.0.to_path_buf()
    }

    fn owner(&self) -> (u32, u32) {
        Here.owner()
    }

    fn is_direct(&self) -> bool {
        Here.is_direct()
    }
}
