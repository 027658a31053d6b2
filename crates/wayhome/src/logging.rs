//! The log: one line for each thing that happened, on standard error or in the journal.
//!
//! A person reads sentences; JSON and the journal carry the same sentences and their facts as
//! fields beside them. Where the journal keeps the time, no second one is written.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::Subscriber;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::error::Failure;
use crate::report;
use crate::secret::masked;

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A sentence on a line
    Human,
    /// A JSON object on a line
    Json,
}

/// How much is said: `-q`, nothing, `-v`, `-vv`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loudness {
    /// What only a person can mend.
    Quiet,
    /// What happens to the road, and why.
    Usual,
    /// What ssh says, too.
    Verbose,
    /// Every event and every action of a link.
    Everything,
}

impl Loudness {
    /// What the command line asked for.
    pub fn new(verbose: u8, quiet: bool) -> Self {
        match (quiet, verbose) {
            (true, _) => Self::Quiet,
            (false, 0) => Self::Usual,
            (false, 1) => Self::Verbose,
            (false, _) => Self::Everything,
        }
    }

    fn level(self) -> LevelFilter {
        match self {
            Self::Quiet => LevelFilter::ERROR,
            Self::Usual => LevelFilter::INFO,
            Self::Verbose => LevelFilter::DEBUG,
            Self::Everything => LevelFilter::TRACE,
        }
    }
}

/// Whether the log is for programs: then what fails is told there, and not to a person.
static FOR_PROGRAMS: AtomicBool = AtomicBool::new(false);

/// Starts the log. Without a format it is the journal's own, if standard error leads there.
pub fn start(loudness: Loudness, format: Option<Format>) {
    let journal = stderr_is_the_journal(std::env::var("JOURNAL_STREAM").ok().as_deref());
    let for_programs = match format {
        Some(Format::Json) => Some(json(io::stderr)),
        Some(Format::Human) => None,
        // Its socket may be out of reach, in a sandbox; standard error is not.
        None => journal.then(native).and_then(Result::ok),
    };
    FOR_PROGRAMS.store(for_programs.is_some(), Ordering::Relaxed);
    let layer = for_programs.unwrap_or_else(|| human(journal));
    tracing_subscriber::registry().with(layer.with_filter(loudness.level())).init();
}

/// Tells the log why the command failed, if the log is for programs.
pub fn takes(failure: &Failure) -> bool {
    let for_programs = FOR_PROGRAMS.load(Ordering::Relaxed);
    if for_programs {
        let causes = failure.causes();
        tracing::error!(
            event = "failed",
            because = (!causes.is_empty()).then(|| causes.join(": ")),
            hint = failure.hint_text(),
            "{}",
            failure.message()
        );
    }
    for_programs
}

/// Tells the log what did not go as it should, if the log is for programs.
pub fn takes_warning(text: &str) -> bool {
    let for_programs = FOR_PROGRAMS.load(Ordering::Relaxed);
    if for_programs && tracing::enabled!(tracing::Level::WARN) {
        tracing::warn!(event = "warned", "{}", masked(text));
    } else if for_programs {
        // `-q` keeps no warning of a command from whoever runs it.
        tracing::error!(event = "warned", "{}", masked(text));
    }
    for_programs
}

type Boxed<S> = Box<dyn Layer<S> + Send + Sync>;

/// Sentences on standard error, with the time unless the journal has it.
fn human<S: Subscriber + for<'a> LookupSpan<'a>>(journal: bool) -> Boxed<S> {
    // The facts stand in the sentence already.
    let sentence =
        debug_fn(
            |writer: &mut Writer<'_>, field, value| {
                if field.name() == "message" { write!(writer, "{value:?}") } else { Ok(()) }
            },
        );
    let layer = fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(report::stderr_has_colours())
        .with_target(false)
        .fmt_fields(sentence)
        // It would be written to the same place, and panic if that is gone.
        .log_internal_errors(false);
    if journal { layer.without_time().boxed() } else { layer.boxed() }
}

/// An object on a line, the fields beside the message.
fn json<S, W>(writer: W) -> Boxed<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> fmt::MakeWriter<'w> + Send + Sync + 'static,
{
    fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_writer(writer)
        .log_internal_errors(false)
        .boxed()
}

/// The journal's own protocol: `journalctl GATEWAY=… -o json` finds the fields again.
fn native<S: Subscriber + for<'a> LookupSpan<'a>>() -> io::Result<Boxed<S>> {
    use tracing_journald::{Priority, PriorityMappings};
    let priorities = PriorityMappings {
        // As other daemons have them; the crate's own begin a step higher.
        info: Priority::Informational,
        debug: Priority::Debug,
        ..PriorityMappings::new()
    };
    let layer = tracing_journald::layer()?
        .with_field_prefix(None)
        .with_priority_mappings(priorities)
        .with_syslog_identifier("wayhome".into());
    Ok(layer.boxed())
}

/// systemd says which file the journal reads; somebody may have led standard error elsewhere since
/// (systemd.exec(5), `$JOURNAL_STREAM`).
fn stderr_is_the_journal(stream: Option<&str>) -> bool {
    let Some((device, inode)) = stream.and_then(|stream| stream.split_once(':')) else {
        return false;
    };
    let told = (device.parse::<u64>().ok(), inode.parse::<u64>().ok());
    rustix::fs::fstat(io::stderr().as_fd())
        .is_ok_and(|stat| told == (Some(stat.st_dev), Some(stat.st_ino)))
}

#[cfg(test)]
pub mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What is logged meanwhile, as JSON.
    pub fn json(work: impl FnOnce()) -> Vec<serde_json::Value> {
        let log = Log::default();
        let kept = log.clone();
        let layer = super::json(move || kept.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), work);
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(text)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn loudness_is_what_was_asked_for() {
        for (verbose, quiet, level) in [
            (0, true, LevelFilter::ERROR),
            (0, false, LevelFilter::INFO),
            (1, false, LevelFilter::DEBUG),
            (2, false, LevelFilter::TRACE),
            (9, false, LevelFilter::TRACE),
        ] {
            assert_eq!(Loudness::new(verbose, quiet).level(), level);
        }
    }

    #[test]
    fn another_file_than_the_one_that_was_named_is_not_the_journal() {
        let stat = rustix::fs::fstat(io::stderr().as_fd()).unwrap();
        assert!(stderr_is_the_journal(Some(&format!("{}:{}", stat.st_dev, stat.st_ino))));
        assert!(!stderr_is_the_journal(Some(&format!("{}:{}", stat.st_dev, stat.st_ino + 1))));
        for stream in [None, Some(""), Some(":"), Some("1"), Some("a:b"), Some("-1:-1")] {
            assert!(!stderr_is_the_journal(stream), "{stream:?}");
        }
    }
}
