//! OpenSSH 10 beside Debian 12's own 9.2, for the tests: from bookworm-backports, extracted under
//! `target/`. The machine's package sources and packages stay as they are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::say::say;
use crate::{Result, target};

/// By this variable the tests learn of the folder.
pub const VARIABLE: &str = "WAYHOME_OPENSSH_10";

/// What became of it.
pub enum Brought {
    /// It lies in this folder.
    At(PathBuf),
    /// It is not for this machine, and why.
    NotHere(&'static str),
}

/// Fetches and extracts the server and the client, unless they are there already.
pub fn bring() -> Result<Brought> {
    if !is_bookworm(&fs::read_to_string("/etc/os-release").unwrap_or_default()) {
        return Ok(Brought::NotHere("its packages are for Debian 12, which this is not"));
    }
    let folder = target().join("openssh-10");
    if folder.is_dir() {
        return Ok(Brought::At(folder));
    }
    say(format_args!("Fetching OpenSSH 10 into `{}` (nothing is installed)", folder.display()));
    // All is done in a folder beside it, so that what has the name is whole.
    fs::create_dir_all(target())?;
    let making = tempfile::Builder::new().prefix("openssh-10-").tempdir_in(target())?;
    let making = making.path();
    fs::write(making.join("sources.list"), SOURCES)?;
    for needed in ["lists/partial", "cache/archives/partial", "tree"] {
        fs::create_dir_all(making.join(needed))?;
    }
    run(apt_get(making).arg("update"))?;
    let packages = ["openssh-server", "openssh-client"];
    run(apt_get(making).args(["-t", "bookworm-backports", "download"]).args(packages))?;
    for entry in fs::read_dir(making)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            run(Command::new("dpkg-deb").arg("-x").arg(path).arg(making.join("tree")))?;
        }
    }
    fs::rename(making.join("tree"), &folder)?;
    Ok(Brought::At(folder))
}

const SOURCES: &str = "deb http://deb.debian.org/debian bookworm-backports main\n";

/// An apt that knows the one source and writes nowhere but in the folder; the machine's keys and
/// proxies count.
fn apt_get(folder: &Path) -> Command {
    let mut apt = Command::new("apt-get");
    apt.current_dir(folder).arg("--quiet=2");
    for (option, value) in [
        ("Dir::Etc::sourcelist", folder.join("sources.list")),
        ("Dir::Etc::sourceparts", PathBuf::from("-")),
        ("Dir::State::lists", folder.join("lists")),
        ("Dir::Cache", folder.join("cache")),
        // Its usual unprivileged user cannot write here.
        ("APT::Sandbox::User", PathBuf::from("root")),
    ] {
        apt.arg("-o").arg(format!("{option}={}", value.display()));
    }
    apt
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    let program = command.get_program().to_string_lossy();
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("`{program}` failed ({}): {}", output.status, said.trim()).into())
}

fn is_bookworm(os_release: &str) -> bool {
    let has = |line: &str| os_release.lines().any(|other| other == line);
    has("ID=debian") && has("VERSION_ID=\"12\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_debian_12() {
        assert!(is_bookworm("NAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\nID=debian\n"));
        assert!(!is_bookworm("VERSION_ID=\"13\"\nID=debian\n"));
        assert!(!is_bookworm("VERSION_ID=\"12\"\nID=other\nID_LIKE=debian\n"));
        assert!(!is_bookworm(""));
    }
}
