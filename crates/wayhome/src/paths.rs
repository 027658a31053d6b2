//! Where things lie: `/etc/wayhome`, `/var/lib/wayhome` and `/run/wayhome` for root, the XDG folders
//! for everybody else. The names that systemd gives a service (`STATE_DIRECTORY`,
//! `RUNTIME_DIRECTORY`) come first.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, fchown};
use std::path::{Path, PathBuf};

use crate::error::{Failure, Outcome};

/// The folder for what must outlive the agent: pins, recorded sessions.
pub fn state_dir() -> Outcome<PathBuf> {
    if let Some(dir) = from_systemd("STATE_DIRECTORY")? {
        return Ok(dir);
    }
    if is_root() {
        return Ok(PathBuf::from("/var/lib/wayhome"));
    }
    match from_xdg("XDG_STATE_HOME") {
        Some(dir) => Ok(dir.join("wayhome")),
        None => home()
            .map(|home| home.join(".local/state/wayhome"))
            .map_err(|failure| failure.hint(FOR_THE_AGENT)),
    }
}

/// The folder for configurations.
pub fn config_dir() -> Outcome<PathBuf> {
    if is_root() {
        return Ok(PathBuf::from("/etc/wayhome"));
    }
    match from_xdg("XDG_CONFIG_HOME") {
        Some(dir) => Ok(dir.join("wayhome")),
        None => Ok(home()?.join(".config/wayhome")),
    }
}

/// The folder for sockets.
pub fn runtime_dir() -> Outcome<PathBuf> {
    if let Some(dir) = from_systemd("RUNTIME_DIRECTORY")? {
        return Ok(dir);
    }
    if is_root() {
        return Ok(PathBuf::from("/run/wayhome"));
    }
    match from_xdg("XDG_RUNTIME_DIR") {
        Some(dir) => Ok(dir.join("wayhome")),
        None => Ok(state_dir()?.join("run")),
    }
}

/// The person's home folder.
pub fn home() -> Outcome<PathBuf> {
    match set("HOME") {
        Some(home) => from_root("HOME", home),
        None => Err(Failure::usage("`HOME` is not set, so it cannot be told where your files lie")
            .hint("set `HOME` to your home folder")),
    }
}

/// Replaces a leading `~/`, as a shell would have done.
pub fn expand(path: &str) -> Outcome<PathBuf> {
    match path.strip_prefix("~/") {
        Some(rest) => Ok(home()?.join(rest)),
        None => Ok(PathBuf::from(path)),
    }
}

/// The path from the root on, so that it means the same to whoever is told of it, in any folder.
/// Links and `..` stay as they are.
pub fn absolute(path: &Path) -> Outcome<PathBuf> {
    std::path::absolute(path).map_err(|error| {
        Failure::usage(format!("it cannot be told where `{}` lies", path.display()))
            .because(&error)
            .hint("go to a folder that exists, or name the file from `/` on")
    })
}

/// Whether a path can be given to ssh as it is. In its options a quote ends the path, a backslash
/// means one thing in one version and another in the next, and `${NAME}` is expanded with no way to
/// say it literally; `%` can be, and is.
pub fn for_ssh(path: &Path) -> Outcome {
    let bytes = path.as_os_str().as_bytes();
    let word = if bytes.contains(&b'"') {
        "a quotation mark"
    } else if bytes.contains(&b'\\') {
        "a backslash"
    } else if bytes.windows(2).any(|two| two == b"${") {
        "`${`"
    } else if bytes.iter().any(u8::is_ascii_control) {
        "a control character"
    } else {
        return Ok(());
    };
    let shown = path.display().to_string();
    Err(Failure::usage(format!(
        "ssh cannot be given the path `{}`: it has {word} in it",
        shown.escape_debug()
    ))
    .hint("rename the file or the folder, or name another one"))
}

/// Makes a folder that only its owner can open. One that exists is left as it is, since it may serve
/// others too; but it has to be ours, and nobody else's to write in.
pub fn private_dir(dir: &Path) -> Outcome {
    let failed = |why: &io::Error| {
        Failure::new(format!("the folder `{}` cannot be used", dir.display())).because(why)
    };
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| failed(&e))?;
    let meta = fs::metadata(dir).map_err(|e| failed(&e))?;
    if meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(Failure::new(format!(
            "the folder `{}` belongs to another user (uid {})",
            dir.display(),
            meta.uid()
        ))
        .hint("remove it, or run the agent as its owner"));
    }
    if meta.mode() & 0o022 != 0 {
        let (dir, mode) = (dir.display(), meta.mode() & 0o7777);
        return Err(Failure::usage(format!(
            "others can write in the folder `{dir}` (mode {mode:04o})"
        ))
        .hint(format!(
            "name a folder of the agent's own (`STATE_DIRECTORY` and `RUNTIME_DIRECTORY` do), or, if `{dir}` is one, `chmod 700` it"
        )));
    }
    Ok(())
}

/// Makes a folder that only its owner can open, if there is none; one that exists is left as it is.
pub fn private_dir_if_missing(dir: &Path) -> Outcome {
    if dir.as_os_str().is_empty() || dir.is_dir() { Ok(()) } else { private_dir(dir) }
}

/// Replaces a file as a whole: written beside, synced, renamed. Only its owner can read it.
pub fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    write_as(path, content, None)
}

/// The same for a file that may be a person's own: mode and owner stay, and so does a link to it.
/// A new one only its owner can read.
pub fn rewrite(path: &Path, content: &[u8]) -> io::Result<()> {
    match fs::canonicalize(path) {
        Ok(file) => write_as(&file, content, Some(&fs::metadata(&file)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::read_link(path) {
            // A link to what does not exist yet.
            Ok(target) => {
                let dir = path.parent().unwrap_or(Path::new(""));
                write_private(&dir.join(target), content)
            }
            Err(_) => write_private(path, content),
        },
        Err(error) => Err(error),
    }
}

fn write_as(path: &Path, content: &[u8], like: Option<&fs::Metadata>) -> io::Result<()> {
    let dir = match path.parent() {
        Some(dir) if dir.as_os_str().is_empty() => Path::new("."),
        Some(dir) => dir,
        None => return Err(io::ErrorKind::InvalidFilename.into()),
    };
    // A temporary file is made with mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(content)?;
    if let Some(like) = like {
        let now = file.as_file().metadata()?;
        if (now.uid(), now.gid()) != (like.uid(), like.gid()) {
            fchown(file.as_file(), Some(like.uid()), Some(like.gid()))?;
        }
        file.as_file().set_permissions(like.permissions())?;
    }
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(dir)?.sync_all()
}

/// What to do where only the agent's own folders need a home.
const FOR_THE_AGENT: &str =
    "set `HOME` to your home folder, or `STATE_DIRECTORY` and `RUNTIME_DIRECTORY`";

/// A variable that says something: an empty one is as good as none.
fn set(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// A folder that systemd made. It may list several; the first is the main one.
fn from_systemd(name: &str) -> Outcome<Option<PathBuf>> {
    let Some(value) = set(name) else { return Ok(None) };
    let first = value.as_bytes().split(|byte| *byte == b':').next().unwrap_or_default();
    from_root(name, OsStr::from_bytes(first).to_owned()).map(Some)
}

/// A folder that the XDG Base Directory Specification names, by which a relative one counts as none.
fn from_xdg(name: &str) -> Option<PathBuf> {
    set(name).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// A folder as a variable names it. A relative one would be another for each who reads it.
fn from_root(name: &str, value: OsString) -> Outcome<PathBuf> {
    let path = PathBuf::from(value);
    if path.is_absolute() {
        return Ok(path);
    }
    let shown = path.display().to_string();
    Err(Failure::usage(format!(
        "`{name}` is `{}`, which does not begin with `/`",
        shown.escape_debug()
    ))
    .hint("name the folder from `/` on"))
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn ssh_is_given_no_path_that_it_would_read_otherwise() {
        for path in ["/a b/k", "/d/50%/k", "/%d/$HOME/k", "/é/'k'", "/d/$"] {
            for_ssh(Path::new(path)).unwrap();
        }
        for path in ["/a\"b", "/a\\", "/${HOME}/k", "/a\nb", "/a\0b"] {
            let said = for_ssh(Path::new(path)).unwrap_err().to_string();
            assert!(said.contains(" in it\n  hint: ") && !said.contains('\0'), "{said}");
        }
    }

    #[test]
    fn a_folder_of_others_is_neither_changed_nor_used() {
        let outer = tempfile::tempdir().unwrap();
        let made = outer.path().join("a/wayhome");
        private_dir(&made).unwrap();
        assert_eq!(mode(&made), 0o700);
        let shared = outer.path().join("tmp");
        fs::create_dir(&shared).unwrap();
        for open in [0o1777, 0o770] {
            set_mode(&shared, open);
            let error = private_dir(&shared).unwrap_err().to_string();
            assert!(error.contains(&format!("mode {open:04o}")), "{error}");
            assert_eq!(mode(&shared), open);
        }
        set_mode(&shared, 0o755);
        private_dir(&shared).unwrap();
        assert_eq!(mode(&shared), 0o755);
    }

    #[test]
    fn a_persons_own_file_keeps_its_mode_and_the_link_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        // To what does not exist yet, and then to what does.
        symlink("file", &link).unwrap();
        rewrite(&link, b"one").unwrap();
        assert_eq!((mode(&file), fs::read(&file).unwrap()), (0o600, b"one".to_vec()));
        set_mode(&file, 0o644);
        rewrite(&link, b"two").unwrap();
        assert_eq!((mode(&file), fs::read(&file).unwrap()), (0o644, b"two".to_vec()));
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        write_private(&file, b"three").unwrap();
        assert_eq!(mode(&file), 0o600);
    }
}
