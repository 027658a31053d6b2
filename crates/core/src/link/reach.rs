//! A port was granted: is it as narrow as it was asked for?
//!
//! An sshd with `GatewayPorts yes` says "ok" to `127.0.0.1` and listens on every address. So the port
//! is looked at before anything else is done with it, and if everybody can reach it, it is given back
//! at once. Only a person can mend that; the road waits for one.

use alloc::vec::Vec;
use core::time::Duration;

use super::road::{Op, Road, Step};
use super::{Action, Link, Note};
use crate::health::Cause;
use crate::service::Bind;
use crate::time::Time;

/// Between attempts at a port that was open to everybody: each of them opens it for a moment.
const REOPEN_EXPOSED: Duration = Duration::from_secs(300);

/// By whom a port at the gateway can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// By the gateway itself alone.
    Loopback,
    /// By everybody who can reach the gateway.
    Everybody,
    /// This login may not see it, and nothing says that it is more than loopback.
    Unseen,
}

impl Road {
    /// What comes next, now that the port is ours. One that is to be public needs no look.
    pub(super) fn granted(&self, now: Time) -> Step {
        match self.service.bind {
            Bind::Loopback => Step::Granted { at: now },
            Bind::Public(_) => Step::Open { at: now },
        }
    }
}

impl Link {
    pub(super) fn surveyed(
        &mut self,
        service: usize,
        reach: Reach,
        late: bool,
        now: Time,
        out: &mut Vec<Action>,
    ) {
        let Some(road) = self.roads.get_mut(&service) else { return };
        match reach {
            // The road was cut meanwhile, or may have been.
            Reach::Unseen if late => self.unheard(service, &Op::Survey, now),
            Reach::Loopback | Reach::Unseen => {
                road.step = Step::Open { at: now };
                road.show(now);
            }
            Reach::Everybody => {
                road.step = Step::Exposed;
                road.cause = Some(Cause::Exposed);
                road.show(now);
                if !road.leaving {
                    let note = Note::ServiceTrouble { service, cause: Cause::Exposed };
                    out.push(Action::Report(note));
                }
            }
        }
    }

    /// A port was given back, for good or because everybody could reach it.
    pub(super) fn withdrawn(&mut self, service: usize, now: Time, out: &mut Vec<Action>) {
        let Some(road) = self.roads.get_mut(&service) else { return };
        if road.leaving {
            self.roads.remove(&service);
            return;
        }
        road.step = Step::Shut { at: now + REOPEN_EXPOSED, next: Op::Forward };
        road.show(now);
        // sshd keeps the configuration that it had at the login, so only another login can do
        // better; unless there is something that may be open to everybody.
        if self.services().all(|(_, service)| service.bind == Bind::Loopback) {
            self.give_up(Cause::Exposed, now, out);
        }
    }
}
