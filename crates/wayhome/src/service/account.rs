//! The machine's accounts, as the resolver of names has them (getent(1)), or as an image's
//! `/etc/passwd` does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// An account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// Its group's number.
    pub gid: u32,
    /// Its home.
    pub home: PathBuf,
}

/// Looks an account up, by name or number.
pub fn find(name: &str) -> Option<Account> {
    let mut getent = Command::new("getent");
    getent.args(["passwd", "--", name]).stdin(Stdio::null()).stderr(Stdio::null());
    let found = getent.output().ok()?;
    String::from_utf8_lossy(&found.stdout).lines().find_map(parse)
}

/// Looks an account up in an image.
pub fn find_in(root: &Path, name: &str) -> Option<Account> {
    let text = fs::read_to_string(root.join("etc/passwd")).unwrap_or_default();
    text.lines().filter_map(parse).find(|account| account.name == name)
}

/// Whoever this program runs as.
pub fn me() -> Option<Account> {
    find(&rustix::process::geteuid().as_raw().to_string())
}

/// The person at the keyboard: whoever called sudo, or runs this.
pub fn person() -> Option<Account> {
    let by_sudo = std::env::var("SUDO_USER").ok().filter(|_| rustix::process::geteuid().is_root());
    by_sudo.and_then(|name| find(&name)).or_else(me)
}

/// A line of passwd(5).
fn parse(line: &str) -> Option<Account> {
    let mut fields = line.split(':');
    let name = fields.next()?.to_owned();
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    let home = PathBuf::from(fields.nth(1)?);
    home.is_absolute().then_some(Account { name, uid, gid, home })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_accounts() {
        let root = find("root").unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert_eq!(find("nobody-of-this-name"), None);
        assert_eq!(find("--help"), None);
        let image = tempfile::tempdir().unwrap();
        assert_eq!(find_in(image.path(), "fan"), None);
        fs::create_dir(image.path().join("etc")).unwrap();
        let lines = "broken\nfan:x:1000:1001:Fan,,,:/home/fan:/bin/sh\n";
        fs::write(image.path().join("etc/passwd"), lines).unwrap();
        let fan = find_in(image.path(), "fan").unwrap();
        assert_eq!((fan.uid, fan.gid, fan.home), (1000, 1001, "/home/fan".into()));
    }
}
