//! How people are spoken to: data on standard output, everything else on standard error; colours
//! where each of the two shows them; lines that fit the terminal.

mod wrap;

use std::fmt::Display;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

use anstream::{AutoStream, ColorChoice};

use crate::error::{Failure, Outcome};
use crate::logging;
use crate::secret::masked;

/// Longer lines are hard to read, however wide the terminal is.
pub const WIDEST: usize = 80;

/// Whether only what went wrong is said (`-q`).
static QUIET: AtomicBool = AtomicBool::new(false);

/// Colours for both streams. `auto` leaves it to each: whether it is a terminal that has them, and
/// what `NO_COLOR`, `CLICOLOR` and `CLICOLOR_FORCE` say.
pub fn colour(when: clap::ColorChoice) {
    match when {
        clap::ColorChoice::Auto => ColorChoice::Auto,
        clap::ColorChoice::Always => ColorChoice::Always,
        clap::ColorChoice::Never => ColorChoice::Never,
    }
    .write_global();
}

/// Whether standard error shows colours.
pub fn stderr_has_colours() -> bool {
    AutoStream::choice(&io::stderr()) != ColorChoice::Never
}

/// From now on says only what went wrong.
pub fn be_quiet() {
    QUIET.store(true, Ordering::Relaxed);
}

/// Writes data. A reader who has seen enough and went away (`| head`) is no failure.
pub fn print(text: impl Display) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

/// What to do where data cannot be written.
pub const ROOM: &str = "see where standard output leads, and make room there";

/// Writes data that is called so, and says what to do if that fails.
pub fn data(what: &str, text: impl Display) -> Outcome {
    print(text).map_err(|error| {
        Failure::new(format!("{what} cannot be written")).because(&error).hint(ROOM)
    })
}

/// Shows help where it was asked for, and why the command line is wrong where errors go.
pub fn usage(error: &clap::Error) {
    let rendered = error.render().ansi().to_string();
    let text = masked(&rendered);
    // If nobody reads it there is nobody left to tell.
    let _ = if error.use_stderr() {
        // Help fits already; clap does not see to its errors.
        let text = wrap::lines_wrapped(&text, width(&io::stderr()));
        write!(anstream::stderr(), "{text}")
    } else {
        write!(anstream::stdout(), "{text}")
    };
}

/// Says why the command failed.
pub fn failure(failure: &Failure) {
    if logging::takes(failure) {
        return;
    }
    let mut text = labelled("", "error:", ERROR, failure.message());
    for cause in failure.causes() {
        text += &labelled("  ", "because:", CAUSE, cause);
    }
    if let Some(hint) = failure.hint_text() {
        text += &labelled("  ", "hint:", HINT, hint);
    }
    // If standard error is gone there is nobody left to tell.
    let _ = write!(anstream::stderr(), "{text}");
}

/// Says on one line why the command failed, for a person who ran another program, which ran us.
pub fn failure_on_one_line(failure: &Failure) {
    if logging::takes(failure) {
        return;
    }
    let _ = writeln!(anstream::stderr(), "wayhome: {}", on_one_line(failure));
}

/// A failure as one line of text.
pub fn on_one_line(failure: &Failure) -> String {
    let causes = failure.causes().iter().map(|cause| format!(": {cause}"));
    let hint = failure.hint_text().map(|hint| format!("; {hint}"));
    let text: String =
        std::iter::once(failure.message().to_owned()).chain(causes).chain(hint).collect();
    // What came over the network is harmless already; a file's name may be not.
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Says what did not go as it should, where the command goes on.
pub fn warning(text: impl Display) {
    let text = text.to_string();
    if logging::takes_warning(&text) {
        return;
    }
    let _ = write!(anstream::stderr(), "{}", labelled("", "warning:", WARNING, &text));
}

/// Says something that is no data: what was done, what to do next.
pub fn note(text: impl Display) {
    let _ = writeln!(notes(), "{text}");
}

/// Says a note beside what stands before it; its further lines stay beside that.
pub fn step(before: &str, text: &str) {
    let margin = before.chars().count();
    let text = wrap::wrapped(text, margin, margin, width(&io::stderr()));
    note(format_args!("{before}{text}"));
}

/// Where notes go.
pub fn notes() -> Box<dyn Write> {
    if QUIET.load(Ordering::Relaxed) { Box::new(io::sink()) } else { Box::new(anstream::stderr()) }
}

/// A paragraph of data: its first line stands behind `before`, the others begin `rest` columns in.
pub fn paragraph(before: &str, rest: usize, text: &str) -> String {
    let first = before.chars().count();
    format!("{before}{}\n", wrap::wrapped(text, first, rest, width(&io::stdout())))
}

const ERROR: &str = "1;31";
const WARNING: &str = "1;33";
const CAUSE: &str = "1";
const HINT: &str = "1;36";

/// `error: what`, its further lines below the text; those of a heading are two columns in.
fn labelled(margin: &str, label: &str, colour: &str, text: &str) -> String {
    let first = margin.len() + label.len() + 1;
    let rest = if margin.is_empty() { 2 } else { first };
    let text = wrap::wrapped(text, first, rest, width(&io::stderr()));
    format!("{margin}\u{1b}[{colour}m{label}\u{1b}[0m {text}\n")
}

/// How wide a stream's lines may be: as clap finds it for help, from the terminal or `COLUMNS`.
/// What goes to a file or a pipe is not broken; programs look for words there.
fn width(stream: &impl AsFd) -> Option<usize> {
    let terminal = rustix::termios::tcgetwinsize(stream).ok().map(|size| usize::from(size.ws_col));
    let columns = || std::env::var("COLUMNS").ok()?.parse().ok();
    let width = terminal.or_else(columns).filter(|width| *width > 0)?;
    Some(width.min(WIDEST))
}
