//! Frames: two bytes with the length of what follows, and a message.

use std::io;

use prost::Message;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest message. All that is sent is far shorter; whoever says more is refused before it is
/// read.
pub const MAX: usize = 16 * 1024;

/// Reads one frame. Its memory grows with what has come, and not with what was announced.
///
/// # Errors
/// `UnexpectedEof` if the peer ends before or within it; `InvalidData` if it is too long, or no such
/// message.
pub async fn read<M: Message + Default>(from: &mut (impl AsyncRead + Unpin)) -> io::Result<M> {
    let length = usize::from(from.read_u16().await?);
    check(length)?;
    let mut bytes = Vec::new();
    from.take(length as u64).read_to_end(&mut bytes).await?;
    if bytes.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    decode(&bytes)
}

/// Takes the first frame off what was read, if it is whole.
///
/// # Errors
/// `InvalidData` if it is too long, or no such message.
pub fn take<M: Message + Default>(read: &mut Vec<u8>) -> io::Result<Option<M>> {
    let Some(([high, low], rest)) = read.split_first_chunk::<2>().map(|(l, rest)| (*l, rest))
    else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    check(length)?;
    let Some(message) = rest.get(..length).map(decode) else { return Ok(None) };
    read.drain(..2 + length);
    message.map(Some)
}

fn check(length: usize) -> io::Result<()> {
    if length <= MAX {
        return Ok(());
    }
    Err(breach(format!("a frame of {length} bytes, of which {MAX} are allowed")))
}

fn decode<M: Message + Default>(bytes: &[u8]) -> io::Result<M> {
    M::decode(bytes).map_err(|why| breach(format!("a frame that is no message: {why}")))
}

/// A message as a frame. One that is too long to be sent is a mistake of ours, and gives a frame that
/// no reader takes.
pub fn encode(message: &impl Message) -> Vec<u8> {
    let length = u16::try_from(message.encoded_len()).unwrap_or(u16::MAX);
    let mut frame = Vec::with_capacity(2 + usize::from(length));
    frame.extend(length.to_be_bytes());
    // It fails for want of room alone, and a vector grows.
    let _ = message.encode(&mut frame);
    frame
}

/// What a peer may not do, as an error.
pub fn breach(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::messages::Request;

    async fn read_from(bytes: &[u8]) -> io::Result<Request> {
        read(&mut &bytes[..]).await
    }

    #[tokio::test]
    async fn what_is_written_is_read_back() {
        let request = Request { service: "ssh".into() };
        let frame = encode(&request);
        assert_eq!(read_from(&frame).await.unwrap(), request);
        for end in 0..frame.len() {
            let why = read_from(&frame[..end]).await.unwrap_err();
            assert_eq!(why.kind(), io::ErrorKind::UnexpectedEof, "{end}");
        }
    }

    #[tokio::test]
    async fn a_frame_beyond_the_bound_is_a_breach() {
        let request = Request { service: "a".repeat(MAX) };
        let why = read_from(&encode(&request)).await.unwrap_err();
        assert!(why.to_string().contains("a frame of 16388 bytes"), "{why}");
        // One megabyte cannot even be announced.
        let why = read_from(&encode(&Request { service: "a".repeat(1 << 20) })).await.unwrap_err();
        assert!(why.to_string().contains("a frame of 65535 bytes"), "{why}");
    }

    #[tokio::test]
    async fn what_a_later_version_says_is_passed_over() {
        // Field 15, a string.
        let mut frame = vec![0, 10];
        frame.extend(b"\x0a\x03ssh\x7a\x03abc");
        assert_eq!(read_from(&frame).await.unwrap().service, "ssh");
        let why = read_from(&[0, 2, 0x0a, 0x7f]).await.unwrap_err();
        assert_eq!(why.kind(), io::ErrorKind::InvalidData);
    }
}
