//! How a command fails: what, why, what to do, and with which exit code.

use std::fmt;

use crate::secret::masked;

/// Exit code: it was tried, and it failed.
pub const FAILED: u8 = 1;
/// Exit code: it was not tried, because what was asked for, or the configuration, is wrong.
pub const USAGE: u8 = 2;

/// Why a command failed, for a person.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
}

/// What a command comes to.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// It was tried, and it failed.
    pub fn new(message: impl Into<String>) -> Self {
        Self { code: FAILED, message: told(message), causes: Vec::new(), hint: None }
    }

    /// It was not tried: the request or the configuration is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { code: USAGE, ..Self::new(message) }
    }

    /// With what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(told(hint));
        self
    }

    /// With what has become of the rest, after the message.
    #[must_use]
    pub fn note(mut self, note: &str) -> Self {
        self.message = format!("{}; {note}", self.message);
        self
    }

    /// In this place of a file: `agent.toml:3`.
    #[must_use]
    pub fn at(mut self, place: &str) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// With the error below it, and the errors below that one.
    #[must_use]
    pub fn because(mut self, cause: &dyn std::error::Error) -> Self {
        let mut next = Some(cause);
        while let Some(error) = next {
            self.causes.push(told(error.to_string()));
            next = error.source();
        }
        self
    }

    /// The program's exit code.
    pub fn code(&self) -> u8 {
        self.code
    }

    /// What failed.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Why, from the top down.
    pub fn causes(&self) -> &[String] {
        &self.causes
    }

    /// What to do about it.
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

/// A failure is for a terminal and a log; what a person or another program put into it may be not.
fn told(text: impl Into<String>) -> String {
    masked(&text.into()).into_owned()
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for cause in &self.causes {
            write!(f, "\n  because: {cause}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}
