//! What the world does: it performs what the link asks, and answers as a network and a gateway would.

use super::*;

impl World {
    pub(super) fn passes(&self, id: ConnId) -> bool {
        let wire = self.wires.get(&id);
        self.reachable && wire.is_some_and(|wire| !wire.dead && wire.address == self.address)
    }

    pub(super) fn perform(&mut self, action: Action) {
        match action {
            Action::Knock => {
                let (after, result) = match (self.reachable, self.listening) {
                    (false, _) => (KNOCK, Err(Cause::TimedOut)),
                    (true, false) => (self.rtt, Err(Cause::ConnectionRefused)),
                    (true, true) => (self.rtt, Ok(())),
                };
                self.later(after, Todo::Tell(Event::Knocked(result)));
            }
            Action::Dial(id) => {
                self.pids += 1;
                let wire = Wire {
                    session: session(self.pids),
                    address: self.address,
                    dead: false,
                    backed_off: false,
                    stalled: Vec::new(),
                };
                self.wires.insert(id, wire);
                self.later(self.login_takes, Todo::LogIn(id));
            }
            Action::Close(id) => {
                let passes = self.passes(id);
                if let Some(wire) = self.wires.get_mut(&id) {
                    let session = wire.session.clone();
                    let after = match (passes, wire.backed_off) {
                        (true, false) => self.rtt,
                        (true, true) => secs(2),
                        (false, _) => self.stale_for,
                    };
                    self.later(after, Todo::Forget(session));
                }
                let cause = Cause::SshFailed { detail: "terminated".into() };
                self.later(ms(20), Todo::Tell(Event::Ended(id, cause)));
            }
            Action::Inspect(id) => {
                let event = Event::Inspected { conn: id, moving: self.moving };
                self.later(Duration::ZERO, Todo::Tell(event));
            }
            Action::Prove(id, service) => {
                let todo = Todo::Proof(id, service, self.now + PROOF, ms(200));
                self.later(self.rtt * 4, todo);
            }
            Action::Hold(id)
            | Action::Ping(id, _)
            | Action::Forward(id, _)
            | Action::Survey(id, _)
            | Action::Look(id, _)
            | Action::Withdraw(id, _)
            | Action::Release(id, ..) => self.later(self.rtt, Todo::Over(id, action)),
            Action::Remember(_) | Action::Report(_) | Action::Stopped => {}
        }
    }

    pub(super) fn happens(&mut self, todo: Todo) {
        match todo {
            Todo::Tell(event) => self.tell(event),
            Todo::Over(id, action) => {
                let passes = self.passes(id);
                if let Some(wire) = self.wires.get_mut(&id) {
                    wire.backed_off = !passes;
                }
                if passes {
                    self.answer(id, action);
                } else if let Some(wire) = self.wires.get_mut(&id) {
                    wire.stalled.push(Todo::Over(id, action));
                }
            }
            Todo::Proof(id, service, deadline, again) => {
                if !self.wires.contains_key(&id) {
                    return;
                }
                if !self.passes(id) && self.now + again < deadline {
                    return self.later(again, Todo::Proof(id, service, deadline, again * 2));
                }
                let seen =
                    if self.passes(id) { self.behind(id, service) } else { Sighting::Silent };
                let silent = seen == Sighting::Silent;
                let event = Event::Seen(id, service, seen, self.expected(service));
                if silent {
                    self.later(deadline.since(self.now), Todo::Tell(event));
                } else {
                    self.tell(event);
                }
            }
            Todo::LogIn(id) => self.log_in(id),
            Todo::Keepalive(id, cut) => {
                if self.wires.contains_key(&id) && cut == self.cuts && !self.passes(id) {
                    let session = self.wires[&id].session.clone();
                    self.later(self.stale_for, Todo::Forget(session));
                    self.tell(Event::Ended(id, lost()));
                }
            }
            Todo::Forget(session) => self.session_ends(&session),
        }
    }

    fn log_in(&mut self, id: ConnId) {
        let passes = self.passes(id);
        let login = if self.listening { self.login.clone() } else { Login::Fails(lost()) };
        if !self.wires.contains_key(&id) {
            return;
        }
        match login {
            // Its first packets are lost, and the next ones come late.
            _ if !passes => {}
            Login::Granted => {
                self.tell(Event::Connected(id));
            }
            Login::Fails(cause) => self.tell(Event::Ended(id, cause)),
            Login::Hangs => {}
            Login::HangsInKeyExchange => self.tell(Event::Reached(id, Stage::Greeted)),
        }
    }

    fn answer(&mut self, id: ConnId, action: Action) {
        let Some(own) = self.wires.get(&id).map(|wire| wire.session.clone()) else { return };
        if self.mute && !matches!(action, Action::Hold(_) | Action::Ping(..)) {
            return;
        }
        let event = match action {
            Action::Hold(_) => match self.hold {
                HoldManner::Granted => Event::Held(id, Some(own)),
                HoldManner::Refused => Event::HoldRefused(id, no_hold("no shell")),
                HoldManner::Swallowed => return,
            },
            Action::Ping(_, sequence) if self.pongs => Event::Pong(id, sequence),
            Action::Forward(_, service) => {
                let Some(slot) = self.slot(service) else { return };
                let granted = match &self.ports[slot] {
                    _ if self.forbidden => false,
                    Port::Free => {
                        self.ports[slot] = Port::Session(own, Sighting::Silent);
                        true
                    }
                    Port::Session(holder, _) => *holder == own,
                    Port::Other(..) => false,
                };
                if self.forbidden
                    && let Some(why) = self.explained.clone()
                {
                    self.tell(Event::Explained(id, why));
                }
                Event::Forwarded(id, service, granted)
            }
            Action::Survey(_, service) => {
                let reach = match (self.unseen, self.exposing) {
                    (true, _) => Reach::Unseen,
                    (false, true) => Reach::Everybody,
                    (false, false) => Reach::Loopback,
                };
                Event::Surveyed(id, service, reach)
            }
            Action::Withdraw(_, service) => {
                let Some(slot) = self.slot(service) else { return };
                if matches!(&self.ports[slot], Port::Session(holder, _) if *holder == own) {
                    self.ports[slot] = Port::Free;
                }
                Event::Withdrawn(id, service)
            }
            Action::Look(_, service) => {
                let Some(slot) = self.slot(service) else { return };
                let holder = match self.ports[slot].clone() {
                    Port::Free => Holder::Free,
                    Port::Session(holder, _) if holder == own => Holder::Ourselves,
                    Port::Session(session, sighting) => {
                        let beats = self.beating || sighting != Sighting::Silent;
                        let beat = beats.then(|| self.now.since(Time::ZERO).as_secs());
                        Holder::Session { session, beat: Some(beat.unwrap_or(7)) }
                    }
                    Port::Other(holder, _) => holder,
                };
                Event::Looked(id, service, holder)
            }
            Action::Release(_, service, session) => {
                if self.release.is_ok() {
                    self.session_ends(&session);
                    let wire = self.wires.iter().find(|(_, wire)| wire.session == session);
                    assert!(wire.is_none_or(|(victim, _)| *victim != id), "ended its own road");
                }
                Event::Released(id, service, self.release.clone())
            }
            _ => return,
        };
        self.tell(event);
    }

    /// Which of the ports and targets a service has.
    fn slot(&self, service: usize) -> Option<usize> {
        self.link.service(service).map(|service| usize::from(service.port.unwrap() - 2222))
    }

    fn expected(&self, service: usize) -> Vec<HostKey> {
        match self.slot(service).map(|slot| &self.targets[slot]) {
            Some(Sighting::HostKey { key, .. }) => std::vec![key.clone()],
            _ => Vec::new(),
        }
    }

    /// What is to be seen through a service's port.
    fn behind(&self, id: ConnId, service: usize) -> Sighting {
        let Some(slot) = self.slot(service) else { return Sighting::Refused };
        match &self.ports[slot] {
            Port::Free => Sighting::Refused,
            Port::Session(holder, _) if *holder == self.wires[&id].session => {
                self.targets[slot].clone()
            }
            Port::Session(_, sighting) | Port::Other(_, sighting) => sighting.clone(),
        }
    }
}
