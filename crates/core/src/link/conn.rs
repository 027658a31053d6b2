//! A connection to the gateway: who it is, its hold, its heartbeats, and the one thing that is being
//! done over it.

use core::time::Duration;

use super::road::{Op, needs_hold};
use super::{Action, ConnId, Session, Stage};
use crate::health::Cause;
use crate::liveness::Liveness;
use crate::time::Time;

/// How long one request over the connection may take before the connection itself is given up. A
/// forward that is granted after we stopped waiting would leave a port open that nobody knows of.
const REQUEST: Duration = Duration::from_secs(10);

/// A connection that served for less than this was not "up": losing it does not reset the backoff.
const WAS_UP: Duration = Duration::from_secs(10);

/// How long a proof may take before it is clear that no answer will come. The agent has a shorter
/// deadline of its own; a proof that is late says nothing of the connection.
const PROOF: Duration = Duration::from_secs(60);

/// How long the hold may take.
pub(super) const HOLD: Duration = Duration::from_secs(5);

/// A hold that ends is asked for again if the last time lies this far back.
const HOLD_AGAIN: Duration = Duration::from_secs(60);

/// One ssh process and what stands on it.
#[derive(Debug)]
pub(super) struct Conn {
    pub id: ConnId,
    /// When it began to carry the services.
    pub serving_since: Time,
    pub hold: Hold,
    /// The revision of the plan that the hold was asked for with.
    pub hold_revision: u32,
    /// Until when to wait for the hold that was asked for once more.
    pub hold_deadline: Time,
    /// When the hold was last asked for once more.
    pub asked_again: Option<Time>,
    /// Why there is no hold.
    pub no_hold: Option<Cause>,
    /// How far its login has come.
    pub stage: Stage,
    /// Why the forward that is out will be refused.
    pub explained: Option<Cause>,
    /// The sshd that serves it, as the hold named it.
    pub session: Option<Session>,
    pub liveness: Liveness,
    /// The heartbeat is late, and the agent was asked whether anything moves.
    pub inspecting: bool,
    /// The heartbeat is late, and nothing moves.
    pub suspect: bool,
    /// At most one thing at a time: under a silent cut each request hangs and holds descriptors.
    pub work: Option<Work>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// Asked for; no answer yet.
    Asked,
    /// It answers.
    Held,
    /// Not to be had. ssh's own keepalives are the liveness check then.
    Bare,
}

#[derive(Debug)]
pub(super) struct Work {
    pub service: usize,
    pub op: Op,
    pub began: Time,
    pub deadline: Time,
    /// The connection itself was late meanwhile.
    pub doubted: bool,
}

impl Conn {
    pub fn new(id: ConnId, heartbeat: Duration, now: Time) -> Self {
        Self {
            id,
            serving_since: now,
            hold: Hold::Asked,
            hold_revision: 0,
            hold_deadline: now,
            asked_again: None,
            no_hold: None,
            stage: Stage::Dialled,
            explained: None,
            session: None,
            liveness: Liveness::new(heartbeat, now),
            inspecting: false,
            suspect: false,
            work: None,
        }
    }

    /// Whether it served for long enough to count as a road that was up.
    pub fn was_up(&self, now: Time) -> bool {
        now.since(self.serving_since) >= WAS_UP
    }

    pub fn is_held(&self) -> bool {
        self.hold == Hold::Held
    }

    /// Whether this, which has been due since `at`, may be begun over it now.
    pub fn can(&self, op: &Op, at: Time) -> bool {
        match op {
            // The last question before an end: did we hear nothing because the road was cut?
            Op::Release { recorded: false, .. } => {
                self.is_held() && self.liveness.answered_since(at)
            }
            _ => self.is_held() || !needs_hold(op),
        }
    }

    /// Whether silence in answer to this work is the other end's own: the connection answered a
    /// heartbeat that was sent after the question, and was never late. Without a hold, who knows.
    pub fn vouches_for(&self, work: &Work) -> bool {
        !self.suspect
            && !work.doubted
            && (self.hold == Hold::Bare || self.liveness.answered_since(work.began))
    }

    /// Whether it is late, or was since the work that is out began.
    pub fn was_late(&self) -> bool {
        self.suspect || self.work.as_ref().is_some_and(|work| work.doubted)
    }

    /// The hold has ended: whether to ask for it once more, which is then noted.
    pub fn asks_again(&mut self, now: Time) -> bool {
        if !self.is_held() || self.asked_again.is_some_and(|at| now.since(at) < HOLD_AGAIN) {
            return false;
        }
        self.hold = Hold::Asked;
        self.hold_deadline = now + HOLD;
        self.asked_again = Some(now);
        true
    }

    /// The hold has to know of other ports, or beat at another pace: it is asked for anew.
    pub fn renews_hold(&mut self, revision: u32, now: Time) -> bool {
        if !self.is_held() || self.hold_revision == revision {
            return false;
        }
        self.hold = Hold::Asked;
        self.hold_deadline = now + HOLD;
        self.hold_revision = revision;
        true
    }

    /// The hold answers, for the first time or once more.
    pub fn holds(&mut self, heartbeat: Duration, now: Time) {
        self.hold = Hold::Held;
        self.no_hold = None;
        self.liveness = Liveness::new(heartbeat, now);
    }

    /// Why the forward was refused, if sshd said so. A password that has expired forbids it as well,
    /// and that is what a person can mend.
    pub fn take_explanation(&mut self) -> Option<Cause> {
        let explained = self.explained.take()?;
        let expired = self.no_hold.clone().filter(|why| *why == Cause::PasswordExpired);
        Some(expired.unwrap_or(explained))
    }

    /// Begins a piece of work, and gives the action that does it.
    pub fn begin(&mut self, service: usize, op: Op, now: Time) -> Action {
        let most = match &op {
            Op::Identify(_) | Op::Prove => PROOF,
            Op::Forward | Op::Survey | Op::Look | Op::Release { .. } | Op::Withdraw => REQUEST,
        };
        let action = match &op {
            Op::Forward => Action::Forward(self.id, service),
            Op::Survey => Action::Survey(self.id, service),
            Op::Look => Action::Look(self.id, service),
            Op::Release { session, .. } => Action::Release(self.id, service, session.clone()),
            Op::Identify(_) | Op::Prove => Action::Prove(self.id, service),
            Op::Withdraw => Action::Withdraw(self.id, service),
        };
        if matches!(op, Op::Identify(_) | Op::Prove | Op::Survey) {
            // So that silence can be told from a road that is cut.
            self.liveness.ask(now);
        }
        self.explained = None;
        self.work = Some(Work { service, op, began: now, deadline: now + most, doubted: false });
        action
    }
}
