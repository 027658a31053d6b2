//! A service's target: dialled only once everything about a stream is decided.

use std::io;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::{Instant, timeout, timeout_at};
use wayhome_core::refusal::Reason;
use wayhome_core::service::Target;

/// How long the target may take to take the connection, all its addresses together.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection to a target.
#[derive(Debug)]
pub enum Joined {
    /// To a port.
    Tcp(TcpStream),
    /// To a socket.
    Unix(UnixStream),
}

/// Connects to a target.
///
/// # Errors
/// Why there is no connection, and in the system's words.
pub async fn dial(target: &Target) -> Result<Joined, (Reason, String)> {
    let failed = |why: io::Error| {
        let is_silent = why.kind() == io::ErrorKind::TimedOut;
        let reason = if is_silent { Reason::TargetSilent } else { Reason::TargetRefused };
        (reason, why.to_string())
    };
    let connected = match target {
        Target::Tcp(host, port) => tcp(host, *port).await.map(Joined::Tcp),
        Target::Unix(path) => match timeout(PATIENCE, UnixStream::connect(path)).await {
            Ok(connected) => connected.map(Joined::Unix),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        },
    };
    connected.map_err(failed)
}

/// Tries a name's addresses one after the other: two at once would be two logins at some servers.
/// None of them takes the time of those behind it.
async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let deadline = Instant::now() + PATIENCE;
    let mut last = io::Error::from(io::ErrorKind::TimedOut);
    let Ok(found) = timeout_at(deadline, lookup_host((host, port))).await else {
        return Err(last);
    };
    let addresses: Vec<_> = found?.collect();
    let mut left = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    for address in addresses {
        let share = deadline.saturating_duration_since(Instant::now()) / left.max(1);
        left -= 1;
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => return Ok(tcp),
            Ok(Err(why)) => last = why,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn all_addresses_of_a_name_are_tried() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        // The first is `::1` on most machines, where nobody listens.
        let target = Target::Tcp("localhost".into(), port);
        assert!(matches!(dial(&target).await, Ok(Joined::Tcp(_))));
        drop(listener);
        let (reason, why) = dial(&target).await.unwrap_err();
        assert_eq!(reason, Reason::TargetRefused, "{why}");
        let missing = Target::Unix("/nonexistent/socket".into());
        assert_eq!(dial(&missing).await.unwrap_err().0, Reason::TargetRefused);
    }
}
