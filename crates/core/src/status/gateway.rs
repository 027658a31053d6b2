//! What a gateway knows of its homes and streams at one moment.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::health::Detail;
use crate::key::Key;
use crate::load::Load;
use crate::name::Name;
use crate::refusal::Reason;

/// The snapshot of a gateway. Spans are milliseconds before its moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GatewaySnapshot {
    /// The form of this snapshot; a reader that meets a higher one still finds what it knows.
    pub version: u32,
    /// The gateway's process.
    pub pid: u32,
    /// How long it has been running.
    pub running_ms: u64,
    /// Where it listens.
    pub listen: Vec<String>,
    /// Its key.
    pub key: Key,
    /// What it goes by.
    pub grants: GrantsStatus,
    /// The homes that it knows of, in the order of their names.
    pub homes: Vec<HomeStatus>,
    /// The streams that live, the oldest first.
    pub streams: Vec<StreamStatus>,
    /// What was refused last, the newest first.
    pub refusals: Vec<RefusalStatus>,
    /// How many refusals there were of each kind.
    pub refused: BTreeMap<Reason, u64>,
    /// Those who never said who they are.
    pub strangers: StrangersStatus,
    /// How much it carries.
    #[serde(default)]
    pub load: LoadStatus,
    /// Ports that sessions of the machine's own sshd hold, as far as whoever asked may see.
    #[serde(default)]
    pub stock: Vec<StockStatus>,
}

impl GatewaySnapshot {
    /// The version that this program writes.
    pub const VERSION: u32 = 1;
}

/// How much a gateway carries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadStatus {
    /// The descriptors that connections hold.
    pub descriptors: usize,
    /// How many they may hold.
    pub most: usize,
    /// How late it comes to its work.
    pub late_ms: u64,
    /// Why it takes in no new stream, if it does not.
    pub strain: Option<String>,
}

impl LoadStatus {
    /// As it is told.
    pub fn of(load: Load) -> Self {
        Self {
            descriptors: load.descriptors,
            most: load.most,
            late_ms: super::millis(load.late),
            strain: load.strain().map(|strain| strain.to_string()),
        }
    }
}

/// A port that a session of the machine's own sshd holds, for a home that runs `ssh -R`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockStatus {
    /// The port.
    pub port: u16,
    /// Where it listens.
    pub addresses: Vec<String>,
    /// Whether others than this machine reach it.
    pub is_public: bool,
    /// The account of the session.
    pub account: Detail,
    /// The session's process, if whoever asked may see that.
    pub pid: Option<u32>,
    /// Where the session comes from.
    pub from: Option<String>,
    /// What answers behind it.
    pub behind: Behind,
    /// How long ago that was seen.
    pub seen_ms: Option<u64>,
}

/// What answers behind a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Behind {
    /// A host that speaks SSH.
    Host {
        /// Its host key.
        key: String,
        /// And the fingerprint.
        fingerprint: String,
    },
    /// Something else.
    Other,
    /// The connection is closed at once: nothing listens at its target.
    Nothing,
    /// Nobody says anything: the session's other end is gone, or hangs.
    Silent,
}

/// The file of grants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantsStatus {
    /// Its path.
    pub file: String,
    /// How long ago it was read last.
    pub read_ms: u64,
    /// How many grants there are.
    pub count: usize,
    /// Entries that were passed over, and why.
    pub passed_over: Vec<String>,
    /// Why the file as it is now could not be read: nobody new is let in.
    pub error: Option<String>,
}

/// One home.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HomeStatus {
    /// Its name.
    pub name: Name,
    /// Its registration, while it is online.
    pub online: Option<OnlineStatus>,
    /// How long ago something came from it.
    pub last_seen_ms: u64,
    /// The highest generation that it had.
    pub generation: u64,
    /// How many streams it has.
    pub streams: usize,
}

/// The registration of a home.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnlineStatus {
    /// Since when it has stood.
    pub since_ms: u64,
    /// Where it comes from.
    pub from: String,
    /// What its grant is called.
    pub grant: Option<String>,
    /// Its program and version, as it says.
    pub software: Detail,
    /// How many data connections wait.
    pub waiting: usize,
    /// How many clients wait.
    pub clients: usize,
    /// What it offers.
    pub services: Vec<OfferedStatus>,
}

/// A service that a home offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferedStatus {
    /// Its name.
    pub name: Name,
    /// The port of this gateway's loopback that leads to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// How long ago the home reached it through this gateway, as it says.
    pub proven_ms: Option<u64>,
}

/// One stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamStatus {
    /// Its number at this gateway.
    pub stream: u64,
    /// The home.
    pub home: Name,
    /// The port of this gateway's loopback that the client came by, if it did not dial in itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// What the client's grant is called; or the home's, if it came by a port.
    pub grant: Option<String>,
    /// The client's key; or the home's.
    pub key: Key,
    /// Where the client comes from.
    pub from: String,
    /// How long it has lived.
    pub age_ms: u64,
    /// Bytes towards home.
    pub there: u64,
    /// Bytes from home.
    pub back: u64,
    /// Bytes a second towards home, just now.
    pub there_rate: u64,
    /// Bytes a second from home, just now.
    pub back_rate: u64,
}

/// One refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalStatus {
    /// How long ago.
    pub ago_ms: u64,
    /// Why.
    pub reason: Reason,
    /// What the grant is called, if there is one.
    pub grant: Option<String>,
    /// The key.
    pub key: Key,
    /// Where it came from.
    pub from: String,
    /// Which home it was about.
    pub home: Option<Name>,
    /// More, for a person.
    pub detail: Detail,
}

/// Those who never said who they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StrangersStatus {
    /// Who are connected now.
    pub half_open: usize,
    /// Who took too long.
    pub slow: u64,
    /// Who made room for others.
    pub evicted: u64,
    /// For whom there was no descriptor.
    #[serde(default)]
    pub shed: u64,
    /// Who hung up.
    pub gone: u64,
    /// Who said something else.
    pub malformed: u64,
}
