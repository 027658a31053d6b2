//! How many strangers there may be at once, and which of them has to go.
//!
//! A stranger is a connection whose peer has not yet proven its key and been granted something. There
//! is room for so many; one more, and the oldest that has said nothing goes, or else the oldest.
//! Addresses from which somebody lately was let in have as much room again for themselves, so that a
//! crowd from elsewhere keeps none of them out.

use alloc::collections::{BTreeMap, BTreeSet};
use core::net::{IpAddr, Ipv6Addr};
use core::time::Duration;

use crate::route::ConnId;
use crate::time::Time;

/// How many addresses are remembered that lately succeeded.
const REMEMBERED: usize = 4096;

/// For how long.
const LATELY: Duration = Duration::from_secs(60 * 60);

/// Who stands at the door.
#[derive(Debug)]
pub struct Admission {
    limit: usize,
    /// Everybody, by the room that they stand in.
    strangers: BTreeMap<ConnId, Room>,
    anybody: Crowd,
    known: Crowd,
    /// When somebody was let in from there last, and the same by that moment.
    succeeded: BTreeMap<Place, Time>,
    by_time: BTreeSet<(Time, Place)>,
}

/// Where somebody comes from: an address, or what one IPv6 host can have of them, a /64 (RFC 4291).
type Place = IpAddr;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Anybody,
    Known,
}

/// Those who stand in one room. A connection's number tells who came first.
#[derive(Debug, Default)]
struct Crowd {
    silent: BTreeSet<ConnId>,
    spoke: BTreeSet<ConnId>,
}

impl Crowd {
    fn len(&self) -> usize {
        self.silent.len() + self.spoke.len()
    }

    fn pop(&mut self) -> Option<ConnId> {
        self.silent.pop_first().or_else(|| self.spoke.pop_first())
    }

    fn remove(&mut self, id: ConnId) {
        let _ = self.silent.remove(&id) || self.spoke.remove(&id);
    }
}

impl Admission {
    /// With room for so many, twice; at least one each.
    pub fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            strangers: BTreeMap::new(),
            anybody: Crowd::default(),
            known: Crowd::default(),
            succeeded: BTreeMap::new(),
            by_time: BTreeSet::new(),
        }
    }

    /// From now on there is room for so many. Whoever is there stays.
    pub fn resize(&mut self, limit: usize) {
        self.limit = limit.max(1);
    }

    /// Somebody connects. Numbers rise. Whoever is returned has to go, and is known here no longer.
    #[must_use]
    pub fn arrive(&mut self, id: ConnId, from: IpAddr, now: Time) -> Option<ConnId> {
        self.forget(now);
        let room =
            if self.succeeded.contains_key(&place(from)) { Room::Known } else { Room::Anybody };
        let limit = self.limit;
        let crowd = self.crowd(room);
        // Before it is in: it has had no time to say anything, and must not go for that.
        let evicted = if crowd.len() >= limit { crowd.pop() } else { None };
        crowd.silent.insert(id);
        self.strangers.insert(id, room);
        if let Some(evicted) = evicted {
            self.strangers.remove(&evicted);
        }
        evicted
    }

    /// It has said something, if only a byte.
    pub fn spoke(&mut self, id: ConnId) {
        let Some(room) = self.strangers.get(&id).copied() else { return };
        let crowd = self.crowd(room);
        if crowd.silent.remove(&id) {
            crowd.spoke.insert(id);
        }
    }

    /// It is one of us: it has proven a key, and was granted what it asked for.
    pub fn granted(&mut self, id: ConnId, from: IpAddr, now: Time) {
        self.gone(id);
        let place = place(from);
        if let Some(before) = self.succeeded.insert(place, now) {
            self.by_time.remove(&(before, place));
        }
        self.by_time.insert((now, place));
        if self.by_time.len() > REMEMBERED
            && let Some((_, oldest)) = self.by_time.pop_first()
        {
            self.succeeded.remove(&oldest);
        }
    }

    /// It has gone, or was refused.
    pub fn gone(&mut self, id: ConnId) {
        if let Some(room) = self.strangers.remove(&id) {
            self.crowd(room).remove(id);
        }
    }

    /// How many strangers there are.
    pub fn len(&self) -> usize {
        self.strangers.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.strangers.is_empty()
    }

    fn crowd(&mut self, room: Room) -> &mut Crowd {
        match room {
            Room::Anybody => &mut self.anybody,
            Room::Known => &mut self.known,
        }
    }

    fn forget(&mut self, now: Time) {
        while self.by_time.first().is_some_and(|(at, _)| now.since(*at) >= LATELY) {
            if let Some((_, place)) = self.by_time.pop_first() {
                self.succeeded.remove(&place);
            }
        }
    }
}

fn place(from: IpAddr) -> Place {
    match from.to_canonical() {
        IpAddr::V6(address) => {
            let host = u128::from(u64::MAX);
            Ipv6Addr::from_bits(address.to_bits() & !host).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests;
