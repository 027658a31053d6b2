//! Writes a printed text on the laptop, and takes it away again.
//!
//! Two files under `~/.ssh/wayhome` for each home, so that several stand side by side and one is
//! replaced without the others, and one `Include` at the top of `~/.ssh/config`. All that is
//! written is first prepared beside its place and then renamed into it: a full disk changes nothing.
//!
//! `ssh` itself takes `~` from the password database and not from `HOME`. Where the two differ, the
//! files are in `HOME`, and `ssh` does not see them.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use tempfile::NamedTempFile;
use wayhome_core::name::Name;

use super::include::{INCLUDE, block_about, lines_about, with_include, without_include};
use super::parse::Printed;
use super::render::{RoadsError, keys_of, known_names_that_changed, render_installed};
use super::values::Alias;

mod error;

pub use error::InstallError;

/// The longest `~/.ssh/config` that is read: a person's has some KB, and a file that was linked
/// there by mistake may have no end.
const MAX_CONFIG: u64 = 4 * 1024 * 1024;
/// How long to wait for another run. Each takes milliseconds.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// What was done, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The files, in the order in which they were put in place.
    pub changes: Vec<Change>,
    /// What a person should know about it.
    pub warnings: Vec<Warning>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its path as a person writes it: `~/.ssh/config`.
    pub shown: String,
    /// What became of it.
    pub what: What,
}

/// What became of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// It has this content now.
    Written(String),
    /// It had its content already.
    Unchanged,
    /// The `Include` is at its top now.
    IncludeAdded,
    /// The `Include` is gone from it.
    IncludeRemoved,
    /// It is gone.
    Removed,
}

/// What does not stop the work, and may surprise later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// Another file has a block for the same alias. `ssh` takes each setting from the first.
    AliasElsewhere {
        /// The alias.
        alias: String,
        /// The file.
        file: String,
        /// Its lines, counted from 1.
        lines: Vec<usize>,
    },
    /// None of the keys that were written for this name before is among the new ones.
    KeysReplaced {
        /// The name in known hosts.
        name: String,
    },
}

/// Installs what was read, below this home folder. A dry run only says what would be done.
pub fn install(home: &Path, printed: &Printed, dry_run: bool) -> Result<Done, InstallError> {
    let (config, known_hosts) = render_installed(&printed.roads).map_err(InstallError::Roads)?;
    let folder = SshFolder::open(home, !dry_run)?;
    let mut plan = Plan::default();
    let known_file = format!("{}.known_hosts", printed.name);
    let old_known = folder.read(&folder.ours(&known_file))?.unwrap_or_default();
    let replaced = known_names_that_changed(&printed.roads, &String::from_utf8_lossy(&old_known));
    plan.warnings.extend(replaced.into_iter().map(|name| Warning::KeysReplaced { name }));
    plan.write(&folder, &known_file, &known_hosts)?;
    plan.write(&folder, &format!("{}.conf", printed.name), &config)?;
    let (place, theirs) = folder.person_config()?;
    let what = match with_include(&theirs, &home.join(".ssh")) {
        Some(bytes) => {
            check_config_ours(&place)?;
            plan.steps.push(Step::Write { path: place, bytes, theirs: true });
            What::IncludeAdded
        }
        None => What::Unchanged,
    };
    plan.say("~/.ssh/config".into(), what);
    let elsewhere = folder.aliases_elsewhere(printed, &config, &known_hosts, &theirs)?;
    plan.warnings.extend(elsewhere);
    plan.carry_out(folder, dry_run)
}

/// Takes away what was installed under this name; with the last one the `Include` too.
pub fn remove(home: &Path, name: &Name, dry_run: bool) -> Result<Done, InstallError> {
    let folder = SshFolder::open(home, false)?;
    let installed = folder.installed()?;
    if !installed.iter().any(|other| other == name.as_str()) {
        return Err(InstallError::NotInstalled { name: name.clone(), installed });
    }
    let folder = folder.locked(!dry_run)?;
    let mut plan = Plan::default();
    if folder.installed()?.iter().all(|other| other == name.as_str()) {
        let (place, theirs) = folder.person_config()?;
        // Where it is somebody else's file, the line stays: it finds nothing any more.
        if let Some(bytes) = without_include(&theirs).filter(|_| check_config_ours(&place).is_ok())
        {
            plan.steps.push(Step::Write { path: place, bytes, theirs: true });
            plan.say("~/.ssh/config".into(), What::IncludeRemoved);
        }
    }
    for file in [format!("{name}.conf"), format!("{name}.known_hosts")] {
        let path = folder.ours(&file);
        if path.symlink_metadata().is_ok() {
            plan.steps.push(Step::Remove { path });
            plan.say(format!("~/.ssh/wayhome/{file}"), What::Removed);
        }
    }
    plan.carry_out(folder, dry_run)
}

/// A person's `~/.ssh`, which is theirs to write in; locked while it is written.
struct SshFolder {
    path: PathBuf,
    /// Folders that were made for this run, the outer ones first.
    made: Vec<PathBuf>,
    lock: Option<File>,
}

impl SshFolder {
    /// Opens the folder; for writing, makes what is missing, and locks it.
    fn open(home: &Path, write: bool) -> Result<Self, InstallError> {
        if !home.is_absolute() || !home.is_dir() {
            return Err(InstallError::NoHome(home.to_owned()));
        }
        check_ours(home)?;
        let mut folder = Self { path: home.join(".ssh"), made: Vec::new(), lock: None };
        if write {
            folder.make(home.join(".ssh"))?;
        }
        // The folder may be a link, to dotfiles that are kept elsewhere.
        if let Ok(path) = folder.path.canonicalize() {
            folder.path = path;
            check_ours(&folder.path)?;
        }
        if write {
            folder.make(folder.path.join("wayhome"))?;
            check_ours(&folder.path.join("wayhome"))?;
        }
        folder.locked(write)
    }

    fn make(&mut self, path: PathBuf) -> Result<(), InstallError> {
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => self.made.push(path),
            Err(_) if path.is_dir() => {}
            Err(error) => return Err(InstallError::io("made", &path, error)),
        }
        Ok(())
    }

    /// Waits until no other run writes here. The folder itself is locked, so that no file is left.
    fn locked(mut self, write: bool) -> Result<Self, InstallError> {
        if !write || self.lock.is_some() {
            return Ok(self);
        }
        let file = File::open(&self.path).map_err(|e| InstallError::io("opened", &self.path, e))?;
        let deadline = Instant::now() + LOCK_PATIENCE;
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(error) if error == rustix::io::Errno::WOULDBLOCK => {}
                // Some network file systems have no such locks. Each file is still whole then.
                Err(_) => break,
            }
            if Instant::now() > deadline {
                return Err(InstallError::Busy(self.path.clone()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.lock = Some(file);
        Ok(self)
    }

    fn ours(&self, file: &str) -> PathBuf {
        self.path.join("wayhome").join(file)
    }

    /// A file's content; `None` if there is no file.
    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, InstallError> {
        let failed = |error| InstallError::io("read", path, error);
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        if !metadata.is_file() || metadata.len() > MAX_CONFIG {
            return Err(InstallError::NotAFile(path.to_owned()));
        }
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(failed)?;
        file.take(MAX_CONFIG).read_to_end(&mut bytes).map_err(failed)?;
        Ok(Some(bytes))
    }

    /// Where the person's own configuration really is, past all links, and what it says.
    fn person_config(&self) -> Result<(PathBuf, Vec<u8>), InstallError> {
        let path = self.path.join("config");
        if path.symlink_metadata().is_err() {
            return Ok((path, Vec::new()));
        }
        let place =
            path.canonicalize().map_err(|error| InstallError::io("followed", &path, error))?;
        let bytes = self.read(&place)?.unwrap_or_default();
        Ok((place, bytes))
    }

    /// The homes that are installed, by name.
    fn installed(&self) -> Result<Vec<String>, InstallError> {
        let path = self.path.join("wayhome");
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(InstallError::io("read", &path, error)),
        };
        let mut names: Vec<String> = entries
            .flatten()
            .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".conf")?.to_owned()))
            .collect();
        names.sort();
        Ok(names)
    }

    /// Which other files have blocks of their own for what is installed.
    fn aliases_elsewhere(
        &self,
        printed: &Printed,
        config: &str,
        known_hosts: &str,
        theirs: &[u8],
    ) -> Result<Vec<Warning>, InstallError> {
        let Printed { name, roads } = printed;
        let homes = roads.home_aliases().map_err(InstallError::Roads)?;
        let mut warnings = Vec::new();
        let mut warn = |alias: &Alias, file: &str, lines: Vec<usize>| {
            if !lines.is_empty() {
                let (alias, file) = (alias.to_string(), file.to_owned());
                warnings.push(Warning::AliasElsewhere { alias, file, lines });
            }
        };
        let gateways = roads.gateways.iter().map(|gateway| &gateway.alias);
        for alias in homes.iter().chain(gateways) {
            warn(alias, "~/.ssh/config", lines_about(theirs, alias));
        }
        for other in self.installed()?.into_iter().filter(|other| other != name.as_str()) {
            let read = |file: &str| self.read(&self.ours(file)).map(Option::unwrap_or_default);
            let file = format!("{other}.conf");
            let bytes = read(&file)?;
            let other_known = read(&format!("{other}.known_hosts"))?;
            let other_config = String::from_utf8_lossy(&bytes);
            let file = format!("~/.ssh/wayhome/{file}");
            for alias in &homes {
                warn(alias, &file, lines_about(&bytes, alias));
            }
            for gateway in &roads.gateways {
                // Two homes behind one gateway both have a block for it, and that is well as long
                // as it says the same.
                let known_name = gateway.known_name();
                let same = block_about(&other_config, &gateway.alias)
                    == block_about(config, &gateway.alias)
                    && keys_of(&String::from_utf8_lossy(&other_known), &known_name)
                        == keys_of(known_hosts, &known_name);
                if !same {
                    warn(&gateway.alias, &file, lines_about(&bytes, &gateway.alias));
                }
            }
        }
        Ok(warnings)
    }
}

/// What is to be done, in order.
#[derive(Default)]
struct Plan {
    steps: Vec<Step>,
    changes: Vec<Change>,
    warnings: Vec<Warning>,
}

enum Step {
    /// `theirs` is the person's own configuration.
    Write {
        path: PathBuf,
        bytes: Vec<u8>,
        theirs: bool,
    },
    Remove {
        path: PathBuf,
    },
}

impl Plan {
    fn say(&mut self, shown: String, what: What) {
        self.changes.push(Change { shown, what });
    }

    /// Plans one of our own files, unless it is already what it should be.
    fn write(&mut self, folder: &SshFolder, file: &str, text: &str) -> Result<(), InstallError> {
        let path = folder.ours(file);
        let shown = format!("~/.ssh/wayhome/{file}");
        if folder.read(&path)?.is_some_and(|old| old == text.as_bytes()) {
            self.say(shown, What::Unchanged);
        } else {
            self.steps.push(Step::Write { path, bytes: text.into(), theirs: false });
            self.say(shown, What::Written(text.to_owned()));
        }
        Ok(())
    }

    fn carry_out(self, folder: SshFolder, dry_run: bool) -> Result<Done, InstallError> {
        if !dry_run && let Err(error) = carry_out(&self.steps, &folder) {
            // They are removed only where they are empty, which is what they were made as.
            folder.made.iter().rev().for_each(|made| drop(fs::remove_dir(made)));
            return Err(error);
        }
        Ok(Done { changes: self.changes, warnings: self.warnings })
    }
}

fn carry_out(steps: &[Step], folder: &SshFolder) -> Result<(), InstallError> {
    let mut ready = Vec::new();
    for step in steps {
        ready.push(match step {
            Step::Write { path, bytes, theirs } => {
                (path, Some(prepare(path, bytes).map_err(|error| error.about_config(*theirs))?))
            }
            Step::Remove { path } => (path, None),
        });
    }
    for (path, file) in ready {
        match file {
            Some(file) => {
                let renamed = file.persist(path).map_err(|error| error.error);
                renamed.map_err(|error| InstallError::io("written", path, error))?;
            }
            None => fs::remove_file(path).map_err(|e| InstallError::io("removed", path, e))?,
        }
        // The names are on the disk only when their folder is. That a file system cannot do this
        // is no reason to call the work undone.
        let _ = path.parent().map(|parent| File::open(parent).and_then(|f| f.sync_all()));
    }
    // Removes the folder only with the last home in it.
    let _ = fs::remove_dir(folder.path.join("wayhome"));
    Ok(())
}

/// Writes a file beside its place, with the mode and the group of the one that it will replace.
fn prepare(path: &Path, bytes: &[u8]) -> Result<NamedTempFile, InstallError> {
    let failed = |error| InstallError::io("written", path, error);
    let parent = path.parent().ok_or_else(|| InstallError::NotAFile(path.to_owned()))?;
    // Nothing that `wayhome/*.conf` finds; the mode is 0600 from the start.
    let mut file = tempfile::Builder::new()
        .prefix(".wayhome-")
        .suffix(".new")
        .tempfile_in(parent)
        .map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    if let Ok(old) = fs::symlink_metadata(path) {
        keep_group_and_mode(file.as_file(), &old).map_err(failed)?;
    }
    file.as_file().sync_all().map_err(failed)?;
    Ok(file)
}

fn keep_group_and_mode(file: &File, old: &Metadata) -> io::Result<()> {
    if !old.is_file() {
        return Ok(());
    }
    // Before the mode, which a change of the group may cut.
    if file.metadata()?.gid() != old.gid() {
        std::os::unix::fs::fchown(file, None, Some(old.gid()))?;
    }
    file.set_permissions(fs::Permissions::from_mode(old.mode() & 0o7777))
}

/// Refuses to write what belongs to somebody else, as `sudo` with an inherited `HOME` would: the
/// files would belong to root, and their owner's `ssh` would then refuse them.
fn check_ours(path: &Path) -> Result<(), InstallError> {
    let owner = fs::metadata(path).map_err(|e| InstallError::io("read", path, e))?.uid();
    let me = rustix::process::geteuid().as_raw();
    if owner == me {
        Ok(())
    } else {
        Err(InstallError::NotYours { path: path.to_owned(), owner, me })
    }
}

/// The person's own configuration may be a link to a file that something else makes.
fn check_config_ours(place: &Path) -> Result<(), InstallError> {
    if place.exists() && check_ours(place).is_err() {
        return Err(InstallError::ConfigMade(place.to_owned()));
    }
    Ok(())
}
