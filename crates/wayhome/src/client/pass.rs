//! Passes bytes between a stream and whoever asked for it. Each direction ends by itself.

use std::pin::pin;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};

use super::{Trouble, granted};
use crate::wire::inner;

/// What is read at once: as much as a pipe holds, and four records of TLS.
const CHUNK: usize = 64 * 1024;

/// Whether the home has granted the service already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// It has said so, and it was read.
    Given,
    /// Its answer comes before all else.
    Awaited,
}

/// Passes everything on until both directions have ended. Nothing comes out before the home has
/// granted the service; what goes in is sent meanwhile.
///
/// # Errors
/// The first thing that goes wrong; but if the home has still said why, that.
pub async fn pass(
    tls: inner::Client,
    grant: Grant,
    input: impl AsyncRead + Unpin,
    output: impl AsyncWrite + Unpin,
) -> Result<(), Trouble> {
    let (from_home, to_home) = split(tls);
    let mut there = pin!(there(input, to_home));
    let mut back = pin!(back(from_home, grant, output));
    tokio::select! {
        ended = &mut back => {
            ended?;
            there.await
        }
        ended = &mut there => match ended {
            // A home that refuses reads no more; its words may be under way when our next ones fail.
            Err(Trouble::Lost(why)) => back.await.and(Err(Trouble::Lost(why))),
            Ok(()) => back.await,
            failed => failed,
        }
    }
}

/// From us to the home. The end of the input is a close_notify and a FIN.
async fn there(
    mut input: impl AsyncRead + Unpin,
    mut to_home: WriteHalf<inner::Client>,
) -> Result<(), Trouble> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = input.read(&mut chunk).await.map_err(Trouble::Input)?;
        let Some(bytes) = chunk.get(..read).filter(|bytes| !bytes.is_empty()) else {
            return to_home.shutdown().await.map_err(Trouble::Lost);
        };
        to_home.write_all(bytes).await.map_err(Trouble::Lost)?;
        to_home.flush().await.map_err(Trouble::Lost)?;
    }
}

/// From the home to us. An end without a close_notify is an error of TLS, and none of the output.
async fn back(
    mut from_home: ReadHalf<inner::Client>,
    grant: Grant,
    mut output: impl AsyncWrite + Unpin,
) -> Result<(), Trouble> {
    if grant == Grant::Awaited {
        granted(&mut from_home).await?;
    }
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = from_home.read(&mut chunk).await.map_err(Trouble::Lost)?;
        let Some(bytes) = chunk.get(..read).filter(|bytes| !bytes.is_empty()) else {
            return output.shutdown().await.map_err(Trouble::Output);
        };
        output.write_all(bytes).await.map_err(Trouble::Output)?;
        output.flush().await.map_err(Trouble::Output)?;
    }
}
