//! The service manager: what is asked of systemctl(1), systemd-run(1) and loginctl(1).

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::unit::Unit;
use crate::error::{Failure, Outcome};

/// A service manager: the machine's, a person's, or that of an image which does not run.
#[derive(Clone, Debug)]
pub struct Systemd {
    /// A person's own.
    pub is_own: bool,
    /// The image.
    pub root: Option<PathBuf>,
}

impl Systemd {
    /// Refuses to go on where there is none to talk to.
    pub fn must_run(&self) -> Outcome {
        if self.root.is_none() && !sd_notify::booted().unwrap_or_default() {
            return Err(Failure::usage("systemd does not run on this machine").hint(
                "`--root DIR` writes into an image; `--dry-run` shows what would be written",
            ));
        }
        Ok(())
    }

    /// Its version, where it runs.
    pub fn version(&self) -> Option<u32> {
        if self.root.is_some() {
            return None;
        }
        let said = self.command("systemctl").arg("--version").output().ok()?;
        // systemd 252 (252.38-1~deb12u1)
        String::from_utf8_lossy(&said.stdout).split_whitespace().nth(1)?.parse().ok()
    }

    /// Runs systemctl, which says by itself what is wrong.
    pub fn ctl(&self, arguments: &[&str]) -> Outcome {
        let mut command = self.command("systemctl");
        if let Some(root) = &self.root {
            command.arg("--root").arg(root);
        }
        let output = run(command.arg("--quiet").args(arguments))?;
        if output.status.success() {
            return Ok(());
        }
        let what = format!("`systemctl {}` failed", arguments.join(" "));
        Err(Failure::new(what).because(&said(&output)))
    }

    /// A unit's properties, as `systemctl show` has them.
    pub fn show(&self, unit: &str) -> Outcome<Properties> {
        let names = "LoadState,ActiveState,SubState,UnitFileState,FragmentPath,MainPID,NRestarts,\
                     ActiveEnterTimestampMonotonic,WatchdogUSec,WatchdogTimestampMonotonic,StatusText";
        let output = run(self.command("systemctl").args(["show", unit, "--property", names]))?;
        if !output.status.success() {
            return Err(
                Failure::usage("the service manager does not answer").because(&said(&output))
            );
        }
        Ok(Properties::parse(&String::from_utf8_lossy(&output.stdout)))
    }

    /// The command that runs a program as the unit would, and hands back what it writes.
    pub fn in_sandbox(&self, unit: &Unit, arguments: &[&OsStr]) -> Command {
        let mut command = self.command("systemd-run");
        if self.is_own {
            command.arg("--user");
        }
        command.args(["--quiet", "--pipe", "--wait", "--collect", "--service-type=exec"]);
        if let Some(user) = unit.runs_as.user() {
            command.arg("-p").arg(format!("User={user}"));
        }
        for setting in unit.sandbox() {
            command.args(["-p", setting]);
        }
        command.arg("--").arg(&unit.program).args(arguments);
        command
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.stdin(Stdio::null()).env("LC_ALL", "C").env("SYSTEMD_PAGER", "");
        if program == "systemctl" && self.is_own {
            command.arg("--user");
        }
        let runtime = PathBuf::from(format!("/run/user/{}", rustix::process::geteuid().as_raw()));
        // A login by `su` does not set it, and nothing is reached without it.
        if self.is_own && std::env::var_os("XDG_RUNTIME_DIR").is_none() && runtime.is_dir() {
            command.env("XDG_RUNTIME_DIR", runtime);
        }
        command
    }
}

/// What `systemctl show` says.
#[derive(Clone, Debug, Default)]
pub struct Properties(BTreeMap<String, String>);

impl Properties {
    /// Reads `systemctl show`'s lines.
    pub fn parse(text: &str) -> Self {
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        Self(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
    }

    /// A property; empty if it is not there.
    pub fn get(&self, name: &str) -> &str {
        self.0.get(name).map(String::as_str).unwrap_or_default()
    }

    /// A property that is a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.get(name).parse().ok().filter(|number| *number > 0)
    }

    /// Whether the unit runs.
    pub fn is_active(&self) -> bool {
        matches!(self.get("ActiveState"), "active" | "reloading")
    }
}

/// Whether a person's services run also while that person is not logged in.
pub fn lingers(user: &str) -> bool {
    let mut command = Command::new("loginctl");
    command.args(["show-user", "--property=Linger", "--value", user]).stdin(Stdio::null());
    match command.output() {
        Ok(output) if output.status.success() => output.stdout.starts_with(b"yes"),
        _ => Path::new("/var/lib/systemd/linger").join(user).exists(),
    }
}

/// Runs a program of systemd's to its end.
pub fn run(command: &mut Command) -> Outcome<Output> {
    command.output().map_err(|error| {
        let program = command.get_program().display();
        Failure::usage(format!("`{program}` cannot be run")).because(&error)
    })
}

/// What a program said, as the reason of its failure.
pub fn said(output: &Output) -> std::io::Error {
    let text = String::from_utf8_lossy(&output.stderr);
    match text.trim() {
        "" => std::io::Error::other(format!("it ended without a word ({})", output.status)),
        text => std::io::Error::other(text.to_owned()),
    }
}
