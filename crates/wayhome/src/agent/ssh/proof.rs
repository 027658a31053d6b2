//! Proof through an ssh link: a stream through ssh's control socket to the service's port at the
//! gateway.
//!
//! A public port is reached by an address that its loopback does not have: sshd says "ok" and listens
//! on loopback alone where it has `GatewayPorts no`.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use wayhome_core::health::Detail;
use wayhome_core::host_key::HostKey;
use wayhome_core::link::Sighting;
use wayhome_core::service::{Bind, Service};

use super::mux::{Mux, MuxError, Opened};
use crate::agent::proof::{Expected, NotOpened, Road, Scanned, scan};

/// What answers behind a service's port, and what should. `gateway` is where ssh reaches the gateway.
pub async fn prove(
    expected: &mut Expected,
    socket: &Path,
    service: &Service,
    gateway: Option<IpAddr>,
) -> (Sighting, Vec<HostKey>) {
    let mut seen = (Sighting::Refused, Vec::new());
    // An ssh link has only services with a port.
    let Some(port) = service.port else { return seen };
    for door in doors(&service.bind, gateway) {
        seen = expected.prove(&Through { socket, host: &door, port }, service).await;
        if seen.0 != Sighting::Refused {
            return seen;
        }
    }
    if service.bind != Bind::Loopback {
        let through = Through { socket, host: LOOPBACK, port };
        let (sighting, keys) = expected.prove(&through, service).await;
        if matches!(sighting, Sighting::HostKey { .. } | Sighting::Answer) {
            return (Sighting::OnLoopback(sighting.into()), keys);
        }
    }
    seen
}

const LOOPBACK: &str = "127.0.0.1";

/// By which addresses a port is reached at the gateway: the first that takes a connection will do.
fn doors(bind: &Bind, gateway: Option<IpAddr>) -> Vec<String> {
    match bind {
        Bind::Loopback => vec![LOOPBACK.to_owned()],
        // All of 127.0.0.0/8 is Linux's own; another gateway has at least the address that we know,
        // unless that is translated on the way.
        Bind::Public(address) if matches!(address.as_str(), "*" | "0.0.0.0") => {
            let known = gateway.filter(|ip| !ip.is_loopback()).map(|ip| ip.to_string());
            std::iter::once("127.0.0.2".to_owned()).chain(known).collect()
        }
        // There is no second one for IPv6.
        Bind::Public(address) if address == "::" => {
            let known = gateway.filter(|ip| ip.is_ipv6() && !ip.is_loopback());
            vec![known.map_or_else(|| "::1".to_owned(), |ip| ip.to_string())]
        }
        Bind::Public(address) => vec![address.clone()],
    }
}

/// Reads a host key of some type (`ed25519`, `ecdsa`, `rsa`) at an address of the gateway's.
pub async fn scan_at(socket: &Path, host: &str, port: u16, kind: &str) -> Scanned {
    scan(&Through { socket, host, port }, kind).await
}

/// Whether a port at the gateway takes a connection.
pub async fn opens(socket: &Path, (host, port): (&str, u16)) -> bool {
    Through { socket, host, port }.open().await.is_ok()
}

/// An address and port at the gateway, through ssh's control socket.
struct Through<'a> {
    socket: &'a Path,
    host: &'a str,
    port: u16,
}

impl Road for Through<'_> {
    type Stream = Stream;

    async fn open(&self) -> Result<Stream, NotOpened> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let mux = Mux::connect(self.socket).await?;
        let opened = mux.stream(self.host, self.port, theirs.as_fd()).await?;
        drop(theirs);
        Ok(Stream { stream: UnixStream::from_std(ours)?, _opened: opened })
    }
}

impl From<MuxError> for NotOpened {
    fn from(error: MuxError) -> Self {
        match error {
            MuxError::Refused(_) => Self::Refused,
            other => Self::Failed(Detail::new(&other.to_string())),
        }
    }
}

/// A stream, which ssh keeps open for as long as it is asked to.
struct Stream {
    stream: UnixStream,
    _opened: Opened,
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
