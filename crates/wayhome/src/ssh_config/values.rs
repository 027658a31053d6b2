//! Values that may stand in an ssh configuration: each is checked once, and is then harmless there.
//!
//! In that format a line end begins a new option, `%` and `${` are expanded, quotes and spaces split
//! arguments, and a leading `-` reaches the command line of another `ssh` as an option.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use wayhome_core::name::Name;

/// The longest alias and user name: what a DNS label has, which leaves room in socket paths.
const MAX_WORD: usize = 63;
/// The longest name that DNS has.
const MAX_HOST: usize = 253;
/// The longest path of a key. Paths are longer in theory, keys lie in homes in practice.
const MAX_PATH: usize = 512;

/// Defines a checked text: its type, and everything that comes with being one.
macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The value as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = ValueError;

            fn from_str(text: &str) -> Result<Self, ValueError> {
                match $check(text) {
                    Ok(()) => Ok(Self(text.to_owned())),
                    Err(rule) => Err(ValueError { what: $what, text: shortened(text), rule }),
                }
            }
        }
    };
}

checked_text! {
    /// What a person types after `ssh`, and what stands after `Host` and `ProxyJump`. It can be no
    /// host's own name: a text that a laptop installs would lead `ssh github.com` elsewhere.
    Alias, "an alias", check_alias
}
checked_text! {
    /// Where a gateway is: a DNS name or an address. IPv6 stands without brackets.
    HostName, "a host", check_host
}
checked_text! {
    /// Whom to log in as.
    UserName, "a user name", check_user
}
checked_text! {
    /// The path of a private key as the laptop writes it: `~/.ssh/id_ed25519`.
    KeyPath, "the path of a key", check_path
}

impl KeyPath {
    /// The path as an argument in the configuration, in quotes if it needs them.
    pub fn quoted(&self) -> String {
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-~".contains(c);
        if self.0.chars().all(plain) { self.0.clone() } else { format!("\"{}\"", self.0) }
    }
}

/// Why a text may not stand in an ssh configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueError {
    what: &'static str,
    text: String,
    rule: &'static str,
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not {}: {}", self.text, self.what, self.rule)
    }
}

impl std::error::Error for ValueError {}

/// A stranger's text for an error: short, and nothing in it that a terminal obeys.
pub(super) fn shortened(text: &str) -> String {
    let mut shown: String = text.chars().take(40).flat_map(char::escape_default).collect();
    if text.chars().count() > 40 {
        shown.push('…');
    }
    shown
}

fn check_alias(text: &str) -> Result<(), &'static str> {
    if text.len() > MAX_WORD {
        return Err("it has at most 63 characters");
    }
    if text.parse::<Name>().is_err() {
        return Err(
            "it has only `a-z`, `0-9` and `-`: with a dot it could be some host's own name",
        );
    }
    match text {
        "none" => Err("to ssh, `none` means that there is none"),
        "localhost" | "ip6-localhost" | "ip6-loopback" => Err("it is this machine's own name"),
        text if is_number(text) => Err("ssh would take it for an address"),
        _ => Ok(()),
    }
}

/// Whether a C library reads it as an address that is written as one number.
fn is_number(text: &str) -> bool {
    let digits = |text: &str, radix| !text.is_empty() && text.chars().all(|c| c.is_digit(radix));
    digits(text, 10) || text.strip_prefix("0x").is_some_and(|text| digits(text, 16))
}

fn check_host(text: &str) -> Result<(), &'static str> {
    if text.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err("it must begin with a letter or a digit");
    }
    if !text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) {
        return Err("it is a DNS name or an address, with no port and no brackets");
    }
    if text.len() > MAX_HOST {
        return Err("it has at most 253 characters");
    }
    Ok(())
}

fn check_user(text: &str) -> Result<(), &'static str> {
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
        return Err("it must begin with a letter, a digit or `_`");
    }
    // `@` stands in the logins of directory services: `fan@example.org`.
    if !text.chars().all(|c| c.is_ascii_alphanumeric() || "._-+@".contains(c)) {
        return Err("it has only letters, digits, `.`, `_`, `-`, `+` and `@`");
    }
    if text.len() > MAX_WORD {
        return Err("it has at most 63 characters");
    }
    Ok(())
}

fn check_path(text: &str) -> Result<(), &'static str> {
    if !(text.starts_with("~/") || text.starts_with('/')) {
        return Err("it must begin with `~/` or `/`");
    }
    if !text.chars().all(|c| c.is_alphanumeric() || "/._-+@~,=:() ".contains(c)) {
        return Err("it has a character that ssh would expand or take for the end");
    }
    if text.ends_with(['/', ' ']) {
        return Err("it must end with the name of a file");
    }
    if text.len() > MAX_PATH {
        return Err("it has at most 512 bytes");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn takes_what_people_have() {
        for alias in ["alicloud-ecs-gateway", "gw1", "2nd-home"] {
            alias.parse::<Alias>().unwrap();
        }
        for host in ["203.0.113.7", "2001:db8::1", "gw.example.org", "vm_1"] {
            host.parse::<HostName>().unwrap();
        }
        for user in ["root", "fan", "_svc", "fan@example.org", "f.an-2"] {
            user.parse::<UserName>().unwrap();
        }
        let path: KeyPath = "~/.ssh/gateway.pem".parse().unwrap();
        assert_eq!(path.quoted(), path.as_str());
        let path: KeyPath = "/mnt/José/my keys/id".parse().unwrap();
        assert_eq!(path.quoted(), "\"/mnt/José/my keys/id\"");
    }

    #[test]
    fn refuses_what_would_be_more_than_a_value() {
        let bad = [
            "",
            "-oProxyCommand=x",
            "a\nProxyCommand x",
            "a\rb",
            "a b",
            "a\tb",
            "a\"b",
            "a'b",
            "a\\b",
            "%h",
            "a%C",
            "${HOME}",
            "$(id)",
            "`id`",
            "a#b",
            "*",
            "!a",
            "a?",
            "a;b",
            "a,b",
            "a=b",
            "a\u{0}b",
            "a\u{202e}b",
            "fe80::1%eth0",
            "[2001:db8::1]",
        ];
        for text in bad {
            assert!(text.parse::<Alias>().is_err(), "alias {text:?}");
            assert!(text.parse::<HostName>().is_err(), "host {text:?}");
            assert!(text.parse::<UserName>().is_err(), "user {text:?}");
            assert!(text.parse::<KeyPath>().is_err(), "path {text:?}");
        }
        for text in ["~/a\nb", "~/a\"b", "~/%d", "~/${HOME}", "~/a\\ b", "~fan/id", "none", "~/ "] {
            assert!(text.parse::<KeyPath>().is_err(), "path {text:?}");
        }
    }

    #[test]
    fn no_alias_is_a_host_s_own_name() {
        for text in [
            "github.com",
            "GitHub",
            "203.0.113.7",
            "2001:db8::1",
            "3405803783",
            "0xcb007107",
            "localhost",
            "ip6-localhost",
            "none",
            "home_2",
            "a.",
        ] {
            assert!(text.parse::<Alias>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_error_is_safe_to_show() {
        let error = "a\u{1b}[31m".repeat(50).parse::<Alias>().unwrap_err().to_string();
        assert!(!error.contains('\u{1b}') && error.len() < 500, "{error}");
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_is_one_argument(text in "[~/]?/?.{0,20}") {
            if let Ok(path) = text.parse::<KeyPath>() {
                let inner = path.quoted();
                let inner = inner.trim_matches('"');
                prop_assert_eq!(inner, text.as_str());
                prop_assert!(!inner.contains(['"', '\'', '\\', '%', '$', '#', '\n', '\r', '\t']));
            }
            for word in [
                text.parse::<Alias>().map(|v| v.to_string()),
                text.parse::<HostName>().map(|v| v.to_string()),
                text.parse::<UserName>().map(|v| v.to_string()),
            ].into_iter().flatten() {
                prop_assert!(word.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-+@:".contains(&b)));
                prop_assert!(!word.starts_with('-'));
            }
        }
    }
}
