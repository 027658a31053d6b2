//! What a key may do: grants, and the judgements over them, at a gateway and at home.
//!
//! A judgement is made anew each time, with the grants and the time as they are then; nothing of it
//! is kept. How grants are read from a file, and what is cut when they change, is for the program.
//!
//! - `net`: the networks that a key may come from;
//! - `label`: what a person calls a key;
//! - `check`: whether a grant makes sense where it stands.

mod check;
mod label;
mod net;
#[cfg(test)]
mod tests;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::net::IpAddr;

pub use check::{GrantError, Seat};
pub use label::{Label, LabelError};
pub use net::{Net, NetError};

use crate::key::Key;
use crate::name::Name;
use crate::refusal::Reason;

/// What one key may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The key.
    pub key: Key,
    /// What a person calls it.
    pub name: Label,
    /// At a gateway: the homes that it may be.
    pub homes: Vec<Name>,
    /// At a gateway: the homes that it may reach, beside those that it may be.
    pub reach: Reach,
    /// At a gateway: the services that a home with this key may offer. At home: those that the key
    /// may use. `None` is all.
    pub services: Option<Vec<Name>>,
    /// At a gateway: the ports of its loopback that a home with this key may have there.
    pub ports: Vec<u16>,
    /// From when on it is no more: seconds since 1970.
    pub expires: Option<u64>,
    /// At a gateway: the networks that it may come from. Empty is everywhere.
    pub from: Vec<Net>,
    /// It was taken back.
    pub revoked: bool,
}

/// The homes that a key may reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// All that there are.
    Every,
    /// These.
    Only(Vec<Name>),
}

impl Reach {
    /// No home.
    pub const NONE: Self = Self::Only(Vec::new());

    fn has(&self, home: &Name) -> bool {
        match self {
            Self::Every => true,
            Self::Only(homes) => homes.contains(home),
        }
    }
}

impl Grant {
    /// Whether it holds at all, for a peer from there. At home, where no address is known, `from`
    /// is `None`.
    fn holds(&self, from: Option<IpAddr>, now: u64) -> Result<(), Reason> {
        let is_elsewhere =
            |peer| !self.from.is_empty() && !self.from.iter().any(|n| n.contains(peer));
        if self.revoked {
            return Err(Reason::Revoked);
        }
        if self.expires.is_some_and(|end| now >= end) {
            return Err(Reason::Expired);
        }
        if from.is_some_and(is_elsewhere) {
            return Err(Reason::WrongAddress);
        }
        Ok(())
    }

    fn has_service(&self, service: &Name) -> bool {
        self.services.as_ref().is_none_or(|services| services.contains(service))
    }
}

/// All grants of a gateway, or of a home.
///
/// A key may stand in several. They count in the order in which they stand: the first that allows
/// what is asked for is the one it is allowed by. So each gives and none takes: `revoked` takes back
/// that one grant, and not what another gives to the same key. If none allows it, the reason is that
/// of the one that came furthest, the first of these: before a grant that was revoked comes one that
/// has expired, then one for another address, then one that does not have what was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    by_key: BTreeMap<Key, Vec<Grant>>,
    /// All homes that a grant speaks of as one that its key may be.
    homes: BTreeSet<Name>,
}

impl FromIterator<Grant> for Grants {
    fn from_iter<I: IntoIterator<Item = Grant>>(grants: I) -> Self {
        let mut all = Self::default();
        for grant in grants {
            all.homes.extend(grant.homes.iter().cloned());
            all.by_key.entry(grant.key).or_default().push(grant);
        }
        all
    }
}

impl Grants {
    /// All of them. Those of one key stand together, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Grant> {
        self.by_key.values().flatten()
    }

    /// What a person calls this key, if a grant has it.
    pub fn name_of(&self, key: &Key) -> Option<&Label> {
        self.by_key.get(key)?.first().map(|grant| &grant.name)
    }

    /// Whether any grant, be it revoked or expired, speaks of such a home.
    pub fn has_home(&self, home: &Name) -> bool {
        self.homes.contains(home)
    }

    /// At a gateway: whether `key`, coming `from` there, may be this home.
    pub fn may_be(&self, key: &Key, home: &Name, from: IpAddr, now: u64) -> Result<&Grant, Reason> {
        self.judge(key, Some(from), now, |grant| allowed(grant.homes.contains(home)))
    }

    /// At a gateway: whether it may offer this service as this home.
    pub fn may_offer(
        &self,
        key: &Key,
        home: &Name,
        service: &Name,
        from: IpAddr,
        now: u64,
    ) -> Result<&Grant, Reason> {
        self.judge(key, Some(from), now, |grant| {
            allowed(grant.homes.contains(home) && grant.has_service(service))
        })
    }

    /// At a gateway: whether this home may have a port of its loopback, where every user and program
    /// there reaches the service behind it. No grant has one that is not written into it.
    pub fn may_have_port(
        &self,
        key: &Key,
        home: &Name,
        port: u16,
        from: IpAddr,
        now: u64,
    ) -> Result<&Grant, Reason> {
        self.judge(key, Some(from), now, |grant| {
            allowed(grant.homes.contains(home) && grant.ports.contains(&port))
        })
    }

    /// At a gateway: whether it may reach this home. A key that may be a home may reach it too,
    /// which is how an agent proves its services.
    pub fn may_reach(
        &self,
        key: &Key,
        home: &Name,
        from: IpAddr,
        now: u64,
    ) -> Result<&Grant, Reason> {
        self.judge(key, Some(from), now, |grant| {
            allowed(grant.reach.has(home) || grant.homes.contains(home))?;
            // Told only to a key that may reach it: another could find out which homes there are.
            if self.has_home(home) { Ok(()) } else { Err(Reason::NoSuchHome) }
        })
    }

    /// At home: whether it may use this service. Whether there is such a service is to be looked at
    /// after this, and not before: a key that may not use it is not told.
    pub fn may_use(&self, key: &Key, service: &Name, now: u64) -> Result<&Grant, Reason> {
        self.judge(key, None, now, |grant| allowed(grant.has_service(service)))
    }

    /// When the next grant expires that has not yet. Until then, judgements change only with the
    /// grants.
    pub fn next_expiry(&self, now: u64) -> Option<u64> {
        let holding = self.iter().filter(|grant| !grant.revoked);
        holding.filter_map(|grant| grant.expires).filter(|end| *end > now).min()
    }

    fn judge(
        &self,
        key: &Key,
        from: Option<IpAddr>,
        now: u64,
        allows: impl Fn(&Grant) -> Result<(), Reason>,
    ) -> Result<&Grant, Reason> {
        let mut refused = Reason::UnknownKey;
        for grant in self.by_key.get(key).into_iter().flatten() {
            match grant.holds(from, now).and_then(|()| allows(grant)) {
                Ok(()) => return Ok(grant),
                Err(reason) if distance(reason) > distance(refused) => refused = reason,
                Err(_) => {}
            }
        }
        Err(refused)
    }
}

fn allowed(yes: bool) -> Result<(), Reason> {
    if yes { Ok(()) } else { Err(Reason::NotAllowed) }
}

/// How far a grant came before it was refused for this reason.
fn distance(reason: Reason) -> u8 {
    match reason {
        Reason::UnknownKey => 0,
        Reason::Revoked => 1,
        Reason::Expired => 2,
        Reason::WrongAddress => 3,
        Reason::NotAllowed => 4,
        // To a key that may reach it: one step more.
        _ => 5,
    }
}
