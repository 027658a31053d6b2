//! The snapshot: one value that `status`, `--json`, the logs and the tests all read.

pub mod gateway;

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::health::{Cause, Fault};
use crate::name::Name;
use crate::service::{ProofKind, Service};

/// All that an agent knows of its roads at one moment.
///
/// Spans are milliseconds before the moment of the snapshot, so that no two clocks need to agree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The form of this snapshot; a reader that meets a higher one still finds what it knows.
    pub version: u32,
    /// The home's name.
    pub name: Name,
    /// The agent's process.
    pub pid: u32,
    /// How long the agent has been running, in milliseconds.
    pub running_ms: u64,
    /// The file that it was configured from, if it was from one.
    pub configuration: Option<Configuration>,
    /// One link for each gateway, in the configuration's order.
    pub links: Vec<LinkStatus>,
    /// What there is of native links, if the home has such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native: Option<NativeStatus>,
}

/// What all native links of a home share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NativeStatus {
    /// Who may enter; without grants nobody but the home itself.
    pub grants: Option<gateway::GrantsStatus>,
    /// How many streams each service has. Those that have none are not here.
    pub streams: BTreeMap<Name, u32>,
}

impl Snapshot {
    /// The version that this program writes.
    pub const VERSION: u32 = 1;

    /// Whether each service was proven at each gateway, each link stands, and the configuration that
    /// runs is the one that the person wrote last.
    pub fn all_up(&self) -> bool {
        if self.configuration.as_ref().is_some_and(|file| file.error.is_some()) {
            return false;
        }
        let proven = |link: &LinkStatus| {
            link.state == LinkState::Up && link.services.iter().all(|s| s.state == ServiceState::Up)
        };
        !self.links.is_empty() && self.links.iter().all(proven)
    }
}

/// The file that an agent was configured from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// Its path.
    pub file: String,
    /// How long ago what runs was read from it, in milliseconds.
    pub loaded_ms: u64,
    /// Why what stands in it now was not taken over.
    pub error: Option<String>,
}

/// The road to one gateway.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkStatus {
    /// The gateway's address, as the configuration has it.
    pub gateway: String,
    /// The state.
    pub state: LinkState,
    /// How long it has been in this state, in milliseconds.
    pub since_ms: u64,
    /// Why it is not up, or what was wrong last.
    pub cause: Option<Finding>,
    /// What a person has to know although it is up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alarm: Option<Finding>,
    /// How many dials this outage has seen.
    pub attempt: u32,
    /// In how many milliseconds the next attempt begins, if one is waited for.
    pub retry_in_ms: Option<u64>,
    /// The smoothed round trip of the heartbeats, in milliseconds.
    pub round_trip_ms: Option<f64>,
    /// How many times the link came back after it was lost.
    pub reconnects: u64,
    /// Whether the gateway lets the agent watch and release; without it, ssh's own keepalives serve.
    pub hold: bool,
    /// Why it does not, while the link stands.
    #[serde(default)]
    pub no_hold: Option<Finding>,
    /// The services, in the configuration's order.
    pub services: Vec<ServiceStatus>,
}

/// How a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkState {
    /// Looking for the gateway, or waiting to do so.
    Down,
    /// Logging in.
    Dialling,
    /// Connected, and answering.
    Up,
    /// Connected, but the answer is overdue.
    Suspect,
    /// Waiting for a person.
    Halted,
    /// Ending, because the agent was told to.
    Draining,
}

/// One service on one gateway.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// What the service is.
    #[serde(flatten)]
    pub service: Service,
    /// The state.
    pub state: ServiceState,
    /// How long it has been in this state, in milliseconds.
    pub since_ms: u64,
    /// Why it is not up.
    pub cause: Option<Finding>,
    /// How long ago it was last proven, in milliseconds.
    pub last_proof_ms: Option<u64>,
    /// The host key that the target showed, as OpenSSH writes it.
    pub host_key: Option<String>,
}

/// How a service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceState {
    /// Not reachable: its link is down, or its turn has not come.
    Down,
    /// Its port is being opened, or its first proof is under way.
    Opening,
    /// Proven.
    Up,
    /// The port is open, but the last proof failed.
    Unproven,
    /// The port could not be had.
    Blocked,
    /// Waiting for a person.
    Halted,
}

/// A cause as a reader of the snapshot wants it: with its text and remedy beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The cause.
    #[serde(flatten)]
    pub cause: Cause,
    /// In words.
    pub text: String,
    /// Where to look first.
    pub fault: Fault,
    /// What to do.
    pub remedy: String,
}

impl From<&Cause> for Finding {
    fn from(cause: &Cause) -> Self {
        Self {
            cause: cause.clone(),
            text: alloc::format!("{cause}"),
            fault: cause.fault(),
            remedy: cause.remedy().into(),
        }
    }
}

/// A span as the snapshot writes it.
pub fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

impl ServiceStatus {
    /// Whether only a real SSH server behind the port proves this service.
    pub fn is_ssh(&self) -> bool {
        self.service.proof == ProofKind::Ssh
    }
}
