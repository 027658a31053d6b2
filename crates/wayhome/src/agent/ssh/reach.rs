//! By whom a port can be reached that was granted on the gateway's loopback.
//!
//! The hold sees the listener itself. Where there is none, streams tell: all of 127.0.0.0/8 is a
//! Linux gateway's own, so one that gets through to 127.0.0.2 has met a listener on all addresses. A
//! key may be forbidden to try that; then the port is knocked at from here, as a stranger would.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use wayhome_core::link::Reach;

use super::hold::Request;
use super::proof;

/// How long each way to see it may take. All of them together are shorter than core's patience with
/// a request (ten seconds).
const DEADLINE: Duration = Duration::from_secs(3);

/// An address that a listener on `127.0.0.1` does not have.
const BESIDE: &str = "127.0.0.2";

/// Sees by whom a port can be reached. `gateway` is where ssh reaches the gateway.
pub async fn survey(
    hold: Option<mpsc::Sender<Request>>,
    socket: &Path,
    port: u16,
    gateway: Option<IpAddr>,
) -> Reach {
    if let Some(hold) = hold
        && let Some(reach) = ask(hold, port).await
        && reach != Reach::Unseen
    {
        return reach;
    }
    let known = gateway.filter(|ip| !ip.is_loopback());
    let (beside, outside) =
        tokio::join!(timeout(DEADLINE, proof::opens(socket, (BESIDE, port))), knock(known, port),);
    match beside.unwrap_or(false) || outside {
        true => Reach::Everybody,
        false => Reach::Unseen,
    }
}

/// Asks the hold. `None` if it does not answer.
async fn ask(hold: mpsc::Sender<Request>, port: u16) -> Option<Reach> {
    let (asker, answer) = oneshot::channel();
    hold.try_send(Request::Survey(port, asker)).ok()?;
    // Or the hold, and the other end with it, would not end while we wait.
    drop(hold);
    timeout(DEADLINE, answer).await.ok()?.ok()
}

/// Whether the port takes a connection from outside.
async fn knock(gateway: Option<IpAddr>, port: u16) -> bool {
    let Some(gateway) = gateway else { return false };
    matches!(timeout(DEADLINE, TcpStream::connect((gateway, port))).await, Ok(Ok(_)))
}
