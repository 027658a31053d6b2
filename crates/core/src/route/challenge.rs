//! Two agents that want to be the same home: the one that has it keeps it, if it is alive.

use alloc::vec::Vec;
use core::time::Duration;

use super::home::Registration;
use super::{Action, Claim, ConnId};
use crate::refusal::Reason;
use crate::time::Time;

/// How long the agent that is registered may take to answer. A round trip around the world is
/// 0.3 s; a home that was restarted waits no longer than this for its own dead predecessor.
const PATIENCE: Duration = Duration::from_millis(500);

/// A newcomer that waits for whether the one that is registered answers.
#[derive(Debug)]
pub(super) struct Challenge {
    pub(super) claim: Claim,
    /// Until when that one may answer.
    pub(super) until: Time,
}

impl Challenge {
    /// The agent that is registered, on this connection, is alive.
    pub(super) fn lost(self, incumbent: ConnId, out: &mut Vec<Action>) {
        let Claim { conn, instance, from, .. } = self.claim;
        out.push(Action::Refuse(conn, Reason::Duplicate));
        out.push(Action::Alarm { conn: incumbent, instance, from });
    }
}

impl Registration {
    /// Another agent wants to be this home. One may wait at a time: a second newcomer is refused,
    /// unless it is the first one on a new connection, which then waits in the old one's place.
    pub(super) fn challenged(&mut self, claim: Claim, now: Time, out: &mut Vec<Action>) {
        match &mut self.challenge {
            None => {
                self.challenge = Some(Challenge { claim, until: now + PATIENCE });
                out.push(Action::Ping(self.conn()));
            }
            Some(first) if first.claim.is_same_agent(&claim) => {
                out.push(Action::Refuse(first.claim.conn, Reason::Replaced));
                first.claim = claim;
            }
            Some(_) => out.push(Action::Refuse(claim.conn, Reason::Duplicate)),
        }
    }
}
