//! Speaking to the person at the terminal: one way, on stderr, so that stdout stays the program's.

use std::fmt::Arguments;

/// Says one line.
#[allow(clippy::print_stderr, reason = "the one place of this program that prints")]
pub fn say(line: Arguments<'_>) {
    eprintln!("{line}");
}
