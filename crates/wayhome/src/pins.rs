//! The laptop's pins: which key a gateway has, and which a home. Each came here by a person's hand.
//!
//! Two files in the state folder, in the format of OpenSSH's `known_hosts`, so that they can be read,
//! edited and carried to another laptop. What is not ours in them (comments, other kinds of keys)
//! stays as it is.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use wayhome_core::address::NativeAddress;
use wayhome_core::key::Key;
use wayhome_core::known_hosts::{KnownHost, Marker, Names, known_hosts_name};
use wayhome_core::name::Name;

use crate::error::{Failure, Outcome};
use crate::paths;

/// Whose key a pin is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// A gateway's.
    Gateway(NativeAddress),
    /// A home's.
    Home(Name),
}

impl Whose {
    /// The name in the file.
    fn known_name(&self) -> String {
        match self {
            Self::Gateway(address) => known_hosts_name(&address.host, address.port),
            Self::Home(name) => name.to_string(),
        }
    }

    fn file(&self) -> &'static str {
        match self {
            Self::Gateway(_) => GATEWAYS,
            Self::Home(_) => HOMES,
        }
    }
}

impl std::fmt::Display for Whose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Gateway(address) => address.fmt(f),
            Self::Home(name) => name.fmt(f),
        }
    }
}

impl std::str::FromStr for Whose {
    type Err = String;

    /// `wayhome://gw.example.org` is a gateway, and everything else a home.
    fn from_str(text: &str) -> Result<Self, String> {
        if NativeAddress::is_meant(text) {
            return text.parse().map(Self::Gateway).map_err(|why| format!("{why}"));
        }
        text.parse().map(Self::Home).map_err(|why| {
            format!("{why}; a home is `home-ubuntu`, and a gateway `wayhome://gw.example.org`")
        })
    }
}

const GATEWAYS: &str = "known_gateways";
const HOMES: &str = "known_homes";

/// The pins in a folder.
#[derive(Clone, Debug)]
pub struct Pins(PathBuf);

impl Pins {
    /// This user's own.
    pub fn ours() -> Outcome<Self> {
        paths::state_dir().map(Self)
    }

    /// The pin, if there is one.
    ///
    /// # Errors
    /// If the file is not ours alone to write, or has two keys for this name.
    pub fn get(&self, whose: &Whose) -> Outcome<Option<Key>> {
        Lines::read(&self.0.join(whose.file()))?.get(whose)
    }

    /// The pin, which has to be there.
    pub fn needed(&self, whose: &Whose) -> Outcome<Key> {
        let place = match whose {
            Whose::Gateway(_) => "there",
            Whose::Home(_) => "at home",
        };
        self.get(whose)?.ok_or_else(|| {
            Failure::usage(format!("`{whose}` is not pinned here")).hint(format!(
                "`wayhome keys pin {whose} 'ssh-ed25519 …'`, with the key that `wayhome keys` shows \
                 {place}"
            ))
        })
    }

    /// All gateways that are pinned, in the order of the file.
    pub fn gateways(&self) -> Outcome<Vec<(NativeAddress, Key)>> {
        let named = |name: &str| Some(Whose::Gateway(address_of(name)?));
        let all = self.all(GATEWAYS, named)?.into_iter();
        Ok(all
            .filter_map(|(whose, key)| match whose {
                Whose::Gateway(address) => Some((address, key)),
                Whose::Home(_) => None,
            })
            .collect())
    }

    /// All homes that are pinned, in the order of the file.
    pub fn homes(&self) -> Outcome<Vec<(Name, Key)>> {
        let named = |name: &str| name.parse().ok().map(Whose::Home);
        let all = self.all(HOMES, named)?.into_iter();
        Ok(all
            .filter_map(|(whose, key)| match whose {
                Whose::Home(name) => Some((name, key)),
                Whose::Gateway(_) => None,
            })
            .collect())
    }

    fn all(&self, file: &str, named: impl Fn(&str) -> Option<Whose>) -> Outcome<Vec<(Whose, Key)>> {
        let lines = Lines::read(&self.0.join(file))?;
        let mut all: Vec<(Whose, Key)> = Vec::new();
        for whose in lines.names().iter().filter_map(|name| named(name)) {
            if all.iter().any(|(other, _)| *other == whose) {
                continue;
            }
            if let Some(key) = lines.get(&whose)? {
                all.push((whose, key));
            }
        }
        Ok(all)
    }

    /// Adds a pin. Whether it is new.
    ///
    /// # Errors
    /// If another key is pinned: that is for a person to remove first.
    pub fn add(&self, whose: &Whose, key: Key) -> Outcome<bool> {
        self.change(whose, |lines| {
            match lines.get(whose)? {
                Some(pinned) if pinned == key => return Ok(false),
                Some(pinned) => {
                    return Err(Failure::new(format!(
                        "`{whose}` has another key already, `{pinned}`, and a pin is never changed"
                    ))
                    .hint(format!(
                        "if you know that the key is a new one: `wayhome keys unpin {whose}`, and \
                         then pin it"
                    )));
                }
                None => {}
            }
            if lines.is_revoked(key) {
                return Err(revoked(whose, key, &lines.file));
            }
            lines.push(&format!("{} {key}\n", whose.known_name()));
            Ok(true)
        })
    }

    /// Removes a pin, all its lines. Whether there was one.
    pub fn remove(&self, whose: &Whose) -> Outcome<bool> {
        self.change(whose, |lines| Ok(lines.remove(&whose.known_name())))
    }

    /// Changes a file, if `change` says that there is something to write. Nobody else of us does so
    /// at the same time.
    fn change(
        &self,
        whose: &Whose,
        change: impl FnOnce(&mut Lines) -> Outcome<bool>,
    ) -> Outcome<bool> {
        paths::private_dir(&self.0)?;
        let file = self.0.join(whose.file());
        let failed = |why: &dyn std::error::Error| {
            Failure::new(format!("the pins in `{}` cannot be written", file.display()))
                .because(why)
                .hint("see that there is room, and that the folder may be written to")
        };
        let folder = File::open(&self.0).map_err(|why| failed(&why))?;
        flock(&folder, FlockOperation::LockExclusive).map_err(|why| failed(&why))?;
        let mut lines = Lines::read(&file)?;
        let has_changed = change(&mut lines)?;
        if has_changed {
            paths::rewrite(&file, &lines.bytes()).map_err(|why| failed(&why))?;
        }
        Ok(has_changed)
    }
}

/// A file, line by line, each as it stands there.
struct Lines {
    file: PathBuf,
    lines: Vec<Vec<u8>>,
}

impl Lines {
    fn read(file: &Path) -> Outcome<Self> {
        let bytes = match fs::read(file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { file: file.to_owned(), lines: Vec::new() });
            }
            Err(error) => return Err(unreadable(file, &error)),
        };
        check_ours(file)?;
        let lines = bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        Ok(Self { file: file.to_owned(), lines })
    }

    fn bytes(&self) -> Vec<u8> {
        self.lines.concat()
    }

    fn push(&mut self, line: &str) {
        if let Some(last) = self.lines.last_mut().filter(|last| !last.ends_with(b"\n")) {
            last.push(b'\n');
        }
        self.lines.push(line.into());
    }

    /// What the lines say that we can read.
    fn hosts(&self) -> impl Iterator<Item = KnownHost> {
        self.lines.iter().filter_map(|line| host(line))
    }

    /// All names that have a key, as they are written.
    fn names(&self) -> Vec<String> {
        let pins = self.hosts().filter(|host| pinned(host).is_some());
        pins.filter_map(|host| match host.names {
            Names::Listed(names) => Some(names),
            Names::Hashed(_) => None,
        })
        .flatten()
        .collect()
    }

    fn get(&self, whose: &Whose) -> Outcome<Option<Key>> {
        let name = whose.known_name();
        let mut keys: Vec<Key> =
            self.hosts().filter(|host| host.lists(&name)).filter_map(|h| pinned(&h)).collect();
        keys.sort_unstable();
        keys.dedup();
        match keys.as_slice() {
            [] => Ok(None),
            [key] if self.is_revoked(*key) => Err(revoked(whose, *key, &self.file)),
            [key] => Ok(Some(*key)),
            _ => Err(Failure::usage(format!(
                "`{whose}` has more than one key in `{}`, and only one can be right",
                self.file.display()
            ))
            .hint(format!("`wayhome keys unpin {whose}`, and pin the right one"))),
        }
    }

    fn is_revoked(&self, key: Key) -> bool {
        self.hosts().any(|host| host.marker == Some(Marker::Revoked) && host.key == key.into())
    }

    /// Takes a name out of all lines that pin it, and a line away that has no other name.
    fn remove(&mut self, name: &str) -> bool {
        let before = self.bytes().len();
        self.lines.retain_mut(|line| {
            let Some(mut host) = host(line) else { return true };
            if pinned(&host).is_none() || !host.lists(name) {
                return true;
            }
            let Names::Listed(names) = &mut host.names else { return true };
            names.retain(|listed| !listed.eq_ignore_ascii_case(name));
            let has_others = !names.is_empty();
            *line = format!("{host}\n").into();
            has_others
        });
        self.bytes().len() != before
    }
}

fn host(line: &[u8]) -> Option<KnownHost> {
    KnownHost::parse_line(std::str::from_utf8(line).ok()?).ok()?
}

/// The key that a line pins, for all names that it lists.
fn pinned(host: &KnownHost) -> Option<Key> {
    match (host.marker, &host.names) {
        (None, Names::Listed(_)) => host.key.ed25519_bytes().map(Key::new),
        _ => None,
    }
}

/// The address of the gateway that has this name; `None` for a pattern.
fn address_of(name: &str) -> Option<NativeAddress> {
    let (host, port) = match name.strip_prefix('[').and_then(|rest| rest.rsplit_once("]:")) {
        Some((host, port)) => (host, port),
        None => (name, "22"),
    };
    let bracketed = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    format!("wayhome://{bracketed}:{port}").parse().ok()
}

fn check_ours(file: &Path) -> Outcome {
    let meta = fs::metadata(file).map_err(|why| unreadable(file, &why))?;
    let shown = file.display();
    let owner = meta.uid();
    if owner != rustix::process::geteuid().as_raw() && owner != 0 {
        return Err(Failure::usage(format!("the pins in `{shown}` belong to user {owner}"))
            .hint(format!("`chown` it if the pins are yours; else remove `{shown}`")));
    }
    if meta.mode() & 0o022 != 0 {
        let mode = meta.mode() & 0o7777;
        return Err(Failure::usage(format!(
            "others can write the pins in `{shown}` (mode {mode:04o})"
        ))
        .hint(format!("look at what is in it, and `chmod 600 {shown}`")));
    }
    Ok(())
}

fn unreadable(file: &Path, why: &io::Error) -> Failure {
    Failure::usage(format!("the pins in `{}` cannot be read", file.display())).because(why)
}

fn revoked(whose: &Whose, key: Key, file: &Path) -> Failure {
    let shown = file.display();
    Failure::usage(format!("the key `{key}` of `{whose}` is revoked in `{shown}`"))
        .hint(format!("pin the key that took its place; `{shown}` says `@revoked` of this one"))
}

#[cfg(test)]
mod tests;
