//! `wayhome service status agent`: the unit first, and then the roads.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use wayhome_core::status::{Snapshot, millis};

use super::image::{self, below};
use super::systemd::{Properties, Systemd};
use super::unit::{NAME, RunsAs};
use super::{runtime_place, unit_place};
use crate::agent::control::{self, Asked};
use crate::command::agent::runtime;
use crate::command::status;
use crate::error::{FAILED, Failure, Outcome};
use crate::report;

/// What was asked for.
#[derive(Debug)]
pub struct Request {
    /// Whether it is a person's own service.
    pub is_own: bool,
    /// The image.
    pub root: Option<PathBuf>,
    /// Whether a script reads it.
    pub json: bool,
}

/// The service and its roads.
#[derive(Clone, Debug, Serialize)]
pub struct ServiceStatus {
    /// The unit.
    pub unit: UnitStatus,
    /// What the agents of the service answer: one, if it runs.
    pub agents: Vec<Snapshot>,
}

/// The unit, as the service manager has it. Spans are before the moment of the status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UnitStatus {
    /// Its name.
    pub name: String,
    /// Its file, if it is installed.
    pub file: Option<PathBuf>,
    /// Whether it is started with the machine.
    pub enabled: bool,
    /// Whether it runs.
    pub active: bool,
    /// Its state, as systemd calls it.
    pub state: String,
    /// How long it has run, in milliseconds.
    pub since_ms: Option<u64>,
    /// How often it was started again.
    pub restarts: u64,
    /// The span within which the watchdog must be fed, in milliseconds.
    pub watchdog_ms: Option<u64>,
    /// When it last was, in milliseconds.
    pub fed_ms: Option<u64>,
}

/// Shows it. The exit code says whether all is up.
pub fn show(request: &Request) -> Outcome<u8> {
    let systemd = Systemd { is_own: request.is_own, root: request.root.clone() };
    if request.root.is_some() {
        return show_image(request, &systemd);
    }
    systemd.must_run()?;
    let unit = UnitStatus::read(NAME, &systemd.show(NAME)?, monotonic());
    let mut agents = Vec::new();
    let mut silent = None;
    if unit.active {
        let runtime = runtime()?;
        for socket in control::sockets_in(&runtime_place(request.is_own)?)? {
            match runtime.block_on(control::ask::<Snapshot>(&socket, Asked::Status)) {
                Ok(snapshot) => agents.push(snapshot),
                Err(error) => silent = Some(error),
            }
        }
    }
    let is_active = unit.active;
    let all_up = is_active && !agents.is_empty() && agents.iter().all(Snapshot::all_up);
    say(request, &ServiceStatus { unit, agents })?;
    match silent {
        Some(error) => Err(Failure::usage("the service's agent does not answer").because(&error)),
        None => Ok(if all_up { 0 } else { FAILED }),
    }
}

/// Nothing runs in an image; what can be told is whether it will.
fn show_image(request: &Request, systemd: &Systemd) -> Outcome<u8> {
    let root = request.root.as_deref().unwrap_or(Path::new("/"));
    let unit = UnitStatus::of_image(NAME, &unit_place(&RunsAs::Own)?, root, systemd)?;
    let enabled = unit.enabled;
    say(request, &ServiceStatus { unit, agents: Vec::new() })?;
    Ok(if enabled { 0 } else { FAILED })
}

fn say(request: &Request, status: &ServiceStatus) -> Outcome {
    let text = if request.json {
        serde_json::to_string_pretty(status)
            .map_err(|error| Failure::new("the status cannot be written as JSON").because(&error))?
            + "\n"
    } else {
        let agents = status::table(&status.agents);
        let between = if agents.is_empty() { "" } else { "\n" };
        format!("{}{between}{agents}", status.unit)
    };
    report::data("the status", text)
}

/// The service manager's clock, which stands still while the machine sleeps.
pub fn monotonic() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec.try_into().unwrap_or(0), now.tv_nsec.try_into().unwrap_or(0))
}

impl UnitStatus {
    /// A unit in an image: whether it is there, and started with the machine.
    ///
    /// # Errors
    /// If the image is none.
    pub fn of_image(name: &str, file: &Path, root: &Path, systemd: &Systemd) -> Outcome<Self> {
        image::check(Some(root), [file])?;
        let is_there = below(Some(root), file).is_file();
        Ok(Self {
            name: name.to_owned(),
            file: is_there.then(|| file.to_owned()),
            enabled: is_there && systemd.ctl(&["is-enabled", name]).is_ok(),
            state: "in an image".to_owned(),
            ..Self::default()
        })
    }

    /// Reads what `systemctl show` says of a unit; `now` is [`monotonic`].
    pub fn read(name: &str, unit: &Properties, now: Duration) -> Self {
        let ago = |name: &str| {
            let at = Duration::from_micros(unit.number(name)?);
            Some(millis(now.saturating_sub(at)))
        };
        let is_there = !matches!(unit.get("LoadState"), "not-found" | "");
        let active = unit.is_active();
        Self {
            name: name.to_owned(),
            file: is_there.then(|| PathBuf::from(unit.get("FragmentPath"))),
            enabled: unit.get("UnitFileState") == "enabled",
            active,
            state: format!("{} ({})", unit.get("ActiveState"), unit.get("SubState")),
            since_ms: ago("ActiveEnterTimestampMonotonic").filter(|_| active),
            restarts: unit.number("NRestarts").unwrap_or_default(),
            watchdog_ms: span_of(unit.get("WatchdogUSec")).filter(|_| active),
            fed_ms: ago("WatchdogTimestampMonotonic").filter(|_| active),
        }
    }
}

/// A span as systemd shows it: `30s`, `1min 30s`.
fn span_of(text: &str) -> Option<u64> {
    let span = humantime::parse_duration(text).ok().filter(|span| !span.is_zero())?;
    Some(millis(span))
}

impl std::fmt::Display for UnitStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = &self.name;
        let Some(file) = &self.file else {
            let what = match name == NAME {
                true => "agent --config agent.toml",
                false => "gateway",
            };
            return writeln!(
                f,
                "{name}  not installed\n    install it: `wayhome service install {what}`"
            );
        };
        write!(f, "{name}  {}", self.state)?;
        if let Some(since) = self.since_ms {
            write!(f, " for {}", status::span(since))?;
        }
        let enabled = if self.enabled { "enabled" } else { "not enabled" };
        write!(f, ", {enabled}, restarts {}", self.restarts)?;
        if let (Some(fed), Some(span)) = (self.fed_ms, self.watchdog_ms) {
            let (fed, span) = (status::span(fed), status::span(span));
            write!(f, ", watchdog fed {fed} ago (due within {span})")?;
        }
        writeln!(f, "\n    {}", file.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> UnitStatus {
        UnitStatus::read(NAME, &Properties::parse(text), Duration::from_secs(100))
    }

    #[test]
    fn reads_a_unit_that_runs() {
        let unit = read(
            "LoadState=loaded\nActiveState=active\nSubState=running\nUnitFileState=enabled\n\
             FragmentPath=/etc/systemd/system/wayhome-agent.service\nNRestarts=2\n\
             ActiveEnterTimestampMonotonic=35000000\nWatchdogUSec=30s\n\
             WatchdogTimestampMonotonic=98000000\nStatusText=home: 1 of 1 gateway up = fine\n",
        );
        assert_eq!(
            (unit.since_ms, unit.fed_ms, unit.watchdog_ms),
            (Some(65000), Some(2000), Some(30000))
        );
        insta::assert_snapshot!(unit, @r"
        wayhome-agent.service  active (running) for 1m 5s, enabled, restarts 2, watchdog fed 2s ago (due within 30s)
            /etc/systemd/system/wayhome-agent.service
        ");
    }

    #[test]
    fn reads_a_unit_that_is_not_there() {
        let unit = read("LoadState=not-found\nActiveState=inactive\nSubState=dead\n");
        insta::assert_snapshot!(unit, @r"
        wayhome-agent.service  not installed
            install it: `wayhome service install agent --config agent.toml`
        ");
    }
}
