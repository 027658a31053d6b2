//! Lines of `known_hosts` files: the name that a server has in them, and what one line says.
//!
//! Patterns are kept as they are written and hashes are not computed: to search a whole file the
//! way that `ssh` does, ask `ssh-keygen -F`.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::host_key::{HostKey, HostKeyError};

/// The port that needs no mention.
const SSH_PORT: u16 = 22;

/// The longest list of names that is read.
const MAX_NAMES: usize = 8 * 1024;

/// The name under which `ssh` looks a server's key up: `example.org`, or `[example.org]:2200`.
pub fn known_hosts_name(host: &str, port: u16) -> String {
    let host = host.to_ascii_lowercase();
    if port == SSH_PORT { host } else { format!("[{host}]:{port}") }
}

/// What one line with a key says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownHost {
    /// A word before the names that changes what the line means.
    pub marker: Option<Marker>,
    /// Whom the key belongs to.
    pub names: Names,
    /// The key.
    pub key: HostKey,
}

/// What a line says of its key, if not that it is a server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// `@revoked`: never accept this key.
    Revoked,
    /// `@cert-authority`: it signs the keys of servers, and is none itself.
    CertAuthority,
}

/// Whom a line is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Names {
    /// Names and patterns, as written between the commas.
    Listed(Vec<String>),
    /// One name that cannot be read: `|1|salt|hash`.
    Hashed(String),
}

impl KnownHost {
    /// Reads one line. `None` for a blank line and for a comment.
    pub fn parse_line(line: &str) -> Result<Option<Self>, KnownHostError> {
        let line = line.trim_ascii();
        if line.chars().any(|c| c.is_control() && c != '\t') {
            return Err(KnownHostError::ControlCharacter);
        }
        if line.is_empty() || line.starts_with('#') {
            return Ok(None);
        }
        let mut fields = line.split([' ', '\t']).filter(|field| !field.is_empty()).peekable();
        let marker = match fields.next_if(|field| field.starts_with('@')) {
            None => None,
            Some("@revoked") => Some(Marker::Revoked),
            Some("@cert-authority") => Some(Marker::CertAuthority),
            Some(_) => return Err(KnownHostError::UnknownMarker),
        };
        let (Some(names), Some(algorithm), Some(blob)) =
            (fields.next(), fields.next(), fields.next())
        else {
            return Err(KnownHostError::Incomplete);
        };
        let names = parse_names(names)?;
        let key = HostKey::new(algorithm, blob).map_err(KnownHostError::Key)?;
        Ok(Some(Self { marker, names, key }))
    }

    /// Whether the line gives this very name (see [`known_hosts_name`]). Patterns are not expanded
    /// and a hashed name is not recognised.
    pub fn lists(&self, name: &str) -> bool {
        match &self.names {
            Names::Listed(names) => names.iter().any(|listed| listed.eq_ignore_ascii_case(name)),
            Names::Hashed(_) => false,
        }
    }
}

impl fmt::Display for KnownHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.marker {
            Some(Marker::Revoked) => f.write_str("@revoked ")?,
            Some(Marker::CertAuthority) => f.write_str("@cert-authority ")?,
            None => {}
        }
        match &self.names {
            Names::Listed(names) => f.write_str(&names.join(","))?,
            Names::Hashed(name) => f.write_str(name)?,
        }
        write!(f, " {}", self.key)
    }
}

/// Why a line is none of a `known_hosts` file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KnownHostError {
    /// There are not names, an algorithm and a key.
    Incomplete,
    /// There is a control character.
    ControlCharacter,
    /// It begins with `@`, and with no marker that is known.
    UnknownMarker,
    /// The names are too many, or one of them is empty.
    BadNames,
    /// The key is none. Of an algorithm that is not known, the line may still be a right one.
    Key(HostKeyError),
}

impl fmt::Display for KnownHostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Incomplete => {
                f.write_str("a line of known hosts has names, an algorithm and a key")
            }
            Self::ControlCharacter => {
                f.write_str("a line of known hosts must not have control characters")
            }
            Self::UnknownMarker => {
                f.write_str("the only markers are `@revoked` and `@cert-authority`")
            }
            Self::BadNames => f.write_str("the names before the key cannot be read"),
            Self::Key(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for KnownHostError {}

fn parse_names(names: &str) -> Result<Names, KnownHostError> {
    if names.starts_with('|') {
        return match names.split('|').collect::<Vec<_>>().as_slice() {
            ["", "1", salt, hash] if !salt.is_empty() && !hash.is_empty() => {
                Ok(Names::Hashed(names.to_owned()))
            }
            _ => Err(KnownHostError::BadNames),
        };
    }
    let listed: Vec<String> = names.split(',').map(String::from).collect();
    if names.len() > MAX_NAMES || listed.iter().any(String::is_empty) {
        return Err(KnownHostError::BadNames);
    }
    Ok(Names::Listed(listed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host_key::tests::{ED25519, any_host_key};
    use proptest::prelude::*;
    use std::string::ToString;

    fn read(line: &str) -> Option<KnownHost> {
        KnownHost::parse_line(line).unwrap()
    }

    #[test]
    fn a_server_is_named_as_ssh_does() {
        assert_eq!(known_hosts_name("Example.org", 22), "example.org");
        assert_eq!(known_hosts_name("example.org", 2200), "[example.org]:2200");
        assert_eq!(known_hosts_name("2001:db8::1", 22), "2001:db8::1");
        assert_eq!(known_hosts_name("2001:db8::1", 2200), "[2001:db8::1]:2200");
    }

    #[test]
    fn lines_are_told_apart() {
        assert_eq!(read(""), None);
        assert_eq!(read("  # mine\r\n"), None);
        let line = read(&format!("[127.0.0.1]:2222,home {ED25519} fan@mac")).unwrap();
        assert!(line.lists("HOME") && line.lists("[127.0.0.1]:2222") && !line.lists("127.0.0.1"));
        assert_eq!(line.marker, None);
        let line = read(&format!("@revoked * {ED25519}")).unwrap();
        assert_eq!(line.marker, Some(Marker::Revoked));
        let line = read(&format!("@cert-authority *.example.org\t{ED25519}")).unwrap();
        assert_eq!(line.marker, Some(Marker::CertAuthority));
        let line = read(&format!("|1|c2FsdA==|aGFzaA== {ED25519}")).unwrap();
        assert!(matches!(line.names, Names::Hashed(_)));
    }

    #[test]
    fn refuses_with_the_reason() {
        let reason = |line: &str| KnownHost::parse_line(line).unwrap_err();
        assert_eq!(reason("home"), KnownHostError::Incomplete);
        assert_eq!(reason(ED25519), KnownHostError::Incomplete);
        assert_eq!(reason(&format!("@other home {ED25519}")), KnownHostError::UnknownMarker);
        assert_eq!(reason(&format!("a,,b {ED25519}")), KnownHostError::BadNames);
        assert_eq!(reason(&format!("|1|x {ED25519}")), KnownHostError::BadNames);
        assert_eq!(reason(&format!("a {ED25519}\nb c")), KnownHostError::ControlCharacter);
        assert!(matches!(reason("home ssh-dss AAAA"), KnownHostError::Key(_)));
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read_back(
            key in any_host_key(),
            names in proptest::collection::vec("[!a-z*?.\\[\\]:0-9]{1,12}", 1..4),
            marker in proptest::option::of(
                proptest::sample::select(std::vec![Marker::Revoked, Marker::CertAuthority])
            ),
        ) {
            let line = KnownHost { marker, names: Names::Listed(names), key };
            prop_assert_eq!(read(&line.to_string()), Some(line));
        }

        #[test]
        fn anything_is_read_or_refused(line in any::<String>()) {
            if let Ok(Some(host)) = KnownHost::parse_line(&line) {
                prop_assert_eq!(read(&host.to_string()), Some(host));
            }
        }
    }
}
