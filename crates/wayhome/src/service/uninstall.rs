//! `wayhome service uninstall agent`: takes away what an installation wrote, and only that. What is
//! not there is no error, so that it can be run again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::account;
use super::image::{self, below};
use super::install::is_ours;
use super::plan::SYSUSERS;
use super::systemd::{self, Systemd};
use super::unit::{NAME, OWN_USER, RunsAs, STATE};
use super::{config_place, unit_place};
use crate::error::{Failure, Outcome};
use crate::uninstall::{Plan, Thing};
use crate::{paths, report};

/// What was asked for.
#[derive(Debug)]
pub struct Request {
    /// Whether it is a person's own service.
    pub is_own: bool,
    /// The image.
    pub root: Option<PathBuf>,
    /// Whether configuration, keys, pins and the account go as well.
    pub purge: bool,
    /// Whether only to show what would be done.
    pub dry_run: bool,
}

/// Uninstalls the agent's service. `true` if there was anything to take away.
pub fn uninstall(request: &Request) -> Outcome<bool> {
    let runs_as = if request.is_own { RunsAs::Me } else { RunsAs::Own };
    let root = request.root.as_deref();
    if !request.dry_run {
        super::may_change("uninstall", request.is_own, root)?;
    }
    let (unit, config) = (unit_place(&runs_as)?, config_place(&runs_as)?);
    image::check(root, [&*unit, &config, Path::new(STATE), Path::new(SYSUSERS)])?;
    let (unit, config) = (below(root, &unit), below(root, &config));
    let is_there = unit.symlink_metadata().is_ok();
    if is_there && !is_ours(&unit) {
        let shown = unit.display();
        return Err(Failure::usage(format!(
            "`{shown}` was not written by wayhome, and is left alone"
        ))
        .hint("remove it by hand, if you want it gone"));
    }
    let removal = Removal {
        request,
        systemd: Systemd { is_own: request.is_own, root: request.root.clone() },
    };
    let mut any = false;
    if is_there {
        any = true;
        removal.stop()?;
        removal.file(&unit)?;
        removal.forget()?;
    }
    if request.purge {
        any |= removal.file(&config)?;
        any |= removal.file(&config.with_extension("toml.old"))?;
        if let Some(folder) = config.parent() {
            removal.empty_folder(folder);
        }
        let state =
            if request.is_own { paths::state_dir()? } else { below(root, Path::new(STATE)) };
        let rest = removal.state(&state, &mut any)?;
        // As long as its files are there, so is the account; and this says that it is ours.
        let account = below(root, Path::new(SYSUSERS));
        if !request.is_own && is_ours(&account) && rest.is_empty() {
            removal.account()?;
            any |= removal.file(&account)?;
            if let Some(folder) = account.parent() {
                removal.empty_folder(folder);
            }
        }
    }
    if !any && !request.dry_run {
        report::note(format!("`{NAME}` is not installed"));
    }
    Ok(any)
}

struct Removal<'a> {
    request: &'a Request,
    systemd: Systemd,
}

impl Removal<'_> {
    fn stop(&self) -> Outcome {
        let arguments: &[&str] = match self.request.root {
            Some(_) => &["disable", NAME],
            None => &["disable", "--now", NAME],
        };
        self.ctl(arguments)
    }

    fn forget(&self) -> Outcome {
        if self.request.root.is_some() {
            return Ok(());
        }
        self.ctl(&["daemon-reload"])?;
        // One that had failed would be listed until the next boot.
        if !self.request.dry_run {
            let _ = self.systemd.ctl(&["reset-failed", NAME]);
        }
        Ok(())
    }

    fn ctl(&self, arguments: &[&str]) -> Outcome {
        if self.request.dry_run {
            return self.say(&format!("would run `systemctl {}`", arguments.join(" ")));
        }
        self.systemd.must_run()?;
        self.systemd.ctl(arguments)
    }

    fn file(&self, path: &Path) -> Outcome<bool> {
        if path.symlink_metadata().is_err() {
            return Ok(false);
        }
        self.gone(path, || fs::remove_file(path))
    }

    /// Removes what an agent keeps in its state folder, and the folder if that was all. Gives what is
    /// left: a folder that somebody named may have other things in it.
    fn state(&self, folder: &Path, any: &mut bool) -> Outcome<Vec<PathBuf>> {
        let plan = Plan::of_state(folder);
        for thing in &plan.remove {
            *any |= match thing {
                Thing::Tree(path) => self.gone(path, || fs::remove_dir_all(path))?,
                Thing::File(path) => self.file(path)?,
                _ => false,
            };
        }
        self.empty_folder(folder);
        for (path, why) in &plan.keep {
            report::warning(format!("`{}` is left: {why}", path.display()));
        }
        Ok(plan.keep.into_iter().map(|(path, _)| path).collect())
    }

    /// Removes a folder of ours that nothing else lies in.
    fn empty_folder(&self, path: &Path) {
        if !self.request.dry_run {
            let _ = fs::remove_dir(path);
        }
    }

    fn gone(&self, path: &Path, remove: impl FnOnce() -> io::Result<()>) -> Outcome<bool> {
        let shown = path.display();
        if self.request.dry_run {
            self.say(&format!("would remove `{shown}`"))?;
            return Ok(true);
        }
        remove().map_err(|error| {
            Failure::new(format!("`{shown}` cannot be removed")).because(&error)
        })?;
        report::note(format!("removed `{shown}`"));
        Ok(true)
    }

    fn account(&self) -> Outcome {
        if self.request.root.is_some() || account::find(OWN_USER).is_none() {
            return Ok(());
        }
        if self.request.dry_run {
            return self.say(&format!("would remove the user `{OWN_USER}`"));
        }
        let output = systemd::run(Command::new("userdel").arg(OWN_USER))?;
        if !output.status.success() {
            return Err(Failure::new(format!("the user `{OWN_USER}` cannot be removed"))
                .because(&systemd::said(&output)));
        }
        report::note(format!("removed the user `{OWN_USER}`"));
        Ok(())
    }

    fn say(&self, text: &str) -> Outcome {
        report::data("the plan", format!("{text}\n"))
    }
}
