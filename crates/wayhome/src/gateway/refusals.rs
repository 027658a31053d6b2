//! What was refused, for `wayhome status`: the last of them, and how many of each kind.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Instant;

use wayhome_core::health::Detail;
use wayhome_core::key::Key;
use wayhome_core::name::Name;
use wayhome_core::refusal::Reason;

/// How many are kept.
const KEPT: usize = 64;

/// One refusal of a peer that has proven its key.
#[derive(Clone, Debug)]
pub struct Refused {
    /// When.
    pub at: Instant,
    /// Why.
    pub reason: Reason,
    /// Whom.
    pub key: Key,
    /// Where it came from.
    pub from: SocketAddr,
    /// Which home it was about.
    pub home: Option<Name>,
    /// More, for a person.
    pub detail: Detail,
}

/// How many strangers left without a word that we understood.
#[derive(Clone, Copy, Debug, Default)]
pub struct Strangers {
    /// They took too long.
    pub slow: u64,
    /// They made room for others.
    pub evicted: u64,
    /// There was no descriptor left for them.
    pub shed: u64,
    /// They hung up.
    pub gone: u64,
    /// They said something else.
    pub malformed: u64,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Refusals {
    last: VecDeque<Refused>,
    counts: BTreeMap<Reason, u64>,
    /// Those who never said who they are.
    pub strangers: Strangers,
}

impl Refusals {
    /// One more.
    pub fn record(&mut self, refused: Refused) {
        *self.counts.entry(refused.reason).or_default() += 1;
        self.last.truncate(KEPT - 1);
        self.last.push_front(refused);
    }

    /// The last of them, the newest first.
    pub fn last(&self) -> impl Iterator<Item = &Refused> {
        self.last.iter()
    }

    /// How many of each kind since the gateway began.
    pub fn counts(&self) -> impl Iterator<Item = (Reason, u64)> {
        self.counts.iter().map(|(reason, count)| (*reason, *count))
    }
}
