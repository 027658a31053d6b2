//! How people are spoken to: data on standard output, everything else on standard error, colours
//! only where a terminal shows them.

use std::fmt::Display;
use std::io::{self, Write};

use anstream::{AutoStream, ColorChoice};

use crate::error::Failure;

/// Whether standard error shows colours.
pub fn stderr_has_colours() -> bool {
    AutoStream::choice(&io::stderr()) != ColorChoice::Never
}

/// Writes data.
pub fn print(text: impl Display) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    write!(out, "{text}")?;
    out.flush()
}

/// Says why the command failed.
pub fn failure(failure: &Failure) {
    // If standard error is gone there is nobody left to tell.
    let _ = writeln!(anstream::stderr(), "\u{1b}[1;31merror:\u{1b}[0m {failure}");
}

/// Says what did not go as it should, where the command goes on.
pub fn warning(text: impl Display) {
    let _ = writeln!(anstream::stderr(), "\u{1b}[1;33mwarning:\u{1b}[0m {text}");
}

/// Says something that is no data: what was done, what to do next.
pub fn note(text: impl Display) {
    let _ = writeln!(anstream::stderr(), "{text}");
}
