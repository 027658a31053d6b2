//! Looks at the machine for what `exec` and `tunnel` need to know: the unit's text, its user's home
//! folder, the files with its environment.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::exec::{self, Started};
use super::shell;
use super::specifiers::Specifiers;
use super::tunnel::Place;
use super::unit::Unit;
use crate::error::{Failure, Outcome};
use crate::paths;
use crate::service::account;

/// Which of the two managers has a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manager {
    /// The machine's.
    System,
    /// The person's own (`systemctl --user`).
    User,
}

/// An old command, and where it stood.
#[derive(Clone, Debug)]
pub struct Found {
    /// The program and its arguments.
    pub words: Vec<String>,
    /// As whom and where it ran.
    pub place: Place,
    /// What to call it.
    pub from: String,
    /// What the unit does besides, and why that matters.
    pub aside: Vec<(String, String)>,
}

/// The command that was given, as the person who gives it would run it.
pub fn command(words: Vec<String>) -> Outcome<Found> {
    let words = match words.as_slice() {
        // In quotes, as it stands in a crontab or a script.
        [line] if line.contains(char::is_whitespace) => {
            shell::split(line, &|name| std::env::var(name).ok()).map_err(|error| {
                Failure::usage("a command line cannot be imported")
                    .because(&error)
                    .hint("give the command alone, without quotes: `wayhome import autossh …`")
            })?
        }
        _ => words,
    };
    let ours = std::env::vars_os().filter_map(|(name, value)| {
        let (name, value) = (name.into_string().ok()?, value.into_string().ok()?);
        name.starts_with("AUTOSSH_").then_some((name, value))
    });
    let folder = std::env::current_dir()
        .map_err(|error| Failure::usage("the current folder is gone").because(&error))?;
    let uid = rustix::process::getuid().as_raw().to_string();
    let place = Place {
        user: account::find(&uid).map(|account| account.name),
        home: paths::home()?,
        folder,
        environment: ours.collect(),
    };
    Ok(Found { words, place, from: "a command line".to_owned(), aside: Vec::new() })
}

/// The command of a unit: one of the manager's, by its name, or any file, by its path.
pub fn unit(named: &str, manager: Manager) -> Outcome<Found> {
    let (name, text) = if named.contains('/') {
        let path = Path::new(named);
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        (name.unwrap_or_default(), read_unit(path)?)
    } else {
        let name = full_name(named);
        let text = unit_text(&name, manager)?;
        (name, text)
    };
    let at = specifiers(&name, manager)?;
    let unit = Unit::parse(&text);
    let started = exec::started(&unit, &at, &read_page).map_err(|error| {
        Failure::usage(format!("the unit `{name}` cannot be imported")).because(&error).hint(
            "import the command that it comes to instead: wayhome import ssh -N -R 2222:localhost:22 …",
        )
    })?;
    let place = place(&started, &at, manager)?;
    let mut aside: Vec<(String, String)> =
        started.aside.iter().map(|(what, why)| (what.clone(), (*why).to_owned())).collect();
    let exec = unit.last("Service", "ExecStart").unwrap_or_default();
    if manager == Manager::System
        && exec.contains("%h")
        && place.user.as_deref().is_some_and(|user| user != "root")
    {
        let why =
            "systemd takes this for root's home folder in a system unit, whatever `User=` says";
        aside.push((format!("%h: {}", at.home.display()), why.to_owned()));
    }
    Ok(Found { words: started.words, place, from: format!("the unit {name}"), aside })
}

/// A unit's name with its kind.
pub fn full_name(name: &str) -> String {
    if name.ends_with(".service") { name.to_owned() } else { format!("{name}.service") }
}

fn place(started: &Started, at: &Specifiers, manager: Manager) -> Outcome<Place> {
    let (user, home) = match &started.user {
        Some(user) => {
            let account = account::find(user).ok_or_else(|| {
                Failure::usage(format!("the unit's `User={user}` is no user of this machine"))
                    .hint("import it on the machine where it runs")
            })?;
            (account.name, account.home)
        }
        None => (at.user.clone(), at.home.clone()),
    };
    let folder = match &started.folder {
        Some(folder) if folder == Path::new("~") => home.clone(),
        Some(folder) => folder.clone(),
        None if manager == Manager::User => home.clone(),
        None => PathBuf::from("/"),
    };
    let environment: BTreeMap<String, String> = started.environment.clone();
    Ok(Place { user: Some(user), home, folder, environment })
}

fn specifiers(unit: &str, manager: Manager) -> Outcome<Specifiers> {
    let uname = rustix::system::uname();
    let host = uname.nodename().to_string_lossy().into_owned();
    let unit = unit.to_owned();
    Ok(match manager {
        // For the machine's manager it is this folder, whatever `/etc/passwd` has (systemd.unit(5)).
        Manager::System => {
            Specifiers { unit, user: "root".to_owned(), uid: 0, home: "/root".into(), host }
        }
        Manager::User => {
            let uid = rustix::process::getuid().as_raw();
            let user = account::find(&uid.to_string()).map_or_else(|| uid.to_string(), |a| a.name);
            Specifiers { unit, user, uid, home: paths::home()?, host }
        }
    })
}

/// The unit's text with its drop-ins: as systemd has it, or else from the folders that systemd reads.
fn unit_text(name: &str, manager: Manager) -> Outcome<String> {
    let mut systemctl = Command::new("systemctl");
    if manager == Manager::User {
        systemctl.arg("--user");
    }
    let asked = systemctl.args(["cat", "--no-pager", "--", name]).stdin(Stdio::null()).output();
    if let Ok(output) = asked
        && output.status.success()
    {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let folders = unit_folders(manager)?;
    let template = name.split_once('@').map(|(prefix, _)| format!("{prefix}@.service"));
    for name in std::iter::once(name).chain(template.as_deref()) {
        let Some(path) = folders.iter().map(|dir| dir.join(name)).find(|path| path.is_file())
        else {
            continue;
        };
        let mut text = read_unit(&path)?;
        for drop_in in drop_ins(&folders, name) {
            text.push('\n');
            text.push_str(&read_unit(&drop_in)?);
        }
        return Ok(text);
    }
    Err(Failure::usage(format!("there is no unit `{name}`"))
        .hint("`systemctl list-units --type=service` shows those that run; a file is named with its path: `--unit ./FILE`"))
}

fn read_unit(path: &Path) -> Outcome<String> {
    read_page(path).map_err(|error| {
        Failure::usage(format!("the unit `{}` cannot be read", path.display()))
            .because(&error)
            .hint("a unit that systemd knows is named without a path: `--unit reverse-ssh.service`")
    })
}

/// Reads a unit, or what it names: a page of text. A pipe has no end, and a device none either.
fn read_page(path: &Path) -> io::Result<String> {
    const MAX_SIZE: u64 = 1024 * 1024;
    let meta = fs::metadata(path)?;
    if !meta.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    if meta.len() > MAX_SIZE {
        return Err(io::Error::other("it is too large"));
    }
    fs::read_to_string(path)
}

/// Where units lie, the first before the others (systemd.unit(5)).
fn unit_folders(manager: Manager) -> Outcome<Vec<PathBuf>> {
    let system = [
        "/etc/systemd/system",
        "/run/systemd/system",
        "/usr/local/lib/systemd/system",
        "/usr/lib/systemd/system",
        "/lib/systemd/system",
    ];
    let user = [
        "/etc/systemd/user",
        "/run/systemd/user",
        "/usr/local/lib/systemd/user",
        "/usr/lib/systemd/user",
    ];
    Ok(match manager {
        Manager::System => system.map(PathBuf::from).to_vec(),
        Manager::User => {
            let own = paths::home()?.join(".config/systemd/user");
            std::iter::once(own).chain(user.map(PathBuf::from)).collect()
        }
    })
}

fn drop_ins(folders: &[PathBuf], name: &str) -> Vec<PathBuf> {
    let mut found: BTreeMap<std::ffi::OsString, PathBuf> = BTreeMap::new();
    // The same name in a folder that comes first hides the others.
    for folder in folders.iter().rev() {
        for entry in fs::read_dir(folder.join(format!("{name}.d"))).into_iter().flatten().flatten()
        {
            if entry.file_name().to_string_lossy().ends_with(".conf") {
                found.insert(entry.file_name(), entry.path());
            }
        }
    }
    found.into_values().collect()
}
