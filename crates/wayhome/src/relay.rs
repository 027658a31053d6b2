//! The blind relay: joins two sockets, and knows nothing of what goes over them.
//!
//! Each direction ends by itself: an end at one side becomes an end at the other. Everything else
//! that ends it, be it an error, a grant that was taken back or this process, becomes a reset at
//! both: nobody shall take a cut for an end.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::net::{Shutdown, shutdown, sockopt};
use tokio::net::TcpStream;

use crate::wire::leg::Unwrapped;

mod carry;

pub use carry::carry;

/// What is read at once. A stream on which nothing moves has no buffer at all, and one whose reader
/// stalls has this much, beside what the kernel holds.
const CHUNK: usize = 64 * 1024;

/// As long as there is something to read, this much goes before others get their turn.
const TURN: usize = 16 * CHUNK;

/// How a peer that is gone is found though nothing is sent (tcp(7)): after a minute of silence, each
/// quarter of a minute, four times.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(60), Duration::from_secs(15), 4);

/// What has gone over a stream, in bytes.
#[derive(Debug, Default)]
pub struct Counts {
    /// From the first to the second.
    pub there: AtomicU64,
    /// From the second to the first.
    pub back: AtomicU64,
}

/// Two sockets that are joined, and what is on its way between them.
///
/// If it is dropped before both ways have ended, both sockets are reset.
#[derive(Debug)]
pub struct Joint {
    /// The one.
    pub first: TcpStream,
    /// The other.
    pub second: TcpStream,
    /// From the first to the second.
    pub there: OneWay,
    /// From the second to the first.
    pub back: OneWay,
    /// What has gone over it.
    pub counts: Arc<Counts>,
}

/// One direction.
#[derive(Debug, Default)]
pub struct OneWay {
    /// What was read, of which so much was written.
    bytes: Vec<u8>,
    written: usize,
    /// An end came, and was passed on.
    has_ended: bool,
}

impl OneWay {
    /// One that was broken off somewhere else: with what was read there and not written.
    pub fn resumed(bytes: Vec<u8>, has_ended: bool) -> Self {
        Self { bytes, written: 0, has_ended }
    }

    /// What was read and not written yet.
    pub fn on_its_way(&self) -> &[u8] {
        self.bytes.get(self.written..).unwrap_or_default()
    }

    /// Whether an end came.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }
}

impl Joint {
    /// Joins two legs, with what has come over each already.
    ///
    /// # Errors
    /// If one of them is no socket any more.
    pub fn new(first: Unwrapped, second: Unwrapped, counts: Arc<Counts>) -> io::Result<Self> {
        cut_by_reset(&first.tcp)?;
        cut_by_reset(&second.tcp)?;
        let there = OneWay::resumed(first.early, false);
        let back = OneWay::resumed(second.early, false);
        Ok(Self { first: first.tcp, second: second.tcp, there, back, counts })
    }

    /// Copies both ways until both have ended. It may be given up at any time and begun again, and
    /// goes on where it was.
    ///
    /// # Errors
    /// What the first of them failed with.
    pub async fn run(&mut self) -> io::Result<()> {
        let Self { first, second, there, back, counts } = self;
        tokio::try_join!(
            copy(first, second, there, &counts.there),
            copy(second, first, back, &counts.back),
        )?;
        has_ended(first)?;
        has_ended(second)
    }
}

/// Makes a socket fit for streams: nothing waits to be sent in larger pieces, and a peer that is gone
/// is found. Linux hands that on from a socket that listens to all that it accepts.
///
/// There is no `TCP_USER_TIMEOUT`: it ends a connection whose peer is well and only does not read.
pub fn tune(socket: &impl AsFd) -> io::Result<()> {
    let (idle, interval, count) = KEEPALIVE;
    sockopt::set_tcp_nodelay(socket, true)?;
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, idle)?;
    sockopt::set_tcp_keepintvl(socket, interval)?;
    sockopt::set_tcp_keepcnt(socket, count)?;
    Ok(())
}

/// From here on a close is a reset, until both directions have ended.
pub fn cut_by_reset(socket: &TcpStream) -> io::Result<()> {
    Ok(sockopt::set_socket_linger(socket, Some(Duration::ZERO))?)
}

/// Both directions have ended: a close is an end again, and what the kernel still holds is delivered.
pub fn has_ended(socket: &TcpStream) -> io::Result<()> {
    Ok(sockopt::set_socket_linger(socket, None)?)
}

/// One direction, up to its end.
///
/// It waits nowhere with anything that `way` does not know of.
async fn copy(
    from: &TcpStream,
    to: &TcpStream,
    way: &mut OneWay,
    count: &AtomicU64,
) -> io::Result<()> {
    write(to, way, count).await?;
    while !way.has_ended {
        // First that there is something, and only then room for it.
        way.bytes = Vec::new();
        from.readable().await?;
        way.bytes.reserve_exact(CHUNK);
        let mut moved = 0;
        while moved < TURN {
            match from.try_read_buf(&mut way.bytes) {
                Ok(0) => {
                    way.has_ended = true;
                    return Ok(shutdown(to, Shutdown::Write)?);
                }
                Ok(read) => {
                    write(to, way, count).await?;
                    moved += read;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Writes what is on its way.
async fn write(to: &TcpStream, way: &mut OneWay, count: &AtomicU64) -> io::Result<()> {
    loop {
        let rest = way.on_its_way();
        if rest.is_empty() {
            break;
        }
        match to.try_write(rest) {
            Ok(written) => {
                way.written += written;
                count.fetch_add(written as u64, Ordering::Relaxed);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => to.writable().await?,
            Err(error) => return Err(error),
        }
    }
    way.bytes.clear();
    way.written = 0;
    Ok(())
}

#[cfg(test)]
mod tests;
