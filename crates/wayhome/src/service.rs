//! The agent as a service of the machine: what is written for systemd (or launchd), and how it gets
//! there and away again.
//!
//! What is written, and what is done in which order, is decided without touching anything: `unit`,
//! `launchd`, `adopt` and `plan` are pure, and `--dry-run` prints what they say. `install` and
//! `uninstall` do it, with `apply` for the files, `dial` for the login that is tried before, and
//! `systemd` for what is asked of the service manager.

pub mod account;
pub mod adopt;
pub mod apply;
pub mod dial;
pub mod gateway;
pub mod image;
pub mod install;
pub mod launchd;
pub mod plan;
pub mod status;
pub mod systemd;
pub mod uninstall;
pub mod unit;

use std::path::{Path, PathBuf};

use crate::error::{Failure, Outcome};
use crate::paths;
use unit::{NAME, RunsAs};

/// Refuses what the person may not do: `verb` is `install` or `uninstall`.
pub fn may_change(verb: &str, is_own: bool, root: Option<&Path>) -> Outcome {
    let is_root = rustix::process::geteuid().is_root();
    if is_own && is_root {
        return Err(Failure::usage("root has no user service, and no need of one")
            .hint("leave `--user` out, or run this as the person whose service it is"));
    }
    if !is_own && root.is_none() && !is_root {
        return Err(Failure::usage(format!("only root can {verb} a service of the system's"))
            .hint("run it with `sudo`; for a service of your own, with `--user`"));
    }
    Ok(())
}

/// Where the configuration belongs.
pub fn config_place(runs_as: &RunsAs) -> Outcome<PathBuf> {
    let folder = match runs_as {
        RunsAs::Me => paths::config_dir()?,
        RunsAs::Own | RunsAs::Person(_) => PathBuf::from("/etc/wayhome"),
    };
    Ok(folder.join("agent.toml"))
}

/// Where the unit file belongs.
pub fn unit_place(runs_as: &RunsAs) -> Outcome<PathBuf> {
    let folder = match runs_as {
        RunsAs::Me => {
            let own = paths::config_dir()?;
            own.parent().unwrap_or(Path::new("/")).join("systemd/user")
        }
        RunsAs::Own | RunsAs::Person(_) => PathBuf::from("/etc/systemd/system"),
    };
    Ok(folder.join(NAME))
}

/// Where the service's agent has its control socket.
pub fn runtime_place(is_own: bool) -> Outcome<PathBuf> {
    if !is_own {
        return Ok(PathBuf::from("/run/wayhome"));
    }
    let by_login = PathBuf::from(format!("/run/user/{}", rustix::process::geteuid().as_raw()));
    if by_login.is_dir() { Ok(by_login.join("wayhome")) } else { paths::runtime_dir() }
}
