//! What goes wrong while a lab is set up: what was being done, and why it failed.

use std::fmt;
use std::io;
use std::process::{Command, Output};

/// The lab's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Something that the lab could not do.
#[derive(Debug)]
pub struct Error {
    what: String,
    cause: Option<io::Error>,
}

impl Error {
    /// An error that is told whole by its text.
    pub fn new(what: impl Into<String>) -> Error {
        Error { what: what.into(), cause: None }
    }

    /// An error of the system, with what was being done.
    pub fn io(what: impl Into<String>, cause: io::Error) -> Error {
        Error { what: what.into(), cause: Some(cause) }
    }

    /// What the system refused with, if it was the system.
    pub fn kind(&self) -> Option<io::ErrorKind> {
        self.cause.as_ref().map(io::Error::kind)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_ref().map(|cause| cause as _)
    }
}

/// Says what was being done when the system refused.
pub trait Doing<T> {
    /// Turns an error of the system into the lab's.
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|cause| Error::io(what(), cause))
    }
}

/// Runs a command to its end; anything but success is an error that carries what it said.
pub fn run(command: &mut Command) -> Result<Output> {
    let output = command
        .output()
        .doing(|| format!("could not start `{}`", command.get_program().to_string_lossy()))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect();
    Err(Error::new(format!("`{}` failed ({}): {}", words.join(" "), output.status, said.trim())))
}

/// How many lines of a log an error quotes.
const TAIL: usize = 5;

/// The end of a log, for an error.
pub(crate) fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let before = lines.len().saturating_sub(TAIL);
    lines.get(before..).unwrap_or_default().join("; ")
}
