//! Why nothing was written, and what to do about it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use wayhome_core::name::Name;

use crate::ssh_config::include::INCLUDE;
use crate::ssh_config::render::RoadsError;

/// Why a text was not installed or not removed. Nothing was changed, except if a rename failed
/// after another had been done; each file is whole in any case.
#[derive(Debug)]
pub enum InstallError {
    /// The home folder is not there.
    NoHome(PathBuf),
    /// A file or folder belongs to another user.
    NotYours {
        /// What.
        path: PathBuf,
        /// Whose.
        owner: u32,
        /// Who this runs as.
        me: u32,
    },
    /// The person's own configuration is a link to a file that belongs to somebody else.
    ConfigMade(PathBuf),
    /// It is no plain file, or too large for what it should be.
    NotAFile(PathBuf),
    /// It changes faster than it can be written.
    Restless(PathBuf),
    /// Another run holds the lock.
    Busy(PathBuf),
    /// There is nothing of this name.
    NotInstalled {
        /// The name.
        name: Name,
        /// What there is.
        installed: Vec<String>,
    },
    /// An alias of the text means something else here already.
    AliasTaken {
        /// The alias.
        alias: String,
        /// The file that knows it.
        file: String,
        /// Its lines, counted from 1.
        lines: Vec<usize>,
    },
    /// The person's known hosts cannot be searched.
    KnownHosts(String),
    /// The roads cannot be written down.
    Roads(RoadsError),
    /// The system refused.
    Io {
        /// What could not be done, as a participle.
        done: &'static str,
        /// To what.
        path: PathBuf,
        /// Why.
        source: io::Error,
        /// Whether it is the person's own configuration.
        config: bool,
    },
}

impl InstallError {
    pub(super) fn io(done: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { done, path: path.to_owned(), source, config: false }
    }

    /// Says of an error with a file whether that is the person's own configuration.
    pub(super) fn about_config(self, config: bool) -> Self {
        match self {
            Self::Io { done, path, source, .. } => Self::Io { done, path, source, config },
            other => other,
        }
    }
}

impl fmt::Display for InstallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHome(path) => {
                write!(f, "the home folder `{}` is not there: check `HOME`", path.display())
            }
            Self::NotYours { path, owner, me } => write!(
                f,
                "`{}` belongs to user {owner} and this runs as user {me}: run it as user {owner}, \
                 without sudo",
                path.display()
            ),
            Self::NotAFile(path) => write!(
                f,
                "`{}` is not a plain file of a size that is read: see what stands there",
                path.display()
            ),
            Self::Busy(path) => write!(
                f,
                "another `wayhome ssh-config` has been writing in `{}` for 10 seconds: wait for it \
                 or end it",
                path.display()
            ),
            Self::Restless(path) => write!(
                f,
                "something else writes `{}` all the time: see what does, and run this again",
                path.display()
            ),
            Self::NotInstalled { name, installed } if installed.is_empty() => {
                write!(f, "`{name}` is not installed here, and nothing else is")
            }
            Self::NotInstalled { name, installed } => {
                write!(f, "`{name}` is not installed here, but: `{}`", installed.join("`, `"))
            }
            Self::AliasTaken { alias, file, lines } => {
                let lines: Vec<String> = lines.iter().map(usize::to_string).collect();
                write!(
                    f,
                    "`{alias}` means something else here already (`{file}`, line {}), and this \
                     text would take it over: rename or remove that, or print the text with \
                     another name (`--alias`, `--gateway-alias`)",
                    lines.join(", ")
                )
            }
            Self::KnownHosts(why) => f.write_str(why),
            Self::Roads(error) => error.fmt(f),
            Self::ConfigMade(path) => write!(
                f,
                "`~/.ssh/config` is `{}`, which belongs to somebody else: have `{INCLUDE}` put at \
                 its top, and run this again",
                path.display()
            ),
            Self::Io { done, path, source, config } => {
                write!(f, "`{}` could not be {done}: {source}", path.display())?;
                let read_only = matches!(
                    source.kind(),
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
                );
                // Dotfiles that a package manager makes are read-only, and a person can do there
                // what this program cannot.
                if read_only && *config {
                    write!(f, "; add `{INCLUDE}` to its top yourself, and run this again")?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for InstallError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // The texts of both are part of this one's own.
        None
    }
}
