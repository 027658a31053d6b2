//! The checks of a private key before it is used: is it there, is it ours alone, and can it be used
//! with nobody at the keyboard?

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::{Failure, Outcome};

/// What stands in the way of a login with a key and nobody at the keyboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    Free,
    /// A passphrase.
    Locked,
    /// The key lies in a device, which is to be plugged in and mostly touched.
    InDevice,
}

/// Checks an identity for an agent that a person starts, whose ssh-agent may know the passphrase.
pub fn check(path: &Path) -> Outcome {
    check_file(path)?;
    match kind(path)? {
        // ssh will say if the person's ssh-agent does not hold it.
        Kind::Locked if std::env::var_os("SSH_AUTH_SOCK").is_none() => Err(locked(path)),
        _ => Ok(()),
    }
}

/// Checks an identity for an agent that the machine starts: no ssh-agent, and no finger.
pub fn check_unattended(path: &Path) -> Outcome {
    check_file(path)?;
    match kind(path)? {
        Kind::Free => Ok(()),
        Kind::Locked => Err(locked(path)),
        Kind::InDevice => Err(in_device(path)),
    }
}

/// Whether the file is there, is a private key by its name, and is ours alone.
pub fn check_file(path: &Path) -> Outcome {
    let shown = path.display();
    let meta = fs::metadata(path).map_err(|error| {
        Failure::usage(format!("the identity `{shown}` cannot be read")).because(&error).hint(
            format!("make a key for this home alone: `ssh-keygen -t ed25519 -N '' -f {shown}`"),
        )
    })?;
    if !meta.is_file() {
        return Err(Failure::usage(format!("the identity `{shown}` is not a file"))
            .hint("name the private key itself: `~/.ssh/id_ed25519`"));
    }
    if path.extension().is_some_and(|extension| extension == "pub") {
        return Err(Failure::usage(format!("the identity `{shown}` is the public half of a key"))
            .hint("name the private one beside it, without `.pub`"));
    }
    let me = rustix::process::geteuid();
    if !me.is_root() && meta.uid() != me.as_raw() {
        return Err(Failure::usage(format!(
            "the identity `{shown}` belongs to another user (uid {})",
            meta.uid()
        ))
        .hint("run the agent as its owner, or make a key for this user"));
    }
    if meta.mode() & 0o077 != 0 {
        return Err(Failure::usage(format!(
            "the identity `{shown}` can be read by others (mode {:04o})",
            meta.mode() & 0o7777
        ))
        .hint(format!("`chmod 600 {shown}`")));
    }
    Ok(())
}

/// Lets `ssh-keygen` open the key with an empty passphrase, as ssh would have to.
pub fn kind(path: &Path) -> Outcome<Kind> {
    let tried = Command::new("ssh-keygen")
        .args(["-y", "-P", "", "-f"])
        .arg(path)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            Failure::new("`ssh-keygen` cannot be run")
                .because(&error)
                .hint("install OpenSSH's client (Debian: `openssh-client`)")
        })?;
    // The names of such kinds of keys begin so (PROTOCOL.u2f).
    if tried.status.success() {
        return Ok(if tried.stdout.starts_with(b"sk-") { Kind::InDevice } else { Kind::Free });
    }
    if String::from_utf8_lossy(&tried.stderr).contains("incorrect passphrase") {
        return Ok(Kind::Locked);
    }
    Err(Failure::usage(format!("the identity `{}` is no private key", path.display()))
        .hint("name the private key, not the `.pub` file beside it"))
}

/// A passphrase, and nobody to type it.
pub fn locked(path: &Path) -> Failure {
    let shown = path.display();
    Failure::usage(format!(
        "the identity `{shown}` has a passphrase, and there is no ssh-agent that could know it"
    ))
    .hint(FOR_THIS_ALONE)
}

/// A device, and nobody to touch it.
pub fn in_device(path: &Path) -> Failure {
    let shown = path.display();
    Failure::usage(format!(
        "the identity `{shown}` is a security key: it is to be plugged in and touched, and a service has nobody who does that"
    ))
    .hint(FOR_THIS_ALONE)
}

const FOR_THIS_ALONE: &str =
    "make a key for this home alone: `ssh-keygen -t ed25519 -N '' -f ~/.ssh/wayhome`";
