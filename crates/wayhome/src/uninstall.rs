//! What there is of wayhome's on this machine, told from what is somebody else's: a list, before
//! anything is removed.
//!
//! Known are the names of what wayhome writes; what has no such name, or no longer its first line, is
//! left.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use wayhome_core::name::Name;

use crate::agent::sockets;
use crate::error::Outcome;
use crate::import::find::Manager;
use crate::import::record;
use crate::paths;
use crate::service::install::is_ours;
use crate::service::unit::RunsAs;
use crate::service::{account, config_place, plan, unit, unit_place};

/// Where to look.
#[derive(Clone, Debug)]
pub struct Places {
    /// The service's unit.
    pub unit: PathBuf,
    /// The description of its account, and whether there is that account.
    pub sysusers: Option<(PathBuf, bool)>,
    /// The configuration.
    pub config: PathBuf,
    /// The folder of the state.
    pub state: PathBuf,
    /// The folder of the sockets.
    pub runtime: PathBuf,
    /// The record of a tunnel that was taken over.
    pub record: PathBuf,
    /// The person's `~/.ssh`, if there is a person.
    pub ssh: Option<PathBuf>,
}

impl Places {
    /// Those of the machine for root, and a person's own for anybody else.
    pub fn of_this_machine(is_root: bool) -> Outcome<Self> {
        let runs_as = if is_root { RunsAs::Own } else { RunsAs::Me };
        let manager = if is_root { Manager::System } else { Manager::User };
        let has_account = || account::find(unit::OWN_USER).is_some();
        Ok(Self {
            unit: unit_place(&runs_as)?,
            sysusers: is_root.then(|| (PathBuf::from(plan::SYSUSERS), has_account())),
            config: config_place(&runs_as)?,
            state: paths::state_dir()?,
            runtime: paths::runtime_dir()?,
            record: record::place(manager)?,
            ssh: paths::home().ok().map(|home| home.join(".ssh")),
        })
    }
}

/// Something to remove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Thing {
    /// The service, which is stopped before.
    Unit(PathBuf),
    /// A file.
    File(PathBuf),
    /// A folder with all that is in it, which is wayhome's alone.
    Tree(PathBuf),
    /// A folder, if nothing is left in it.
    Folder(PathBuf),
    /// The service's account.
    Account,
    /// What was installed for a home on this laptop.
    Home(Name),
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unit(path) => write!(f, "the service `{}`", path.display()),
            Self::File(path) => write!(f, "`{}`", path.display()),
            Self::Tree(path) => write!(f, "`{}` and all in it", path.display()),
            Self::Folder(path) => write!(f, "`{}`, if it is empty then", path.display()),
            Self::Account => write!(f, "the user `{}`", unit::OWN_USER),
            Self::Home(name) => write!(f, "what makes `ssh {name}` work, from `~/.ssh`"),
        }
    }
}

/// What to remove, in order, and what to leave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// To be removed.
    pub remove: Vec<Thing>,
    /// To be left, and why.
    pub keep: Vec<(PathBuf, &'static str)>,
}

impl Plan {
    /// Looks what there is.
    pub fn make(places: &Places, keep_config: bool) -> Self {
        let mut plan = Self::default();
        plan.service(places);
        if keep_config && places.config.exists() {
            plan.keep.push((places.config.clone(), "`--keep-config` says so"));
        } else if places.config.symlink_metadata().is_ok() {
            plan.remove.push(Thing::File(places.config.clone()));
        }
        if let (Some(folder), Some(file)) = (places.config.parent(), places.config.file_name()) {
            plan.folder(folder, &|name| (file == name).then_some(None));
        }
        plan.folder(&places.runtime, &|name| {
            let socket = name.starts_with("agent-") && name.ends_with(".sock");
            (socket || name.starts_with(sockets::PREFIX)).then_some(Some(!socket))
        });
        plan.state(&places.state, keep_config);
        if places.record.exists() && !plan.removes(&places.record) {
            plan.remove.push(Thing::File(places.record.clone()));
        }
        plan.account(places);
        plan.laptop(places);
        plan
    }

    /// Looks what there is in a folder of the state alone.
    pub fn of_state(state: &Path) -> Self {
        let mut plan = Self::default();
        plan.state(state, false);
        plan
    }

    /// Whether there is nothing to remove.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty()
    }

    /// Whether a file is among what is removed.
    pub fn removes(&self, file: &Path) -> bool {
        self.remove.iter().any(|thing| match thing {
            Thing::File(path) | Thing::Unit(path) => path == file,
            Thing::Tree(path) => file.starts_with(path),
            _ => false,
        })
    }

    fn service(&mut self, places: &Places) {
        if is_ours(&places.unit) {
            self.remove.push(Thing::Unit(places.unit.clone()));
        } else if places.unit.symlink_metadata().is_ok() {
            self.keep.push((places.unit.clone(), "wayhome did not write it, or it was changed"));
        }
        let mut drop_ins = places.unit.clone().into_os_string();
        drop_ins.push(".d");
        if Path::new(&drop_ins).exists() {
            self.keep.push((drop_ins.into(), "these settings are yours"));
        }
    }

    fn state(&mut self, state: &Path, keep_config: bool) {
        let keys = state.join("keys");
        let keeps_keys = keep_config && keys.exists();
        if keeps_keys {
            self.keep.push((keys, "`--keep-config` says so"));
        }
        self.folder(state, &|name| {
            let numbered = |before: &str, after: &str| {
                name.strip_prefix(before).is_some_and(|rest| rest.ends_with(after))
            };
            match name {
                "keys" if keeps_keys => Some(None),
                "keys" | "run" => Some(Some(true)),
                "known_hosts" | "known_gateways" | "known_homes" | "take-over.json" => {
                    Some(Some(false))
                }
                "identity" | "identity.pub" => Some(Some(false)),
                _ if numbered("sessions-", ".json") || numbered("agent-", ".lock") => {
                    Some(Some(false))
                }
                _ => None,
            }
        });
    }

    /// Plans what is in a folder, and the folder. `ours` knows names: `None` if it is not ours,
    /// `Some(None)` if it is seen to elsewhere, and else whether it is a folder.
    fn folder(&mut self, folder: &Path, ours: &dyn Fn(&str) -> Option<Option<bool>>) {
        let Ok(entries) = fs::read_dir(folder) else { return };
        let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        for name in names {
            let path = folder.join(&name);
            match ours(&name.to_string_lossy()) {
                // What stands behind a link is not of wayhome's making.
                Some(Some(true)) if path.is_dir() && !path.is_symlink() => {
                    self.remove.push(Thing::Tree(path));
                }
                Some(Some(_)) => self.remove.push(Thing::File(path)),
                Some(None) => {}
                None => self.keep.push((path, "wayhome did not write it")),
            }
        }
        self.remove.push(Thing::Folder(folder.to_owned()));
    }

    /// The account goes only if nothing is left that belongs to it.
    fn account(&mut self, places: &Places) {
        let Some((sysusers, has_account)) = &places.sysusers else { return };
        if !is_ours(sysusers) {
            if sysusers.exists() {
                self.keep.push((sysusers.clone(), "wayhome did not write it, or it was changed"));
            }
            return;
        }
        if self.keep.iter().any(|(path, _)| path.starts_with(&places.state)) {
            self.keep.push((sysusers.clone(), "files of its user are left"));
            return;
        }
        if *has_account {
            self.remove.push(Thing::Account);
        }
        self.remove.push(Thing::File(sysusers.clone()));
    }

    fn laptop(&mut self, places: &Places) {
        let Some(ssh) = &places.ssh else { return };
        let mut homes: Vec<Name> = fs::read_dir(ssh.join("wayhome"))
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".conf")?.parse().ok())
            .collect();
        homes.sort();
        self.remove.extend(homes.into_iter().map(Thing::Home));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine's files in a folder.
    fn machine() -> (tempfile::TempDir, Places) {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        for (path, text) in [
            ("unit/wayhome-agent.service", unit::MARK),
            ("sysusers/wayhome.conf", unit::MARK),
            ("etc/agent.toml", ""),
            ("state/known_hosts", ""),
            ("state/identity", ""),
            ("state/known_gateways", ""),
            ("state/sessions-home.json", ""),
            ("state/agent-home.lock", ""),
            ("state/keys/id_ed25519", ""),
            ("run/agent-home.sock", ""),
            ("run/wayhome-ssh-abc/0-1", ""),
            ("record.json", ""),
            ("ssh/wayhome/home.conf", ""),
        ] {
            fs::create_dir_all(at(path).parent().unwrap()).unwrap();
            fs::write(at(path), text).unwrap();
        }
        let places = Places {
            unit: at("unit/wayhome-agent.service"),
            sysusers: Some((at("sysusers/wayhome.conf"), true)),
            config: at("etc/agent.toml"),
            state: at("state"),
            runtime: at("run"),
            record: at("record.json"),
            ssh: Some(at("ssh")),
        };
        (folder, places)
    }

    #[test]
    fn all_of_it() {
        let (folder, places) = machine();
        let plan = Plan::make(&places, false);
        assert_eq!(plan.keep, []);
        let at = |path: &str| folder.path().join(path);
        assert_eq!(
            plan.remove,
            [
                Thing::Unit(at("unit/wayhome-agent.service")),
                Thing::File(at("etc/agent.toml")),
                Thing::Folder(at("etc")),
                Thing::File(at("run/agent-home.sock")),
                Thing::Tree(at("run/wayhome-ssh-abc")),
                Thing::Folder(at("run")),
                Thing::File(at("state/agent-home.lock")),
                Thing::File(at("state/identity")),
                Thing::Tree(at("state/keys")),
                Thing::File(at("state/known_gateways")),
                Thing::File(at("state/known_hosts")),
                Thing::File(at("state/sessions-home.json")),
                Thing::Folder(at("state")),
                Thing::File(at("record.json")),
                Thing::Account,
                Thing::File(at("sysusers/wayhome.conf")),
                Thing::Home("home".parse().unwrap()),
            ]
        );
        assert!(plan.removes(&at("state/keys/id_ed25519")));
    }

    #[test]
    fn and_only_that() {
        let (folder, places) = machine();
        let at = |path: &str| folder.path().join(path);
        for path in ["etc/mine.toml", "state/notes", "state/sessions-home", "run/other.sock"] {
            fs::write(at(path), "").unwrap();
        }
        fs::write(at("unit/wayhome-agent.service"), "[Unit]\n").unwrap();
        fs::create_dir(at("unit/wayhome-agent.service.d")).unwrap();
        let plan = Plan::make(&places, false);
        let kept: Vec<PathBuf> = plan.keep.iter().map(|(path, _)| path.clone()).collect();
        let expected = [
            "unit/wayhome-agent.service",
            "unit/wayhome-agent.service.d",
            "etc/mine.toml",
            "run/other.sock",
            "state/notes",
            "state/sessions-home",
            "sysusers/wayhome.conf",
        ];
        assert_eq!(kept, expected.map(at));
        assert!(!plan.remove.contains(&Thing::Account), "its files are left");
        assert!(kept.iter().all(|path| !plan.removes(path)));
    }

    #[test]
    fn the_configuration_and_its_keys_can_stay() {
        let (folder, places) = machine();
        let plan = Plan::make(&places, true);
        assert!(!plan.removes(&folder.path().join("etc/agent.toml")));
        assert!(!plan.removes(&folder.path().join("state/keys/id_ed25519")));
        assert!(plan.removes(&folder.path().join("state/known_hosts")));
        assert!(!plan.remove.contains(&Thing::Account), "the keys are its own");
    }

    #[test]
    fn a_link_is_removed_and_not_what_is_behind_it() {
        let (folder, places) = machine();
        let keys = folder.path().join("state/keys");
        fs::rename(&keys, folder.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink(folder.path().join("elsewhere"), &keys).unwrap();
        assert!(Plan::make(&places, false).remove.contains(&Thing::File(keys)));
    }

    #[test]
    fn nothing_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let nowhere = folder.path().join("x");
        let places = Places {
            unit: nowhere.clone(),
            sysusers: None,
            config: nowhere.join("agent.toml"),
            state: nowhere.clone(),
            runtime: nowhere.clone(),
            record: nowhere.clone(),
            ssh: None,
        };
        assert!(Plan::make(&places, false).is_empty());
    }
}
