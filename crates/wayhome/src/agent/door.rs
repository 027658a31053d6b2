//! A gateway's door: where it is on the network, and a TCP connect there.
//!
//! A knock, which connects and hangs up, says within a round trip whether the road is open, where a
//! whole login would hang.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::timeout;
use wayhome_core::health::{Cause, Detail};

use super::ssh::diagnose;

/// How long one connect waits. Others are sent meanwhile.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long the address that answered last has for itself.
const HEAD_START: Duration = Duration::from_millis(500);

/// How long the resolver may take, if an address is known from before.
const RESOLVE: Duration = Duration::from_millis(200);

/// A resolver that is down may hang for long; without any address there is no choice but to wait.
const RESOLVE_FIRST: Duration = Duration::from_secs(10);

/// Where to knock.
#[derive(Clone, Debug)]
pub struct Door {
    host: String,
    port: u16,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    /// The addresses of the last good lookup: after a cut the resolver is often the last to return.
    addresses: Vec<SocketAddr>,
    /// The one that answered last.
    answered: Option<SocketAddr>,
}

impl Door {
    /// The door of a host's port.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port, known: Arc::default() }
    }

    /// Knocks once.
    pub async fn knock(&self) -> Result<(), Cause> {
        self.race().await.map(drop)
    }

    /// Connects: where it was answered last, if that is not slow to answer now.
    pub async fn connect(&self) -> Result<TcpStream, Cause> {
        let answered = self.known.lock().ok().and_then(|known| known.answered);
        if let Some(address) = answered
            && let Ok(Ok(tcp)) = timeout(HEAD_START, TcpStream::connect(address)).await
        {
            return Ok(tcp);
        }
        self.race().await
    }

    async fn race(&self) -> Result<TcpStream, Cause> {
        // All addresses at once: where IPv6 leads nowhere, IPv4 must not wait for it.
        let mut knocks: JoinSet<_> = self
            .addresses()
            .await?
            .into_iter()
            .map(|address| async move {
                let connected = timeout(PATIENCE, TcpStream::connect(address)).await;
                (address, connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())))
            })
            .collect();
        let mut last = Cause::TimedOut;
        while let Some(knocked) = knocks.join_next().await {
            match knocked {
                Ok((address, Ok(tcp))) => {
                    if let Ok(mut known) = self.known.lock() {
                        known.answered = Some(address);
                    }
                    return Ok(tcp);
                }
                Ok((_, Err(error))) => last = diagnose::connect_error(&error),
                Err(_) => {}
            }
        }
        Err(last)
    }

    /// Which of IPv4 and IPv6 ssh should take, where the gateway has both: it would try one after the
    /// other, and wait for minutes where the first leads nowhere.
    pub fn family(&self) -> Option<&'static str> {
        let known = self.known.lock().ok()?;
        let answered = known.answered?;
        let has_both = known.addresses.iter().any(|other| other.is_ipv4() != answered.is_ipv4());
        has_both.then_some(if answered.is_ipv4() { "inet" } else { "inet6" })
    }

    /// The gateway's addresses, as far as they are known by now.
    pub fn known(&self) -> Vec<SocketAddr> {
        self.known.lock().map(|known| known.addresses.clone()).unwrap_or_default()
    }

    async fn addresses(&self) -> Result<Vec<SocketAddr>, Cause> {
        let known = self.known.lock().map(|known| known.addresses.clone()).unwrap_or_default();
        let patience = if known.is_empty() { RESOLVE_FIRST } else { RESOLVE };
        let found = match timeout(patience, lookup_host((self.host.as_str(), self.port))).await {
            Ok(found) => found.map(Iterator::collect::<Vec<_>>),
            Err(_) if known.is_empty() => {
                let detail = Detail::new(&format!("no answer within {} s", patience.as_secs()));
                return Err(Cause::ResolverDown { detail });
            }
            Err(_) => return Ok(known),
        };
        match found {
            Ok(found) if !found.is_empty() => {
                if let Ok(mut known) = self.known.lock() {
                    known.addresses.clone_from(&found);
                }
                Ok(found)
            }
            _ if !known.is_empty() => Ok(known),
            Ok(_) => Err(Cause::NameUnknown { detail: Detail::new("no address") }),
            Err(error) => Err(diagnose::resolve_error(&error)),
        }
    }
}
