//! Where a gateway is: `ssh://root@203.0.113.10:22`, or as ssh's command line has it; and
//! `wayhome://gw.example.org:7222` for one that runs `wayhome gateway`.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::secret::masked;
use crate::service::is_host;

/// The address of a gateway that is a plain sshd.
///
/// The host may be an alias of the person's own `~/.ssh/config`; what is not said here is left to
/// that file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    /// The login, if it was given.
    pub user: Option<String>,
    /// The host.
    pub host: String,
    /// The port, if it was given.
    pub port: Option<u16>,
}

/// ssh's port, where neither an address nor the person's configuration names another one.
const SSH: u16 = 22;

impl Address {
    /// Whether two addresses lead to the same login, however each is written. That a person's
    /// `~/.ssh/config` may have another user or port for one of them cannot be seen here.
    pub fn is_same_login(&self, other: &Self) -> bool {
        let port = |address: &Self| address.port.unwrap_or(SSH);
        self.user == other.user
            && self.host.eq_ignore_ascii_case(&other.host)
            && port(self) == port(other)
    }
}

/// Why a text is no [`Address`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressError(String);

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for AddressError {}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let bad = |why: &str| {
            let shown = masked(text);
            Err(AddressError(format!(
                "`{}` {why}; write `root@203.0.113.10`, or `ssh://root@203.0.113.10:22`",
                shown.escape_default()
            )))
        };
        let (is_url, rest) = match text.split_once("://") {
            Some(("ssh", rest)) => (true, rest.strip_suffix('/').unwrap_or(rest)),
            Some(_) => return bad("is no `ssh://` address"),
            None => (false, text),
        };
        let (user, place) = match rest.rsplit_once('@') {
            Some((user, place)) if is_user(user) => (Some(user.to_owned()), place),
            Some((user, _)) if is_url && user.contains(':') => {
                return bad("has a password in it, and ssh takes none");
            }
            Some(_) => return bad("has a login name that ssh would not take"),
            None => (None, rest),
        };
        let (host, port) = match split_port(place) {
            Some((host, port)) if is_url || port.is_none() => (host, port),
            Some(_) => return bad("has a port, which only the `ssh://` form takes"),
            None => return bad("has a port that is not a number from 1 to 65535"),
        };
        if !is_host(host) {
            return bad("has no host");
        }
        Ok(Self { user, host: host.to_owned(), port })
    }
}

/// `host`, `host:port`, `[address]:port`, or a bare IPv6 address.
fn split_port(place: &str) -> Option<(&str, Option<u16>)> {
    if let Some(rest) = place.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        return match rest.strip_prefix(':') {
            Some(port) => Some((host, Some(number(port)?))),
            None if rest.is_empty() => Some((host, None)),
            None => None,
        };
    }
    match place.split_once(':') {
        Some((host, port)) if !port.contains(':') => Some((host, Some(number(port)?))),
        _ => Some((place, None)),
    }
}

fn number(port: &str) -> Option<u16> {
    port.parse().ok().filter(|port| *port > 0)
}

/// Whether ssh takes this for a login name on its command line, and no shell could take it for more.
pub fn is_user(text: &str) -> bool {
    let good =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+' | '@' | '\\');
    !text.is_empty() && text.len() <= 255 && !text.starts_with('-') && text.chars().all(good)
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        match self.port {
            Some(port) if self.host.contains(':') => write!(f, "[{}]:{port}", self.host),
            Some(port) => write!(f, "{}:{port}", self.host),
            None => f.write_str(&self.host),
        }
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        format!("ssh://{address}")
    }
}

/// The port of a `wayhome gateway` that says no other.
pub const NATIVE_PORT: u16 = 7222;

/// The address of a gateway that runs `wayhome gateway`: `wayhome://gw.example.org`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NativeAddress {
    /// A name, or an IP address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl NativeAddress {
    /// Whether a text is meant to be one, right or wrong.
    pub fn is_meant(text: &str) -> bool {
        text.starts_with("wayhome:")
    }
}

impl FromStr for NativeAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let bad = |why: &str| {
            let shown = masked(text);
            Err(AddressError(format!(
                "`{}` {why}; write `wayhome://gw.example.org`, or `wayhome://203.0.113.10:7222`",
                shown.escape_default()
            )))
        };
        let Some(rest) = text.strip_prefix("wayhome://") else {
            return bad("is no `wayhome://` address");
        };
        let place = rest.strip_suffix('/').unwrap_or(rest);
        if place.contains('@') {
            return bad("has a login name, and there are no accounts at such a gateway");
        }
        match split_port(place) {
            // Brackets are where colons are, and nowhere else.
            Some((host, port))
                if is_host(host) && (place.starts_with('[') || !host.contains(':')) =>
            {
                Ok(Self { host: host.to_owned(), port: port.unwrap_or(NATIVE_PORT) })
            }
            Some((host, _)) if host.contains(':') => bad("has an IPv6 address without `[` and `]`"),
            Some(_) => bad("has no host"),
            None => bad("has a port that is not a number from 1 to 65535"),
        }
    }
}

impl fmt::Display for NativeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("wayhome://")?;
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?;
        } else {
            f.write_str(&self.host)?;
        }
        if self.port == NATIVE_PORT { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

impl TryFrom<String> for NativeAddress {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl From<NativeAddress> for String {
    fn from(address: NativeAddress) -> Self {
        format!("{address}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn reads_both_forms() {
        for (text, user, host, port) in [
            ("root@203.0.113.10", Some("root"), "203.0.113.10", None),
            ("gw", None, "gw", None),
            ("ssh://root@203.0.113.10:2200", Some("root"), "203.0.113.10", Some(2200)),
            ("ssh://gw.example.org/", None, "gw.example.org", None),
            ("ssh://a@[2001:db8::1]:22", Some("a"), "2001:db8::1", Some(22)),
            ("a@2001:db8::1", Some("a"), "2001:db8::1", None),
            ("a@b@gw", Some("a@b"), "gw", None),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.user.as_deref(), user, "{text}");
            assert_eq!((address.host.as_str(), address.port), (host, port), "{text}");
            let again: Address = String::from(address.clone()).parse().unwrap();
            assert_eq!(again, address, "{text}");
        }
    }

    #[test]
    fn one_login_may_be_written_in_several_ways() {
        let address = |text: &str| text.parse::<Address>().unwrap();
        let same = |one: &str, other: &str| address(one).is_same_login(&address(other));
        assert!(same("root@gw", "ssh://root@gw:22"));
        assert!(same("root@GW.example.org", "ssh://root@gw.example.org/"));
        assert!(same("a@2001:db8::1", "ssh://a@[2001:DB8::1]:22"));
        assert!(!same("root@gw", "ssh://root@gw:2200"));
        assert!(!same("root@gw", "fan@gw"));
        assert!(!same("root@gw", "gw"), "who that is, only ssh knows");
        assert!(!same("root@gw", "root@gw2"));
    }

    #[test]
    fn refuses_what_a_shell_or_ssh_would_take_for_more() {
        for (text, part) in [
            ("", "has no host"),
            ("-oProxyCommand=id", "has no host"),
            ("root@-x", "has no host"),
            ("a b@gw", "login name"),
            ("$(id)@gw", "login name"),
            ("root@gw;id", "has no host"),
            ("https://gw", "no `ssh://`"),
            ("root@gw:22", "only the `ssh://` form"),
            ("ssh://root@gw:0", "1 to 65535"),
            ("ssh://root@gw:x", "1 to 65535"),
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(part), "`{text}`: {error}");
        }
    }

    #[test]
    fn reads_a_native_gateway() {
        for (text, host, port, shown) in [
            ("wayhome://gw.example.org", "gw.example.org", 7222, "wayhome://gw.example.org"),
            ("wayhome://203.0.113.10:443/", "203.0.113.10", 443, "wayhome://203.0.113.10:443"),
            ("wayhome://[2001:db8::1]", "2001:db8::1", 7222, "wayhome://[2001:db8::1]"),
            ("wayhome://[2001:db8::1]:1", "2001:db8::1", 1, "wayhome://[2001:db8::1]:1"),
            ("wayhome://gw:7222", "gw", 7222, "wayhome://gw"),
        ] {
            let address: NativeAddress = text.parse().unwrap();
            assert_eq!((address.host.as_str(), address.port), (host, port), "{text}");
            assert_eq!(address.to_string(), shown);
            assert_eq!(shown.parse::<NativeAddress>().unwrap(), address);
        }
        for (text, part) in [
            ("ssh://gw", "no `wayhome://`"),
            ("wayhome:gw", "no `wayhome://`"),
            ("wayhome://", "has no host"),
            ("wayhome://-x", "has no host"),
            ("wayhome://root@gw", "no accounts"),
            ("wayhome://gw:0", "1 to 65535"),
            ("wayhome://2001:db8::1", "without `[`"),
            ("wayhome://gw;id", "has no host"),
        ] {
            let error = text.parse::<NativeAddress>().unwrap_err().to_string();
            assert!(error.contains(part), "`{text}`: {error}");
        }
    }
}
