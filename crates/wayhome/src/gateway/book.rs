//! Who is here, and what they hold: one book for the whole gateway.
//!
//! Nothing here waits. What a connection has to do, it finds in its mailbox.

use std::collections::hash_map::Entry as Slot;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;
use wayhome_core::admission::Admission;
use wayhome_core::grant::Grants;
use wayhome_core::health::Detail;
use wayhome_core::key::Key;
use wayhome_core::load::Load;
use wayhome_core::name::Name;
use wayhome_core::refusal::{Reason, Refusal};
use wayhome_core::route::{Action, Claim, ConnId, Registry};
use wayhome_core::time::Time;

use super::config::Limits;
use super::mailbox::Mailbox;
use super::ports::Ports;
use super::refusals::Refusals;
use crate::relay::Counts;

/// However many keys have grants, for no more than this is there room at once.
const MOST_HALF_OPEN: usize = 16_384;

/// A peer that has proven its key and said what it wants.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its connection.
    pub id: ConnId,
    /// Its key.
    pub key: Key,
    /// Where it comes from.
    pub from: SocketAddr,
    /// Its program and version, as it says.
    pub software: Detail,
}

/// What a connection is here for.
#[derive(Debug)]
pub enum Role {
    /// The control connection of a home.
    Home(Name),
    /// A data connection of a home, which waits.
    Waiting(Name),
    /// A client, which waits for a home.
    Client(Name),
    /// Somebody at this gateway, who has come by a port of its loopback and waits for a home.
    Caller,
    /// A client's stream, or a caller's.
    Stream(Stream),
}

/// A stream that lives.
#[derive(Debug)]
pub struct Stream {
    /// The home.
    pub home: Name,
    /// The port of loopback that it came by.
    pub port: Option<u16>,
    /// The key of the data connection that carries it, and where it comes from.
    pub carrier: (Key, SocketAddr),
    /// What has gone over it; there is towards home.
    pub counts: Arc<Counts>,
}

/// One connection.
#[derive(Debug)]
pub struct Entry {
    /// Whose it is.
    pub peer: Peer,
    /// What for.
    pub role: Role,
    /// Since when.
    pub since: Instant,
    /// Of a home: when it proved each of its services last, as it says.
    pub proofs: BTreeMap<Name, Instant>,
    mail: Arc<Mailbox>,
}

impl Entry {
    /// Whether it has a right to be here.
    fn may_stay(&self, grants: &Grants, wall: u64) -> Result<(), Reason> {
        let Peer { key, from, .. } = &self.peer;
        let may_be = |home, key: &Key, from: &SocketAddr| {
            grants.may_be(key, home, from.ip(), wall).map(drop)
        };
        let may_reach = |home| grants.may_reach(key, home, from.ip(), wall).map(drop);
        match &self.role {
            Role::Home(home) | Role::Waiting(home) => may_be(home, key, from),
            Role::Client(home) => may_reach(home),
            // It has no key. Its home's port ends with the home's own right to it.
            Role::Caller => Ok(()),
            Role::Stream(Stream { home, port: None, carrier: (key, from), .. }) => {
                may_reach(home).and_then(|()| may_be(home, key, from))
            }
            Role::Stream(Stream { home, port: Some(port), carrier: (key, from), .. }) => {
                grants.may_have_port(key, home, *port, from.ip(), wall).map(drop)
            }
        }
    }
}

/// The book.
pub struct Book {
    /// Homes, and who waits for them.
    pub registry: Registry,
    /// The ports of loopback.
    pub ports: Ports,
    /// What was refused.
    pub refusals: Refusals,
    admission: Admission,
    /// Those who have not said who they are.
    strangers: HashMap<ConnId, AbortHandle>,
    entries: HashMap<ConnId, Entry>,
    /// Streams of each key and of each home, those included that are about to begin.
    of_key: HashMap<Key, usize>,
    of_home: HashMap<Name, usize>,
    streams: usize,
    limits: Limits,
    /// How many descriptors connections may have, and how late a clock has struck lately.
    descriptors: usize,
    late: Duration,
    /// Until when the clock sleeps, and how it is woken.
    planned: Option<Time>,
    sooner: Arc<Notify>,
}

impl Book {
    /// One in which nobody stands.
    pub fn new(limits: Limits, descriptors: usize, sooner: Arc<Notify>) -> Self {
        Self {
            registry: Registry::new(limits.pool),
            ports: Ports::default(),
            refusals: Refusals::default(),
            admission: Admission::new(limits.half_open),
            strangers: HashMap::new(),
            entries: HashMap::new(),
            of_key: HashMap::new(),
            of_home: HashMap::new(),
            streams: 0,
            limits,
            descriptors,
            late: Duration::ZERO,
            planned: None,
            sooner,
        }
    }

    /// So many keys have grants. All of them may come at once, when the gateway was away: were there
    /// room for fewer, they would be sent away and come again, each time in the midst of a handshake.
    pub fn expect(&mut self, keys: usize) {
        // Strangers have half of the descriptors at most, known addresses included.
        let room = self.limits.half_open.max(keys.min(MOST_HALF_OPEN));
        self.admission.resize(room.min(self.descriptors / 4));
    }

    /// Somebody connected; others may have to go.
    pub fn arrive(&mut self, id: ConnId, from: IpAddr, task: AbortHandle, now: Time) {
        self.strangers.insert(id, task);
        if let Some(evicted) = self.admission.arrive(id, from, now) {
            self.refusals.strangers.evicted += 1;
            if let Some(task) = self.strangers.remove(&evicted) {
                task.abort();
            }
        }
    }

    /// A stranger has sent something.
    pub fn spoke(&mut self, id: ConnId) {
        self.admission.spoke(id);
    }

    /// A stranger is one no longer: it has a grant, or is gone.
    pub fn known(&mut self, id: ConnId, granted: Option<IpAddr>, now: Time) {
        self.strangers.remove(&id);
        match granted {
            Some(from) => self.admission.granted(id, from, now),
            None => self.admission.gone(id),
        }
    }

    /// How many strangers there are.
    pub fn half_open(&self) -> usize {
        self.admission.len()
    }

    /// A peer has a place from now on; where it finds its mail.
    pub fn enter(&mut self, peer: Peer, role: Role) -> Arc<Mailbox> {
        let mail = Arc::new(Mailbox::default());
        let (id, since, proofs) = (peer.id, Instant::now(), BTreeMap::new());
        self.entries.insert(id, Entry { peer, role, since, proofs, mail: Arc::clone(&mail) });
        mail
    }

    /// A connection has ended, or is to be something else.
    pub fn leave(&mut self, id: ConnId, now: Time) {
        self.entries.remove(&id);
        self.ports.left(id);
        let actions = self.registry.closed(id, now);
        self.perform(actions);
    }

    /// A client's wait is over: it has its stream, since this moment.
    pub fn begin_stream(&mut self, id: ConnId, stream: Stream, since: Instant) {
        if let Some(entry) = self.entries.get_mut(&id) {
            (entry.role, entry.since) = (Role::Stream(stream), since);
        }
    }

    /// What it carries.
    pub fn load(&self) -> Load {
        let ports = 2 * self.ports.owners().count();
        // A stream has two, of which one is its entry's.
        let descriptors = self.strangers.len() + self.entries.len() + self.streams + ports;
        Load { descriptors, most: self.descriptors, late: self.late }
    }

    /// A clock has struck so late.
    pub fn struck(&mut self, late: Duration) {
        self.late = late;
    }

    /// Room for one more stream of this key to this home, if there is any.
    pub fn reserve(&mut self, key: Option<Key>, home: &Name) -> Result<(), Refusal> {
        let of_key = key.and_then(|key| self.of_key.get(&key)).copied().unwrap_or(0);
        let of_home = self.of_home.get(home).copied().unwrap_or(0);
        let limits = self.limits;
        let most = [
            (of_key, limits.streams_per_key, "of this key"),
            (of_home, limits.streams_per_home, "of this home"),
            (self.streams, limits.streams, "in all"),
        ];
        if let Some((_, most, whose)) = most.into_iter().find(|(now, most, _)| now >= most) {
            let detail = Detail::new(&format!("{most} streams {whose}"));
            return Err(Refusal { detail, ..Reason::Full.into() });
        }
        if let Some(key) = key {
            *self.of_key.entry(key).or_default() += 1;
        }
        *self.of_home.entry(home.clone()).or_default() += 1;
        self.streams += 1;
        Ok(())
    }

    /// Gives it back.
    pub fn release(&mut self, key: Option<Key>, home: &Name) {
        if let Some(key) = key {
            count_down(self.of_key.entry(key));
        }
        count_down(self.of_home.entry(home.clone()));
        self.streams = self.streams.saturating_sub(1);
    }

    /// How many streams a home has.
    pub fn streams_of(&self, home: &Name) -> usize {
        self.of_home.get(home).copied().unwrap_or(0)
    }

    /// All that have a place.
    pub fn entries(&self) -> impl Iterator<Item = (ConnId, &Entry)> {
        self.entries.iter().map(|(id, entry)| (*id, entry))
    }

    /// One of them.
    pub fn entry(&self, id: ConnId) -> Option<&Entry> {
        self.entries.get(&id)
    }

    /// Who is here, in one line.
    pub fn sentence(&self) -> String {
        let homes = self.entries.values().filter(|entry| matches!(entry.role, Role::Home(_)));
        let (homes, streams) = (homes.count(), self.streams);
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        let strain = self.load().strain().map(|strain| format!("; {strain}")).unwrap_or_default();
        format!("{homes} home{} online, {streams} stream{}{strain}", plural(homes), plural(streams))
    }

    /// Whether any home is registered, or a stream lives.
    pub fn has_homes_or_streams(&self) -> bool {
        self.entries.values().any(|entry| matches!(entry.role, Role::Home(_) | Role::Stream(_)))
    }

    /// Whether anybody is here who would lose by the end of this process, and may soon have what they
    /// came for.
    pub fn has_hurried(&self) -> bool {
        let waits = |entry: &Entry| matches!(entry.role, Role::Client(_) | Role::Caller);
        self.half_open() > 0 || self.carried() > 0 || self.entries.values().any(waits)
    }

    /// How many streams came by ports.
    pub fn carried(&self) -> usize {
        let is_carried =
            |entry: &&Entry| matches!(&entry.role, Role::Stream(Stream { port: Some(_), .. }));
        self.entries.values().filter(is_carried).count()
    }

    /// Somebody wants to be a home.
    pub fn register(&mut self, claim: Claim, now: Time) {
        let actions = self.registry.register(claim, now);
        self.perform(actions);
    }

    /// Something came from a home.
    pub fn heard(&mut self, id: ConnId, now: Time) {
        let actions = self.registry.heard(id, now);
        self.perform(actions);
    }

    /// A home says that it reached a service of its own through this gateway. It offers it.
    pub fn proven(&mut self, id: ConnId, service: &Name) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.proofs.insert(service.clone(), Instant::now());
        }
    }

    /// A home offers a service no longer, and its port closes.
    pub fn withdraw(&mut self, id: ConnId, number: u32, service: Option<&Name>) {
        self.registry.withdraw(id, number);
        if let Some(port) = service.and_then(|service| self.ports.of(id, service)) {
            self.ports.close(port, id);
        }
    }

    /// A data connection waits.
    pub fn ready(
        &mut self,
        id: ConnId,
        whose: (&Name, &Key),
        registration: ([u8; 16], u64),
        now: Time,
    ) {
        let actions = self.registry.ready(id, whose, registration, now);
        self.perform(actions);
    }

    /// A client wants a data connection of this home.
    pub fn take(&mut self, id: ConnId, home: &Name, now: Time) {
        let key = self.entries.get(&id).filter(|entry| !matches!(entry.role, Role::Caller));
        let key = key.map(|entry| entry.peer.key);
        let actions = self.registry.take(id, key, home, now);
        self.perform(actions);
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Time) {
        let actions = self.registry.tick(now);
        self.perform(actions);
    }

    /// When something is due next. Whoever asks sleeps until then.
    pub fn next_timer(&mut self) -> Option<Time> {
        self.planned = self.registry.next_timer();
        self.planned
    }

    /// Looks at everybody once more: who has no right to be here any more, ends.
    pub fn judge(&mut self, grants: &Grants, wall: u64, now: Time) {
        let judged = self.entries.iter().filter_map(|(id, entry)| {
            let reason = entry.may_stay(grants, wall).err()?;
            Some((*id, reason))
        });
        let mut judged: Vec<_> = judged.collect();
        judged.extend(self.ports.owners().filter_map(|(port, owner)| {
            let from = self.entries.get(&owner.conn)?.peer.from.ip();
            let may = grants.may_have_port(&owner.key, &owner.home, port, from, wall);
            // It comes back at once, and is told when it offers the port again.
            may.err().map(|_| (owner.conn, Reason::GoingAway))
        }));
        for (id, reason) in judged {
            self.dismiss(id, reason, now);
        }
        self.registry.retain(|home| grants.has_home(home));
    }

    /// Looks at one who was judged by other grants than these.
    pub fn judge_one(&mut self, id: ConnId, grants: &Grants, wall: u64, now: Time) {
        let judged = self.entries.get(&id).map(|entry| entry.may_stay(grants, wall));
        if let Some(Err(reason)) = judged {
            self.dismiss(id, reason, now);
        }
    }

    /// Everybody ends.
    pub fn dismiss_all(&mut self, reason: Reason, now: Time) {
        for id in self.entries.keys().copied().collect::<Vec<_>>() {
            self.dismiss(id, reason, now);
        }
    }

    fn dismiss(&mut self, id: ConnId, reason: Reason, now: Time) {
        // Of a home the registry says what follows: what waits of it ends, too.
        let mut actions = self.registry.dismiss(id, reason, now);
        actions.extend(self.registry.closed(id, now));
        self.perform(actions);
        self.end(id, reason);
    }

    fn end(&mut self, id: ConnId, reason: Reason) {
        let Some(entry) = self.entries.get(&id) else { return };
        entry.mail.leave(|mail| mail.ended = mail.ended.or(Some(reason)));
    }

    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Accept { conn, generation } => {
                    self.tell(conn, |mail| mail.accepted = Some(generation));
                }
                Action::Ping(conn) => self.tell(conn, |mail| mail.ping = true),
                Action::Refuse(conn, reason) | Action::Goodbye(conn, reason) => {
                    self.end(conn, reason);
                }
                Action::CloseData(conn) => self.end(conn, Reason::Replaced),
                Action::Alarm { conn, instance, from } => {
                    self.tell(conn, |mail| mail.alarm = Some((instance, from)));
                }
                Action::Wanted { conn, count } => {
                    self.tell(conn, |mail| mail.wanted = mail.wanted.saturating_add(count));
                }
                Action::Give { client, data } => {
                    let (give, given) = oneshot::channel();
                    self.tell(data, |mail| mail.give = Some(give));
                    self.tell(client, |mail| mail.given = Some(given));
                }
            }
        }
        if self.registry.next_timer().is_some_and(|at| self.planned.is_none_or(|then| at < then)) {
            self.planned = self.registry.next_timer();
            self.sooner.notify_one();
        }
    }

    fn tell(&self, id: ConnId, write: impl FnOnce(&mut super::mailbox::Mail)) {
        if let Some(entry) = self.entries.get(&id) {
            entry.mail.leave(write);
        }
    }
}

fn count_down<K>(slot: Slot<'_, K, usize>) {
    if let Slot::Occupied(mut slot) = slot {
        *slot.get_mut() -= 1;
        if *slot.get() == 0 {
            slot.remove();
        }
    }
}
