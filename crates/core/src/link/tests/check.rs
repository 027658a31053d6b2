//! What must hold after every single step, whoever drives the link.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use crate::host_key::HostKey;
use crate::link::takeover::SECOND_SILENCE;
use crate::link::{Action, ConnId, Event, Holder, Link, Note, Reach, Session, Sighting};
use crate::service::Bind;
use crate::status::{LinkState, LinkStatus, ServiceState};
use crate::time::Time;

/// A timer lies never further ahead than this: a halted link's slow probe.
const FARTHEST: Duration = Duration::from_secs(450);

/// This many timers without any delay in a row is a busy loop: each service may have one thing to
/// begin at one moment, and the connection and the search a few.
const MOST_AT_ONCE: usize = 24;

/// Every so many steps the status is written and read back.
const WRITTEN: u32 = 50;

#[derive(Clone, Debug, PartialEq)]
enum Request {
    Forward(usize),
    Survey(usize),
    Look(usize),
    Release(usize),
    Prove(usize),
    Withdraw(usize),
}

/// Watches the actions and the events of one link.
#[derive(Debug, Default)]
pub struct Check {
    /// Dialled, and neither closed nor ended; with the request that is out over it.
    open: BTreeMap<ConnId, Option<Request>>,
    serving: Option<ConnId>,
    newest: Option<ConnId>,
    recorded: Vec<Session>,
    /// The last answer to a look, and whether the port's holder then stayed silent.
    looked: BTreeMap<usize, (Holder, bool)>,
    /// Since when each service's holder has been silent at every visit.
    silent: BTreeMap<usize, (Session, Option<u64>, Time)>,
    proven: BTreeMap<usize, bool>,
    /// The ports that the connection which serves was granted, and whose they are.
    granted: BTreeMap<u16, usize>,
    /// The services whose ports are open to everybody, and were not to be.
    exposed: BTreeSet<usize>,
    /// The services whose ports were looked at since they were granted.
    surveyed: BTreeSet<usize>,
    /// The port that was asked for last.
    asked_for: Option<u16>,
    stopping: Option<Time>,
    stopped: bool,
    last: Option<Time>,
    at_once: usize,
    seen: u32,
}

impl Check {
    pub fn new(recorded: &[Session]) -> Self {
        Self { recorded: recorded.to_vec(), ..Self::default() }
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    pub fn serving(&self) -> Option<ConnId> {
        self.serving
    }

    pub fn open(&self) -> impl Iterator<Item = ConnId> {
        self.open.keys().copied()
    }

    /// Notes an event that the link is about to be told.
    pub fn event(&mut self, event: &Event, now: Time) {
        match event {
            Event::Ended(id, _) => {
                self.open.remove(id);
                if self.serving.take_if(|serving| serving == id).is_some() {
                    self.exposed.clear();
                }
            }
            Event::Forwarded(id, service, granted)
                if self.answered(*id, &Request::Forward(*service)) && *granted =>
            {
                self.granted.extend(self.asked_for.map(|port| (port, *service)));
                self.surveyed.remove(service);
            }
            Event::Withdrawn(id, service) if self.answered(*id, &Request::Withdraw(*service)) => {
                self.granted.retain(|_, owner| owner != service);
                self.exposed.remove(service);
            }
            Event::Surveyed(id, service, reach)
                if self.answered(*id, &Request::Survey(*service)) =>
            {
                self.surveyed.insert(*service);
                if *reach == Reach::Everybody {
                    self.exposed.insert(*service);
                }
            }
            Event::Looked(id, service, holder) if self.answered(*id, &Request::Look(*service)) => {
                let beat_now = match holder {
                    Holder::Session { beat, .. } => *beat,
                    _ => None,
                };
                self.silent.retain(|of, (_, beat, _)| of != service || beat_now == *beat);
                self.looked.insert(*service, (holder.clone(), false));
            }
            Event::Released(id, service, _) => {
                self.answered(*id, &Request::Release(*service));
            }
            Event::Seen(id, service, sighting, expected)
                if self.answered(*id, &Request::Prove(*service)) =>
            {
                if let Some((holder, silent)) = self.looked.get_mut(service) {
                    *silent = *sighting == Sighting::Silent;
                    match holder {
                        Holder::Session { session, beat } if *silent => {
                            let since = self.silent.get(service).filter(|(s, ..)| s == session);
                            let since = since.cloned().unwrap_or((session.clone(), *beat, now));
                            self.silent.insert(*service, since);
                        }
                        _ => drop(self.silent.remove(service)),
                    }
                }
                if *sighting != Sighting::Silent {
                    self.proven.insert(*service, is_good(sighting, expected));
                }
            }
            // With the hold end the answers that it owes.
            Event::HoldRefused(id, _) => {
                if let Some(out) = self.open.get_mut(id) {
                    out.take_if(|out| matches!(out, Request::Look(_) | Request::Release(_)));
                }
            }
            Event::Stop => {
                self.stopping.get_or_insert(now);
            }
            _ => {}
        }
    }

    fn answered(&mut self, id: ConnId, request: &Request) -> bool {
        let open = self.open.get_mut(&id).filter(|_| self.serving == Some(id));
        open.is_some_and(|out| out.take_if(|out| out == request).is_some())
    }

    /// Checks what the link answered.
    pub fn actions(&mut self, actions: &[Action], link: &Link, was_timer: bool, now: Time) {
        assert!(!self.stopped || actions.is_empty(), "after `Stopped`: {actions:?}");
        for action in actions {
            self.action(action, link, now);
        }
        if let Some(since) = self.stopping
            && now.since(since) >= Duration::from_secs(3)
        {
            assert!(self.stopped, "draining goes on after its deadline");
        }
        self.timers(link, was_timer, now);
        let numbers: Vec<usize> = link.services().map(|(number, _)| number).collect();
        self.status(&link.status(now), &numbers);
    }

    fn action(&mut self, action: &Action, link: &Link, now: Time) {
        match action {
            Action::Dial(id) => {
                assert!(self.newest < Some(*id), "{id} was used before");
                let fresh = self.open.keys().find(|open| Some(**open) != self.serving);
                assert_eq!(fresh, None, "a second dial, {id}, is under way");
                self.newest = Some(*id);
                self.open.insert(*id, None);
            }
            Action::Close(id) => {
                assert!(self.open.remove(id).is_some(), "{id} is closed twice");
                if self.serving.take_if(|serving| serving == id).is_some() {
                    self.exposed.clear();
                }
            }
            Action::Hold(id) | Action::Ping(id, _) | Action::Inspect(id) => {
                assert!(self.open.contains_key(id), "{action:?} over a closed connection");
            }
            Action::Forward(id, service) => {
                self.request(*id, Request::Forward(*service));
                let port = link.service(*service).expect("its road is there").port.unwrap();
                let owner = self.granted.get(&port);
                assert!(owner.is_none_or(|owner| owner == service), "{port} is {owner:?}'s still");
                self.asked_for = Some(port);
            }
            Action::Survey(id, service) => self.request(*id, Request::Survey(*service)),
            Action::Withdraw(id, service) => self.request(*id, Request::Withdraw(*service)),
            Action::Look(id, service) => self.request(*id, Request::Look(*service)),
            Action::Release(id, service, session) => {
                self.request(*id, Request::Release(*service));
                let recorded = self.recorded.contains(session);
                match self.looked.remove(service) {
                    Some((Holder::OneOf(sessions), _)) => {
                        assert!(
                            recorded && sessions.contains(session),
                            "{session:?} of {sessions:?}"
                        );
                    }
                    Some((Holder::Session { session: holder, beat }, silent)) => {
                        assert_eq!(&holder, session, "another session than the one that was named");
                        let before = self.silent.remove(service);
                        let dead = before.is_some_and(|(first, at_first, since)| {
                            silent
                                && first == holder
                                && (at_first.is_none() || at_first == beat)
                                && now.since(since) >= SECOND_SILENCE
                        });
                        assert!(recorded || dead, "{holder:?} may be alive");
                    }
                    _ => panic!("{session:?} is to be ended, and no look named it"),
                }
            }
            Action::Prove(id, service) => self.request(*id, Request::Prove(*service)),
            Action::Remember(session) => self.recorded.push(session.clone()),
            Action::Report(Note::LinkUp { .. }) => {
                self.serving = self.newest;
                self.looked.clear();
                self.proven.clear();
                self.silent.clear();
                self.granted.clear();
                self.exposed.clear();
                self.surveyed.clear();
            }
            Action::Knock | Action::Report(_) => {}
            Action::Stopped => {
                assert!(self.stopping.is_some(), "stopped without being told to");
                self.stopped = true;
            }
        }
    }

    fn request(&mut self, id: ConnId, request: Request) {
        assert_eq!(self.serving, Some(id), "{request:?} over a connection that does not serve");
        let gives_back = matches!(request, Request::Withdraw(_));
        assert!(
            gives_back || self.exposed.is_empty(),
            "{request:?} before {:?} is given back",
            self.exposed
        );
        let Some(out) = self.open.get_mut(&id) else { panic!("{request:?} over a closed {id}") };
        assert_eq!(*out, None, "{request:?} beside another one");
        *out = Some(request);
    }

    fn timers(&mut self, link: &Link, was_timer: bool, now: Time) {
        let Some(timer) = link.next_timer() else {
            assert!(self.stopped, "asleep for good: {link:?}");
            return;
        };
        assert!(!self.stopped, "a timer after the end");
        assert!(timer.since(now) <= FARTHEST, "asleep for {:?}", timer.since(now));
        self.at_once = if was_timer && self.last == Some(now) { self.at_once + 1 } else { 0 };
        self.last = Some(now);
        assert!(self.at_once <= MOST_AT_ONCE || timer > now, "a busy loop: {link:?}");
    }

    fn status(&mut self, status: &LinkStatus, numbers: &[usize]) {
        assert_eq!(status.services.len(), numbers.len());
        if status.state == LinkState::Up {
            assert!(self.serving.is_some(), "up without a connection");
            assert_eq!(status.cause, None, "up, and still a cause");
            assert_eq!(status.retry_in_ms, None, "up, and waiting to try again");
        }
        if status.state == LinkState::Halted {
            let cause = status.cause.as_ref().map(|finding| finding.cause.retry());
            assert_eq!(cause, Some(crate::health::Retry::Halt), "halted for {:?}", status.cause);
        }
        for (service, number) in status.services.iter().zip(numbers) {
            let proven = self.serving.is_some() && self.proven.get(number) == Some(&true);
            assert!(service.state != ServiceState::Up || proven, "up without a proof: {service:?}");
            let may_be_wide = service.service.bind != Bind::Loopback;
            let narrow = self.surveyed.contains(number) && !self.exposed.contains(number);
            assert!(
                service.state != ServiceState::Up || narrow || may_be_wide,
                "up and exposed: {service:?}"
            );
            let has_cause = matches!(
                service.state,
                ServiceState::Unproven | ServiceState::Blocked | ServiceState::Halted
            );
            assert_eq!(service.cause.is_some(), has_cause, "{service:?}");
        }
        self.seen = self.seen.wrapping_add(1);
        if self.seen % WRITTEN != 1 {
            return;
        }
        let text = serde_json::to_string(status).expect("a status can be written");
        let back: LinkStatus = serde_json::from_str(&text).expect("a status can be read");
        assert_eq!(back.services, status.services);
    }
}

/// Whether a sighting proves a service.
pub fn is_good(sighting: &Sighting, expected: &[HostKey]) -> bool {
    match sighting {
        Sighting::Answer => true,
        Sighting::HostKey { key, .. } => expected.contains(key),
        _ => false,
    }
}
