//! The public key of an SSH server, as text: `ssh-ed25519 AAAA…`. A person's has the same form.
//!
//! Whether a server holds the private half is for `ssh` to prove. Lines of `known_hosts` files are
//! read in [`crate::known_hosts`].

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest blob that is read, in base64 characters. An RSA key of 16384 bits, the longest that
/// `ssh-keygen` makes, has under 3 KB.
const MAX_BLOB: usize = 16 * 1024;

/// One public key of an SSH server.
///
/// It can be written into any file that holds keys: it has an algorithm that is known, one space,
/// and base64. The blob is checked to be a whole key of that algorithm, so that a key which lost its
/// end while it was copied is found here and not at the next login.
///
/// The order is the one in which keys are preferred: Ed25519 first, RSA last.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostKey {
    algorithm: Algorithm,
    blob: String,
}

impl HostKey {
    /// What kind of key it is.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The key in base64, without the algorithm before it.
    pub fn blob(&self) -> &str {
        &self.blob
    }

    /// The Ed25519 key with these 32 bytes (RFC 8709).
    pub fn ed25519(key: &[u8; 32]) -> Self {
        let algorithm = Algorithm::Ed25519;
        let mut blob = Vec::new();
        for field in [algorithm.as_str().as_bytes(), key] {
            // Both are far shorter than that.
            blob.extend(u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes());
            blob.extend(field);
        }
        Self { algorithm, blob: encode_base64(&blob) }
    }

    /// The 32 bytes of an Ed25519 key; `None` of any other.
    pub fn ed25519_bytes(&self) -> Option<[u8; 32]> {
        if self.algorithm != Algorithm::Ed25519 {
            return None;
        }
        decode_base64(self.blob.as_bytes())?.last_chunk().copied()
    }

    /// The key from its two fields.
    pub fn new(algorithm: &str, blob: &str) -> Result<Self, HostKeyError> {
        let algorithm = algorithm.parse()?;
        if blob.len() > MAX_BLOB {
            return Err(HostKeyError::TooLong);
        }
        let bytes = decode_base64(blob.as_bytes()).ok_or(HostKeyError::NotBase64)?;
        check_fields(algorithm, &bytes)?;
        Ok(Self { algorithm, blob: blob.to_string() })
    }
}

/// The kind of a host key. Certificates are no host keys here: a certificate is trusted by way of
/// its authority, and never pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// `ssh-ed25519`
    Ed25519,
    /// `ecdsa-sha2-nistp256`
    EcdsaP256,
    /// `ecdsa-sha2-nistp384`
    EcdsaP384,
    /// `ecdsa-sha2-nistp521`
    EcdsaP521,
    /// `sk-ssh-ed25519@openssh.com`
    SkEd25519,
    /// `sk-ecdsa-sha2-nistp256@openssh.com`
    SkEcdsaP256,
    /// `ssh-rsa`
    Rsa,
}

impl Algorithm {
    /// Every algorithm, the preferred one first.
    pub const ALL: [Self; 7] = [
        Self::Ed25519,
        Self::EcdsaP256,
        Self::EcdsaP384,
        Self::EcdsaP521,
        Self::SkEd25519,
        Self::SkEcdsaP256,
        Self::Rsa,
    ];

    /// The name that SSH has for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ed25519 => "ssh-ed25519",
            Self::EcdsaP256 => "ecdsa-sha2-nistp256",
            Self::EcdsaP384 => "ecdsa-sha2-nistp384",
            Self::EcdsaP521 => "ecdsa-sha2-nistp521",
            Self::SkEd25519 => "sk-ssh-ed25519@openssh.com",
            Self::SkEcdsaP256 => "sk-ecdsa-sha2-nistp256@openssh.com",
            Self::Rsa => "ssh-rsa",
        }
    }

    /// The curve that the blob must name after the algorithm.
    fn curve(self) -> Option<&'static [u8]> {
        match self {
            Self::EcdsaP256 | Self::SkEcdsaP256 => Some(b"nistp256"),
            Self::EcdsaP384 => Some(b"nistp384"),
            Self::EcdsaP521 => Some(b"nistp521"),
            Self::Ed25519 | Self::SkEd25519 | Self::Rsa => None,
        }
    }

    /// How many fields a blob of it has, its name included.
    fn field_count(self) -> usize {
        match self {
            Self::Ed25519 => 2,                                       // name, key
            Self::EcdsaP256 | Self::EcdsaP384 | Self::EcdsaP521 => 3, // name, curve, point
            Self::SkEd25519 => 3,                                     // name, key, application
            Self::SkEcdsaP256 => 4, // name, curve, point, application
            Self::Rsa => 3,         // name, exponent, modulus
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Algorithm {
    type Err = HostKeyError;

    fn from_str(text: &str) -> Result<Self, HostKeyError> {
        let known = Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == text);
        known.ok_or_else(|| HostKeyError::UnknownAlgorithm(text.chars().take(64).collect()))
    }
}

/// Why a text is not a [`HostKey`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostKeyError {
    /// There are not at least two fields.
    NotAKey,
    /// There is a control character, such as a line end between two keys.
    ControlCharacter,
    /// The algorithm (its first 64 characters) is not one for host keys.
    UnknownAlgorithm(String),
    /// The blob has more than 16 KB.
    TooLong,
    /// The blob is not base64, or has lost its end.
    NotBase64,
    /// The blob names another algorithm than the text does.
    OtherAlgorithm(Algorithm),
    /// The blob is not one whole key of its algorithm.
    Damaged(Algorithm),
}

impl fmt::Display for HostKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAKey => f.write_str("a public key is an algorithm, a space and base64"),
            Self::ControlCharacter => f.write_str("a public key is one line of plain text"),
            Self::UnknownAlgorithm(name) => {
                write!(f, "`{}` is no kind of key, such as `ssh-ed25519`", name.escape_default())
            }
            Self::TooLong => write!(f, "a public key has at most {MAX_BLOB} characters"),
            Self::NotBase64 => f.write_str("the key is not whole base64"),
            Self::OtherAlgorithm(said) => {
                write!(f, "the key says `{said}` but is of another kind")
            }
            Self::Damaged(algorithm) => {
                write!(f, "the key is not a whole `{algorithm}` key: it may have been cut short")
            }
        }
    }
}

impl core::error::Error for HostKeyError {}

impl FromStr for HostKey {
    type Err = HostKeyError;

    /// Reads a key as it stands in a `.pub` file. A comment after it is dropped.
    fn from_str(text: &str) -> Result<Self, HostKeyError> {
        let line = text.trim_ascii();
        if line.chars().any(|c| c.is_control() && c != '\t') {
            return Err(HostKeyError::ControlCharacter);
        }
        let mut fields = line.split([' ', '\t']).filter(|field| !field.is_empty());
        match (fields.next(), fields.next()) {
            (Some(algorithm), Some(blob)) => Self::new(algorithm, blob),
            _ => Err(HostKeyError::NotAKey),
        }
    }
}

impl fmt::Display for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.algorithm, self.blob)
    }
}

impl TryFrom<String> for HostKey {
    type Error = HostKeyError;

    fn try_from(text: String) -> Result<Self, HostKeyError> {
        text.parse()
    }
}

impl From<HostKey> for String {
    fn from(key: HostKey) -> Self {
        key.to_string()
    }
}

/// A blob is a row of fields, each with its length before it, and nothing after the last.
fn check_fields(algorithm: Algorithm, blob: &[u8]) -> Result<(), HostKeyError> {
    let damaged = HostKeyError::Damaged(algorithm);
    let mut fields = Vec::new();
    let mut rest = blob;
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<4>().ok_or(damaged.clone())?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| damaged.clone())?;
        let (field, after) = after.split_at_checked(length).ok_or(damaged.clone())?;
        // The name is compared before the rest is read: a text about the wrong algorithm says more
        // than one about damage.
        if fields.is_empty() && field != algorithm.as_str().as_bytes() {
            return Err(HostKeyError::OtherAlgorithm(algorithm));
        }
        fields.push(field);
        rest = after;
    }
    let curve_fits = algorithm.curve().is_none_or(|curve| fields.get(1) == Some(&curve));
    let key_fits = match algorithm {
        Algorithm::Ed25519 | Algorithm::SkEd25519 => fields.get(1).is_some_and(|k| k.len() == 32),
        _ => fields.iter().all(|field| !field.is_empty()),
    };
    if fields.len() == algorithm.field_count() && curve_fits && key_fits {
        Ok(())
    } else {
        Err(damaged)
    }
}

/// Base64 with its padding, in the one form that an encoder writes. `None` for anything else.
fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    let digits = match text {
        [digits @ .., b'=', b'='] | [digits @ .., b'='] => digits,
        digits => digits,
    };
    if text.is_empty() || !text.len().is_multiple_of(4) {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let mut bits = 0u32;
    let mut pending = 0u32;
    for digit in digits {
        bits = (bits << 6 | u32::from(base64_digit(*digit)?)) & 0xffff;
        pending += 6;
        if pending >= 8 {
            pending -= 8;
            bytes.push(u8::try_from(bits >> pending & 0xff).ok()?);
        }
    }
    let unused = bits & ((1 << pending) - 1);
    (unused == 0).then_some(bytes)
}

fn encode_base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = DIGITS.get((word >> (18 - 6 * place) & 63) as usize).copied();
            text.push(if place <= chunk.len() { char::from(digit.unwrap_or(b'=')) } else { '=' });
        }
    }
    text
}

fn base64_digit(c: u8) -> Option<u8> {
    match c {
        b'A'..=b'Z' => Some(c - b'A'),
        b'a'..=b'z' => Some(c - b'a' + 26),
        b'0'..=b'9' => Some(c - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::format;
    use std::vec;

    pub(crate) const ED25519: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKurtUwOsd/SR5/pBFuwoXrsDbAiBVQUW7oSOlMEPUcL";
    pub(crate) const P256: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBKbdXUQR6FEcWJSYrskPJDEKAGaODrryyyMrTY2zgCSqne1Kh4ZKVpXeeqVKNcK4zE8fzh9VUXXxao9AetylfVQ=";
    const P384: &str = "ecdsa-sha2-nistp384 AAAAE2VjZHNhLXNoYTItbmlzdHAzODQAAAAIbmlzdHAzODQAAABhBIiqa4u2ZtblmChbDaQWe/ddc/OJbdB76m4zRVQpM5RoL0hNWXEokBQGx0zDakcT0tRRFz4FDavsS8U/1TpWWRELqN9OXOcFUp3YvxeDMAhjUqY8XqttJUsJf79EH+ElwA==";

    #[test]
    fn reads_what_ssh_keygen_writes() {
        for text in [ED25519, P256, P384] {
            let key: HostKey = format!("{text} root@home\n").parse().unwrap();
            assert_eq!(key.to_string(), text);
        }
    }

    #[test]
    fn refuses_with_the_reason() {
        let reason = |text: &str| text.parse::<HostKey>().unwrap_err();
        assert_eq!(reason(""), HostKeyError::NotAKey);
        assert_eq!(reason("ssh-ed25519"), HostKeyError::NotAKey);
        assert_eq!(reason("ssh-dss AAAA"), HostKeyError::UnknownAlgorithm("ssh-dss".into()));
        assert_eq!(reason(&format!("{ED25519}\n{P256}")), HostKeyError::ControlCharacter);
        assert_eq!(reason(&format!("{ED25519} a\u{1b}[31m")), HostKeyError::ControlCharacter);
        assert_eq!(reason(ED25519.split_at(79).0), HostKeyError::NotBase64);
        assert_eq!(reason(ED25519.split_at(76).0), HostKeyError::Damaged(Algorithm::Ed25519));
        let swapped = P256.replacen("ecdsa-sha2-nistp256", "ssh-ed25519", 1);
        assert_eq!(reason(&swapped), HostKeyError::OtherAlgorithm(Algorithm::Ed25519));
        let long = format!("ssh-rsa {}", "A".repeat(MAX_BLOB + 4));
        assert_eq!(reason(&long), HostKeyError::TooLong);
        let cert = "ssh-ed25519-cert-v01@openssh.com AAAA";
        assert!(matches!(reason(cert), HostKeyError::UnknownAlgorithm(_)));
    }

    #[test]
    fn prefers_ed25519() {
        let mut keys: Vec<HostKey> = [P384, P256, ED25519].map(|t| t.parse().unwrap()).into();
        keys.sort();
        assert_eq!(keys[0].algorithm(), Algorithm::Ed25519);
        assert!(Algorithm::ALL.is_sorted());
    }

    fn blob(fields: &[&[u8]]) -> Vec<u8> {
        let field = |f: &&[u8]| [&u32::try_from(f.len()).unwrap().to_be_bytes()[..], *f].concat();
        fields.iter().flat_map(field).collect()
    }

    /// A key of any algorithm, right in form.
    pub(crate) fn any_host_key() -> impl Strategy<Value = HostKey> {
        let bytes = |n: usize| proptest::collection::vec(any::<u8>(), n..=n);
        (proptest::sample::select(Algorithm::ALL.to_vec()), bytes(32), bytes(97)).prop_map(
            |(algorithm, key, point)| {
                let mut fields: Vec<&[u8]> = vec![algorithm.as_str().as_bytes()];
                fields.extend(algorithm.curve());
                match algorithm {
                    Algorithm::Ed25519 => fields.push(&key),
                    Algorithm::SkEd25519 => fields.extend([&key[..], b"ssh:"]),
                    Algorithm::SkEcdsaP256 => fields.extend([&point[..], b"ssh:"]),
                    Algorithm::Rsa => fields.extend([&[1, 0, 1], &point[..]]),
                    _ => fields.push(&point),
                }
                HostKey::new(algorithm.as_str(), &encode_base64(&blob(&fields))).unwrap()
            },
        )
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read_back(key in any_host_key()) {
            prop_assert_eq!(key.to_string().parse::<HostKey>().unwrap(), key);
        }

        #[test]
        fn whatever_is_accepted_is_one_harmless_line(text in "(ssh-ed25519|ssh-rsa|.{0,9})[ \t\n]*[A-Za-z0-9+/=\n]{0,80}.*") {
            if let Ok(key) = text.parse::<HostKey>() {
                prop_assert!(key.to_string().bytes().all(|b| b == b' ' || b.is_ascii_graphic()));
            }
        }

        #[test]
        fn a_key_that_lost_its_end_is_refused(key in any_host_key(), lost in 1usize..64) {
            let text = key.to_string();
            prop_assert!(text.split_at(text.len() - lost).0.parse::<HostKey>().is_err());
        }

        #[test]
        fn base64_has_one_form(bytes in proptest::collection::vec(any::<u8>(), 1..64)) {
            let text = encode_base64(&bytes);
            prop_assert_eq!(decode_base64(text.as_bytes()), Some(bytes));
        }

        #[test]
        fn base64_that_decodes_is_that_form(text in "[AQgwEIz09+/]{0,12}={0,3}") {
            if let Some(bytes) = decode_base64(text.as_bytes()) {
                prop_assert_eq!(encode_base64(&bytes), text);
            }
        }
    }
}
