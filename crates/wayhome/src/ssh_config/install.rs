//! Writes a printed text on the laptop, and takes it away again.
//!
//! Two files under `~/.ssh/wayhome` for each home, so that several stand side by side and one is
//! replaced without the others, and one `Include` at the top of `~/.ssh/config`. All that is
//! written is first prepared beside its place and then renamed into it: a full disk changes nothing.
//! The person's own file is read once more just before that, since an editor knows of no lock.
//!
//! `ssh` itself takes `~` from the password database and not from `HOME`. Where the two differ, the
//! files are in `HOME`, and `ssh` does not see them.

use std::fs::{self, File, Metadata};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use wayhome_core::name::Name;

use super::include::{with_include, without_include};
use super::parse::Printed;
use super::render::{known_names_that_changed, render_installed};

mod error;
mod folder;

pub use error::InstallError;
use folder::{SshFolder, check_config_ours};

/// How often the person's own file may change under our hands before we give up. An editor changes
/// it once; what changes it all the time is a program that fights us.
const EDITS: usize = 5;

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
    let (plan, folder) = plan(home, printed, dry_run)?;
    plan.carry_out(folder, dry_run)
}

fn plan(home: &Path, printed: &Printed, dry_run: bool) -> Result<(Plan, SshFolder), InstallError> {
    let (config, known_hosts) = render_installed(&printed.roads).map_err(InstallError::Roads)?;
    let folder = SshFolder::open(home, !dry_run)?;
    let mut plan = Plan::default();
    let known_file = format!("{}.known_hosts", printed.name);
    let old_known = folder.read(&folder.ours(&known_file))?.unwrap_or_default();
    let replaced = known_names_that_changed(&printed.roads, &String::from_utf8_lossy(&old_known));
    plan.warnings.extend(replaced.into_iter().map(|name| Warning::KeysReplaced { name }));
    plan.write(&folder, &known_file, &known_hosts)?;
    plan.write(&folder, &format!("{}.conf", printed.name), &config)?;
    let (place, mut theirs) = folder.person_config()?;
    folder.check_free(printed, &config, &known_hosts, &theirs)?;
    let mut what = What::Unchanged;
    let ssh_folder = home.join(".ssh");
    let edit: Edit = Box::new(move |theirs| with_include(theirs, &ssh_folder));
    if let Some(bytes) = edit(&theirs) {
        check_config_ours(&place)?;
        let was = std::mem::replace(&mut theirs, bytes);
        plan.steps.push(Step::Edit { path: place, was, edit });
        what = What::IncludeAdded;
    }
    plan.say("~/.ssh/config".into(), what);
    let elsewhere = folder.aliases_elsewhere(printed, &config, &known_hosts, &theirs)?;
    plan.warnings.extend(elsewhere);
    Ok((plan, folder))
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
        if without_include(&theirs).is_some() && check_config_ours(&place).is_ok() {
            let edit = Box::new(without_include);
            plan.steps.push(Step::Edit { path: place, was: theirs, edit });
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

/// What is to be done, in order.
#[derive(Default)]
struct Plan {
    steps: Vec<Step>,
    changes: Vec<Change>,
    warnings: Vec<Warning>,
}

enum Step {
    /// A file of ours.
    Write {
        path: PathBuf,
        bytes: Vec<u8>,
    },
    /// The person's own configuration, as it was when the rest was planned.
    Edit {
        path: PathBuf,
        was: Vec<u8>,
        edit: Edit,
    },
    Remove {
        path: PathBuf,
    },
}

/// What is done to a file's content, if there is anything to do.
type Edit = Box<dyn Fn(&[u8]) -> Option<Vec<u8>>>;

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
            self.steps.push(Step::Write { path, bytes: text.into() });
            self.say(shown, What::Written(text.to_owned()));
        }
        Ok(())
    }

    fn carry_out(self, folder: SshFolder, dry_run: bool) -> Result<Done, InstallError> {
        if !dry_run {
            carry_out(&self.steps, &folder)?;
        }
        Ok(Done { changes: self.changes, warnings: self.warnings })
    }
}

fn carry_out(steps: &[Step], folder: &SshFolder) -> Result<(), InstallError> {
    let mut ready = Vec::new();
    for step in steps {
        ready.push(match step {
            Step::Write { path, bytes } => Some(prepare(path, bytes)?),
            Step::Edit { path, was, edit } => prepare_edit(path, was, edit)?,
            Step::Remove { .. } => None,
        });
    }
    for (step, file) in steps.iter().zip(ready) {
        let (Step::Write { path, .. } | Step::Edit { path, .. } | Step::Remove { path }) = step;
        let file = match step {
            Step::Edit { path, was, edit } => up_to_date(folder, path, was, edit, file)?,
            Step::Write { .. } | Step::Remove { .. } => file,
        };
        match file {
            Some(file) => {
                let renamed = file.persist(path).map_err(|error| error.error);
                renamed.map_err(|error| InstallError::io("written", path, error))?;
            }
            None if matches!(step, Step::Edit { .. }) => {}
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

fn prepare_edit(
    path: &Path,
    was: &[u8],
    edit: &Edit,
) -> Result<Option<NamedTempFile>, InstallError> {
    let prepared = edit(was).map(|bytes| prepare(path, &bytes)).transpose();
    prepared.map_err(|error| error.about_config(true))
}

/// The prepared file, made anew if the one that it replaces has changed since it was read; none if
/// the change left nothing to do.
fn up_to_date(
    folder: &SshFolder,
    path: &Path,
    was: &[u8],
    edit: &Edit,
    prepared: Option<NamedTempFile>,
) -> Result<Option<NamedTempFile>, InstallError> {
    let mut prepared = prepared;
    let mut was = was.to_vec();
    for _ in 0..EDITS {
        let now = folder.read(path)?.unwrap_or_default();
        if now == was {
            return Ok(prepared);
        }
        prepared = prepare_edit(path, &now, edit)?;
        was = now;
    }
    Err(InstallError::Restless(path.to_owned()))
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

#[cfg(test)]
mod tests {
    use super::super::include::INCLUDE;
    use super::super::{parse, round_trip};
    use super::*;

    #[test]
    fn an_edit_in_between_is_not_lost() {
        let printed = parse(&round_trip::printed()).unwrap();
        for (edited, expected) in [
            ("Host a\nHost b\n", format!("{INCLUDE}\nHost a\nHost b\n")),
            // By hand, in another of its forms.
            ("Include wayhome/*.conf\n", "Include wayhome/*.conf\n".to_owned()),
        ] {
            let home = tempfile::tempdir().unwrap();
            let config = home.path().join(".ssh/config");
            fs::create_dir(home.path().join(".ssh")).unwrap();
            fs::write(&config, "Host a\n").unwrap();
            let (plan, folder) = plan(home.path(), &printed, false).unwrap();
            fs::write(&config, edited).unwrap();
            plan.carry_out(folder, false).unwrap();
            assert_eq!(fs::read_to_string(&config).unwrap(), expected);
        }
    }

    #[test]
    fn what_is_never_still_is_not_written() {
        let home = tempfile::tempdir().unwrap();
        let config = home.path().join(".ssh/config");
        let folder = SshFolder::open(home.path(), true).unwrap();
        let fighting = config.clone();
        let edit: Edit = Box::new(move |theirs| {
            fs::write(&fighting, [theirs, b"#"].concat()).unwrap();
            Some(theirs.to_vec())
        });
        let steps = [Step::Edit { path: config, was: Vec::new(), edit }];
        let error = carry_out(&steps, &folder).unwrap_err();
        assert!(matches!(error, InstallError::Restless(_)), "{error}");
    }
}
