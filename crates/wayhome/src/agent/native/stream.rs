//! A stream's two ends at home: TLS with the client, and a connection to the target.
//!
//! Each direction ends by itself. An end is a close_notify on one side and a FIN on the other;
//! everything else is none, and becomes a reset at both: a stream that was cut must not look like one
//! that has ended.

use std::io;

use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes};
use tokio::net::TcpStream;

use super::target::Joined;
use crate::relay;
use crate::wire::inner;
use crate::wire::leg::Carried;

/// What is read at once, in each direction.
const CHUNK: usize = 64 * 1024;

/// The end of a stream that is not the target's.
pub trait End: AsyncRead + AsyncWrite + Unpin {
    /// The socket below.
    fn socket(&self) -> Option<&TcpStream>;
}

impl End for inner::Home {
    fn socket(&self) -> Option<&TcpStream> {
        self.get_ref().0.tcp()
    }
}

impl End for Carried {
    fn socket(&self) -> Option<&TcpStream> {
        Some(self.tcp())
    }
}

/// Copies both ways until both have ended. If it is dropped before that, or fails, both ends are
/// reset.
///
/// # Errors
/// What the first of them failed with.
pub async fn join(mut tls: impl End, target: Joined) -> io::Result<()> {
    if let Some(tcp) = tls.socket() {
        relay::cut_by_reset(tcp)?;
    }
    match target {
        Joined::Tcp(mut target) => {
            relay::tune(&target)?;
            relay::cut_by_reset(&target)?;
            copy(&mut tls, &mut target).await?;
            sockopt::set_socket_linger(&target, None)?;
        }
        // One that is closed with bytes unread is reset, and there is no other way.
        Joined::Unix(mut target) => copy(&mut tls, &mut target).await?,
    }
    if let Some(tcp) = tls.socket() {
        sockopt::set_socket_linger(tcp, None)?;
    }
    Ok(())
}

/// An end without its close_notify is an error to rustls already.
async fn copy(
    tls: &mut impl End,
    target: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> io::Result<()> {
    copy_bidirectional_with_sizes(tls, target, CHUNK, CHUNK).await.map(drop)
}
