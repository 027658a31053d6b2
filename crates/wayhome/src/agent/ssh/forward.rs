//! A service's port at the gateway: asked for, and given back, over ssh's control socket.

use std::path::Path;

use wayhome_core::service::{Bind, Service, Target};

use super::mux::{End, Mux, MuxError};

/// Asks for a service's port. On loopback, IPv4 decides, and IPv6 is a gift: a gateway may have
/// none, and `localhost` in one request would be granted if only one of the two could be had.
///
/// `None` if ssh could not be asked: the link's deadline for requests will end such a connection.
pub async fn open(socket: &Path, service: &Service) -> Option<bool> {
    let port = service.port?;
    let open = async |address: &str| {
        let mux = Mux::connect(socket).await?;
        mux.open_forward(End::Tcp(address, port), target(service)).await
    };
    let granted = match &service.bind {
        Bind::Public(address) => open(address).await,
        Bind::Loopback => {
            let granted = open("127.0.0.1").await;
            if granted.is_ok()
                && let Err(MuxError::Refused(why)) = open("::1").await
            {
                tracing::debug!("port {port} is not open on [::1] at the gateway: {why}");
            }
            granted
        }
    };
    match granted {
        Ok(()) => Some(true),
        Err(MuxError::Refused(_)) => Some(false),
        Err(error) => {
            tracing::debug!("the forward of port {port} failed: {error}");
            None
        }
    }
}

/// Gives a service's port back. Streams that are open stay so. `None` if ssh could not be asked.
pub async fn close(socket: &Path, service: &Service) -> Option<()> {
    let port = service.port?;
    let addresses: &[&str] = match &service.bind {
        Bind::Public(address) => &[address],
        Bind::Loopback => &["127.0.0.1", "::1"],
    };
    for address in addresses {
        let closed = async {
            let mux = Mux::connect(socket).await?;
            mux.close_forward(End::Tcp(address, port), target(service)).await
        };
        match closed.await {
            // It was not open there, as with a gateway that has no IPv6.
            Ok(()) | Err(MuxError::Refused(_)) => {}
            Err(error) => {
                tracing::debug!("port {port} could not be given back: {error}");
                return None;
            }
        }
    }
    Some(())
}

fn target(service: &Service) -> End<'_> {
    match &service.target {
        Target::Tcp(host, port) => End::Tcp(host, *port),
        Target::Unix(path) => End::Unix(path),
    }
}
