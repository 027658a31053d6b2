//! Knocking: a TCP connect to the gateway's port, and nothing more.
//!
//! It says within a round trip whether the road is open, where a full ssh would hang. Where the
//! person's ssh goes through a jump host or a proxy, there is nothing to knock at.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::timeout;
use wayhome_core::health::{Cause, Detail};

use super::pin::CONFIGURED;
use super::{diagnose, master};
use crate::config::Gateway;
use crate::supervise;

/// How long one knock waits. Others are sent meanwhile.
const PATIENCE: Duration = Duration::from_secs(3);

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
    /// Asks ssh where it would connect to. `None` if that is through something else.
    pub async fn find(gateway: &Gateway) -> Option<Self> {
        let mut command = master::ssh(gateway, &gateway.known_hosts);
        command.arg("-G");
        master::destination(&mut command, gateway);
        let said = supervise::output(&mut command, CONFIGURED).await.ok()?;
        let text = String::from_utf8_lossy(&said.stdout);
        let value =
            |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        let goes_around =
            ["proxyjump", "proxycommand"].iter().any(|key| value(key).is_some_and(|v| v != "none"));
        if goes_around {
            return None;
        }
        Some(Self {
            host: value("hostname")?.to_owned(),
            port: value("port")?.parse().ok()?,
            known: Arc::default(),
        })
    }

    /// Knocks once.
    pub async fn knock(&self) -> Result<(), Cause> {
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
                Ok((address, Ok(_))) => {
                    if let Ok(mut known) = self.known.lock() {
                        known.answered = Some(address);
                    }
                    return Ok(());
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
