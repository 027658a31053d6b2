//! Knocking: a TCP connect to the gateway's port, and nothing more.
//!
//! It says within a round trip whether the road is open, where a full ssh would hang. Where the
//! person's ssh goes through a jump host or a proxy, there is nothing to knock at.

use std::io;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use wayhome_core::health::{Cause, Detail};

use super::{diagnose, master};
use crate::config::Gateway;

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
    /// The addresses of the last good lookup: after a cut the resolver is often the last to return.
    known: Arc<Mutex<Vec<SocketAddr>>>,
}

impl Door {
    /// Asks ssh where it would connect to. `None` if that is through something else.
    pub async fn find(gateway: &Gateway) -> Option<Self> {
        let mut command = master::ssh(gateway, &gateway.known_hosts);
        command.arg("-G").stderr(Stdio::null());
        master::destination(&mut command, gateway);
        let said = command.output().await.ok()?;
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
        let addresses = self.addresses().await?;
        let mut last = Cause::TimedOut;
        for address in addresses {
            match timeout(PATIENCE, TcpStream::connect(address)).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => last = diagnose::connect_error(&error),
                Err(_) => last = Cause::TimedOut,
            }
        }
        Err(last)
    }

    async fn addresses(&self) -> Result<Vec<SocketAddr>, Cause> {
        let known = self.known.lock().map(|known| known.clone()).unwrap_or_default();
        let patience = if known.is_empty() { RESOLVE_FIRST } else { RESOLVE };
        let found = match timeout(patience, lookup_host((self.host.as_str(), self.port))).await {
            Ok(found) => found.map(Iterator::collect::<Vec<_>>),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the resolver does not answer")),
        };
        match found {
            Ok(found) if !found.is_empty() => {
                if let Ok(mut known) = self.known.lock() {
                    known.clone_from(&found);
                }
                Ok(found)
            }
            _ if !known.is_empty() => Ok(known),
            Ok(_) => Err(Cause::NameUnresolved { detail: Detail::new("no address") }),
            Err(error) => Err(Cause::NameUnresolved { detail: Detail::new(&error.to_string()) }),
        }
    }
}
