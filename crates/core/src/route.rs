//! Who serves what at a gateway: which homes are registered, and by which connection a client gets
//! to one.
//!
//! The rules are those of docs/protocol.md, "Registration". The gateway's hands ask
//! [`Grants`](crate::grant::Grants) first, tell the [`Registry`] what happened, and do the
//! [`Action`]s that it answers with. What a stream carries, and how long a home may take to answer
//! on a connection that was given to a client, is for them.
//!
//! - `home`: one home: its registration, and what becomes of it;
//! - `challenge`: two agents that want to be the same home.

mod challenge;
mod home;
#[cfg(test)]
mod tests;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

pub use home::{Home, Registration};

use crate::key::Key;
use crate::name::Name;
use crate::refusal::Reason;
use crate::time::Time;

/// How many homes that are offline are remembered, with when they were last seen and their
/// generation. Each has a grant; of more than this, the one that was away longest is forgotten.
const REMEMBERED: usize = 16_384;

/// How long after the return of a gateway a home may take to be back, before it counts as offline.
const RETURN: Duration = Duration::from_secs(5);

/// A connection at the gateway, of whichever kind. It is used for one thing, and never again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// The random id of a running agent.
pub type Instance = [u8; 16];

/// An agent that wants to be a home: `Register`, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Its control connection.
    pub conn: ConnId,
    /// The home.
    pub home: Name,
    /// The key that it has proven to hold, and that may be this home.
    pub key: Key,
    /// The running agent.
    pub instance: Instance,
    /// The generation that it was given last; 0 if none.
    pub brought: u64,
    /// How often it sends something.
    pub heartbeat: Duration,
    /// Where it comes from.
    pub from: SocketAddr,
}

impl Claim {
    /// Whether it is the same running agent. The instance alone would not do: it is no secret, for
    /// an alarm tells it to others.
    fn is_same_agent(&self, other: &Self) -> bool {
        (self.key, self.instance) == (other.key, other.instance)
    }
}

/// What to do.
///
/// A connection that is refused, ended or given away here is known to the [`Registry`] no longer;
/// nothing needs to be told of it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// `Registered`: the home is this agent's.
    Accept {
        /// Its control connection.
        conn: ConnId,
        /// Higher than any that the home had.
        generation: u64,
    },
    /// `Ping` on this control connection.
    Ping(ConnId),
    /// `Refused` in answer to what this connection, of whichever kind, asked for.
    Refuse(ConnId, Reason),
    /// `Goodbye` on this control connection, and the end of it.
    Goodbye(ConnId, Reason),
    /// `Alarm` on this control connection: another agent wanted to be its home.
    Alarm {
        /// The control connection of the one that is registered.
        conn: ConnId,
        /// The other's instance.
        instance: Instance,
        /// Where the other comes from.
        from: SocketAddr,
    },
    /// Close this data connection, which waited.
    CloseData(ConnId),
    /// `Wanted` on this control connection.
    Wanted {
        /// The control connection.
        conn: ConnId,
        /// How many more data connections.
        count: u32,
    },
    /// This client's stream goes over this data connection.
    Give {
        /// The client.
        client: ConnId,
        /// The data connection.
        data: ConnId,
    },
}

impl Action {
    /// The connections that the registry knows no longer, once this is said.
    fn ended(&self) -> impl Iterator<Item = ConnId> {
        let (first, second) = match *self {
            Self::Refuse(conn, _) | Self::Goodbye(conn, _) | Self::CloseData(conn) => {
                (Some(conn), None)
            }
            Self::Give { client, data } => (Some(client), Some(data)),
            Self::Accept { .. } | Self::Ping(_) | Self::Alarm { .. } | Self::Wanted { .. } => {
                (None, None)
            }
        };
        first.into_iter().chain(second)
    }
}

/// Who serves what at this gateway.
#[derive(Debug)]
pub struct Registry {
    /// How many data connections of a home may wait.
    pool: usize,
    remembered: usize,
    homes: BTreeMap<Name, Home>,
    /// Which home each connection belongs to: control, newcomer, data or client.
    conns: BTreeMap<ConnId, Name>,
    /// When to look at which home again. One entry at most for each, as its `alarm` says.
    alarms: BTreeSet<(Time, Name)>,
    /// The homes that are offline, by when they were last seen.
    offline: BTreeSet<(Time, Name)>,
    /// Until when homes may be on their way back.
    awaited: Time,
    /// The clients that wait for that. Each has room for its stream, and so they are bounded.
    early: BTreeMap<ConnId, (Option<Key>, Name)>,
}

impl Registry {
    /// One in which nobody is registered. `pool`: how many data connections of a home may wait.
    pub fn new(pool: usize) -> Self {
        Self {
            pool,
            remembered: REMEMBERED,
            homes: BTreeMap::new(),
            conns: BTreeMap::new(),
            alarms: BTreeSet::new(),
            offline: BTreeSet::new(),
            awaited: Time::ZERO,
            early: BTreeMap::new(),
        }
    }

    /// The gateway is back after a restart, and no home is yet. For some seconds nobody is told that
    /// a home is offline: clients wait for it.
    pub fn awaits_homes(&mut self, now: Time) {
        self.awaited = now + RETURN;
    }

    /// `Register`: answered by `Accept` or `Refuse`, now or within half a second.
    pub fn register(&mut self, claim: Claim, now: Time) -> Vec<Action> {
        let mut out = self.closed(claim.conn, now);
        let (conn, name) = (claim.conn, claim.home.clone());
        if !home::HEARTBEATS.contains(&claim.heartbeat) {
            out.push(Action::Refuse(conn, Reason::Malformed));
            return out;
        }
        self.conns.insert(conn, name.clone());
        self.homes.entry(name.clone()).or_default().register(claim, now, &mut out);
        self.settle(&name, &out);
        let early = self.early.iter().filter(|(_, (_, home))| *home == name);
        for (client, key) in early.map(|(client, (key, _))| (*client, *key)).collect::<Vec<_>>() {
            out.extend(self.take(client, key, &name, now));
        }
        out
    }

    /// Something, whatever it is, came from this control connection.
    pub fn heard(&mut self, conn: ConnId, now: Time) -> Vec<Action> {
        self.at_conn(conn, |home, out| home.heard(conn, now, out))
    }

    /// `Offer`: a service is there from now on, under the agent's own number for it. A number that
    /// is in use, or a connection that is no registered agent's, is `MALFORMED`; more than 64
    /// services are `FULL`.
    pub fn offer(&mut self, conn: ConnId, number: u32, service: Name) -> Result<(), Reason> {
        self.registration(conn).ok_or(Reason::Malformed)?.offer(number, service)
    }

    /// `Withdraw`: it is there no longer. `false` if it was not.
    pub fn withdraw(&mut self, conn: ConnId, number: u32) -> bool {
        self.registration(conn).is_some_and(|live| live.withdraw(number))
    }

    /// `Ready`: a data connection waits for a stream, and may get one at once (`Give`). Refused if
    /// it is not of the registration that stands (`REPLACED`, or `OFFLINE` without one), or if
    /// enough wait already (`FULL`).
    pub fn ready(
        &mut self,
        conn: ConnId,
        (home, key): (&Name, &Key),
        (instance, generation): (Instance, u64),
        now: Time,
    ) -> Vec<Action> {
        let mut out = self.closed(conn, now);
        let pool = self.pool;
        let live = self.homes.get_mut(home).and_then(Home::live_mut);
        let refused = match live {
            None => Reason::Offline,
            Some(live) if !live.is(key, instance, generation) => Reason::Replaced,
            Some(live) => {
                self.conns.insert(conn, home.clone());
                live.ready(conn, pool, &mut out);
                self.settle(home, &out);
                return out;
            }
        };
        out.push(Action::Refuse(conn, refused));
        out
    }

    /// `Open`: this client wants a stream. It gets the data connection that came last (`Give`), now
    /// or within 5 s; after that it is refused (`HOME_SILENT`). Refused at once if the home is not
    /// registered (`OFFLINE`; soon after a restart it is waited for), or 16 others wait (`FULL`). A client whose data connection turned out
    /// to be dead may ask again.
    ///
    /// `key` is the client's. Whoever is at the gateway itself has none, and they count as one.
    pub fn take(
        &mut self,
        client: ConnId,
        key: Option<Key>,
        home: &Name,
        now: Time,
    ) -> Vec<Action> {
        let mut out = self.closed(client, now);
        match self.homes.get_mut(home).and_then(Home::live_mut) {
            None if now < self.awaited => {
                self.early.insert(client, (key, home.clone()));
            }
            None => out.push(Action::Refuse(client, Reason::Offline)),
            Some(live) => {
                self.conns.insert(client, home.clone());
                live.take((client, key), now, &mut out);
                self.settle(home, &out);
            }
        }
        out
    }

    /// A connection has ended by itself: an agent's, a newcomer's, one that waited, or that of a
    /// client that waited. Of one that is not known here nothing follows.
    pub fn closed(&mut self, conn: ConnId, now: Time) -> Vec<Action> {
        let out = self.at_conn(conn, |home, out| home.closed(conn, now, out));
        self.conns.remove(&conn);
        self.early.remove(&conn);
        out
    }

    /// The gateway ends the registration of this control connection, or what it asked for: its
    /// grant was revoked, say. Streams are for the gateway to cut.
    pub fn dismiss(&mut self, conn: ConnId, reason: Reason, now: Time) -> Vec<Action> {
        self.at_conn(conn, |home, out| home.dismiss(conn, reason, now, out))
    }

    /// Does all that is due. To be called at [`Self::next_timer`] or later.
    pub fn tick(&mut self, now: Time) -> Vec<Action> {
        let mut all = Vec::new();
        while self.alarms.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, name)) = self.alarms.pop_first() else { break };
            let mut out = Vec::new();
            if let Some(home) = self.homes.get_mut(&name) {
                home.alarm = None;
                home.tick(now, &mut out);
            }
            self.settle(&name, &out);
            all.extend(out);
        }
        if now >= self.awaited {
            let early = core::mem::take(&mut self.early).into_keys();
            all.extend(early.map(|client| Action::Refuse(client, Reason::Offline)));
        }
        all
    }

    /// When to call [`Self::tick`]. It may be too early, and never is too late.
    pub fn next_timer(&self) -> Option<Time> {
        let alarm = self.alarms.first().map(|(at, _)| *at);
        let early = (!self.early.is_empty()).then_some(self.awaited);
        alarm.into_iter().chain(early).min()
    }

    /// What is known of a home.
    pub fn home(&self, name: &Name) -> Option<&Home> {
        self.homes.get(name)
    }

    /// All homes that are known, in the order of their names.
    pub fn homes(&self) -> impl Iterator<Item = (&Name, &Home)> {
        self.homes.iter()
    }

    /// How long ago something came from this home; `None` if nothing has since the gateway began.
    pub fn last_seen(&self, home: &Name, now: Time) -> Option<Duration> {
        Some(now.since(self.homes.get(home)?.last_seen()))
    }

    /// Forgets the homes that are offline and that `is_known` knows no longer: no grant has them.
    pub fn retain(&mut self, is_known: impl Fn(&Name) -> bool) {
        let homes = &mut self.homes;
        self.offline.retain(|(_, name)| is_known(name) || homes.remove(name).is_none());
    }

    fn registration(&mut self, conn: ConnId) -> Option<&mut Registration> {
        let live = self.homes.get_mut(self.conns.get(&conn)?)?.live_mut()?;
        (live.conn() == conn).then_some(live)
    }

    /// Lets something happen to the home that this connection belongs to.
    fn at_conn(
        &mut self,
        conn: ConnId,
        happens: impl FnOnce(&mut Home, &mut Vec<Action>),
    ) -> Vec<Action> {
        let mut out = Vec::new();
        let Some(name) = self.conns.get(&conn).cloned() else { return out };
        if let Some(home) = self.homes.get_mut(&name) {
            happens(home, &mut out);
        }
        self.settle(&name, &out);
        out
    }

    /// Brings the indices in line with what has just happened to a home.
    fn settle(&mut self, name: &Name, out: &[Action]) {
        for conn in out.iter().flat_map(Action::ended) {
            self.conns.remove(&conn);
        }
        let Some(home) = self.homes.get_mut(name) else { return };
        // An alarm that has become too early is left: it finds nothing to do, and is set anew. So
        // what is heard costs nothing here.
        let due = home.live().map(Registration::due);
        let is_in_time = |at: Time| due.is_some_and(|due| at <= due);
        if !home.alarm.is_some_and(is_in_time) {
            if let Some(at) = home.alarm.take() {
                self.alarms.remove(&(at, name.clone()));
            }
            if let Some(due) = due {
                home.alarm = Some(due);
                self.alarms.insert((due, name.clone()));
            }
        }
        match (home.live().is_some(), home.offline) {
            (true, Some(since)) => {
                self.offline.remove(&(since, name.clone()));
                home.offline = None;
            }
            (false, None) => {
                let since = home.last_seen();
                home.offline = Some(since);
                self.offline.insert((since, name.clone()));
            }
            (true, None) | (false, Some(_)) => {}
        }
        while self.offline.len() > self.remembered {
            if let Some((_, oldest)) = self.offline.pop_first() {
                self.homes.remove(&oldest);
            }
        }
    }
}
