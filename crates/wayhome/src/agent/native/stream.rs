//! A stream's two ends at home: TLS with the client, or with the gateway, and a connection to the target.
//!
//! Each direction ends by itself. An end is a close_notify with the client and a FIN to the target;
//! everything else is none, and becomes a reset at both: a stream that was cut must not look like one
//! that has ended.

use std::io;

use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::TcpStream;

use super::target::Joined;
use crate::relay::{self, Counts};
use crate::wire::inner;
use crate::wire::leg::Leg;

/// What is read at once, in each direction.
const CHUNK: usize = 64 * 1024;

/// Copies both ways between a client and the target until both have ended. If it is dropped before that, or
/// fails, both ends are reset.
///
/// # Errors
/// What the first of them failed with; an end without its close_notify is an error to rustls already.
pub async fn join(mut tls: inner::Home, target: Joined) -> io::Result<()> {
    let socket = |tls: &inner::Home, set: fn(&TcpStream) -> io::Result<()>| {
        tls.get_ref().0.tcp().map_or(Ok(()), set)
    };
    socket(&tls, relay::cut_by_reset)?;
    match target {
        Joined::Tcp(mut target) => {
            prepare(&target)?;
            copy_bidirectional_with_sizes(&mut tls, &mut target, CHUNK, CHUNK).await?;
            relay::has_ended(&target)?;
        }
        // One that is closed with bytes unread is reset, and there is no other way.
        Joined::Unix(mut target) => {
            copy_bidirectional_with_sizes(&mut tls, &mut target, CHUNK, CHUNK).await?;
        }
    }
    socket(&tls, relay::has_ended)
}

/// The same where the gateway is the other end. The leg may carry something else then.
///
/// # Errors
/// What the first of them failed with. The leg is to be dropped.
pub async fn carry(leg: &mut Leg, target: Joined) -> io::Result<()> {
    let counts = Counts::default();
    relay::cut_by_reset(leg.tcp())?;
    match target {
        Joined::Tcp(mut target) => {
            prepare(&target)?;
            relay::carry(&mut target, leg, &counts).await?;
            relay::has_ended(&target)?;
        }
        Joined::Unix(mut target) => relay::carry(&mut target, leg, &counts).await?,
    }
    relay::has_ended(leg.tcp())
}

fn prepare(target: &TcpStream) -> io::Result<()> {
    relay::tune(target)?;
    relay::cut_by_reset(target)
}
