//! A stranger's words, made fit for a terminal and a log.

use alloc::format;
use alloc::string::String;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::secret::masked;

/// The most characters of a stranger's text that a cause keeps.
const MAX_DETAIL: usize = 300;

/// A stranger's words, made fit for a terminal and a log: bounded, on one line, without controls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Detail(String);

impl Detail {
    /// Takes at most 300 characters of `text`; controls and line breaks become blanks, and a
    /// password in an address is masked.
    pub fn new(text: &str) -> Self {
        let mut clean = String::new();
        for word in
            masked(text).split(|c: char| c.is_control() || c.is_whitespace() || is_format(c))
        {
            if word.is_empty() {
                continue;
            }
            if !clean.is_empty() {
                clean.push(' ');
            }
            clean.push_str(word);
        }
        if clean.chars().count() > MAX_DETAIL {
            clean = format!("{}…", clean.chars().take(MAX_DETAIL).collect::<String>());
        }
        Self(clean)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Characters that change the order or the look of what a terminal shows beside them.
fn is_format(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "no reason given" } else { &self.0 })
    }
}

impl From<String> for Detail {
    fn from(text: String) -> Self {
        Self::new(&text)
    }
}

impl From<&str> for Detail {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<Detail> for String {
    fn from(detail: Detail) -> Self {
        detail.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_detail_is_bounded_and_has_no_controls(text in any::<String>()) {
            let detail = Detail::new(&text);
            prop_assert!(detail.as_str().chars().count() <= MAX_DETAIL + 1);
            prop_assert!(!detail.as_str().chars().any(|c| c.is_control() || is_format(c)));
            prop_assert_eq!(&Detail::new(detail.as_str()), &detail);
        }
    }

    #[test]
    fn an_escape_sequence_loses_its_teeth() {
        assert_eq!(Detail::new("a\u{1b}[31m\r\nb").to_string(), "a [31m b");
        assert_eq!(Detail::new(" \n").to_string(), "no reason given");
    }

    #[test]
    fn a_password_is_not_passed_on() {
        let said = Detail::new("proxy http://fan:hunter2@192.0.2.7:3128 answered 407");
        assert_eq!(said.to_string(), "proxy http://fan:***@192.0.2.7:3128 answered 407");
    }
}
