//! The switch from an old tunnel to wayhome, both of which want the same port: stop the old one, wait
//! for proof of the new, and go back if that does not come.
//!
//! Whatever happens, one of the two runs at the end: the old one is disabled only after the new one
//! was proven, and started again if it was not.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use crate::health::Detail;
use crate::time::Time;

/// How long the new road may take to be proven after the old one was stopped. It takes a second where
/// all is well; a minute also covers an old session at the gateway that is slow to end.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often to look meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How often the old tunnel's start is tried before a person has to see to it.
const STARTS: u32 = 5;

/// How long to wait before it is tried again.
const START_AGAIN: Duration = Duration::from_secs(2);

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The old tunnel was stopped, or could not be.
    OldStopped(Result<(), Detail>),
    /// The new road was looked at: proven, or why not yet.
    Seen(Result<(), Detail>),
    /// The old tunnel was disabled, or could not be.
    OldDisabled(Result<(), Detail>),
    /// The new service was stopped and disabled, or could not be.
    NewEnded(Result<(), Detail>),
    /// The old tunnel was started, or could not be.
    OldStarted(Result<(), Detail>),
    /// A person, or the machine, wants this to end.
    Interrupted,
    /// The time that [`Switch::next_timer`] named has come.
    Timer,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Stop the old tunnel, and leave it enabled: after a crash or a reboot it comes back.
    StopOld,
    /// Look whether the new road is proven.
    Look,
    /// Disable the old tunnel.
    DisableOld,
    /// Stop and disable the new service.
    EndNew,
    /// Start the old tunnel again.
    StartOld,
    /// All is done.
    Finish(End),
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The new road is proven, and the old tunnel is gone.
    Done,
    /// The new road is proven, and the old tunnel is stopped but could not be disabled.
    StillEnabled(Detail),
    /// The old tunnel runs again, and why.
    Back(Detail),
    /// The old tunnel could not be started again: why the switch failed, and why this did.
    Stuck(Detail, Detail),
}

/// The switch.
#[derive(Clone, Debug)]
pub struct Switch {
    state: State,
    timer: Option<Time>,
}

#[derive(Clone, Debug)]
enum State {
    Stopping { interrupted: bool },
    Proving { until: Time, why: Detail, looking: bool },
    Disabling,
    EndingNew { why: Detail },
    StartingOld { why: Detail, starts: u32 },
    Ended,
}

impl Switch {
    /// Begins: the new service runs beside the old tunnel, and cannot have its ports yet.
    pub fn begin() -> (Self, Vec<Action>) {
        let state = State::Stopping { interrupted: false };
        (Self { state, timer: None }, vec![Action::StopOld])
    }

    /// When [`Event::Timer`] is wanted.
    pub fn next_timer(&self) -> Option<Time> {
        self.timer
    }

    /// Takes what happened, and says what to do.
    pub fn handle(&mut self, event: Event, now: Time) -> Vec<Action> {
        match (&mut self.state, event) {
            (State::Stopping { interrupted }, Event::Interrupted) => {
                // What was begun is waited for; then it goes back.
                *interrupted = true;
                Vec::new()
            }
            (State::Stopping { interrupted: true }, Event::OldStopped(_)) => self.interrupted(),
            (State::Stopping { .. }, Event::OldStopped(Err(why))) => {
                self.go_back(Detail::new(&format!("the old tunnel could not be stopped: {why}")))
            }
            (State::Stopping { .. }, Event::OldStopped(Ok(()))) => {
                let why = Detail::new("it was not seen");
                self.state = State::Proving { until: now + PATIENCE, why, looking: true };
                self.timer = Some(now + PATIENCE);
                vec![Action::Look]
            }
            (State::Proving { .. }, Event::Seen(Ok(()))) => {
                self.state = State::Disabling;
                self.timer = None;
                vec![Action::DisableOld]
            }
            (State::Proving { until, why, looking }, Event::Seen(Err(seen))) => {
                *why = seen;
                *looking = false;
                let again = now + LOOK_EVERY;
                self.timer = Some(if again < *until { again } else { *until });
                self.wait(now)
            }
            (State::Proving { .. }, Event::Timer) => self.wait(now),
            (State::Proving { .. }, Event::Interrupted) => self.interrupted(),
            (State::Disabling, Event::OldDisabled(result)) => {
                self.finish(result.err().map_or(End::Done, End::StillEnabled))
            }
            (State::EndingNew { why }, Event::NewEnded(ended)) => {
                // If it could not be ended, the old tunnel still gets its chance.
                let why = match ended {
                    Ok(()) => why.clone(),
                    Err(more) => Detail::new(&format!("{why}; and the service stays: {more}")),
                };
                self.state = State::StartingOld { why, starts: 1 };
                vec![Action::StartOld]
            }
            (State::StartingOld { why, .. }, Event::OldStarted(Ok(()))) => {
                let end = End::Back(why.clone());
                self.finish(end)
            }
            (State::StartingOld { why, starts }, Event::OldStarted(Err(error))) => {
                if *starts >= STARTS {
                    let end = End::Stuck(why.clone(), error);
                    return self.finish(end);
                }
                self.timer = Some(now + START_AGAIN);
                Vec::new()
            }
            (State::StartingOld { starts, .. }, Event::Timer) => {
                if self.timer.is_none_or(|at| now < at) {
                    return Vec::new();
                }
                *starts += 1;
                self.timer = None;
                vec![Action::StartOld]
            }
            // Once proven, or on the way back, nothing turns it round; and what comes late says
            // nothing any more.
            _ => Vec::new(),
        }
    }

    fn wait(&mut self, now: Time) -> Vec<Action> {
        let State::Proving { until, why, looking } = &mut self.state else { return Vec::new() };
        if now >= *until {
            let seconds = PATIENCE.as_secs();
            let why = Detail::new(&format!("no proof within {seconds} s: {why}"));
            return self.go_back(why);
        }
        if *looking || self.timer.is_none_or(|at| now < at) {
            return Vec::new();
        }
        *looking = true;
        self.timer = Some(*until);
        vec![Action::Look]
    }

    fn interrupted(&mut self) -> Vec<Action> {
        self.go_back(Detail::new("it was interrupted"))
    }

    fn go_back(&mut self, why: Detail) -> Vec<Action> {
        self.state = State::EndingNew { why };
        self.timer = None;
        vec![Action::EndNew]
    }

    fn finish(&mut self, end: End) -> Vec<Action> {
        self.state = State::Ended;
        self.timer = None;
        vec![Action::Finish(end)]
    }
}

#[cfg(test)]
mod tests;
