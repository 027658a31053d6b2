//! One link's decisions: the road from home to one gateway.
//!
//! [`Link`] is a state machine without hands. It is told what happened ([`Event`]) and when, and
//! answers with what to do ([`Action`]); [`Link::next_timer`] says when to wake it if nothing
//! happens. Who runs `ssh`, opens sockets and reads clocks is the agent's affair.
//!
//! Three things go on at once, and each has a file:
//! - `conn`: a connection to the gateway, with its heartbeats;
//! - `seek`: how a connection is found: knock, dial, hold; and the race against one that is suspect;
//! - `road`: what is done over a connection for each service: forward, look, release, prove;
//! - `reach`: whether a port that was granted is as narrow as it was asked for;
//! - `takeover`: what is done if a port is held already;
//! - `replan`: what changes when the services change while the link runs.

mod conn;
mod reach;
mod replan;
mod road;
mod seek;
mod takeover;
#[cfg(test)]
mod tests;

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::backoff::Backoff;
use crate::health::{Cause, Detail};
use crate::host_key::HostKey;
use crate::service::Service;
use crate::status::{Finding, LinkState, LinkStatus, millis};
use crate::time::Time;
use conn::Conn;
pub use reach::Reach;
pub use road::Sighting;
use road::{Op, Road};
use seek::Seek;
pub use takeover::Holder;

/// How long the end of a link may take before the agent stops waiting for it.
const DRAIN: Duration = Duration::from_secs(3);

/// For how long an alarm is shown. Who raised it tries again within eight minutes, and a person may
/// look later than that.
const ALARM: Duration = Duration::from_secs(3600);

/// No gateway keeps its homes waiting for longer than this, whatever it says.
const CAP_MOST: Duration = Duration::from_secs(300);

/// How many of its own sessions a home remembers. A session is forgotten by sshd when it ends, so
/// only the newest can still be half open; a few more cost nothing.
const REMEMBERED: usize = 16;

/// What a link is to do, and what was known before it began.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The gateway's address, as the configuration has it.
    pub gateway: String,
    /// The services to offer there; never empty. They are numbered in this order, from 0.
    pub services: Vec<Service>,
    /// Whether a plain TCP connect to the gateway says anything (not through a jump host).
    pub knockable: bool,
    /// How often to send a heartbeat.
    pub heartbeat: Duration,
    /// The sessions that this home recorded as its own.
    pub sessions: Vec<Session>,
    /// What the jitter is drawn from; anything that differs between homes.
    pub seed: u64,
}

/// Which connection: each dial has a number of its own, never used again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(u32);

impl core::fmt::Display for ConnId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.fmt(f)
    }
}

/// An sshd process at the gateway that serves one of this home's connections. The three together
/// name it for good: process ids come round again, start times and boots do not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Its process id.
    pub pid: u32,
    /// When it began, in clock ticks after the gateway's boot (proc(5), field 22 of `stat`).
    pub start: u64,
    /// The gateway's boot id.
    pub boot: String,
}

/// How far a login has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Nothing has come from the gateway's sshd.
    Dialled,
    /// It has greeted.
    Greeted,
    /// The keys are exchanged; who logs in is being asked.
    Exchanged,
}

/// What happened. A service goes by its number, which is never used again in a link's life:
/// [`Link::service`] says which it is.
#[derive(Clone, Debug)]
pub enum Event {
    /// Time has passed.
    Timer,
    /// A knock came to its end.
    Knocked(Result<(), Cause>),
    /// A login has come this far.
    Reached(ConnId, Stage),
    /// ssh has logged in.
    Connected(ConnId),
    /// ssh has ended.
    Ended(ConnId, Cause),
    /// ssh itself does not answer any more: it is stopped, say.
    Deaf(ConnId),
    /// The hold answers; and names the sshd that serves this connection, if it can.
    Held(ConnId, Option<Session>),
    /// The gateway says how long to wait at most before trying again, once this connection is lost: it
    /// has so many homes that they must not return as one.
    Capped(ConnId, Duration),
    /// Another agent wanted this home's place at the gateway.
    Alarmed(ConnId, Cause),
    /// No hold is to be had: the key may not run it, or it ended.
    HoldRefused(ConnId, Cause),
    /// A heartbeat was answered.
    Pong(ConnId, u64),
    /// Whether the connection has moved data lately.
    Inspected {
        /// The connection.
        conn: ConnId,
        /// Whether the gateway acknowledges anything, or sends anything that ssh reads.
        moving: bool,
    },
    /// Why the forward that is out will not be granted: sshd's own word, ahead of its answer.
    Explained(ConnId, Cause),
    /// A forward was granted, or not.
    Forwarded(ConnId, usize, bool),
    /// By whom a service's port, which was granted, can be reached.
    Surveyed(ConnId, usize, Reach),
    /// Who holds a service's port.
    Looked(ConnId, usize, Holder),
    /// The old session was ended, or not.
    Released(ConnId, usize, Result<(), Detail>),
    /// What answers behind a service's port, and which host keys the target shows at home.
    Seen(ConnId, usize, Sighting, Vec<HostKey>),
    /// A service's port was given back, or was not held.
    Withdrawn(ConnId, usize),
    /// The configuration was read again: the services, and the pace of the heartbeats, from now on.
    Replanned(Vec<Service>, Duration),
    /// Addresses or routes have changed; these connections' own addresses are gone.
    NetworkChanged(Vec<ConnId>),
    /// A person asks to try now.
    Kick,
    /// The agent is to end.
    Stop,
}

/// What to do. Each is answered by an [`Event`], except for those that say otherwise.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Connect to the gateway's port, and hang up. Answer: `Knocked`. Several may be under way.
    Knock,
    /// Run ssh. Answers: `Connected`, then at some time `Ended`; or `Ended` alone.
    Dial(ConnId),
    /// End this connection's ssh, TERM and then KILL. Answer: `Ended`, always and soon.
    Close(ConnId),
    /// Open the hold. Answer: `Held` or `HoldRefused`.
    Hold(ConnId),
    /// Send a heartbeat over the hold. Answer: `Pong`, if all is well.
    Ping(ConnId, u64),
    /// See whether the connection moves data. Answer: `Inspected`, within a second.
    Inspect(ConnId),
    /// Ask for a service's port. Answer: `Forwarded`.
    Forward(ConnId, usize),
    /// See by whom a service's port, which was granted, can be reached. Answer: `Surveyed`.
    Survey(ConnId, usize),
    /// See who holds a service's port. Answer: `Looked`.
    Look(ConnId, usize),
    /// End this session, if it still holds the service's port. Answer: `Released`.
    Release(ConnId, usize, Session),
    /// Go through a service's port and see who is there. Answer: `Seen`, within its own deadline.
    Prove(ConnId, usize),
    /// Give a service's port back; streams that are open stay so. Answer: `Withdrawn`.
    Withdraw(ConnId, usize),
    /// Record this session as ours, to outlive the agent. No answer.
    Remember(Session),
    /// Tell the person. No answer.
    Report(Note),
    /// All has ended; nothing more comes. No answer.
    Stopped,
}

/// What a person following the log wants to read.
#[derive(Clone, Debug, PartialEq)]
pub enum Note {
    /// The link stands. After an outage: how long that was, and why.
    LinkUp {
        /// From the loss, or from the first suspicion.
        after: Option<Duration>,
        /// The newest reason of the outage, if there was one.
        why: Option<Cause>,
        /// How many dials it took.
        attempts: u32,
    },
    /// The heartbeat is late.
    Suspect,
    /// The late answer came before a new connection did.
    Recovered,
    /// The link is down, for this reason; or still down, for a new reason. Reasons that take turns
    /// are told once in each outage.
    LinkDown(Cause),
    /// The link waits for a person.
    LinkHalted(Cause),
    /// The gateway lets the agent forward, and nothing else, for this reason.
    NoHold(Cause),
    /// A service was proven after it had not been.
    ServiceUp {
        /// Which.
        service: usize,
        /// From the loss of the road to the proof.
        after: Option<Duration>,
        /// The link's smoothed round trip, if a heartbeat was answered already.
        round_trip: Option<Duration>,
    },
    /// A service is not up, for this reason.
    ServiceTrouble {
        /// Which.
        service: usize,
        /// Why.
        cause: Cause,
    },
    /// The link stands, and something is going on that a person has to know.
    Alarm(Cause),
    /// An old session of this home was ended to free the port.
    TookOver {
        /// Whose port it was.
        service: usize,
        /// The session.
        session: Session,
    },
}

/// The state machine of one link.
#[derive(Debug)]
pub struct Link {
    plan: Plan,
    backoff: Backoff,
    /// The connection that carries the services.
    serving: Option<Conn>,
    /// What goes on to get one, or a better one.
    seek: Seek,
    /// By the services' numbers.
    roads: BTreeMap<usize, Road>,
    /// The numbers of the services that are offered, in the configuration's order.
    offered: Vec<usize>,
    next_number: usize,
    /// Counts the changes that a hold has to know of.
    revision: u32,
    dials: u32,
    hold_timeouts: u32,
    life: Life,
    cause: Option<Cause>,
    /// The kinds of causes that were told in this outage.
    told: Vec<&'static str>,
    /// The last alarm, and when it came.
    alarm: Option<(Cause, Time)>,
    /// How long to wait at most before trying again, as the gateway said last.
    retry_cap: Duration,
    attempt: u32,
    reconnects: u64,
    /// When an attempt last came early because the network changed.
    early: Option<Time>,
    /// When the link was lost or first suspected; cleared when it stands again.
    down_since: Option<Time>,
    ever_up: bool,
    shown: (LinkState, Time),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Running,
    Draining { until: Time },
    Stopped,
}

impl Link {
    /// A link that has not begun: the first [`Event::Timer`] sets it off.
    pub fn new(mut plan: Plan, now: Time) -> Self {
        let services = core::mem::take(&mut plan.services);
        let count = services.len();
        let services = services.into_iter().enumerate();
        Self {
            backoff: Backoff::new(Duration::from_millis(250), plan.seed),
            offered: (0..count).collect(),
            next_number: count,
            roads: services.map(|(n, service)| (n, Road::down(service, now))).collect(),
            revision: 0,
            serving: None,
            seek: Seek::Waiting { until: now },
            dials: 0,
            hold_timeouts: 0,
            life: Life::Running,
            cause: None,
            told: Vec::new(),
            alarm: None,
            retry_cap: Duration::ZERO,
            attempt: 0,
            reconnects: 0,
            early: None,
            down_since: None,
            ever_up: false,
            shown: (LinkState::Down, now),
            plan,
        }
    }

    /// Takes in what happened, and says what to do.
    pub fn handle(&mut self, event: Event, now: Time) -> Vec<Action> {
        let mut out = Vec::new();
        if self.life == Life::Stopped {
            return out;
        }
        self.take_in(event, now, &mut out);
        match self.life {
            Life::Running => self.advance(now, &mut out),
            Life::Draining { until } => {
                let all_ended = self.serving.is_none() && self.seek.conn().is_none();
                if all_ended || now >= until {
                    self.life = Life::Stopped;
                    out.push(Action::Stopped);
                }
            }
            Life::Stopped => {}
        }
        let state = self.state();
        if state != self.shown.0 {
            self.shown = (state, now);
        }
        out
    }

    /// When to send [`Event::Timer`] if nothing else happens. `None` only when all has ended.
    pub fn next_timer(&self) -> Option<Time> {
        match self.life {
            Life::Stopped => None,
            Life::Draining { until } => Some(until),
            Life::Running => {
                let serving = self.serving.as_ref().map(|conn| self.serving_timer(conn));
                [serving.flatten(), self.seek.next_timer()].into_iter().flatten().min()
            }
        }
    }

    /// The link as `status` shows it.
    pub fn status(&self, now: Time) -> LinkStatus {
        let conn = self.serving.as_ref();
        LinkStatus {
            gateway: self.plan.gateway.clone(),
            state: self.shown.0,
            since_ms: millis(now.since(self.shown.1)),
            cause: self.cause.as_ref().map(Finding::from),
            alarm: self.alarm_at(now).map(Finding::from),
            attempt: self.attempt,
            retry_in_ms: self.seek.waits_until().map(|until| millis(until.since(now))),
            round_trip_ms: conn
                .and_then(|conn| conn.liveness.round_trip())
                .map(|span| span.as_secs_f64() * 1000.0),
            reconnects: self.reconnects,
            hold: conn.is_some_and(Conn::is_held),
            no_hold: conn.and_then(|conn| conn.no_hold.as_ref()).map(Finding::from),
            services: self.offered().map(|(_, road)| road.status(now)).collect(),
        }
    }

    /// The service with this number, also while its port is still being given back.
    pub fn service(&self, number: usize) -> Option<&Service> {
        self.roads.get(&number).map(|road| &road.service)
    }

    /// The services that are offered, with their numbers, in the order in which `status` has them.
    pub fn services(&self) -> impl Iterator<Item = (usize, &Service)> {
        self.offered().map(|(number, road)| (number, &road.service))
    }

    fn offered(&self) -> impl Iterator<Item = (usize, &Road)> {
        self.offered.iter().filter_map(|number| Some((*number, self.roads.get(number)?)))
    }

    fn state(&self) -> LinkState {
        match (&self.life, &self.serving, &self.seek) {
            (Life::Draining { .. } | Life::Stopped, ..) => LinkState::Draining,
            (_, Some(conn), _) if !conn.suspect => LinkState::Up,
            (_, _, Seek::Halted { .. }) => LinkState::Halted,
            (_, Some(_), _) => LinkState::Suspect,
            (_, None, Seek::Dialling { .. } | Seek::Holding { .. }) => LinkState::Dialling,
            (_, None, _) => LinkState::Down,
        }
    }

    fn take_in(&mut self, event: Event, now: Time, out: &mut Vec<Action>) {
        match event {
            Event::Timer => {}
            Event::Stop => self.stop(now, out),
            Event::Ended(id, cause) => self.ended(id, cause, now, out),
            // Whatever is still under way while draining is only waited for.
            _ if self.life != Life::Running => {}
            Event::Knocked(result) => self.knocked(result, now, out),
            Event::Reached(id, stage) => self.reached(id, stage),
            Event::Connected(id) => self.connected(id, now, out),
            Event::Held(id, session) => self.held(id, session, now, out),
            Event::Capped(_, most) => self.retry_cap = most.min(CAP_MOST),
            Event::Alarmed(id, cause) => self.alarmed(id, cause, now, out),
            Event::HoldRefused(id, cause) => self.hold_refused(id, cause, now, out),
            Event::Pong(id, sequence) => self.pong(id, sequence, now, out),
            Event::Inspected { conn, moving } => self.inspected(conn, moving, now, out),
            Event::Deaf(id) => {
                if self.serving.as_ref().is_some_and(|conn| conn.id == id) {
                    out.push(Action::Close(id));
                    self.lost(Cause::HeartbeatLost, now, out);
                }
            }
            Event::NetworkChanged(lost) => self.network_changed(&lost, now, out),
            Event::Kick => self.kick(now),
            Event::Replanned(services, heartbeat) => self.replan(services, heartbeat, now),
            Event::Withdrawn(id, service) => {
                if self.finish(id, service, |op| *op == Op::Withdraw).is_some() {
                    self.withdrawn(service, now, out);
                }
            }
            Event::Explained(id, cause) => {
                if let Some(conn) = self.serving.as_mut().filter(|conn| conn.id == id) {
                    conn.explained = Some(cause);
                }
            }
            Event::Forwarded(id, service, granted) => {
                if self.finish(id, service, |op| *op == Op::Forward).is_some() {
                    self.forwarded(service, granted, now, out);
                }
            }
            Event::Surveyed(id, service, reach) => {
                let late = self.serving.as_ref().is_some_and(Conn::was_late);
                if self.finish(id, service, |op| *op == Op::Survey).is_some() {
                    self.surveyed(service, reach, late, now, out);
                }
            }
            Event::Looked(id, service, holder) => {
                if self.finish(id, service, |op| *op == Op::Look).is_some() {
                    self.looked(service, holder, now, out);
                }
            }
            Event::Released(id, service, result) => {
                if let Some((Op::Release { session, .. }, _)) =
                    self.finish(id, service, |op| matches!(op, Op::Release { .. }))
                {
                    self.released(service, session, result, now, out);
                }
            }
            Event::Seen(id, service, sighting, expected) => {
                match self.finish(id, service, |op| matches!(op, Op::Prove | Op::Identify(_))) {
                    // The road was cut, or may have been: that silence says nothing.
                    Some((op, false)) if sighting == Sighting::Silent => {
                        self.unheard(service, &op, now);
                    }
                    Some((Op::Prove, _)) => self.proved(service, sighting, &expected, now, out),
                    Some((Op::Identify(holder), _)) => {
                        self.identified(service, holder, sighting, &expected, now, out);
                    }
                    _ => {}
                }
            }
        }
    }

    /// Does all that is due at `now`.
    fn advance(&mut self, now: Time, out: &mut Vec<Action>) {
        self.tend_serving(now, out);
        self.tend_seek(now, out);
        self.clear_roads();
        self.tend_roads(now, out);
    }

    fn stop(&mut self, now: Time, out: &mut Vec<Action>) {
        if self.life != Life::Running {
            return;
        }
        self.life = Life::Draining { until: now + DRAIN };
        let conns = [self.serving.as_ref(), self.seek.conn()];
        out.extend(conns.into_iter().flatten().map(|conn| Action::Close(conn.id)));
        if self.seek.conn().is_none() {
            self.seek = Seek::Idle;
        }
        for road in self.roads.values_mut() {
            road.fall(now);
        }
    }

    fn alarmed(&mut self, id: ConnId, cause: Cause, now: Time, out: &mut Vec<Action>) {
        let conns = [self.serving.as_ref(), self.seek.conn()];
        if !conns.into_iter().flatten().any(|conn| conn.id == id) {
            return;
        }
        // The other one tries again and again; it is told as often as it is news.
        if self.alarm_at(now) != Some(&cause) {
            out.push(Action::Report(Note::Alarm(cause.clone())));
        }
        self.alarm = Some((cause, now));
    }

    fn alarm_at(&self, now: Time) -> Option<&Cause> {
        let recent = self.alarm.as_ref().filter(|(_, at)| now.since(*at) < ALARM);
        recent.map(|(cause, _)| cause)
    }

    fn is_recorded(&self, session: &Session) -> bool {
        self.plan.sessions.contains(session)
    }

    fn remember(&mut self, session: Session, out: &mut Vec<Action>) {
        if self.is_recorded(&session) {
            return;
        }
        if self.plan.sessions.len() >= REMEMBERED {
            self.plan.sessions.remove(0);
        }
        self.plan.sessions.push(session.clone());
        out.push(Action::Remember(session));
    }
}
