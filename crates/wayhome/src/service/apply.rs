//! Files as a plan wants them: whole or not at all, with the right owner and mode, and undone if
//! what they were made for does not come about.

use std::fs::{self, File, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, renameat, unlinkat};

use super::account::Account;
use crate::error::{Failure, Outcome};
use crate::report;

/// The largest key or certificate that is copied; a file that is larger is something else.
const MAX_KEY: u64 = 64 * 1024;

/// What has been changed, and how it was before.
#[derive(Debug, Default)]
pub struct Changes {
    undo: Vec<Undo>,
}

#[derive(Debug)]
enum Undo {
    Folder(PathBuf),
    File(PathBuf, Option<Before>),
}

#[derive(Debug)]
struct Before {
    content: Vec<u8>,
    mode: u32,
    uid: u32,
    gid: u32,
}

/// How a file is to be.
#[derive(Clone, Copy, Debug)]
pub struct Kind<'a> {
    /// Its mode.
    pub mode: u32,
    /// Its owner, if that is somebody else than who writes it.
    pub owner: Option<&'a Account>,
}

impl Changes {
    /// Makes a folder and those above it, if they are missing.
    pub fn folder(&mut self, path: &Path, mode: u32, owner: Option<&Account>) -> Outcome {
        if path.is_dir() {
            return Ok(());
        }
        if let Some(above) = path.parent() {
            self.folder(above, mode.max(0o755), None)?;
        }
        let made = fs::DirBuilder::new().mode(mode).create(path).and_then(|()| {
            // The mask of whoever installs may have taken something away.
            fs::set_permissions(path, Permissions::from_mode(mode))?;
            match owner {
                Some(owner) => fchown(File::open(path)?, Some(owner.uid), Some(owner.gid)),
                None => Ok(()),
            }
        });
        made.map_err(|error| not_made("the folder", path, &error))?;
        self.undo.push(Undo::Folder(path.to_owned()));
        Ok(())
    }

    /// Writes a file. `false` if it was there already, the same in all.
    pub fn file(&mut self, path: &Path, content: &[u8], kind: Kind<'_>) -> Outcome<bool> {
        let failed = |error: &io::Error| not_made("the file", path, error);
        let before = before(path).map_err(|e| failed(&e))?;
        if before.as_ref().is_some_and(|before| before.is(content, kind)) {
            return Ok(false);
        }
        replace(path, content, kind.mode, kind.owner.map(|owner| (owner.uid, owner.gid)))
            .map_err(|e| failed(&e))?;
        self.undo.push(Undo::File(path.to_owned(), before));
        Ok(true)
    }

    /// Copies a private key, and what of `.pub` and `-cert.pub` lies beside it.
    pub fn key(&mut self, from: &Path, to: &Path, owner: Option<&Account>) -> Outcome<bool> {
        let mut changed = false;
        for end in ["", ".pub", "-cert.pub"] {
            let (from, to) = (with_end(from, end), with_end(to, end));
            let content = match read_small(&from) {
                Ok(content) => content,
                Err(error) if error.kind() == io::ErrorKind::NotFound && !end.is_empty() => {
                    continue;
                }
                Err(error) => {
                    let what = format!("the key `{}` cannot be read", from.display());
                    return Err(Failure::new(what).because(&error));
                }
            };
            changed |= self.file(&to, &content, Kind { mode: 0o600, owner })?;
        }
        Ok(changed)
    }

    /// Puts everything back as it was, the last first.
    pub fn undo(self) {
        for undo in self.undo.into_iter().rev() {
            // What cannot be removed is in nobody's way: a folder that something else lies in.
            let _ = match undo {
                Undo::Folder(path) => fs::remove_dir(path),
                Undo::File(path, None) => fs::remove_file(path),
                Undo::File(path, Some(before)) => {
                    let owner = Some((before.uid, before.gid));
                    if let Err(error) = replace(&path, &before.content, before.mode, owner) {
                        let shown = path.display();
                        report::warning(format!(
                            "`{shown}` could not be put back as it was: {error}"
                        ));
                        // What was written before it may be the only copy: that stays.
                        return;
                    }
                    Ok(())
                }
            };
        }
    }
}

impl Before {
    fn is(&self, content: &[u8], kind: Kind<'_>) -> bool {
        self.content == content
            && self.mode == kind.mode
            && kind.owner.is_none_or(|owner| (self.uid, self.gid) == (owner.uid, owner.gid))
    }
}

fn before(path: &Path) -> io::Result<Option<Before>> {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !meta.is_file() {
        return Err(io::Error::other("something else than a file is there already"));
    }
    let mode = meta.mode() & 0o7777;
    Ok(Some(Before { content: fs::read(path)?, mode, uid: meta.uid(), gid: meta.gid() }))
}

/// Written beside, synced, renamed. The folder is opened once, and by itself, not through a link
/// that its owner may have put there meanwhile.
fn replace(path: &Path, content: &[u8], mode: u32, owner: Option<(u32, u32)>) -> io::Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let mut flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    if owner.is_some_and(|(uid, _)| uid != rustix::process::geteuid().as_raw()) {
        flags |= OFlags::NOFOLLOW;
    }
    let folder = openat(CWD, folder, flags, Mode::empty())?;
    let beside = format!(".{}.{}", name.to_string_lossy(), std::process::id());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(&folder, &beside, flags, Mode::RUSR | Mode::WUSR)?);
    let written = (|| {
        file.write_all(content)?;
        if let Some((uid, gid)) = owner {
            fchown(&file, Some(uid), Some(gid))?;
        }
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_all()?;
        renameat(&folder, &beside, &folder, name)?;
        File::from(folder.try_clone()?).sync_all()
    })();
    if written.is_err() {
        let _ = unlinkat(&folder, &beside, AtFlags::empty());
    }
    written
}

fn read_small(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?.take(MAX_KEY + 1).read_to_end(&mut content)?;
    if u64::try_from(content.len()).is_ok_and(|length| length <= MAX_KEY) {
        Ok(content)
    } else {
        Err(io::Error::other("it is too large"))
    }
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut whole = path.as_os_str().to_owned();
    whole.push(end);
    PathBuf::from(whole)
}

fn not_made(what: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("{what} `{}` cannot be written", path.display())).because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRIVATE: Kind<'_> = Kind { mode: 0o600, owner: None };

    #[test]
    fn what_was_made_is_undone() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        fs::write(at("old"), "before").unwrap();
        fs::set_permissions(at("old"), Permissions::from_mode(0o640)).unwrap();
        let mut changes = Changes::default();
        changes.folder(&at("a/b"), 0o700, None).unwrap();
        assert!(changes.file(&at("a/b/new"), b"new", PRIVATE).unwrap());
        assert!(!changes.file(&at("a/b/new"), b"new", PRIVATE).unwrap(), "it is there already");
        assert!(changes.file(&at("old"), b"after", PRIVATE).unwrap());
        let mode = |name: &str| at(name).metadata().unwrap().mode() & 0o7777;
        assert_eq!((mode("a"), mode("a/b"), mode("a/b/new")), (0o755, 0o700, 0o600));
        assert_eq!(fs::read_dir(at("a/b")).unwrap().count(), 1, "nothing is left beside it");
        changes.undo();
        assert!(!at("a").exists());
        assert_eq!((fs::read(at("old")).unwrap(), mode("old")), (b"before".to_vec(), 0o640));
    }

    #[test]
    fn a_copy_stays_if_what_it_is_of_cannot_be_put_back() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        fs::write(at("agent.toml"), "mine").unwrap();
        let mut changes = Changes::default();
        changes.file(&at("agent.toml.old"), b"mine", PRIVATE).unwrap();
        changes.file(&at("agent.toml"), b"new", PRIVATE).unwrap();
        fs::remove_file(at("agent.toml")).unwrap();
        fs::create_dir(at("agent.toml")).unwrap();
        changes.undo();
        assert_eq!(fs::read(at("agent.toml.old")).unwrap(), b"mine");
    }

    #[test]
    fn a_key_brings_its_public_half_and_is_private() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        fs::write(at("id"), "secret").unwrap();
        fs::write(at("id-cert.pub"), "certificate").unwrap();
        assert!(Changes::default().key(&at("id"), &at("copy"), None).unwrap());
        assert_eq!(fs::read(at("copy-cert.pub")).unwrap(), b"certificate");
        assert!(!at("copy.pub").exists());
        assert_eq!(at("copy").metadata().unwrap().mode() & 0o7777, 0o600);
        fs::write(at("id"), [0; 70_000]).unwrap();
        assert!(Changes::default().key(&at("id"), &at("large"), None).is_err());
    }

    #[test]
    fn a_link_is_not_written_through() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        fs::write(at("precious"), "mine").unwrap();
        std::os::unix::fs::symlink(at("precious"), at("link")).unwrap();
        assert!(Changes::default().file(&at("link"), b"x", PRIVATE).is_err());
        if rustix::process::geteuid().is_root() {
            fs::create_dir(at("folder")).unwrap();
            std::os::unix::fs::symlink(at("folder"), at("linked")).unwrap();
            let owner =
                Account { name: "other".into(), uid: 4242, gid: 4242, home: "/nowhere".into() };
            let kind = Kind { mode: 0o600, owner: Some(&owner) };
            assert!(Changes::default().file(&at("linked/x"), b"x", kind).is_err());
            Changes::default().file(&at("folder/x"), b"x", kind).unwrap();
            assert_eq!(at("folder/x").metadata().unwrap().uid(), 4242);
        }
        assert_eq!(fs::read(at("precious")).unwrap(), b"mine");
    }
}
