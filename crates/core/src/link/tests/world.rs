//! A small world for one link: a network that can be cut, a gateway with an sshd and its sessions,
//! ports that are held, targets at home; all in virtual time.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;
use std::format;

use super::check::Check;
pub use super::likeness::*;
use crate::health::{Cause, Detail};
use crate::host_key::HostKey;
use crate::link::{Action, ConnId, Event, Holder, Link, Note, Plan, Session, Sighting};
use crate::service::Service;
use crate::status::{LinkState, LinkStatus, ServiceState};
use crate::time::Time;

/// How long the agent's hands wait for a proof.
const PROOF: Duration = Duration::from_secs(4);
/// ssh's own keepalives (`ServerAliveInterval=10`, `ServerAliveCountMax=3`).
const KEEPALIVE: Duration = Duration::from_secs(40);
/// How long a knock waits.
const KNOCK: Duration = Duration::from_secs(3);

pub fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// How the gateway's sshd takes a login.
#[derive(Clone, Debug, PartialEq)]
pub enum Login {
    Granted,
    /// ssh ends with this cause.
    Fails(Cause),
    Hangs,
}

/// How the gateway takes a hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum HoldManner {
    Granted,
    Refused,
    Swallowed,
}

/// Who holds a service's port.
#[derive(Clone, Debug, PartialEq)]
pub enum Port {
    Free,
    /// A session at the gateway: one of ours, or a stranger's with what answers behind it.
    Session(Session, Sighting),
    Other(Holder, Sighting),
}

#[derive(Debug)]
struct Wire {
    session: Session,
    /// The home's address, as a count of its changes, when it was dialled.
    address: u32,
    /// Its sshd ended during a cut.
    dead: bool,
    /// It sent something into a cut: what it sends now comes late.
    backed_off: bool,
    /// What waits for the network.
    stalled: Vec<Todo>,
}

#[derive(Clone, Debug)]
enum Todo {
    Tell(Event),
    /// Over a connection: tells it if the network lets it through.
    Over(ConnId, Action),
    /// A proof, its deadline, and after what time it is sent again if it is lost.
    Proof(ConnId, usize, Time, Duration),
    LogIn(ConnId),
    Keepalive(ConnId, u32),
    Forget(Session),
}

pub struct World {
    pub link: Link,
    pub now: Time,
    pub log: Vec<(Time, Action)>,
    /// For how long all was up.
    pub up: Duration,
    pub rtt: Duration,
    pub login_takes: Duration,
    /// How long sshd keeps a session whose other end is gone.
    pub stale_for: Duration,
    pub reachable: bool,
    pub listening: bool,
    pub login: Login,
    pub hold: HoldManner,
    /// Whether the hold answers heartbeats.
    pub pongs: bool,
    pub moving: bool,
    pub forbidden: bool,
    pub release: Result<(), Detail>,
    pub ports: Vec<Port>,
    /// What the targets at home show.
    pub targets: Vec<Sighting>,
    /// Holds answers to requests back for good.
    pub mute: bool,
    check: Check,
    wires: BTreeMap<ConnId, Wire>,
    address: u32,
    cuts: u32,
    pids: u32,
    queue: BTreeMap<(Time, u64), Todo>,
    queued: u64,
}

pub fn key(letter: char) -> HostKey {
    let rest: std::string::String = core::iter::repeat_n(letter, 42).collect();
    HostKey::new("ssh-ed25519", &format!("AAAAC3NzaC1lZDI1NTE5AAAAIA{rest}")).unwrap()
}

/// A host key as it is seen behind a port.
pub fn shows(letter: char) -> Sighting {
    Sighting::HostKey { key: key(letter), fingerprint: format!("SHA256:{letter}") }
}

pub fn session(pid: u32) -> Session {
    Session { pid, start: u64::from(pid) * 10, boot: "0f1e".into() }
}

pub fn services(count: usize) -> Vec<Service> {
    (0..count)
        .map(|n| Service::from_forward(&format!("{}:localhost:22", 2222 + n)).unwrap())
        .collect()
}

/// A plan with this many services, and nothing out of the common.
pub fn plan(count: usize) -> Plan {
    Plan {
        gateway: "203.0.113.7".into(),
        services: services(count),
        knockable: true,
        heartbeat: secs(5),
        sessions: Vec::new(),
        seed: 7,
    }
}

impl World {
    /// A home with this many services, and all well.
    pub fn new(services: usize) -> Self {
        Self::with(services, |_| {})
    }

    pub fn with(count: usize, change: impl FnOnce(&mut Plan)) -> Self {
        let mut plan = plan(count);
        change(&mut plan);
        let now = Time::after_start(secs(100));
        Self {
            check: Check::new(&plan.sessions),
            link: Link::new(plan, now),
            now,
            log: Vec::new(),
            up: Duration::ZERO,
            rtt: ms(20),
            login_takes: ms(150),
            stale_for: secs(3600),
            reachable: true,
            listening: true,
            login: Login::Granted,
            hold: HoldManner::Granted,
            pongs: true,
            moving: false,
            forbidden: false,
            release: Ok(()),
            ports: core::iter::repeat_n(Port::Free, count).collect(),
            targets: core::iter::repeat_n(shows('h'), count).collect(),
            mute: false,
            wires: BTreeMap::new(),
            address: 0,
            cuts: 0,
            pids: 1000,
            queue: BTreeMap::new(),
            queued: 0,
        }
    }

    /// A home whose road has just been proven.
    pub fn up(services: usize) -> Self {
        let mut world = Self::new(services);
        world.run(secs(2));
        world.assert_all_up();
        world
    }

    // ---- time ----

    /// Lets time pass.
    pub fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while self.step(end) {}
        self.goes_on(end);
    }

    fn goes_on(&mut self, to: Time) {
        if to > self.now && self.is_all_up() {
            self.up += to.since(self.now);
        }
        self.now = to;
    }

    /// Lets time pass until `done`, for at most `most`. Gives the time that it took.
    pub fn until(&mut self, most: Duration, done: impl Fn(&Self) -> bool) -> Duration {
        let begin = self.now;
        let end = begin + most;
        while !done(self) {
            assert!(self.step(end), "not within {most:?}: {:#?}", self.status());
        }
        self.now.since(begin)
    }

    /// Does the next thing that is due at `end` or before; `false` if there is none.
    fn step(&mut self, end: Time) -> bool {
        let queued = self.queue.first_key_value().map(|((at, _), _)| *at);
        let timer = self.link.next_timer().map(|at| at.max(self.now));
        match (queued, timer) {
            (Some(at), timer) if at <= end && timer.is_none_or(|timer| at <= timer) => {
                self.goes_on(at);
                if let Some((_, todo)) = self.queue.pop_first() {
                    self.happens(todo);
                }
                true
            }
            (_, Some(timer)) if timer <= end => {
                self.goes_on(timer);
                self.tell(Event::Timer);
                true
            }
            _ => false,
        }
    }

    fn later(&mut self, span: Duration, todo: Todo) {
        self.queued += 1;
        self.queue.insert((self.now + span, self.queued), todo);
    }

    /// Tells the link, and does what it says.
    pub fn tell(&mut self, event: Event) {
        if let Event::Ended(id, _) = &event {
            self.wires.remove(id);
        }
        self.check.event(&event, self.now);
        let was_timer = matches!(event, Event::Timer);
        let actions = self.link.handle(event, self.now);
        self.check.actions(&actions, &self.link, was_timer, self.now);
        for action in actions {
            self.log.push((self.now, action.clone()));
            self.perform(action);
        }
    }

    // ---- what happens to the world ----

    /// The network swallows everything.
    pub fn cut(&mut self) {
        self.reachable = false;
        self.stall_all();
    }

    fn stall_all(&mut self) {
        self.cuts += 1;
        let ids: Vec<ConnId> = self.wires.keys().copied().collect();
        for id in ids {
            self.later(KEEPALIVE, Todo::Keepalive(id, self.cuts));
        }
    }

    /// The network is whole again. What waited is sent again, a little later than a newcomer.
    pub fn heal(&mut self) {
        self.reachable = true;
        self.cuts += 1;
        let ids: Vec<ConnId> = self.wires.keys().copied().collect();
        for id in ids {
            let wire = &self.wires[&id];
            if wire.dead && wire.address == self.address {
                self.later(self.rtt, Todo::Tell(Event::Ended(id, lost())));
            }
            if !self.passes(id) {
                continue;
            }
            let stalled = self.wires.get_mut(&id).map(|wire| core::mem::take(&mut wire.stalled));
            for todo in stalled.unwrap_or_default() {
                self.later(secs(2), todo);
            }
        }
    }

    /// This home gets another address; the old one is gone, or stays beside it.
    pub fn change_address(&mut self, lost: bool) {
        let mut gone = Vec::new();
        if lost {
            self.address += 1;
            gone.extend(self.wires.keys().copied());
            self.stall_all();
        }
        self.tell(Event::NetworkChanged(gone));
    }

    /// The gateway's sshd ends, and with it all sessions.
    pub fn sshd_ends(&mut self) {
        self.listening = false;
        for port in &mut self.ports {
            if matches!(port, Port::Session(..)) {
                *port = Port::Free;
            }
        }
        let ids: Vec<ConnId> = self.wires.keys().copied().collect();
        for id in ids {
            if self.passes(id) {
                self.tell(Event::Ended(id, lost()));
            } else if let Some(wire) = self.wires.get_mut(&id) {
                wire.dead = true;
            }
        }
    }

    /// The connection that serves is ended by the gateway.
    pub fn drop_serving(&mut self) {
        let id = self.serving();
        self.session_ends(&self.wires[&id].session.clone());
        self.tell(Event::Ended(id, lost()));
    }

    fn session_ends(&mut self, session: &Session) {
        for port in &mut self.ports {
            if matches!(port, Port::Session(holder, _) if holder == session) {
                *port = Port::Free;
            }
        }
    }

    /// The gateway's sshd gives up the sessions whose other end is gone, in its own time.
    pub fn sshd_notices(&mut self) {
        for index in 0..self.ports.len() {
            if let Port::Session(holder, _) = self.ports[index].clone()
                && !self.is_own(index)
            {
                self.later(self.stale_for, Todo::Forget(holder));
            }
        }
    }

    /// What is under way is never answered.
    pub fn lose_answers(&mut self) {
        self.queue.clear();
    }

    // ---- what the world does ----

    fn passes(&self, id: ConnId) -> bool {
        let wire = self.wires.get(&id);
        self.reachable && wire.is_some_and(|wire| !wire.dead && wire.address == self.address)
    }

    fn perform(&mut self, action: Action) {
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
            | Action::Look(id, _)
            | Action::Release(id, ..) => self.later(self.rtt, Todo::Over(id, action)),
            Action::Remember(_) | Action::Report(_) | Action::Stopped => {}
        }
    }

    fn happens(&mut self, todo: Todo) {
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
                HoldManner::Refused => Event::HoldRefused(id, "no shell".into()),
                HoldManner::Swallowed => return,
            },
            Action::Ping(_, sequence) if self.pongs => Event::Pong(id, sequence),
            Action::Forward(_, service) => {
                let granted = match &self.ports[service] {
                    _ if self.forbidden => false,
                    Port::Free => {
                        self.ports[service] = Port::Session(own, Sighting::Silent);
                        true
                    }
                    Port::Session(holder, _) => *holder == own,
                    Port::Other(..) => false,
                };
                Event::Forwarded(id, service, granted)
            }
            Action::Look(_, service) => {
                let holder = match self.ports[service].clone() {
                    Port::Free => Holder::Free,
                    Port::Session(holder, _) if holder == own => Holder::Ourselves,
                    Port::Session(holder, _) => Holder::Session(holder),
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

    fn expected(&self, service: usize) -> Vec<HostKey> {
        match &self.targets[service] {
            Sighting::HostKey { key, .. } => std::vec![key.clone()],
            _ => Vec::new(),
        }
    }

    /// What is to be seen through a service's port.
    fn behind(&self, id: ConnId, service: usize) -> Sighting {
        match &self.ports[service] {
            Port::Free => Sighting::Refused,
            Port::Session(holder, _) if *holder == self.wires[&id].session => {
                self.targets[service].clone()
            }
            Port::Session(_, sighting) | Port::Other(_, sighting) => sighting.clone(),
        }
    }

    // ---- what is to be read ----

    pub fn status(&self) -> LinkStatus {
        self.link.status(self.now)
    }

    pub fn state(&self) -> LinkState {
        self.status().state
    }

    pub fn service(&self, index: usize) -> ServiceState {
        self.status().services[index].state
    }

    pub fn cause(&self) -> Option<Cause> {
        self.status().cause.map(|finding| finding.cause)
    }

    pub fn trouble(&self, index: usize) -> Option<Cause> {
        self.status().services[index].cause.clone().map(|finding| finding.cause)
    }

    pub fn is_all_up(&self) -> bool {
        let status = self.status();
        status.state == LinkState::Up
            && status.services.iter().all(|service| service.state == ServiceState::Up)
    }

    pub fn assert_all_up(&self) {
        assert!(self.is_all_up(), "{:#?}", self.status());
    }

    pub fn is_stopped(&self) -> bool {
        self.check.is_stopped()
    }

    pub fn serving(&self) -> ConnId {
        self.check.serving().expect("a connection serves")
    }

    pub fn serves(&self, id: ConnId) -> bool {
        self.check.serving() == Some(id)
    }

    /// Whether a service's port is held by one of our open connections.
    pub fn is_own(&self, service: usize) -> bool {
        let Port::Session(holder, _) = &self.ports[service] else { return false };
        self.wires.values().any(|wire| wire.session == *holder)
    }

    pub fn own_session(&self) -> Session {
        self.wires[&self.serving()].session.clone()
    }

    /// When actions like this were done.
    pub fn times(&self, like: impl Fn(&Action) -> bool) -> Vec<Time> {
        self.log.iter().filter(|(_, action)| like(action)).map(|(at, _)| *at).collect()
    }

    pub fn count(&self, like: impl Fn(&Action) -> bool) -> usize {
        self.times(like).len()
    }

    pub fn notes(&self) -> Vec<Note> {
        let note = |action: &Action| match action {
            Action::Report(note) => Some(note.clone()),
            _ => None,
        };
        self.log.iter().filter_map(|(_, action)| note(action)).collect()
    }

    /// Forgets what was done so far.
    pub fn clear(&mut self) {
        self.log.clear();
    }
}

fn lost() -> Cause {
    Cause::ConnectionLost { detail: "Connection reset by peer".into() }
}
