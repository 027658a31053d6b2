//! The home's own key at a gateway, and what TLS is to do with it.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ServerConfig};
use tokio::time::timeout;
use wayhome_core::health::{Cause, Detail};
use wayhome_core::key::Key;

use super::refused;
use crate::agent::connection::Connection;
use crate::agent::door::Door;
use crate::config::NativeGateway;
use crate::error::{Failure, Outcome};
use crate::wire::identity::{Identity, public_half};
use crate::wire::leg::Leg;
use crate::wire::tls;
use crate::{paths, relay};

/// How long a connection may take to stand, TLS included. A control connection has core's own
/// patience, which is longer; all others are one of several.
const STANDS: Duration = Duration::from_secs(15);

/// The home's side of all connections to one gateway.
pub struct Own {
    /// The home's key there.
    pub key: Key,
    /// Dials the gateway.
    dial: Arc<ClientConfig>,
    /// Answers clients.
    pub answer: Arc<ServerConfig>,
    /// Dials the home itself, as a client.
    pub round: Arc<ClientConfig>,
}

impl Own {
    /// Reads the home's key, or makes it.
    ///
    /// # Errors
    /// [`Cause::IdentityUnusable`], which only a person mends.
    pub fn read(gateway: &NativeGateway) -> Result<Self, Cause> {
        let unusable = |why: String| Cause::IdentityUnusable { detail: Detail::new(&why) };
        let identity = identity(&gateway.identity).map_err(|why| unusable(told(&why)))?;
        let made = || {
            Ok::<_, rustls::Error>(Self {
                key: identity.key(),
                dial: tls::client(&identity, gateway.key, tls::LEG)?,
                answer: tls::server(&identity, &[tls::STREAM])?,
                round: tls::client(&identity, identity.key(), tls::STREAM)?,
            })
        };
        made().map_err(|why| unusable(why.to_string()))
    }

    /// Dials the gateway: a connection on which it has proven its key. `reached` is told of the TCP
    /// connection.
    ///
    /// # Errors
    /// Why it did not come to that.
    pub async fn dial(&self, door: &Door, reached: impl FnOnce(Connection)) -> Result<Leg, Cause> {
        let tcp = door.connect().await.map_err(refused::connecting)?;
        reached(Connection::of(&tcp).map_err(|why| lost(&why))?);
        relay::tune(&tcp).map_err(|why| lost(&why))?;
        Leg::dial(tcp, Arc::clone(&self.dial)).await.map_err(|why| refused::speaking(&why))
    }

    /// The same, where nobody else has an eye on how long it takes.
    ///
    /// # Errors
    /// Why it did not come to that.
    pub async fn dial_soon(&self, door: &Door) -> Result<Leg, Cause> {
        let dialled = timeout(STANDS, self.dial(door, drop)).await;
        dialled.unwrap_or(Err(Cause::LoginTimedOut))
    }
}

fn lost(why: &io::Error) -> Cause {
    Cause::ConnectionLost { detail: Detail::new(&why.to_string()) }
}

fn identity(path: &Path) -> Outcome<Identity> {
    if let Some(folder) = path.parent() {
        paths::private_dir_if_missing(folder)?;
    }
    let (identity, is_new) = Identity::read_or_make(path)?;
    if is_new {
        tracing::info!(
            event = "identity-made",
            "made this home's identity `{}`; the line in `{}` belongs into the gateway's grants: {}",
            path.display(),
            public_half(path).display(),
            identity.key()
        );
    }
    Ok(identity)
}

/// A failure on one line; what to do about it, the cause says.
fn told(why: &Failure) -> String {
    let causes = why.causes().iter().map(String::as_str);
    std::iter::once(why.message()).chain(causes).collect::<Vec<_>>().join(": ")
}
