//! The name of a home, and of a service.

use alloc::string::{String, ToString};
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest name: 63 bytes, as a DNS label has.
const MAX_LEN: usize = 63;

/// What a home or a service is called: `[a-z0-9][a-z0-9-]{0,62}`.
///
/// A type of its own because names reach configuration files, shells and terminals; whatever holds
/// a `Name` can be written into any of them as it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name that a machine's host name suggests: lower case, the first label, other characters
    /// as hyphens. `None` if nothing is left of it.
    pub fn from_hostname(hostname: &str) -> Option<Self> {
        let label = hostname.split('.').next().unwrap_or_default();
        let mapped: String = label
            .chars()
            .map(|c| c.to_ascii_lowercase())
            .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' })
            .take(MAX_LEN)
            .collect();
        mapped.trim_matches('-').parse().ok()
    }

    /// `port-N`: a name for what was given none.
    pub fn for_port(port: u16) -> Self {
        Self(alloc::format!("port-{port}"))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Why a text is not a [`Name`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameError {
    /// It has no characters.
    Empty,
    /// It has more than 63 bytes.
    TooLong,
    /// It begins with a hyphen, which a command line would take for an option.
    LeadingHyphen,
    /// It has a character other than `a-z`, `0-9` and `-`.
    BadCharacter(char),
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a name must not be empty"),
            Self::TooLong => write!(f, "a name has at most {MAX_LEN} characters"),
            Self::LeadingHyphen => f.write_str("a name must not begin with `-`"),
            Self::BadCharacter(c) => {
                write!(f, "a name has only `a-z`, `0-9` and `-`, not `{}`", c.escape_default())
            }
        }
    }
}

impl core::error::Error for NameError {}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.starts_with('-') {
            return Err(NameError::LeadingHyphen);
        }
        let bad = |c: &char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-');
        if let Some(c) = text.chars().find(bad) {
            return Err(NameError::BadCharacter(c));
        }
        if text.len() > MAX_LEN {
            return Err(NameError::TooLong);
        }
        Ok(Self(text.to_string()))
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refuses_with_the_reason() {
        let reason = |text: &str| text.parse::<Name>().unwrap_err();
        assert_eq!(reason(""), NameError::Empty);
        assert_eq!(reason("-oProxyCommand=x"), NameError::LeadingHyphen);
        assert_eq!(reason("Home"), NameError::BadCharacter('H'));
        assert_eq!(reason("a\nb"), NameError::BadCharacter('\n'));
        assert_eq!(reason(&"a".repeat(64)), NameError::TooLong);
        assert!(reason("a\u{1b}[31m").to_string().is_ascii());
    }

    #[test]
    fn takes_what_a_hostname_suggests() {
        let name = |text| Name::from_hostname(text).map(|n| n.to_string());
        assert_eq!(name("Fans-MacBook.local").as_deref(), Some("fans-macbook"));
        assert_eq!(name("home_ubuntu").as_deref(), Some("home-ubuntu"));
        assert_eq!(name("---"), None);
    }

    proptest! {
        #[test]
        fn accepts_exactly_its_grammar(text in "[a-z0-9][a-z0-9-]{0,62}") {
            prop_assert_eq!(text.parse::<Name>().unwrap().to_string(), text);
        }

        #[test]
        fn whatever_is_accepted_is_harmless(text in any::<String>()) {
            if let Ok(name) = text.parse::<Name>() {
                prop_assert!(!name.as_str().starts_with('-'));
                prop_assert!(name.as_str().bytes().all(|b| b.is_ascii_graphic()));
            }
        }

        #[test]
        fn a_hostname_never_gives_a_bad_name(text in any::<String>()) {
            if let Some(name) = Name::from_hostname(&text) {
                prop_assert_eq!(name.as_str().parse::<Name>().unwrap(), name);
            }
        }
    }
}
