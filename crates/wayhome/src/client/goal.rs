//! Where to: `home-ubuntu`, or `home-ubuntu:web`.

use std::fmt;
use std::str::FromStr;

use wayhome_core::name::{Name, NameError};

/// A home, and one of its services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goal {
    /// The home.
    pub home: Name,
    /// Its service; `ssh` if none was named.
    pub service: Name,
}

impl FromStr for Goal {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (home, service) = text.split_once(':').unwrap_or((text, "ssh"));
        Ok(Self { home: home.parse()?, service: service.parse()? })
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.home, self.service)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_home_with_and_without_a_service() {
        for (text, goal) in [("home-ubuntu", "home-ubuntu:ssh"), ("attic:web", "attic:web")] {
            assert_eq!(text.parse::<Goal>().unwrap().to_string(), goal);
        }
        for text in ["", ":ssh", "attic:", "attic:web:1", "-v", "Attic", "attic web"] {
            assert!(text.parse::<Goal>().is_err(), "{text}");
        }
    }
}
