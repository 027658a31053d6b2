//! The hands of a switch: a service of its own that does what `wayhome_core::switch` decides.

use std::path::Path;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use wayhome_core::health::Detail;
use wayhome_core::status::Snapshot;
use wayhome_core::switch::{Action, End, Event, Switch};
use wayhome_core::time::Time;

use super::manager::{self, SERVICE};
use super::record::{Ending, Record};
use crate::agent::control::{self, Asked};
use crate::error::{Failure, Outcome};

/// The agent waits before it asks for a port again that was refused; this often it is told not to.
const KICK_EVERY: u32 = 12;

/// Does the switch that a record describes. Gives the exit code.
pub async fn run(path: &Path) -> Outcome<u8> {
    let Some(mut record) = Record::read(path)? else {
        return Err(Failure::usage(format!("there is no record `{}`", path.display())));
    };
    let failed = |error: std::io::Error| Failure::new("signals cannot be received").because(&error);
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let began = Instant::now();
    let (mut switch, mut actions) = Switch::begin();
    let mut tasks = JoinSet::new();
    let mut looks = 0;
    loop {
        for action in actions.drain(..) {
            if let Action::Finish(end) = action {
                record.end = Some(ending(&record.old, end));
                tell(&mut record, path, None);
                return Ok(record.end.map_or(1, |end| end.code));
            }
            before(&action, &mut record, path, began.elapsed());
            if action == Action::Look {
                looks += 1;
            }
            tasks.spawn(perform(action, record.clone(), looks % KICK_EVERY == 1));
        }
        let timer = switch.next_timer().map(|time| began + time.since(Time::ZERO));
        let event = tokio::select! {
            Some(Ok(event)) = tasks.join_next() => event,
            _ = terminate.recv() => Event::Interrupted,
            _ = interrupt.recv() => Event::Interrupted,
            () = sleep_until(timer) => Event::Timer,
        };
        actions = switch.handle(event, Time::after_start(began.elapsed()));
    }
}

/// Brings a switch to an end that was ended from outside: on one side or the other, never in between.
pub async fn settle(path: &Path) -> Outcome<u8> {
    let Some(mut record) = Record::read(path)?.filter(|record| record.end.is_none()) else {
        return Ok(0);
    };
    let why = Detail::new("the switch was ended from outside");
    let end = if record.proven {
        match perform(Action::DisableOld, record.clone(), false).await {
            Event::OldDisabled(Err(error)) => End::StillEnabled(error),
            _ => End::Done,
        }
    } else {
        let _ = perform(Action::EndNew, record.clone(), false).await;
        match perform(Action::StartOld, record.clone(), false).await {
            Event::OldStarted(Err(error)) => End::Stuck(why, error),
            _ => End::Back(why),
        }
    };
    record.end = Some(ending(&record.old, end));
    record.write(path)?;
    Ok(record.end.map_or(1, |end| end.code))
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// What has to be on disk before something is done.
fn before(action: &Action, record: &mut Record, path: &Path, after: Duration) {
    let old = &record.old;
    let line = match action {
        Action::StopOld => format!("stopping `{old}`; it stays enabled until the road is proven"),
        Action::DisableOld => {
            record.proven = true;
            format!("proven after {:.1} s; disabling `{old}`", after.as_secs_f64())
        }
        Action::EndNew => format!("going back: stopping `{SERVICE}`"),
        Action::StartOld => format!("starting `{old}` again"),
        Action::Look | Action::Finish(_) => return,
    };
    tell(record, path, Some(line));
}

fn tell(record: &mut Record, path: &Path, line: Option<String>) {
    if let Some(line) = line {
        tracing::info!("{line}");
        record.story.push(line);
    } else if let Some(end) = &record.end {
        tracing::info!("{}", end.text);
    }
    // The switch matters more than its record; the journal has it too.
    if let Err(failure) = record.write(path) {
        tracing::warn!("{failure}");
    }
}

async fn perform(action: Action, record: Record, kick: bool) -> Event {
    let (manager, old) = (record.manager(), record.old.as_str());
    let ctl = async |arguments: &[&str]| manager::systemctl(manager, arguments).await.map(drop);
    match action {
        Action::StopOld => Event::OldStopped(ctl(&["stop", "--", old]).await),
        Action::DisableOld if !record.old_enabled => Event::OldDisabled(Ok(())),
        Action::DisableOld => Event::OldDisabled(ctl(&["disable", "--", old]).await),
        Action::EndNew => Event::NewEnded(ctl(&["disable", "--now", "--", SERVICE]).await),
        Action::StartOld => Event::OldStarted(ctl(&["start", "--", old]).await),
        Action::Look => Event::Seen(look(&record, kick).await),
        // Seen to by the loop.
        Action::Finish(_) => Event::Timer,
    }
}

async fn look(record: &Record, kick: bool) -> Result<(), Detail> {
    let snapshot = ask(record, if kick { Asked::Kick } else { Asked::Status }).await?;
    if snapshot.all_up() { Ok(()) } else { Err(trouble(&snapshot)) }
}

/// Asks the agent that was installed.
pub async fn ask(record: &Record, asked: Asked) -> Result<Snapshot, Detail> {
    let detail = |text: &dyn std::fmt::Display| Detail::new(&text.to_string());
    let socket = control::socket(Some(&record.name)).map_err(|failure| detail(&failure))?;
    control::ask(&socket, asked)
        .await
        .map_err(|error| detail(&format_args!("the agent does not answer: {error}")))
}

/// Why not all is up, in a line.
pub fn trouble(snapshot: &Snapshot) -> Detail {
    let links = snapshot.links.iter();
    let causes = links.flat_map(|link| {
        let services = link.services.iter().filter_map(|service| {
            let cause = service.cause.as_ref()?;
            Some(format!("{}, {}: {}", link.gateway, service.service.name, cause.text))
        });
        let own = link.cause.as_ref().map(|cause| format!("{}: {}", link.gateway, cause.text));
        own.into_iter().chain(services)
    });
    let causes: Vec<String> = causes.collect();
    Detail::new(&if causes.is_empty() {
        "it is not proven yet".to_owned()
    } else {
        causes.join("; ")
    })
}

fn ending(old: &str, end: End) -> Ending {
    let (code, text) = match end {
        End::Done => (0, format!("wayhome has the road, proven; `{old}` is stopped and disabled")),
        End::StillEnabled(why) => (
            1,
            format!(
                "wayhome has the road, proven; but `{old}` could not be disabled ({why}): run `systemctl disable {old}`"
            ),
        ),
        End::Back(why) => (
            1,
            format!(
                "`{old}` runs again, as before, and wayhome's service is stopped and disabled: {why}"
            ),
        ),
        End::Stuck(why, error) => (
            1,
            format!(
                "neither runs: {why}; and `{old}` did not start again ({error}): run `systemctl start {old}`"
            ),
        ),
    };
    Ending { code, text }
}
