//! A small world for one link: a network that can be cut, a gateway with an sshd and its sessions,
//! ports that are held, targets at home; all in virtual time.

mod doing;
mod reading;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;
use std::format;

use super::check::Check;
pub use super::likeness::*;
use crate::health::{Cause, Detail};
use crate::host_key::HostKey;
use crate::link::{
    Action, ConnId, Event, Holder, Link, Note, Plan, Reach, Session, Sighting, Stage,
};
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
    /// sshd greets, and no more comes through.
    HangsInKeyExchange,
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
    /// sshd opens ports to everybody, whatever is asked for.
    pub exposing: bool,
    /// No login may see by whom a port can be reached.
    pub unseen: bool,
    /// What sshd says of that.
    pub explained: Option<Cause>,
    pub release: Result<(), Detail>,
    pub ports: Vec<Port>,
    /// What the targets at home show.
    pub targets: Vec<Sighting>,
    /// Whether silent sessions at the gateway still hear from their homes.
    pub beating: bool,
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

/// No hold, and why.
pub fn no_hold(why: &str) -> Cause {
    Cause::HoldRefused { detail: why.into() }
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
            exposing: false,
            unseen: false,
            explained: None,
            release: Ok(()),
            ports: core::iter::repeat_n(Port::Free, count).collect(),
            targets: core::iter::repeat_n(shows('h'), count).collect(),
            beating: false,
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
        self.end_serving(lost());
    }

    /// The same, and it says why.
    pub fn end_serving(&mut self, cause: Cause) {
        let id = self.serving();
        self.session_ends(&self.wires[&id].session.clone());
        self.tell(Event::Ended(id, cause));
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
}

fn lost() -> Cause {
    Cause::ConnectionLost { detail: "Connection reset by peer".into() }
}
