//! The checks of a private key before it is used: is it there, is it ours alone, and can it be used
//! with nobody at the keyboard?

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::{Failure, Outcome};

/// Checks an identity.
pub fn check(path: &Path) -> Outcome {
    let shown = path.display();
    let meta = fs::metadata(path).map_err(|error| {
        Failure::usage(format!("the identity `{shown}` cannot be read"))
            .because(&error)
            .hint(format!("make a key for this home alone: ssh-keygen -t ed25519 -N '' -f {shown}"))
    })?;
    if !meta.is_file() {
        return Err(Failure::usage(format!("the identity `{shown}` is not a file"))
            .hint("name the private key itself: `~/.ssh/id_ed25519`"));
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
        .hint(format!("chmod 600 {shown}")));
    }
    check_key(path)
}

/// Lets `ssh-keygen` open the key with an empty passphrase, as ssh would have to.
fn check_key(path: &Path) -> Outcome {
    let shown = path.display();
    let tried = Command::new("ssh-keygen")
        .args(["-y", "-P", "", "-f"])
        .arg(path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()
        .map_err(|error| {
            Failure::new("`ssh-keygen` cannot be run")
                .because(&error)
                .hint("install OpenSSH's client (Debian: `openssh-client`)")
        })?;
    if tried.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&tried.stderr);
    if !said.contains("incorrect passphrase") {
        return Err(Failure::usage(format!("the identity `{shown}` is no private key"))
            .hint("name the private key, not the `.pub` file beside it"));
    }
    if std::env::var_os("SSH_AUTH_SOCK").is_some() {
        // The person's ssh-agent may hold it; ssh will say if not.
        return Ok(());
    }
    Err(Failure::usage(format!(
        "the identity `{shown}` has a passphrase, and there is no ssh-agent that could know it"
    ))
    .hint("make a key for this home alone: ssh-keygen -t ed25519 -N '' -f ~/.ssh/wayhome"))
}
