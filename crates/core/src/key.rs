//! The public key of a machine on the native road: Ed25519, written as OpenSSH writes it.
//!
//! Homes, gateways and laptops are known to each other by such keys alone. Whether a peer holds the
//! private half is for TLS to prove.

use alloc::string::{String, ToString};
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::host_key::{HostKey, HostKeyError};

/// An Ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key([u8; 32]);

impl Key {
    /// The key with these bytes (RFC 8032).
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Why a text is no [`Key`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// It is no public key at all.
    NotAKey(HostKeyError),
    /// It is a key of another kind.
    NotEd25519(HostKey),
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAKey(why) => why.fmt(f),
            Self::NotEd25519(key) => {
                write!(
                    f,
                    "this is a key of kind `{}`, and only `ssh-ed25519` serves",
                    key.algorithm()
                )
            }
        }
    }
}

impl core::error::Error for KeyError {}

impl FromStr for Key {
    type Err = KeyError;

    /// Reads a key as it stands in a `.pub` file. A comment after it is dropped.
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let key: HostKey = text.parse().map_err(KeyError::NotAKey)?;
        key.ed25519_bytes().map(Self).ok_or(KeyError::NotEd25519(key))
    }
}

impl From<Key> for HostKey {
    fn from(key: Key) -> Self {
        Self::ed25519(&key.0)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        HostKey::from(*self).fmt(f)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for Key {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        text.parse()
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host_key::tests::{ED25519, P256};
    use proptest::prelude::*;

    #[test]
    fn reads_what_ssh_keygen_writes() {
        let key: Key = std::format!("{ED25519} fan@home\n").parse().unwrap();
        assert_eq!(key.to_string(), ED25519);
    }

    #[test]
    fn refuses_other_kinds_by_name() {
        let why = P256.parse::<Key>().unwrap_err().to_string();
        assert!(why.contains("ecdsa-sha2-nistp256") && why.contains("only `ssh-ed25519`"), "{why}");
        assert!(matches!("ssh-ed25519".parse::<Key>(), Err(KeyError::NotAKey(_))));
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read_back(bytes: [u8; 32]) {
            let key = Key::new(bytes);
            prop_assert_eq!(key.to_string().parse::<Key>().unwrap(), key);
            prop_assert_eq!(HostKey::from(key).ed25519_bytes(), Some(bytes));
        }
    }
}
