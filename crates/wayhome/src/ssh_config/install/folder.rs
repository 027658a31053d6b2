//! A person's `~/.ssh`: whose it is, what is in it, and the lock on it. Writes no file.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use super::{InstallError, Warning};
use crate::agent::ssh::known;
use crate::command::agent::runtime;
use crate::error::Failure;
use crate::ssh_config::include::{block_about, lines_about};
use crate::ssh_config::parse::Printed;
use crate::ssh_config::render::keys_of;
use crate::ssh_config::values::Alias;

/// The longest `~/.ssh/config` that is read: a person's has some KB, and a file that was linked
/// there by mistake may have no end.
const MAX_CONFIG: u64 = 4 * 1024 * 1024;
/// How long to wait for another run. Each takes milliseconds.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// A person's `~/.ssh`, which is theirs to write in; locked while it is written.
pub(super) struct SshFolder {
    pub(super) path: PathBuf,
    /// Folders that were made for this run, the outer ones first.
    made: Vec<PathBuf>,
    lock: Option<File>,
}

impl SshFolder {
    /// Opens the folder; for writing, makes what is missing, and locks it.
    pub(super) fn open(home: &Path, write: bool) -> Result<Self, InstallError> {
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
        let mut folder = folder.locked(write)?;
        // Under the lock, since a run that takes the last home away removes it.
        if write {
            folder.make(folder.path.join("wayhome"))?;
            check_ours(&folder.path.join("wayhome"))?;
        }
        Ok(folder)
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
    pub(super) fn locked(mut self, write: bool) -> Result<Self, InstallError> {
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

    pub(super) fn ours(&self, file: &str) -> PathBuf {
        self.path.join("wayhome").join(file)
    }

    /// A file's content; `None` if there is no file.
    pub(super) fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, InstallError> {
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
        let length = file.take(MAX_CONFIG + 1).read_to_end(&mut bytes).map_err(failed)?;
        // It may have grown meanwhile, and what is read in part must not be written back.
        if u64::try_from(length).is_ok_and(|length| length <= MAX_CONFIG) {
            Ok(Some(bytes))
        } else {
            Err(InstallError::NotAFile(path.to_owned()))
        }
    }

    /// Where the person's own configuration really is, past all links, and what it says.
    pub(super) fn person_config(&self) -> Result<(PathBuf, Vec<u8>), InstallError> {
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
    pub(super) fn installed(&self) -> Result<Vec<String>, InstallError> {
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

    /// Refuses a text that takes over what means something else here. What an earlier text of the
    /// same home brought is its own.
    pub(super) fn check_free(
        &self,
        printed: &Printed,
        config: &str,
        known_hosts: &str,
        theirs: &[u8],
    ) -> Result<(), InstallError> {
        let before = self.read(&self.ours(&format!("{}.conf", printed.name)))?.unwrap_or_default();
        let is_new = |alias: &Alias| lines_about(&before, alias).is_empty();
        for warning in self.aliases_elsewhere(printed, config, known_hosts, theirs)? {
            if let Warning::AliasElsewhere { alias, file, lines } = warning
                && alias.parse().is_ok_and(|alias| is_new(&alias))
            {
                return Err(InstallError::AliasTaken { alias, file, lines });
            }
        }
        let Printed { roads, .. } = printed;
        let homes = roads.home_aliases().map_err(InstallError::Roads)?;
        let homes = homes.iter().zip(roads.homes.iter().map(|home| &home.host_keys));
        let gateways = roads.gateways.iter().map(|gateway| (&gateway.alias, &gateway.host_keys));
        let native = roads.native_aliases().map_err(InstallError::Roads)?;
        let native = native.iter().zip(roads.native.iter().map(|road| &road.host_keys));
        // Where no keys are written, those that the person's own file has are the right ones.
        let native = native.filter(|(_, keys)| !keys.is_empty());
        let file = self.path.join("known_hosts");
        let failed = |why: Failure| InstallError::KnownHosts(why.to_string());
        let runtime = runtime().map_err(failed)?;
        for (alias, keys) in homes.chain(gateways).chain(native).filter(|(alias, _)| is_new(alias))
        {
            let known = runtime.block_on(known::find(&file, alias.as_str())).map_err(failed)?;
            let others = known.iter().filter(|known| !keys.contains(&known.key));
            let lines: Vec<usize> = others.map(|known| known.line).collect();
            if !lines.is_empty() {
                let (alias, file) = (alias.to_string(), "~/.ssh/known_hosts".to_owned());
                return Err(InstallError::AliasTaken { alias, file, lines });
            }
        }
        Ok(())
    }

    /// Which other files have blocks of their own for what is installed.
    pub(super) fn aliases_elsewhere(
        &self,
        printed: &Printed,
        config: &str,
        known_hosts: &str,
        theirs: &[u8],
    ) -> Result<Vec<Warning>, InstallError> {
        let Printed { name, roads } = printed;
        let mut homes = roads.home_aliases().map_err(InstallError::Roads)?;
        homes.extend(roads.native_aliases().map_err(InstallError::Roads)?);
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

impl Drop for SshFolder {
    /// Leaves no empty folder behind when nothing was written into those that were made. The lock
    /// is still held.
    fn drop(&mut self) {
        self.made.iter().rev().for_each(|made| drop(fs::remove_dir(made)));
    }
}

/// The person's own configuration may be a link to a file that something else makes.
pub(super) fn check_config_ours(place: &Path) -> Result<(), InstallError> {
    if place.exists() && check_ours(place).is_err() {
        return Err(InstallError::ConfigMade(place.to_owned()));
    }
    Ok(())
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
