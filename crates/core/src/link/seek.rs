//! How a connection is found.
//!
//! Knock (a bare TCP connect, staggered, because one SYN that is sent into a cut backs off past the
//! cut's end), dial at the first knock that succeeds, hold, and only then let the new connection
//! carry the services. The same happens beside a connection that is suspect; the first of the two
//! that answers wins.

use alloc::vec::Vec;
use core::time::Duration;

use super::conn::{Conn, HOLD, Hold};
use super::road::needs_hold;
use super::{Action, ConnId, Life, Link, Note, Session, Stage};
use crate::health::{Cause, Retry};
use crate::time::Time;

/// Between two knocks: with it, a road that heals is noticed within a quarter of a second.
const KNOCK_EVERY: Duration = Duration::from_millis(250);

/// For how long to knock that often. After it, once a second: 40 bytes, 3.5 MB a day.
const KNOCK_EAGERLY: Duration = Duration::from_secs(120);
const KNOCK_PATIENTLY: Duration = Duration::from_secs(1);

/// How long a login may go on after the network has changed, before it is started anew.
const SETTLE: Duration = Duration::from_secs(1);

/// The least time between two attempts that came early because the network changed: one that
/// flutters between two must not hammer a gateway which turned us away.
const EARLY_LEAST: Duration = Duration::from_secs(10);

/// The least time between two probes of a link that waits for a person, however often the network
/// changes.
const HALTED_LEAST: Duration = Duration::from_secs(60);

/// How long a login may take before knocking goes on beside it; doubled each time that leads to a
/// new dial, so that a slow gateway gets the time that it needs.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long a login may take at all. Patience grows up to it: a slow login gets that long in the
/// end, and one that never ends is told and backs off.
const LOGIN: Duration = Duration::from_secs(60);

/// After this long a login that goes on is told to be slow: a person who looks wants to know by then,
/// while a login over a bad line may still come to its end.
const SLOW: Duration = Duration::from_secs(8);

/// What goes on to get a connection.
#[derive(Debug)]
pub(super) enum Seek {
    /// Nothing: the one that serves is well.
    Idle,
    /// Waiting for the next attempt.
    Waiting { until: Time },
    /// Knocking.
    Knocking { since: Time, next: Time },
    /// ssh is logging in. From `hedge` on, knocking goes on beside it; at `slow`, it is told.
    Dialling {
        conn: Conn,
        hedge: Time,
        hedging: bool,
        slow: Time,
        deadline: Time,
        patience: Duration,
    },
    /// Logged in; the hold has been asked for.
    Holding { conn: Conn, deadline: Time },
    /// Waiting for a person, since then.
    Halted { since: Time, until: Time },
}

impl Seek {
    pub fn conn(&self) -> Option<&Conn> {
        match self {
            Self::Dialling { conn, .. } | Self::Holding { conn, .. } => Some(conn),
            _ => None,
        }
    }

    pub fn next_timer(&self) -> Option<Time> {
        match self {
            Self::Idle => None,
            Self::Waiting { until } | Self::Halted { until, .. } => Some(*until),
            Self::Knocking { next, .. } => Some(*next),
            Self::Dialling { hedge, slow, deadline, .. } => Some(*hedge.min(slow).min(deadline)),
            Self::Holding { deadline, .. } => Some(*deadline),
        }
    }

    pub fn waits_until(&self) -> Option<Time> {
        match self {
            Self::Waiting { until } | Self::Halted { until, .. } => Some(*until),
            _ => None,
        }
    }

    fn is_fresh(&self, id: ConnId) -> bool {
        self.conn().is_some_and(|conn| conn.id == id)
    }

    /// Logged in, and waiting for the hold.
    fn is_holding(&self, id: ConnId) -> bool {
        matches!(self, Self::Holding { conn, .. } if conn.id == id)
    }
}

impl Link {
    /// Heartbeats of the connection that serves.
    pub(super) fn tend_serving(&mut self, now: Time, out: &mut Vec<Action>) {
        let Some(conn) = &mut self.serving else { return };
        if conn.work.as_ref().is_some_and(|work| now >= work.deadline) {
            let id = conn.id;
            out.push(Action::Close(id));
            self.lost(Cause::HeartbeatLost, now, out);
            return;
        }
        if conn.suspect {
            return;
        }
        if conn.hold == Hold::Asked && now >= conn.hold_deadline {
            let id = conn.id;
            self.hold_refused(id, unanswered(), now, out);
            return;
        }
        if !conn.is_held() {
            return;
        }
        let is_busy = conn.work.as_ref().is_some_and(|work| needs_hold(&work.op));
        if !is_busy && conn.renews_hold(self.revision, now) {
            out.push(Action::Hold(conn.id));
            return;
        }
        if is_busy && conn.liveness.is_late(now) {
            // The heartbeat stands in line behind a request that may take longer, and has a deadline
            // of its own.
            conn.liveness.extend(now);
        } else if conn.liveness.is_late(now) {
            let id = conn.id;
            // The agent answers at once; until then the question itself grants some time.
            conn.liveness.extend(now);
            conn.inspecting = true;
            out.push(Action::Inspect(id));
            self.doubt(now);
        } else if let Some(sequence) = conn.liveness.ping_due(now) {
            out.push(Action::Ping(conn.id, sequence));
        }
    }

    pub(super) fn tend_seek(&mut self, now: Time, out: &mut Vec<Action>) {
        let crowd = self.crowd().unwrap_or_default();
        match &mut self.seek {
            Seek::Idle => {}
            Seek::Waiting { until } | Seek::Halted { until, .. } => {
                if now >= *until {
                    self.seek_now(now, out);
                }
            }
            Seek::Knocking { since, next } => {
                if now >= *next {
                    let eager = now.since(*since) < KNOCK_EAGERLY;
                    let every = if eager { KNOCK_EVERY } else { KNOCK_PATIENTLY };
                    *next = now + every.max(crowd);
                    out.push(Action::Knock);
                }
            }
            Seek::Dialling { conn, hedge, hedging, slow, deadline, .. } => {
                let why = hangs(conn.stage, self.plan.knockable);
                if now >= *deadline {
                    out.push(Action::Close(conn.id));
                    self.failed(why, now, out);
                    return;
                }
                if now >= *hedge {
                    if self.plan.knockable {
                        *hedge = now + KNOCK_EVERY;
                        *hedging = true;
                        out.push(Action::Knock);
                    } else {
                        *hedge = *deadline;
                    }
                }
                if now >= *slow {
                    *slow = *deadline;
                    // Beside a connection that is suspect, that is the news.
                    if self.serving.is_none() {
                        self.say_why(why, out);
                    }
                }
            }
            Seek::Holding { conn, deadline } => {
                if now >= *deadline {
                    let id = conn.id;
                    self.hold_timeouts += 1;
                    if self.hold_timeouts >= 2 {
                        // Twice in a row: not a cut, but an account that swallows what we say.
                        self.hold_refused(id, unanswered(), now, out);
                    } else {
                        out.push(Action::Close(id));
                        self.failed(Cause::LoginTimedOut, now, out);
                    }
                }
            }
        }
    }

    pub(super) fn knocked(&mut self, result: Result<(), Cause>, now: Time, out: &mut Vec<Action>) {
        match (&self.seek, result) {
            (Seek::Knocking { .. }, Ok(())) => self.dial(PATIENCE, now, out),
            (Seek::Knocking { .. }, Err(cause)) => self.say_why(cause, out),
            (Seek::Dialling { conn, hedging: true, patience, .. }, Ok(())) => {
                // The gateway answers a newcomer while our login hangs: the login's packets went
                // into a cut, and wait for a retransmission that backs off. The second time it is no
                // cut, and worth a word.
                let again = (*patience > PATIENCE).then(|| hangs(conn.stage, true));
                let patience = (*patience * 2).min(LOGIN);
                out.push(Action::Close(conn.id));
                if let Some(why) = again {
                    self.say_why(why, out);
                }
                self.dial(patience, now, out);
            }
            _ => {}
        }
    }

    pub(super) fn reached(&mut self, id: ConnId, stage: Stage) {
        if let Seek::Dialling { conn, .. } = &mut self.seek
            && conn.id == id
        {
            conn.stage = conn.stage.max(stage);
        }
    }

    pub(super) fn connected(&mut self, id: ConnId, now: Time, out: &mut Vec<Action>) {
        if !self.seek.is_fresh(id) {
            return;
        }
        self.seek = match core::mem::replace(&mut self.seek, Seek::Idle) {
            Seek::Dialling { mut conn, .. } => {
                conn.hold_revision = self.revision;
                out.push(Action::Hold(id));
                Seek::Holding { conn, deadline: now + HOLD }
            }
            other => other,
        };
    }

    pub(super) fn held(
        &mut self,
        id: ConnId,
        session: Option<Session>,
        now: Time,
        out: &mut Vec<Action>,
    ) {
        if let Some(conn) = self.serving.as_mut().filter(|conn| conn.id == id) {
            if conn.is_held() {
                return;
            }
            conn.holds(self.plan.heartbeat, now);
            if conn.suspect {
                self.recovered(out);
            }
        } else if self.seek.is_holding(id) {
            self.hold_timeouts = 0;
            self.promote(Hold::Held, now, out);
        } else {
            return;
        }
        if let Some(conn) = &mut self.serving {
            conn.session.clone_from(&session);
        }
        if let Some(session) = session {
            self.remember(session, out);
        }
    }

    pub(super) fn hold_refused(
        &mut self,
        id: ConnId,
        cause: Cause,
        now: Time,
        out: &mut Vec<Action>,
    ) {
        if let Some(conn) = self.serving.as_mut().filter(|conn| conn.id == id) {
            if conn.hold == Hold::Bare {
                return;
            }
            if conn.asks_again(now) {
                out.push(Action::Hold(id));
            } else {
                conn.hold = Hold::Bare;
                conn.no_hold = Some(cause.clone());
                out.push(Action::Report(Note::NoHold(cause)));
            }
            self.hold_ended(now);
        } else if self.seek.is_holding(id) {
            self.promote(Hold::Bare, now, out);
            if let Some(conn) = &mut self.serving {
                conn.no_hold = Some(cause.clone());
            }
            out.push(Action::Report(Note::NoHold(cause)));
        }
    }

    pub(super) fn pong(&mut self, id: ConnId, sequence: u64, now: Time, out: &mut Vec<Action>) {
        let Some(conn) = self.serving.as_mut().filter(|conn| conn.id == id) else { return };
        if !conn.liveness.pong(sequence, now) {
            return;
        }
        // Answered meanwhile: what the inspection finds is of no account any more.
        conn.inspecting = false;
        if conn.suspect {
            self.recovered(out);
        }
    }

    /// The old connection answered first: it wins, and keeps its streams.
    fn recovered(&mut self, out: &mut Vec<Action>) {
        if let Some(conn) = &mut self.serving {
            conn.suspect = false;
        }
        if let Some(fresh) = self.seek.conn() {
            out.push(Action::Close(fresh.id));
        }
        self.seek = Seek::Idle;
        self.cause = None;
        self.told.clear();
        self.attempt = 0;
        self.down_since = None;
        out.push(Action::Report(Note::Recovered));
    }

    pub(super) fn inspected(&mut self, id: ConnId, moving: bool, now: Time, out: &mut Vec<Action>) {
        let Some(conn) = self.serving.as_mut().filter(|conn| conn.id == id) else { return };
        // Moving: the answer stands in line behind somebody's upload, and its time was extended.
        let asked = core::mem::take(&mut conn.inspecting);
        if !asked || moving || conn.suspect || !conn.is_held() {
            return;
        }
        let was_up = conn.was_up(now);
        self.suspect(now, out);
        if was_up {
            self.seek_now(now, out);
        } else {
            // A gateway that lets us in and then says nothing is not to be dialled without end.
            self.seek = Seek::Waiting { until: now + self.wait(Retry::Gently) };
        }
    }

    pub(super) fn network_changed(&mut self, lost: &[ConnId], now: Time, out: &mut Vec<Action>) {
        if let Some(fresh) = self.seek.conn().map(|conn| conn.id).filter(|id| lost.contains(id)) {
            out.push(Action::Close(fresh));
            self.seek = Seek::Waiting { until: now };
        }
        match &mut self.serving {
            Some(conn) if !conn.suspect && lost.contains(&conn.id) => {
                self.suspect(now, out);
                return self.seek_now(now, out);
            }
            Some(conn) if !conn.suspect && conn.is_held() => {
                if let Some(sequence) = conn.liveness.hurry(now) {
                    out.push(Action::Ping(conn.id, sequence));
                }
            }
            _ => {}
        }
        match &mut self.seek {
            // The wait was for a network that is another one now.
            Seek::Waiting { until } => {
                let early = self.early.map_or(now, |last| now.max(last + EARLY_LEAST));
                if early < *until {
                    *until = early;
                    self.early = Some(early);
                }
            }
            Seek::Knocking { since, next } => (*since, *next) = (now, now),
            // One address change makes several of these events; a login that began after the first
            // of them deserves a moment.
            Seek::Dialling { hedge, .. } => *hedge = (*hedge).min(now + SETTLE),
            // It may have been the network that answered in the gateway's name, as hotels do.
            Seek::Halted { since, until } => *until = (*until).min(now.max(*since + HALTED_LEAST)),
            Seek::Idle | Seek::Holding { .. } => {}
        }
    }

    pub(super) fn kick(&mut self, now: Time) {
        match &mut self.seek {
            Seek::Waiting { until } | Seek::Halted { until, .. } => *until = now,
            Seek::Knocking { since, next } => (*since, *next) = (now, now),
            Seek::Idle | Seek::Dialling { .. } | Seek::Holding { .. } => {}
        }
        for road in self.roads.values_mut() {
            road.hurry(now);
        }
    }

    pub(super) fn ended(&mut self, id: ConnId, cause: Cause, now: Time, out: &mut Vec<Action>) {
        let draining = self.life != Life::Running;
        if self.serving.as_ref().is_some_and(|conn| conn.id == id) {
            if draining {
                self.serving = None;
            } else {
                self.lost(cause, now, out);
            }
        } else if self.seek.is_fresh(id) {
            if draining {
                self.seek = Seek::Idle;
            } else {
                self.failed(cause, now, out);
            }
        }
    }

    fn suspect(&mut self, now: Time, out: &mut Vec<Action>) {
        if let Some(conn) = &mut self.serving {
            conn.suspect = true;
            if conn.was_up(now) {
                self.backoff.reset();
            }
            // Without a question that is out, it could never answer first.
            if conn.is_held()
                && let Some(sequence) = conn.liveness.hurry(now)
            {
                out.push(Action::Ping(conn.id, sequence));
            }
        }
        self.doubt(now);
        self.cause = Some(Cause::HeartbeatLost);
        self.down_since.get_or_insert(now);
        out.push(Action::Report(Note::Suspect));
    }

    /// The connection that served is gone.
    pub(super) fn lost(&mut self, cause: Cause, now: Time, out: &mut Vec<Action>) {
        let Some(conn) = self.serving.take() else { return };
        for road in self.roads.values_mut() {
            road.fall(now);
        }
        self.down_since.get_or_insert(now);
        let was_up = conn.was_up(now);
        if was_up && !conn.suspect {
            self.backoff.reset();
        }
        let halted = self.cause.take_if(|_| matches!(self.seek, Seek::Halted { .. }));
        if matches!(self.seek, Seek::Idle) {
            match self.crowd() {
                None if was_up => self.seek_now(now, out),
                // All of them may have lost it at this moment.
                Some(cap) if was_up => {
                    self.seek = Seek::Waiting { until: now + self.backoff.spread(cap) };
                }
                // It said that it starts anew, and how often it does is no sign of its not wanting us.
                _ if cause == Cause::GatewayGoingAway => {
                    self.seek = Seek::Waiting { until: now + self.wait(cause.retry()) };
                }
                _ => self.seek = Seek::Waiting { until: now + self.wait(Retry::Gently) },
            }
        }
        self.say_why(cause, out);
        // What a person must mend is still what stands in the way.
        self.cause = halted.or(self.cause.take());
    }

    /// Nothing can be done over the connection that serves until a person has mended this.
    pub(super) fn give_up(&mut self, cause: Cause, now: Time, out: &mut Vec<Action>) {
        // A race for a better connection goes on; that one will find the same.
        if !matches!(self.seek, Seek::Idle) {
            return;
        }
        let Some(conn) = self.serving.take() else { return };
        for road in self.roads.values_mut() {
            road.fall(now);
        }
        self.down_since.get_or_insert(now);
        out.push(Action::Close(conn.id));
        self.failed(cause, now, out);
    }

    /// An attempt came to nothing.
    fn failed(&mut self, cause: Cause, now: Time, out: &mut Vec<Action>) {
        let retry = cause.retry();
        let until = now + self.wait(retry);
        if retry == Retry::Halt {
            out.push(Action::Report(Note::LinkHalted(cause.clone())));
            self.cause = Some(cause);
            self.seek = Seek::Halted { since: now, until };
        } else {
            self.seek = Seek::Waiting { until };
            self.say_why(cause, out);
        }
    }

    /// The span over which the gateway's homes are to spread their return, if it has so many that it
    /// asked for more than the second which they keep to anyway.
    fn crowd(&self) -> Option<Duration> {
        let cap = self.retry_cap;
        (cap > Retry::Soon.bounds(true).1).then_some(cap)
    }

    fn wait(&mut self, retry: Retry) -> Duration {
        if let (Retry::Soon, Some(cap)) = (retry, self.crowd()) {
            return self.backoff.next(cap);
        }
        retry.wait(&mut self.backoff, self.plan.knockable)
    }

    /// Keeps the newest reason, and tells it when it is a new one.
    fn say_why(&mut self, cause: Cause, out: &mut Vec<Action>) {
        if self.serving.is_none() && !self.told.contains(&cause.kind()) {
            self.told.push(cause.kind());
            out.push(Action::Report(Note::LinkDown(cause.clone())));
        }
        self.cause = Some(cause);
    }

    fn seek_now(&mut self, now: Time, out: &mut Vec<Action>) {
        if self.plan.knockable {
            self.seek = Seek::Knocking { since: now, next: now + KNOCK_EVERY };
            out.push(Action::Knock);
        } else {
            self.dial(PATIENCE, now, out);
        }
    }

    fn dial(&mut self, patience: Duration, now: Time, out: &mut Vec<Action>) {
        self.dials += 1;
        self.attempt += 1;
        let id = ConnId(self.dials);
        self.seek = Seek::Dialling {
            conn: Conn::new(id, self.plan.heartbeat, now),
            hedge: now + patience,
            hedging: false,
            slow: now + SLOW,
            deadline: now + LOGIN,
            patience,
        };
        out.push(Action::Dial(id));
    }

    /// The new connection takes over.
    fn promote(&mut self, hold: Hold, now: Time, out: &mut Vec<Action>) {
        let Seek::Holding { conn, .. } = core::mem::replace(&mut self.seek, Seek::Idle) else {
            return;
        };
        if let Some(old) = self.serving.take() {
            out.push(Action::Close(old.id));
        }
        let hold_revision = conn.hold_revision;
        let fresh = Conn::new(conn.id, self.plan.heartbeat, now);
        self.serving = Some(Conn { hold, hold_revision, ..fresh });
        let lost = self.down_since.take();
        for road in self.roads.values_mut() {
            road.open_at(lost, now);
        }
        self.reconnects += u64::from(self.ever_up);
        self.ever_up = true;
        self.told.clear();
        let after = lost.map(|since| now.since(since));
        let (why, attempts) = (self.cause.take(), core::mem::take(&mut self.attempt));
        out.push(Action::Report(Note::LinkUp { after, why, attempts }));
    }
}

/// Why a login that has come this far, and no further, does not come to its end.
/// `knocked`: it began because the gateway took a connection.
fn hangs(stage: Stage, knocked: bool) -> Cause {
    match stage {
        Stage::Dialled if knocked => Cause::NoGreeting,
        // A greeting is a small packet; what comes next are the first large ones.
        Stage::Greeted => Cause::KeyExchangeHangs,
        Stage::Dialled | Stage::Exchanged => Cause::LoginTimedOut,
    }
}

fn unanswered() -> Cause {
    Cause::HoldRefused { detail: "no answer".into() }
}
