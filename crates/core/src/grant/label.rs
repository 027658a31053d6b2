//! What a person calls a key.

use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::health::Detail;

/// The longest label, in characters: it stands in one column of `status`.
const MAX_LEN: usize = 64;

/// What a person calls a key: `fan's laptop`. It reaches terminals and logs, and is one short line
/// without anything that would change how they look.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(String);

impl Label {
    /// The label as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Why a text is no [`Label`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelError {
    /// It has no characters.
    Empty,
    /// It has more than 64.
    TooLong,
    /// It is not one line of plain words.
    Harmful,
}

impl fmt::Display for LabelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a key's name must not be empty"),
            Self::TooLong => write!(f, "a key's name has at most {MAX_LEN} characters"),
            Self::Harmful => f.write_str(
                "a key's name is words with one blank between them, without control characters",
            ),
        }
    }
}

impl core::error::Error for LabelError {}

impl TryFrom<String> for Label {
    type Error = LabelError;

    fn try_from(text: String) -> Result<Self, LabelError> {
        match text.chars().count() {
            0 => Err(LabelError::Empty),
            count if count > MAX_LEN => Err(LabelError::TooLong),
            _ if Detail::new(&text).as_str() != text => Err(LabelError::Harmful),
            _ => Ok(Self(text)),
        }
    }
}

impl FromStr for Label {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        String::from(text).try_into()
    }
}

impl From<Label> for String {
    fn from(label: Label) -> Self {
        label.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refuses_with_the_reason() {
        for (text, why) in [
            ("", LabelError::Empty),
            (" ", LabelError::Harmful),
            ("a\nb", LabelError::Harmful),
            ("a\u{1b}[31m", LabelError::Harmful),
            ("a\u{202e}b", LabelError::Harmful),
            (&"ä".repeat(65), LabelError::TooLong),
        ] {
            assert_eq!(text.parse::<Label>(), Err(why), "{text:?}");
        }
        for text in ["fan's laptop", "Büro (2)", &"ä".repeat(64)] {
            assert_eq!(text.parse::<Label>().unwrap().as_str(), text);
        }
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_is_harmless(text in any::<String>()) {
            if let Ok(label) = text.parse::<Label>() {
                prop_assert!(label.as_str().chars().count() <= MAX_LEN);
                prop_assert!(!label.as_str().chars().any(char::is_control));
            }
        }
    }
}
