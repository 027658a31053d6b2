//! The networks that a key may come from.

use alloc::string::{String, ToString};
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// A network, or a single address: `203.0.113.0/24`, `2001:db8::/32`, `203.0.113.7`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Net {
    address: IpAddr,
    prefix: u8,
}

impl Net {
    /// Whether `peer` is in it. A peer that a socket for both kinds shows as `::ffff:203.0.113.7`
    /// is judged as `203.0.113.7`.
    pub fn contains(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        width(peer) == width(self.address) && network(peer, self.prefix) == self.address
    }
}

/// How many bits such an address has.
fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// The address without what lies behind its first `prefix` bits.
fn network(address: IpAddr, prefix: u8) -> IpAddr {
    let unset = u32::from(width(address).saturating_sub(prefix));
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(unset).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(unset).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

/// Why a text is no [`Net`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetError {
    /// It has no address before the `/`.
    NotAnAddress(String),
    /// What stands behind the `/` is no number of bits that such an address has.
    BadPrefix {
        /// The address.
        address: IpAddr,
        /// What stands there.
        prefix: String,
    },
    /// The address has bits behind the prefix: one machine and its network, and not which is meant.
    HostBits {
        /// The address.
        address: IpAddr,
        /// The network that it lies in.
        net: Net,
    },
    /// It is an IPv4 address in the clothes of an IPv6 one.
    Mapped(IpAddr),
}

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnAddress(text) => write!(
                f,
                "`{}` is no address; write `203.0.113.0/24`, `2001:db8::/32` or `203.0.113.7`",
                text.escape_default()
            ),
            Self::BadPrefix { address, prefix } => write!(
                f,
                "`/{}` is no prefix of `{address}`; write a number from 0 to {}",
                prefix.escape_default(),
                width(*address)
            ),
            Self::HostBits { address, net } => write!(
                f,
                "`{address}/{}` has bits behind its prefix; write `{net}` for the network, or \
                 `{address}` for this machine alone",
                net.prefix
            ),
            Self::Mapped(v4) => write!(
                f,
                "`::ffff:{v4}` is an IPv4 address, and peers are judged as such; write `{v4}`"
            ),
        }
    }
}

impl core::error::Error for NetError {}

impl FromStr for Net {
    type Err = NetError;

    fn from_str(text: &str) -> Result<Self, NetError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let Ok(address) = address.parse::<IpAddr>() else {
            return Err(NetError::NotAnAddress(text.to_string()));
        };
        // No peer would ever be in it: theirs are judged as IPv4 ones.
        if address.to_canonical() != address {
            return Err(NetError::Mapped(address.to_canonical()));
        }
        let prefix = match prefix {
            None => width(address),
            Some(digits) => number(digits)
                .filter(|prefix| *prefix <= width(address))
                .ok_or_else(|| NetError::BadPrefix { address, prefix: digits.to_string() })?,
        };
        let net = Self { address: network(address, prefix), prefix };
        if net.address != address {
            return Err(NetError::HostBits { address, net });
        }
        Ok(net)
    }
}

/// Digits and nothing else: `+8` is a number to Rust, and no prefix.
fn number(digits: &str) -> Option<u8> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.prefix == width(self.address) {
            return self.address.fmt(f);
        }
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl TryFrom<String> for Net {
    type Error = NetError;

    fn try_from(text: String) -> Result<Self, NetError> {
        text.parse()
    }
}

impl From<Net> for String {
    fn from(net: Net) -> Self {
        net.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn net(text: &str) -> Net {
        text.parse().unwrap()
    }

    #[test]
    fn has_its_addresses_and_no_others() {
        for (text, inside, outside) in [
            ("203.0.113.0/25", "203.0.113.127", "203.0.113.128"),
            ("203.0.113.0/24", "::ffff:203.0.113.9", "::203.0.113.9"),
            ("203.0.113.7", "203.0.113.7", "203.0.113.6"),
            ("2001:db8::/32", "2001:db8:ffff::1", "::1"),
            ("2001:db8::1", "2001:db8::1", "2001:db8::2"),
            ("0.0.0.0/0", "198.51.100.1", "2001:db8::1"),
            ("::/0", "2001:db8::1", "198.51.100.1"),
            // As a socket for both kinds shows an IPv4 peer.
            ("::/0", "::1", "::ffff:198.51.100.1"),
        ] {
            assert!(net(text).contains(inside.parse().unwrap()), "{text} has {inside}");
            assert!(!net(text).contains(outside.parse().unwrap()), "{text} has not {outside}");
        }
    }

    #[test]
    fn refuses_with_what_to_write_instead() {
        for (text, part) in [
            ("", "is no address"),
            ("home", "is no address"),
            ("203.0.113/24", "is no address"),
            ("203.0.113.0/24/8", "write a number from 0 to 32"),
            ("203.0.113.0/", "write a number from 0 to 32"),
            ("203.0.113.0/33", "write a number from 0 to 32"),
            ("203.0.113.0/+24", "write a number from 0 to 32"),
            ("203.0.113.0/255.255.255.0", "write a number from 0 to 32"),
            ("2001:db8::/129", "write a number from 0 to 128"),
            ("203.0.113.7/24", "write `203.0.113.0/24` for the network, or `203.0.113.7` for"),
            ("2001:db8::1/32", "write `2001:db8::/32` for the network"),
            ("0.0.0.1/0", "write `0.0.0.0/0`"),
            ("::ffff:203.0.113.7", "write `203.0.113.7`"),
            ("::ffff:203.0.113.0/120", "write `203.0.113.0`"),
            ("fe80::1%eth0", "is no address"),
            ("a\u{1b}[31m", "\\u{1b}"),
        ] {
            let error = text.parse::<Net>().unwrap_err().to_string();
            assert!(error.contains(part), "`{text}`: {error}");
            assert!(error.is_ascii() && !error.contains('\u{1b}'), "{error}");
        }
    }

    proptest! {
        #[test]
        fn is_written_as_it_is_read(bits: u128, v6: bool, prefix in 0u8..=128) {
            let address = if v6 {
                IpAddr::V6(Ipv6Addr::from_bits(bits))
            } else {
                IpAddr::V4(Ipv4Addr::from_bits(bits as u32))
            };
            let prefix = prefix.min(width(address));
            let text = std::format!("{}/{prefix}", network(address, prefix));
            match text.parse::<Net>() {
                Ok(net) => {
                    prop_assert_eq!(net.to_string().parse::<Net>().unwrap(), net);
                    prop_assert_eq!(net.contains(address), address.to_canonical() == address);
                }
                Err(why) => prop_assert!(matches!(why, NetError::Mapped(_)), "{why}"),
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            if let Ok(net) = text.parse::<Net>() {
                prop_assert!(net.to_string().is_ascii());
            }
        }
    }
}
