//! One home: the agent that is registered for it, the data connections that wait for clients, and
//! the clients that wait for data connections.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::ops::RangeInclusive;
use core::time::Duration;

use super::challenge::Challenge;
use super::{Action, Claim, ConnId, Instance};
use crate::key::Key;
use crate::name::Name;
use crate::refusal::Reason;
use crate::time::Time;

/// How often an agent may say that it sends something. More often would be a load, and more seldom
/// would leave a dead home registered for a quarter of an hour.
pub(super) const HEARTBEATS: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(300);

/// No silence ends a registration before this: a loaded machine, or a van under a bridge.
const LEAST_PATIENCE: Duration = Duration::from_secs(10);

/// The most services of one home: a bound on what a home can make the gateway keep.
const SERVICES: usize = 64;

/// The most clients of one home that wait for a data connection. Those that come in the round trip
/// until the home has sent more are a few; more of them would not be served in time.
const CLIENTS: usize = 16;

/// And how many of them may be one key's: it must not keep all others out by coming often.
const CLIENTS_OF_KEY: usize = CLIENTS / 2;

/// How long a client waits for a data connection.
const CLIENT_PATIENCE: Duration = Duration::from_secs(5);

/// What is known of a home.
#[derive(Debug, Default)]
pub struct Home {
    /// The highest generation that it had.
    generation: u64,
    /// When its last registration was last heard, if it has none now.
    last_seen: Time,
    live: Option<Box<Registration>>,
    /// Its entry among the registry's alarms.
    pub(super) alarm: Option<Time>,
    /// Its entry among the registry's homes that are offline.
    pub(super) offline: Option<Time>,
}

/// An agent that is registered as a home.
#[derive(Debug)]
pub struct Registration {
    claim: Claim,
    generation: u64,
    /// When something came from it last.
    heard: Time,
    /// It was asked, since then, whether it is there.
    asked: bool,
    services: BTreeMap<u32, Name>,
    /// The data connections that wait, the newest last.
    waiting: Vec<ConnId>,
    /// The clients that wait, and until when; the oldest first.
    clients: VecDeque<Waiting>,
    pub(super) challenge: Option<Challenge>,
}

/// A client that waits.
#[derive(Debug)]
struct Waiting {
    client: ConnId,
    key: Option<Key>,
    until: Time,
}

impl Home {
    /// The highest generation that it had.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Its registration, if it is online.
    pub fn live(&self) -> Option<&Registration> {
        self.live.as_deref()
    }

    pub(super) fn live_mut(&mut self) -> Option<&mut Registration> {
        self.live.as_deref_mut()
    }

    pub(super) fn last_seen(&self) -> Time {
        self.live.as_ref().map_or(self.last_seen, |live| live.heard)
    }

    pub(super) fn register(&mut self, claim: Claim, now: Time, out: &mut Vec<Action>) {
        match &mut self.live {
            None => self.install(claim, now, out),
            // It says itself that its old connection is no more.
            Some(live) if live.claim.is_same_agent(&claim) => {
                let challenge = live.challenge.take();
                self.replace(claim, now, out);
                if let (Some(challenge), Some(live)) = (challenge, &self.live) {
                    challenge.lost(live.conn(), out);
                }
            }
            Some(live) => live.challenged(claim, now, out),
        }
    }

    pub(super) fn heard(&mut self, conn: ConnId, now: Time, out: &mut Vec<Action>) {
        let Some(live) = self.live.as_mut().filter(|live| live.conn() == conn) else { return };
        live.heard = now;
        live.asked = false;
        if let Some(challenge) = live.challenge.take() {
            challenge.lost(conn, out);
        }
    }

    pub(super) fn closed(&mut self, conn: ConnId, now: Time, out: &mut Vec<Action>) {
        let Some(live) = &mut self.live else { return };
        if live.conn() == conn {
            self.end(now, out);
            return;
        }
        live.waiting.retain(|data| *data != conn);
        live.clients.retain(|waiting| waiting.client != conn);
        if live.challenge.as_ref().is_some_and(|challenge| challenge.claim.conn == conn) {
            live.challenge = None;
        }
    }

    pub(super) fn dismiss(
        &mut self,
        conn: ConnId,
        reason: Reason,
        now: Time,
        out: &mut Vec<Action>,
    ) {
        let Some(live) = &mut self.live else { return };
        if live.conn() == conn {
            out.push(Action::Goodbye(conn, reason));
            self.end(now, out);
        } else if let Some(challenge) =
            live.challenge.take_if(|challenge| challenge.claim.conn == conn)
        {
            out.push(Action::Refuse(challenge.claim.conn, reason));
        }
    }

    pub(super) fn tick(&mut self, now: Time, out: &mut Vec<Action>) {
        let Some(live) = &mut self.live else { return };
        if let Some(challenge) = live.challenge.take_if(|challenge| now >= challenge.until) {
            self.replace(challenge.claim, now, out);
        } else if now >= live.ends() {
            out.push(Action::Goodbye(live.conn(), Reason::HomeSilent));
            self.end(now, out);
        }
        let Some(live) = &mut self.live else { return };
        if !live.asked && now >= live.asks() {
            live.asked = true;
            out.push(Action::Ping(live.conn()));
        }
        live.turn_away(now, out);
    }

    /// Gives the home to this agent. Nobody has it.
    fn install(&mut self, claim: Claim, now: Time, out: &mut Vec<Action>) {
        // Whoever brings the highest number that there is gets no higher one. It may be this home,
        // and harms nobody by it: its own old data connections cannot be told from new ones.
        self.generation = self.generation.max(claim.brought).saturating_add(1);
        out.push(Action::Accept { conn: claim.conn, generation: self.generation });
        self.live = Some(Box::new(Registration {
            claim,
            generation: self.generation,
            heard: now,
            asked: false,
            services: BTreeMap::new(),
            waiting: Vec::new(),
            clients: VecDeque::new(),
            challenge: None,
        }));
    }

    /// Gives the home to this agent, in the place of the one that has it. Clients that wait go on
    /// waiting, for the newcomer.
    fn replace(&mut self, claim: Claim, now: Time, out: &mut Vec<Action>) {
        let Some(old) = self.live.take() else { return };
        out.push(Action::Goodbye(old.conn(), Reason::Replaced));
        out.extend(old.waiting.into_iter().map(Action::CloseData));
        self.install(claim, now, out);
        let Some(live) = &mut self.live else { return };
        live.clients = old.clients;
        if !live.clients.is_empty() {
            live.want(live.clients.len(), out);
        }
    }

    /// The registration is over. A newcomer that waited for that has the home now; else it is
    /// offline.
    fn end(&mut self, now: Time, out: &mut Vec<Action>) {
        let Some(old) = self.live.take() else { return };
        self.last_seen = old.heard;
        out.extend(old.waiting.into_iter().map(Action::CloseData));
        if let Some(challenge) = old.challenge {
            self.install(challenge.claim, now, out);
        }
        match &mut self.live {
            Some(live) if !old.clients.is_empty() => {
                live.clients = old.clients;
                live.want(live.clients.len(), out);
            }
            Some(_) => {}
            None => out.extend(
                old.clients.into_iter().map(|each| Action::Refuse(each.client, Reason::Offline)),
            ),
        }
    }
}

impl Registration {
    /// Who it is.
    pub fn claim(&self) -> &Claim {
        &self.claim
    }

    /// Its generation.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The services that it offers, each with the agent's number for it.
    pub fn services(&self) -> impl Iterator<Item = (u32, &Name)> {
        self.services.iter().map(|(number, service)| (*number, service))
    }

    /// How many data connections wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How many clients wait.
    pub fn clients(&self) -> usize {
        self.clients.len()
    }

    pub(super) fn conn(&self) -> ConnId {
        self.claim.conn
    }

    /// Whether what says this of itself belongs to it.
    pub(super) fn is(&self, key: &Key, instance: Instance, generation: u64) -> bool {
        (self.claim.key, self.claim.instance, self.generation) == (*key, instance, generation)
    }

    /// When there is something to do.
    pub(super) fn due(&self) -> Time {
        let silence = if self.asked { self.ends() } else { self.asks().min(self.ends()) };
        let client = self.clients.front().map(|first| first.until);
        let challenge = self.challenge.as_ref().map(|challenge| challenge.until);
        client.into_iter().chain(challenge).fold(silence, Time::min)
    }

    pub(super) fn offer(&mut self, number: u32, service: Name) -> Result<(), Reason> {
        if self.services.contains_key(&number) {
            return Err(Reason::Malformed);
        }
        if self.services.len() >= SERVICES {
            return Err(Reason::Full);
        }
        self.services.insert(number, service);
        Ok(())
    }

    pub(super) fn withdraw(&mut self, number: u32) -> bool {
        self.services.remove(&number).is_some()
    }

    pub(super) fn ready(&mut self, data: ConnId, pool: usize, out: &mut Vec<Action>) {
        if let Some(Waiting { client, .. }) = self.clients.pop_front() {
            out.push(Action::Give { client, data });
        } else if self.waiting.len() >= pool {
            out.push(Action::Refuse(data, Reason::Full));
        } else {
            self.waiting.push(data);
        }
    }

    pub(super) fn take(
        &mut self,
        (client, key): (ConnId, Option<Key>),
        now: Time,
        out: &mut Vec<Action>,
    ) {
        let of_key = self.clients.iter().filter(|each| each.key == key).count();
        // The newest: of all that wait, it is the likeliest to be alive.
        if let Some(data) = self.waiting.pop() {
            out.push(Action::Give { client, data });
        } else if self.clients.len() >= CLIENTS || of_key >= CLIENTS_OF_KEY {
            out.push(Action::Refuse(client, Reason::Full));
        } else {
            self.clients.push_back(Waiting { client, key, until: now + CLIENT_PATIENCE });
            self.want(1, out);
        }
    }

    fn want(&self, count: usize, out: &mut Vec<Action>) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        out.push(Action::Wanted { conn: self.conn(), count });
    }

    /// Refuses the clients that have waited long enough.
    fn turn_away(&mut self, now: Time, out: &mut Vec<Action>) {
        while let Some(each) = self.clients.pop_front_if(|first| now >= first.until) {
            out.push(Action::Refuse(each.client, Reason::HomeSilent));
        }
    }

    /// When to ask whether it is there.
    fn asks(&self) -> Time {
        self.heard + self.claim.heartbeat.saturating_mul(2)
    }

    /// When silence ends it.
    fn ends(&self) -> Time {
        self.heard + self.claim.heartbeat.saturating_mul(3).max(LEAST_PATIENCE)
    }
}
