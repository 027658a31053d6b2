//! What is done over a connection for each service: forward, look, release, prove.
//!
//! The forward comes first, because it nearly always is granted. What is done if it is refused stands
//! in `takeover`.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use super::conn::{Conn, Hold, Work};
use super::takeover::{Holder, Suspected};
use super::{Action, ConnId, Link, Note, Session};
use crate::health::{Cause, Detail, Retry};
use crate::host_key::HostKey;
use crate::service::Service;
use crate::status::{Finding, ServiceState, ServiceStatus, millis};
use crate::time::Time;

/// Between two proofs of a service that is well. Each is a connection to the target and two lines in
/// its sshd's log; and OpenSSH 9.8 and later bans an address that connects and leaves too often,
/// which behind a tunnel is everybody's.
const PROOF_EVERY: Duration = Duration::from_secs(120);

/// Between proofs of a service whose last one failed: at first, and at most.
const REPROVE_FIRST: Duration = Duration::from_secs(5);
const REPROVE_MOST: Duration = Duration::from_secs(60);

/// Between attempts at a port that could not be had: at first, and at most.
const REOPEN_FIRST: Duration = Duration::from_secs(1);
const REOPEN_MOST: Duration = Duration::from_secs(30);

/// Between attempts at a port behind which a stranger answers: each of them is a connection to the
/// stranger's server.
const REOPEN_STRANGER: Duration = Duration::from_secs(60);

/// Between attempts at a port that another live home holds.
const REOPEN_HALTED: Duration = Duration::from_secs(180);

/// What is being done for a service.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Op {
    /// Asking for the port.
    Forward,
    /// Looking by whom it can be reached, now that it was granted.
    Survey,
    /// Looking who holds it.
    Look,
    /// Ending an old session that holds it.
    Release {
        /// Which.
        session: Session,
        /// It is known as ours; otherwise it is one behind which nobody was heard.
        recorded: bool,
    },
    /// Going through the port, to see whether the service answers.
    Prove,
    /// Going through the port that somebody else holds, to see who that is.
    Identify(Holder),
    /// Giving the port back: the service is offered no more, or its port is open to everybody.
    Withdraw,
}

/// What was seen at the end of a stream through a service's port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// An SSH server, and its host key.
    HostKey {
        /// The key.
        key: HostKey,
        /// Its fingerprint, as OpenSSH prints it.
        fingerprint: String,
    },
    /// The answer that the service's proof asks for, where that is not a host key.
    Answer,
    /// Some other answer.
    Wrong(Detail),
    /// The stream was refused, or ended at once.
    Refused,
    /// Nothing came before the deadline.
    Silent,
    /// The gateway opened no stream to it, for this reason.
    NoStream(Detail),
    /// This, on the gateway's loopback; nothing at the addresses where the port should be.
    OnLoopback(Box<Sighting>),
}

/// One service's road over the connection that serves.
#[derive(Debug)]
pub(super) struct Road {
    pub service: Service,
    /// The service is offered no more, and its port is given back.
    pub leaving: bool,
    pub step: Step,
    /// Proven over this connection.
    proven: bool,
    /// The state as shown, and since when.
    shown: (ServiceState, Time),
    pub cause: Option<Cause>,
    last_proof: Option<Time>,
    /// When a road that was proven was lost; cleared by the next proof.
    lost_since: Option<Time>,
    host_key: Option<HostKey>,
    /// Failures in a row.
    failures: u32,
    /// The forward has been tried again after the port was found free, or was freed.
    pub last_chance: Option<LastChance>,
    /// The holder was silent once.
    pub suspected: Option<Suspected>,
}

/// What the road waits for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// A connection.
    Down,
    /// Its turn at `at`; the port is not ours.
    Shut { at: Time, next: Op },
    /// A look at `at` by whom the port can be reached; it is ours.
    Granted { at: Time },
    /// The port is ours, and everybody's: it is to be given back.
    Exposed,
    /// The next proof at `at`; the port is ours.
    Open { at: Time },
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum LastChance {
    LookedFree,
    Released,
}

impl Road {
    pub fn down(service: Service, now: Time) -> Self {
        Self {
            service,
            leaving: false,
            step: Step::Down,
            proven: false,
            shown: (ServiceState::Down, now),
            cause: None,
            last_proof: None,
            lost_since: None,
            host_key: None,
            failures: 0,
            last_chance: None,
            suspected: None,
        }
    }

    /// The connection is gone, and the port with it.
    pub fn fall(&mut self, now: Time) {
        self.step = Step::Down;
        self.proven = false;
        self.cause = None;
        self.failures = 0;
        self.last_chance = None;
        self.suspected = None;
        self.show(now);
    }

    /// A new connection is there: the port is to be asked for. The last one was lost at `lost`.
    pub fn open_at(&mut self, lost: Option<Time>, now: Time) {
        if self.last_proof.is_some() {
            self.lost_since = self.lost_since.or(lost);
        }
        self.fall(now);
        self.step = Step::Shut { at: now, next: Op::Forward };
        self.show(now);
    }

    /// A person asks to try now.
    pub fn hurry(&mut self, now: Time) {
        match &mut self.step {
            Step::Down => {}
            Step::Shut { at, .. } | Step::Granted { at } => *at = now,
            Step::Exposed => {}
            Step::Open { at } => {
                if !self.proven {
                    *at = now;
                }
            }
        }
    }

    /// Whether the port is ours.
    pub fn is_open(&self) -> bool {
        matches!(self.step, Step::Granted { .. } | Step::Exposed | Step::Open { .. })
    }

    /// Takes in what was changed of the service, where its port and target are the same.
    pub fn adopt(&mut self, service: Service, now: Time) {
        if self.service.proof != service.proof && matches!(self.step, Step::Open { .. }) {
            self.proven = false;
            self.cause = None;
            self.step = Step::Open { at: now };
            self.show(now);
        }
        self.service = service;
    }

    fn due(&self) -> Option<(Time, Op)> {
        match &self.step {
            _ if self.leaving => self.is_open().then_some((Time::ZERO, Op::Withdraw)),
            Step::Exposed => Some((Time::ZERO, Op::Withdraw)),
            Step::Granted { at } => Some((*at, Op::Survey)),
            Step::Down => None,
            Step::Shut { at, next } => Some((*at, next.clone())),
            Step::Open { at } => Some((*at, Op::Prove)),
        }
    }

    pub fn next(&mut self, next: Op, now: Time) {
        self.step = Step::Shut { at: now, next };
    }

    pub fn show(&mut self, now: Time) {
        let state = match (&self.step, &self.cause) {
            (Step::Down, _) => ServiceState::Down,
            (Step::Shut { .. } | Step::Granted { .. }, None) => ServiceState::Opening,
            (Step::Open { .. }, None) if !self.proven => ServiceState::Opening,
            (Step::Shut { .. }, Some(cause)) if cause.retry() == Retry::Halt => {
                ServiceState::Halted
            }
            (Step::Exposed, _) => ServiceState::Halted,
            (Step::Shut { .. } | Step::Granted { .. }, Some(_)) => ServiceState::Blocked,
            (Step::Open { .. }, None) => ServiceState::Up,
            (Step::Open { .. }, Some(_)) => ServiceState::Unproven,
        };
        if state != self.shown.0 {
            self.shown = (state, now);
        }
    }

    pub fn status(&self, now: Time) -> ServiceStatus {
        ServiceStatus {
            service: self.service.clone(),
            state: self.shown.0,
            since_ms: millis(now.since(self.shown.1)),
            cause: self.cause.as_ref().map(Finding::from),
            last_proof_ms: self.last_proof.map(|at| millis(now.since(at))),
            host_key: self.host_key.as_ref().map(ToString::to_string),
        }
    }
}

impl Link {
    /// Begins the most urgent work that is due, if the connection is free for it.
    pub(super) fn tend_roads(&mut self, now: Time, out: &mut Vec<Action>) {
        let Some(conn) = self.serving.as_mut().filter(|conn| is_free(conn)) else { return };
        let due = self.roads.iter().filter_map(|(service, road)| {
            let (at, op) = road.due().filter(|(at, op)| conn.can(op, *at))?;
            (at <= now).then_some((urgency(&op), at, *service, op))
        });
        if let Some((_, _, service, op)) = due.min_by_key(|(urgency, at, ..)| (*urgency, *at)) {
            out.push(conn.begin(service, op, now));
        }
    }

    pub(super) fn serving_timer(&self, conn: &Conn) -> Option<Time> {
        if conn.suspect {
            return conn.work.as_ref().map(|work| work.deadline);
        }
        let heartbeat = match conn.hold {
            Hold::Held => Some(conn.liveness.next_timer()),
            Hold::Asked => Some(conn.hold_deadline),
            Hold::Bare => None,
        };
        let work = match &conn.work {
            Some(work) => Some(work.deadline),
            None => {
                let due = self.roads.values().filter_map(Road::due);
                due.filter(|(at, op)| conn.can(op, *at)).map(|(at, _)| at).min()
            }
        };
        [heartbeat, work].into_iter().flatten().min()
    }

    /// The hold has ended, and with it the answers that it owed. Whoever waits for them asks for the
    /// port once more.
    pub(super) fn hold_ended(&mut self, now: Time) {
        if let Some(conn) = &mut self.serving {
            conn.work.take_if(|work| needs_hold(&work.op));
        }
        for road in self.roads.values_mut() {
            if matches!(&road.step, Step::Shut { next, .. } if needs_hold(next)) {
                road.next(Op::Forward, now);
            }
        }
    }

    /// The work that this answer ends, if it is what is waited for; and whether the connection
    /// vouches for it.
    pub(super) fn finish(
        &mut self,
        id: ConnId,
        service: usize,
        answers: impl Fn(&Op) -> bool,
    ) -> Option<(Op, bool)> {
        let conn = self.serving.as_mut().filter(|conn| conn.id == id)?;
        let work: Work = conn.work.take_if(|work| work.service == service && answers(&work.op))?;
        let vouched = conn.vouches_for(&work);
        Some((work.op, vouched))
    }

    /// The connection is late: what is under way over it may be lost, and nobody whom we did not
    /// hear is ended for that.
    pub(super) fn doubt(&mut self, now: Time) {
        if let Some(work) = self.serving.as_mut().and_then(|conn| conn.work.as_mut()) {
            work.doubted = true;
        }
        for road in self.roads.values_mut() {
            if let Step::Shut { next: Op::Release { recorded: false, .. }, .. } = &road.step {
                road.next(Op::Forward, now);
            }
        }
    }

    /// Silence that says nothing: the question is put again later.
    pub(super) fn unheard(&mut self, service: usize, op: &Op, now: Time) {
        let Some(road) = self.roads.get_mut(&service) else { return };
        let at = now + REPROVE_FIRST;
        road.step = match op {
            Op::Prove => Step::Open { at },
            Op::Survey => Step::Granted { at },
            _ => Step::Shut { at, next: Op::Forward },
        };
        road.show(now);
    }

    pub(super) fn forwarded(
        &mut self,
        service: usize,
        granted: bool,
        now: Time,
        out: &mut Vec<Action>,
    ) {
        let bare = self.serving.as_ref().is_none_or(|conn| conn.hold == Hold::Bare);
        let explained = self.serving.as_mut().and_then(Conn::take_explanation);
        let Some(road) = self.roads.get_mut(&service) else { return };
        if granted {
            road.last_chance = None;
            road.suspected = None;
            road.cause = None;
            road.failures = 0;
            road.step = road.granted(now);
            road.show(now);
            return;
        }
        if let Some(cause) = explained {
            return self.trouble(service, cause, now, out);
        }
        match road.last_chance.take() {
            // Nobody holds it, and still it is refused: that is policy.
            Some(LastChance::LookedFree) => {
                self.trouble(service, Cause::ForwardingForbidden, now, out);
            }
            Some(LastChance::Released) => {
                let detail = Detail::new("taken again at once after its holder was ended");
                self.trouble(service, Cause::PortBusy { detail }, now, out);
            }
            None if !bare => road.next(Op::Look, now),
            None => {
                let unknown = Holder::Unknown(Detail::new("this key may not look"));
                road.next(Op::Identify(unknown), now);
            }
        }
    }

    pub(super) fn proved(
        &mut self,
        service: usize,
        sighting: Sighting,
        expected: &[HostKey],
        now: Time,
        out: &mut Vec<Action>,
    ) {
        let Some(road) = self.roads.get_mut(&service) else { return };
        let cause = match sighting {
            Sighting::Answer => None,
            Sighting::HostKey { key, .. } if expected.contains(&key) => {
                road.host_key = Some(key);
                None
            }
            Sighting::HostKey { .. } if expected.is_empty() => {
                let detail = Detail::new("something answers, but the target itself does not");
                Some(Cause::TargetUnproven { detail })
            }
            Sighting::HostKey { fingerprint, .. } => {
                Some(Cause::TakenByAnotherHost { fingerprint })
            }
            Sighting::Wrong(detail) => Some(Cause::TargetUnproven { detail }),
            Sighting::Refused => Some(Cause::TargetRefused),
            Sighting::Silent => Some(Cause::TargetSilent),
            Sighting::OnLoopback(_) => Some(Cause::PublicOnLoopback),
            Sighting::NoStream(detail) => Some(Cause::StreamRefused { detail }),
        };
        if let Some(cause) = cause {
            road.proven = false;
            return self.trouble(service, cause, now, out);
        }
        let is_news = !road.proven;
        road.proven = true;
        road.cause = None;
        road.failures = 0;
        road.last_proof = Some(now);
        road.step = Step::Open { at: now + PROOF_EVERY };
        road.show(now);
        let after = road.lost_since.take().map(|since| now.since(since));
        if is_news && !road.leaving {
            let round_trip = self.serving.as_ref().and_then(|conn| conn.liveness.round_trip());
            out.push(Action::Report(Note::ServiceUp { service, after, round_trip }));
        }
    }

    /// Notes why a service is not up, tells it if it is news, and rests.
    pub(super) fn trouble(
        &mut self,
        service: usize,
        cause: Cause,
        now: Time,
        out: &mut Vec<Action>,
    ) {
        let Some(road) = self.roads.get_mut(&service) else { return };
        let is_news = road.cause.as_ref() != Some(&cause) && !road.leaving;
        road.rest(cause.clone(), now);
        if is_news {
            out.push(Action::Report(Note::ServiceTrouble { service, cause }));
        }
    }
}

impl Road {
    /// Waits before the next attempt, as the cause asks.
    fn rest(&mut self, cause: Cause, now: Time) {
        let doubled = |first: Duration, most: Duration| {
            first.saturating_mul(1 << self.failures.min(10)).min(most)
        };
        self.last_chance = None;
        self.step = match (&self.step, &cause) {
            (Step::Open { .. }, _) => Step::Open { at: now + doubled(REPROVE_FIRST, REPROVE_MOST) },
            (Step::Down | Step::Granted { .. } | Step::Exposed, _) => self.step.clone(),
            (Step::Shut { .. }, cause) => {
                let wait = match cause {
                    Cause::AnotherHome { .. } => REOPEN_HALTED,
                    Cause::AnotherTunnelOfThisHome
                    | Cause::AnotherLiveSession
                    | Cause::TakenByAnotherHost { .. }
                    | Cause::PortTakenByUser { .. }
                    | Cause::PortBusy { .. }
                    | Cause::ForwardRefused => REOPEN_STRANGER,
                    _ => doubled(REOPEN_FIRST, REOPEN_MOST),
                };
                Step::Shut { at: now + wait, next: Op::Forward }
            }
        };
        self.failures = self.failures.saturating_add(1);
        self.cause = Some(cause);
        self.show(now);
    }

    /// Does not wait long if that was the first failure.
    pub(super) fn look_again_soon(&mut self, now: Time) {
        if let Step::Shut { at, .. } = &mut self.step
            && self.failures == 1
        {
            *at = now + REOPEN_FIRST;
        }
    }
}

/// Whether it is the hold that does it.
pub(super) fn needs_hold(op: &Op) -> bool {
    matches!(op, Op::Look | Op::Release { .. })
}

fn is_free(conn: &Conn) -> bool {
    conn.work.is_none() && !conn.suspect
}

/// Forwards first: they are quick, and a service must not wait for another one's slow proof.
fn urgency(op: &Op) -> u8 {
    match op {
        // Before all else: the next service may want the same port.
        Op::Withdraw => 0,
        // A port that is open to everybody is to be so for no longer than it takes to see it.
        Op::Survey => 1,
        Op::Forward => 2,
        Op::Look => 3,
        Op::Release { .. } => 4,
        Op::Prove => 5,
        Op::Identify(_) => 6,
    }
}
