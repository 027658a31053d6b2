//! Where this machine has its Debian packages from, as apt is configured: the archive that it runs
//! itself, so that programs built here run in an image made from there.

use std::fs;
use std::process::Command;

use crate::error::{Doing, Error, Result, run};

/// The archive of the system that runs here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Its address, as apt's sources have it.
    pub address: String,
    /// The name of the release: `bookworm`.
    pub release: String,
    /// The components of it that are in use: `main`.
    pub components: Vec<String>,
}

/// What is asked of apt, and read again by [`pick`].
const FORMAT: &str = "$(REPO_URI)|$(RELEASE)|$(CODENAME)|$(ORIGIN)|$(COMPONENT)";

impl Mirror {
    /// Asks this machine's apt.
    pub fn find() -> Result<Mirror> {
        let mut apt = Command::new("apt-get");
        apt.args(["indextargets", "--format", FORMAT, "Created-By: Packages"]);
        let targets = run(&mut apt)?.stdout;
        pick(&String::from_utf8_lossy(&targets), &System::here()?)
    }
}

/// The system that runs here.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct System {
    /// Whose it is, in small letters: `debian`.
    pub id: String,
    /// The name of the release: `bookworm`.
    pub release: String,
}

impl System {
    /// Reads `/etc/os-release`.
    pub fn here() -> Result<System> {
        let path = "/etc/os-release";
        System::parse(&fs::read_to_string(path).doing(|| format!("could not read `{path}`"))?)
    }

    fn parse(os_release: &str) -> Result<System> {
        let value = |key: &str| {
            os_release.lines().find_map(|line| {
                let (name, value) = line.split_once('=')?;
                (name == key).then(|| value.trim_matches('"').to_owned())
            })
        };
        match (value("ID"), value("VERSION_CODENAME")) {
            (Some(id), Some(release)) => Ok(System { id, release }),
            _ => Err(Error::new("`/etc/os-release` has no `VERSION_CODENAME`, as a Debian's has")),
        }
    }
}

/// The proxy of apt for a scheme, if it has one; the environment's own is not its business.
pub fn proxy(scheme: &str) -> Option<String> {
    let mut apt = Command::new("apt-config");
    apt.args(["dump", "--format", "%v%n", &format!("Acquire::{scheme}::Proxy")]);
    let said = run(&mut apt).ok()?.stdout;
    let proxy = String::from_utf8_lossy(&said).trim().to_owned();
    (!proxy.is_empty() && proxy != "DIRECT").then_some(proxy)
}

/// The archive of the release that runs, among all that apt fetches from. Updates of it are archives
/// of their own, and strangers' archives may go by the release's name.
fn pick(targets: &str, system: &System) -> Result<Mirror> {
    let System { id, release } = system;
    let mut mirror: Option<Mirror> = None;
    for line in targets.lines() {
        let fields: Vec<&str> = line.split('|').collect();
        let &[address, listed, codename, origin, component] = fields.as_slice() else { continue };
        // Before its lists were fetched, apt knows neither code name nor origin, and leaves them out.
        let is_known = !origin.is_empty() && !origin.starts_with("$(");
        let is_ours = [listed, codename].contains(&release.as_str());
        if !is_ours || (is_known && !origin.eq_ignore_ascii_case(id)) {
            continue;
        }
        let mirror = mirror.get_or_insert_with(|| Mirror {
            address: address.to_owned(),
            release: release.clone(),
            components: Vec::new(),
        });
        if mirror.address == address && !mirror.components.iter().any(|known| known == component) {
            mirror.components.push(component.to_owned());
        }
    }
    mirror.ok_or_else(|| {
        Error::new(format!("apt has no source for `{release}`, which this machine runs"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn debian() -> System {
        let text = "NAME=\"Debian GNU/Linux\"\nVERSION_CODENAME=bookworm\nID=debian\n";
        System::parse(text).unwrap()
    }

    fn found(targets: &str) -> Option<(String, String)> {
        let mirror = pick(targets, &debian()).ok()?;
        assert_eq!(mirror.release, "bookworm");
        Some((mirror.address, mirror.components.join(",")))
    }

    fn is(address: &str, components: &str) -> Option<(String, String)> {
        Some((address.to_owned(), components.to_owned()))
    }

    #[test]
    fn takes_the_release_and_not_its_updates() {
        let targets = "\
            http://a.example.org/debian-security/|bookworm-security|bookworm-security|Debian|main\n\
            http://a.example.org/debian/|bookworm-updates|bookworm-updates|Debian|main\n\
            http://a.example.org/debian/|bookworm|bookworm|Debian|main\n\
            http://a.example.org/debian/|bookworm|bookworm|Debian|contrib\n";
        assert_eq!(found(targets), is("http://a.example.org/debian/", "main,contrib"));
    }

    #[test]
    fn knows_the_release_by_either_name() {
        let targets = "http://a.example.org/debian/|oldstable|bookworm|Debian|main\n";
        assert_eq!(found(targets), is("http://a.example.org/debian/", "main"));
        let unfetched = "http://a.example.org/debian/|bookworm|||main\n";
        assert_eq!(found(unfetched), is("http://a.example.org/debian/", "main"));
    }

    #[test]
    fn passes_strangers_who_use_its_name() {
        let targets = "https://b.example.org/|bookworm|bookworm|Somebody|main\n\
                       https://a.example.org/debian/|bookworm|bookworm|Debian|main\n";
        assert_eq!(found(targets), is("https://a.example.org/debian/", "main"));
        assert_eq!(found("https://b.example.org/|bookworm|bookworm|Somebody|main\n"), None);
    }

    #[test]
    fn says_what_is_missing() {
        let error = pick("", &debian()).unwrap_err().to_string();
        assert!(error.contains("`bookworm`"), "{error}");
        let error = System::parse("ID=arch\n").unwrap_err().to_string();
        assert!(error.contains("/etc/os-release"), "{error}");
    }
}
