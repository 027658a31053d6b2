//! The login that is tried before anything is installed: in the unit's own sandbox and environment,
//! as its own account. Gateways that are new are pinned meanwhile, where the service will look.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use wayhome_core::host_key::HostKey;

use super::account::Account;
use super::apply::{Changes, Kind};
use super::systemd::{self, Systemd};
use super::unit::Unit;
use crate::agent::check::{Checked, Verdict};
use crate::agent::ssh::ask;
use crate::agent::ssh::pin::{self, FirstContact};
use crate::command::agent::runtime;
use crate::error::{Failure, Outcome};
use crate::report;

/// What a trial needs to know.
#[derive(Debug)]
pub struct Trial<'a> {
    /// The service manager that runs it.
    pub systemd: &'a Systemd,
    /// The unit that is to be installed.
    pub unit: &'a Unit,
    /// The configuration, where the sandbox lets it be read.
    pub config: &'a Path,
    /// Whom the pins belong to, if not to whoever installs.
    pub owner: Option<&'a Account>,
    /// The files in which the person has gateways' keys already.
    pub known: &'a [PathBuf],
    /// How a new gateway is met.
    pub first: FirstContact,
}

impl Trial<'_> {
    /// The command that logs in, and says in JSON what came of it.
    pub fn command(&self) -> Command {
        let arguments = ["agent", "check", "--json", "--config"].map(OsStr::new);
        let config = self.config.as_os_str();
        self.systemd.in_sandbox(self.unit, &[&arguments[..], &[config]].concat())
    }

    /// Logs in to each gateway. A gateway that is only away is a warning.
    pub fn run(&self, changes: &mut Changes) -> Outcome {
        let mut all = self.once()?;
        let mut any_new = false;
        for checked in &all {
            any_new |= self.pin(checked, changes)?;
        }
        if any_new {
            all = self.once()?;
        }
        for checked in all {
            let gateway = &checked.gateway;
            match &checked.verdict {
                Verdict::LoggedIn => report::note(format!("{gateway}: lets the service in")),
                Verdict::Away { .. } => report::warning(format!(
                    "{checked}\n  the service is installed all the same, and tries again by itself"
                )),
                Verdict::Refused { text, remedy } => {
                    return Err(Failure::new(format!("{gateway}: {text}")).hint(remedy));
                }
                Verdict::Unpinned { .. } => return Err(Failure::new(checked.to_string())),
            }
        }
        Ok(())
    }

    fn once(&self) -> Outcome<Vec<Checked>> {
        let output = systemd::run(&mut self.command())?;
        serde_json::from_slice(&output.stdout).map_err(|_| {
            // It is a program of ours that speaks there, or systemd about it.
            Failure::usage(format!(
                "the service could not work in its sandbox\n  because: {}",
                systemd::said(&output).to_string().trim_start_matches("error: ")
            ))
        })
    }

    /// Pins a gateway that is not pinned yet. `true` if it can now be logged in to.
    fn pin(&self, checked: &Checked, changes: &mut Changes) -> Outcome<bool> {
        let Checked { gateway, pinned_as, known_hosts, verdict } = checked;
        if !wait(pin::keys_in(known_hosts, pinned_as))?.is_empty() {
            return Ok(false);
        }
        let known = known_keys(self.known, pinned_as);
        let (keys, why) = match verdict {
            Verdict::Unpinned { key, .. } if known.contains(key) => (vec![key.clone()], KNOWN),
            Verdict::Unpinned { key, fingerprint } => {
                if let Some(other) = known.iter().find(|k| k.algorithm() == key.algorithm()) {
                    let why = format!("the host key of `{gateway}` is not the one that you know");
                    return Err(Failure::new(why).hint(format!(
                        "it shows {fingerprint}, and you have {other}: if it was not reinstalled, somebody stands in between"
                    )));
                }
                if self.first != FirstContact::Accept {
                    wait(ask::at_terminal(gateway, key, fingerprint))?;
                }
                (vec![key.clone()], "new")
            }
            _ => (known, KNOWN),
        };
        let mut pins = pin::read_pins(known_hosts)?;
        for key in &keys {
            pins = pin::with_pin(pins, pinned_as, key);
            report::note(format!("{gateway}: pinned its {} key ({why})", key.algorithm().as_str()));
        }
        if !keys.is_empty() {
            write(known_hosts, &pins, self.owner, changes)?;
        }
        Ok(!keys.is_empty() && matches!(verdict, Verdict::Unpinned { .. }))
    }
}

const KNOWN: &str = "you knew it already";

/// The keys that a person's files have for a gateway.
pub fn known_keys(files: &[PathBuf], pinned_as: &str) -> Vec<HostKey> {
    let mut keys = Vec::new();
    for file in files {
        for key in wait(pin::keys_in(file, pinned_as)).unwrap_or_default() {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
    }
    keys
}

fn wait<T>(work: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    runtime()?.block_on(work)
}

/// Writes pins where the service looks for them.
pub fn write(file: &Path, pins: &str, owner: Option<&Account>, changes: &mut Changes) -> Outcome {
    if let Some(folder) = file.parent() {
        changes.folder(folder, 0o700, owner)?;
    }
    changes.file(file, pins.as_bytes(), Kind { mode: 0o600, owner }).map(|_| ())
}
