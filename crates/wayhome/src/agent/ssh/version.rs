//! Which OpenSSH this machine's `ssh` is: an option that it does not know would stop it.

use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// A version of OpenSSH: the 9 and the 2 of 9.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32);

impl Version {
    /// What `ssh -V` says. It is asked once; `None` as long as there is no `ssh`, and for one that
    /// is not OpenSSH's.
    pub fn of_ssh() -> Option<Self> {
        static KNOWN: OnceLock<Option<Version>> = OnceLock::new();
        if let Some(known) = KNOWN.get() {
            return *known;
        }
        let output = Command::new("ssh").arg("-V").stdin(Stdio::null()).output().ok()?;
        let said = [output.stderr, output.stdout].concat();
        *KNOWN.get_or_init(|| Self::parse(&String::from_utf8_lossy(&said)))
    }

    fn parse(said: &str) -> Option<Self> {
        let (_, rest) = said.split_once("OpenSSH_")?;
        // Windows' own says `OpenSSH_for_Windows_9.5p1`.
        let rest = rest.trim_start_matches(|c: char| !c.is_ascii_digit());
        let mut numbers = rest.split(|c: char| !c.is_ascii_digit());
        Some(Self(numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_versions() {
        for (said, version) in [
            ("OpenSSH_9.2p1 Debian-2+deb12u10, OpenSSL 3.0.19 27 Jan 2026", Some(Version(9, 2))),
            ("OpenSSH_10.0p2, LibreSSL 3.3.6", Some(Version(10, 0))),
            ("OpenSSH_for_Windows_9.5p1, LibreSSL 3.8.2", Some(Version(9, 5))),
            ("Dropbear v2022.83", None),
            ("OpenSSH_", None),
        ] {
            assert_eq!(Version::parse(said), version, "{said}");
        }
        assert!(Version(10, 0) > Version(9, 9));
    }

    #[test]
    fn this_machine_has_one() {
        assert!(Version::of_ssh() >= Some(Version(7, 0)));
    }
}
