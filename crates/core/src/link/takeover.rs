//! A forward was refused: who holds the port, and may that be ended?
//!
//! A session that this home recorded as its own is ended. Any other is first spoken to through its
//! port, and only one that stays silent, twice, and whose own heartbeats have ceased, is ended:
//! whatever answers or beats is alive, and a live tunnel, ours or another home's, is never touched.
//! Silence counts only over a road that answered its heartbeats meanwhile and after.

use alloc::vec::Vec;
use core::time::Duration;

use super::conn::Conn;
use super::road::{LastChance, Op, Road, Sighting, Step};
use super::{Action, Link, Note, Session};
use crate::health::{Cause, Detail};
use crate::host_key::HostKey;
use crate::time::Time;

/// Between two silences of a session that nobody recorded, before it is taken for dead. Meanwhile a
/// home that lives sends three heartbeats at the usual pace, and its ssh a keepalive.
pub(super) const SECOND_SILENCE: Duration = Duration::from_secs(15);

/// Who holds a port at the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Nobody.
    Free,
    /// This very connection.
    Ourselves,
    /// An sshd session of our own account.
    Session {
        /// Which.
        session: Session,
        /// A count that grows while its other end speaks, if there is one to be read.
        beat: Option<u64>,
    },
    /// One of these sshd sessions of our own account; which of them, cannot be told.
    OneOf(Vec<Session>),
    /// A process of another account.
    Foreign {
        /// The account's number.
        uid: u32,
    },
    /// A process of our own account that is not an sshd session.
    Program {
        /// Its process id.
        pid: u32,
        /// Its name.
        name: Detail,
    },
    /// Somebody; who, cannot be told.
    Unknown(Detail),
}

/// A session behind which nobody was heard.
#[derive(Debug)]
pub(super) struct Suspected {
    session: Session,
    beat: Option<u64>,
    since: Time,
}

impl Road {
    /// Whether a session behind which nobody was heard has shown since then that its other end lives.
    fn has_spoken(&self, session: &Session, beat: Option<u64>) -> bool {
        let before = self.suspected.as_ref().filter(|before| before.session == *session);
        before.is_some_and(|before| before.beat.is_some() && beat != before.beat)
    }
}

impl Link {
    pub(super) fn looked(
        &mut self,
        service: usize,
        holder: Holder,
        now: Time,
        out: &mut Vec<Action>,
    ) {
        let own = self.serving.as_ref().and_then(|conn| conn.session.clone());
        let ours = match &holder {
            Holder::Session { session, .. } => self.is_recorded(session).then(|| session.clone()),
            // The one that held the port was there before those that tried to get it.
            Holder::OneOf(sessions) => {
                let ours = sessions.iter().filter(|session| self.is_recorded(session));
                let stale = ours.filter(|session| own.as_ref() != Some(session));
                stale.min_by_key(|session| session.start).cloned()
            }
            _ => None,
        };
        let Some(road) = self.roads.get_mut(&service) else { return };
        match holder {
            Holder::Free => {
                road.last_chance = Some(LastChance::LookedFree);
                road.next(Op::Forward, now);
            }
            // An earlier request of this connection was granted after all.
            Holder::Ourselves => self.forwarded(service, true, now, out),
            // The road that we stand on is recorded as well.
            Holder::Session { session, .. } if own.as_ref() == Some(&session) => {
                self.forwarded(service, true, now, out);
            }
            Holder::Session { .. } | Holder::OneOf(_) if ours.is_some() => {
                if let Some(session) = ours {
                    road.next(Op::Release { session, recorded: true }, now);
                }
            }
            Holder::Session { session, beat } if road.has_spoken(&session, beat) => {
                road.suspected = None;
                self.trouble(service, Cause::AnotherLiveSession, now, out);
            }
            Holder::Program { pid, name } => {
                self.trouble(service, Cause::PortTakenByProgram { program: name, pid }, now, out);
            }
            holder => road.next(Op::Identify(holder), now),
        }
    }

    pub(super) fn identified(
        &mut self,
        service: usize,
        holder: Holder,
        sighting: Sighting,
        expected: &[HostKey],
        now: Time,
        out: &mut Vec<Action>,
    ) {
        let sighting = match sighting {
            // Whoever it is, that is where the port is held.
            Sighting::OnLoopback(sighting) => *sighting,
            other => other,
        };
        let held = self.serving.as_ref().is_some_and(Conn::is_held);
        let silent = sighting == Sighting::Silent;
        // It may have held the port still when the gateway looked for it, and be gone by now.
        let vanished = sighting == Sighting::Refused && matches!(holder, Holder::Unknown(_));
        if let Some(road) = self.roads.get_mut(&service).filter(|_| !silent) {
            road.suspected = None;
        }
        let seen = match sighting {
            Sighting::HostKey { key, .. } if expected.contains(&key) => {
                return self.trouble(service, Cause::AnotherTunnelOfThisHome, now, out);
            }
            Sighting::HostKey { fingerprint, .. } => Some(fingerprint),
            Sighting::Silent => {
                if let (Holder::Session { session, beat }, true) = (&holder, held) {
                    return self.silent(service, session.clone(), *beat, now, out);
                }
                None
            }
            Sighting::Answer
            | Sighting::Wrong(_)
            | Sighting::Refused
            | Sighting::NoStream(_)
            | Sighting::OnLoopback(_) => None,
        };
        let cause = match (holder, seen) {
            (Holder::Foreign { uid }, fingerprint) => Cause::PortTakenByUser { uid, fingerprint },
            (Holder::Session { .. } | Holder::OneOf(_), Some(fingerprint)) => {
                Cause::AnotherHome { fingerprint }
            }
            (Holder::OneOf(_), None) if silent => {
                let detail = Detail::new("by one of several sessions, none of them known as ours");
                Cause::PortBusy { detail }
            }
            (Holder::Session { .. } | Holder::OneOf(_), None) => Cause::AnotherLiveSession,
            (_, Some(fingerprint)) => Cause::TakenByAnotherHost { fingerprint },
            (Holder::Unknown(detail), None) if held => Cause::PortBusy { detail },
            (_, None) => Cause::ForwardRefused,
        };
        self.trouble(service, cause, now, out);
        if let Some(road) = self.roads.get_mut(&service).filter(|_| vanished) {
            road.look_again_soon(now);
        }
    }

    /// Nobody was heard behind a session that is not known as ours. One silence may be a slow line's
    /// or a target's that hangs; after the second it is ended.
    fn silent(
        &mut self,
        service: usize,
        session: Session,
        beat: Option<u64>,
        now: Time,
        out: &mut Vec<Action>,
    ) {
        let Some(road) = self.roads.get_mut(&service) else { return };
        let before = road.suspected.as_ref().filter(|before| before.session == session);
        let since = before.map_or(now, |before| before.since);
        if now.since(since) >= SECOND_SILENCE {
            road.suspected = None;
            if let Some(conn) = &mut self.serving {
                conn.liveness.ask(now);
            }
            return road.next(Op::Release { session, recorded: false }, now);
        }
        if before.is_none() {
            road.suspected = Some(Suspected { session, beat, since: now });
        }
        let detail = Detail::new("by an old session that is silent; it is asked once more");
        self.trouble(service, Cause::PortBusy { detail }, now, out);
        if let Some(road) = self.roads.get_mut(&service) {
            road.step = Step::Shut { at: since + SECOND_SILENCE, next: Op::Look };
        }
    }

    pub(super) fn released(
        &mut self,
        service: usize,
        session: Session,
        result: Result<(), Detail>,
        now: Time,
        out: &mut Vec<Action>,
    ) {
        let Some(road) = self.roads.get_mut(&service) else { return };
        match result {
            Ok(()) => {
                road.last_chance = Some(LastChance::Released);
                road.next(Op::Forward, now);
                out.push(Action::Report(Note::TookOver { service, session }));
            }
            Err(detail) => self.trouble(service, Cause::TakeoverFailed { detail }, now, out),
        }
    }
}
