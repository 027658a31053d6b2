//! Where things lie: `/etc/wayhome`, `/var/lib/wayhome` and `/run/wayhome` for root, the XDG folders
//! for everybody else. The names that systemd gives a service (`STATE_DIRECTORY`,
//! `RUNTIME_DIRECTORY`) come first.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::error::{Failure, Outcome};

/// The folder for what must outlive the agent: pins, recorded sessions.
pub fn state_dir() -> Outcome<PathBuf> {
    if let Some(dir) = from_env("STATE_DIRECTORY") {
        return Ok(dir);
    }
    if is_root() {
        return Ok(PathBuf::from("/var/lib/wayhome"));
    }
    match from_env("XDG_STATE_HOME") {
        Some(dir) => Ok(dir.join("wayhome")),
        None => Ok(home()?.join(".local/state/wayhome")),
    }
}

/// The folder for configurations.
pub fn config_dir() -> Outcome<PathBuf> {
    if is_root() {
        return Ok(PathBuf::from("/etc/wayhome"));
    }
    match from_env("XDG_CONFIG_HOME") {
        Some(dir) => Ok(dir.join("wayhome")),
        None => Ok(home()?.join(".config/wayhome")),
    }
}

/// The folder for sockets.
pub fn runtime_dir() -> Outcome<PathBuf> {
    if let Some(dir) = from_env("RUNTIME_DIRECTORY") {
        return Ok(dir);
    }
    if is_root() {
        return Ok(PathBuf::from("/run/wayhome"));
    }
    match from_env("XDG_RUNTIME_DIR") {
        Some(dir) => Ok(dir.join("wayhome")),
        None => Ok(state_dir()?.join("run")),
    }
}

/// The person's home folder.
pub fn home() -> Outcome<PathBuf> {
    from_env("HOME").ok_or_else(|| {
        Failure::usage("`HOME` is not set, so there is no folder for the agent's state")
            .hint("set `HOME`, or `STATE_DIRECTORY` and `RUNTIME_DIRECTORY`")
    })
}

/// Replaces a leading `~/`, as a shell would have done.
pub fn expand(path: &str) -> Outcome<PathBuf> {
    match path.strip_prefix("~/") {
        Some(rest) => Ok(home()?.join(rest)),
        None => Ok(PathBuf::from(path)),
    }
}

/// The path from the root on, so that it means the same to whoever is told of it, in any folder.
/// Links and `..` stay as they are.
pub fn absolute(path: &Path) -> Outcome<PathBuf> {
    std::path::absolute(path).map_err(|error| {
        Failure::usage(format!("it cannot be told where `{}` lies", path.display()))
            .because(&error)
            .hint("go to a folder that exists, or name the file from `/` on")
    })
}

/// Makes a folder that only its owner can open, or checks that it is one.
pub fn private_dir(dir: &Path) -> Outcome {
    let failed = |why: &io::Error| {
        Failure::new(format!("the folder `{}` cannot be used", dir.display())).because(why)
    };
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| failed(&e))?;
    let meta = fs::metadata(dir).map_err(|e| failed(&e))?;
    if meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(Failure::new(format!(
            "the folder `{}` belongs to another user (uid {})",
            dir.display(),
            meta.uid()
        ))
        .hint("remove it, or run the agent as its owner"));
    }
    if meta.mode() & 0o077 != 0 {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(|e| failed(&e))?;
    }
    Ok(())
}

/// Makes a folder that only its owner can open, if there is none; one that exists is left as it is.
pub fn private_dir_if_missing(dir: &Path) -> Outcome {
    if dir.as_os_str().is_empty() || dir.is_dir() { Ok(()) } else { private_dir(dir) }
}

/// Replaces a file as a whole: written beside, synced, renamed. Only its owner can read it.
pub fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    // A temporary file is made with mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(dir)?.sync_all()
}

fn from_env(name: &str) -> Option<PathBuf> {
    // systemd may list several folders; the first is the main one.
    let value = std::env::var_os(name)?.into_string().ok()?;
    let first = value.split(':').next().unwrap_or_default();
    first.starts_with('/').then(|| PathBuf::from(first))
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
