//! Which OpenSSH to run: the machine's own, or a newer one that lies extracted in a folder.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Doing, Error, Result};

/// Where the programs of one OpenSSH are.
#[derive(Clone, Debug)]
pub struct OpenSsh {
    ssh: PathBuf,
    sshd: PathBuf,
    ssh_keygen: PathBuf,
    ssh_keyscan: PathBuf,
    sshd_session: Option<PathBuf>,
    sshd_auth: Option<PathBuf>,
}

/// A version of OpenSSH, without its patch level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The 9 of 9.2.
    pub major: u32,
    /// The 2 of 9.2.
    pub minor: u32,
}

impl OpenSsh {
    /// The machine's own, from `PATH` and then `/usr/sbin`, where Debian keeps `sshd`.
    pub fn system() -> Result<OpenSsh> {
        Ok(OpenSsh {
            ssh: find("ssh", "openssh-client")?,
            sshd: find("sshd", "openssh-server")?,
            ssh_keygen: find("ssh-keygen", "openssh-client")?,
            ssh_keyscan: find("ssh-keyscan", "openssh-client")?,
            sshd_session: None,
            sshd_auth: None,
        })
    }

    /// A server from the folder into which Debian's `openssh-server` (10 or newer) was extracted;
    /// the client's programs too, if `openssh-client` was, and else the machine's own.
    pub fn backports(folder: &Path) -> Result<OpenSsh> {
        let there = |path: &str| Some(folder.join(path)).filter(|path| path.is_file());
        let needed = |path: &str| {
            there(path).ok_or_else(|| {
                Error::new(format!(
                    "no `{path}` in `{}`; extract Debian's openssh-server 10 or newer there",
                    folder.display()
                ))
            })
        };
        let client = |name: &str| match there(&format!("usr/bin/{name}")) {
            Some(path) => Ok(path),
            None => find(name, "openssh-client"),
        };
        Ok(OpenSsh {
            ssh: client("ssh")?,
            sshd: needed("usr/sbin/sshd")?,
            ssh_keygen: client("ssh-keygen")?,
            ssh_keyscan: client("ssh-keyscan")?,
            sshd_session: Some(needed("usr/lib/openssh/sshd-session")?),
            // Split from `sshd-session` only in 10.0.
            sshd_auth: there("usr/lib/openssh/sshd-auth"),
        })
    }

    /// The client.
    pub fn ssh(&self) -> &Path {
        &self.ssh
    }

    /// The server.
    pub fn sshd(&self) -> &Path {
        &self.sshd
    }

    /// The maker of keys.
    pub fn ssh_keygen(&self) -> &Path {
        &self.ssh_keygen
    }

    /// The reader of host keys.
    pub fn ssh_keyscan(&self) -> &Path {
        &self.ssh_keyscan
    }

    /// The configuration lines with which a server outside of its usual folder finds its parts.
    pub(crate) fn parts(&self) -> Vec<(&'static str, &Path)> {
        let session = self.sshd_session.as_deref().map(|path| ("SshdSessionPath", path));
        let auth = self.sshd_auth.as_deref().map(|path| ("SshdAuthPath", path));
        session.into_iter().chain(auth).collect()
    }

    /// The server's version.
    pub fn version(&self) -> Result<Version> {
        version_of(&self.sshd)
    }

    /// The client's version.
    pub fn client_version(&self) -> Result<Version> {
        version_of(&self.ssh)
    }
}

fn find(name: &str, package: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        // Relative entries would make a server that cannot start itself again.
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
        .ok_or_else(|| {
            Error::new(format!("no `{name}` on this machine; install the package `{package}`"))
        })
}

fn version_of(program: &Path) -> Result<Version> {
    // Servers before 9.2 do not know `-V`, and say their version while they complain of it.
    let output = Command::new(program)
        .arg(OsStr::new("-V"))
        .output()
        .doing(|| format!("could not start `{}`", program.display()))?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    parse_version(&said).ok_or_else(|| {
        Error::new(format!("`{} -V` names no version: {}", program.display(), said.trim()))
    })
}

fn parse_version(said: &str) -> Option<Version> {
    let (_, rest) = said.split_once("OpenSSH_")?;
    let mut numbers = rest.split(|c: char| !c.is_ascii_digit());
    let major = numbers.next()?.parse().ok()?;
    let minor = numbers.next()?.parse().ok()?;
    Some(Version { major, minor })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_versions() {
        let nine = Some(Version { major: 9, minor: 2 });
        assert_eq!(parse_version("OpenSSH_9.2p1 Debian-2+deb12u10, OpenSSL 3.0.19"), nine);
        assert_eq!(parse_version("OpenSSH_9.2, OpenSSL 3.0.19 27 Jan 2026"), nine);
        assert_eq!(
            parse_version("unknown option -- V\nOpenSSH_8.4p1 Debian-5, OpenSSL 1.1.1"),
            Some(Version { major: 8, minor: 4 })
        );
        assert_eq!(parse_version("OpenSSH_10.0p2"), Some(Version { major: 10, minor: 0 }));
        assert_eq!(parse_version("Dropbear v2022.83"), None);
        assert_eq!(parse_version("OpenSSH_"), None);
    }

    #[test]
    fn a_folder_without_a_server_is_named() {
        let error = OpenSsh::backports(Path::new("/nonexistent")).unwrap_err();
        assert!(error.to_string().contains("`/nonexistent`"), "{error}");
    }
}
