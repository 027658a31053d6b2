//! What several targets have in common: an input that says where it is cut.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};

/// How many bytes at the front of an input say where the rest of it is cut.
const CUTS: usize = 4;

/// A stream that comes in pieces, of 1 to 256 bytes: the first bytes of an input say how long each
/// is, over and over, and the others are the stream.
#[derive(Clone)]
pub struct Pieces<'a> {
    lengths: [u8; CUTS],
    next: usize,
    rest: &'a [u8],
}

impl<'a> Pieces<'a> {
    /// `None` if the input is too short to have any.
    pub fn of(input: &'a [u8]) -> Option<Self> {
        let (lengths, rest) = input.split_first_chunk()?;
        Some(Self { lengths: *lengths, next: 0, rest })
    }

    /// All that is still to come.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next piece, which is no longer than this; empty at the end.
    pub fn next(&mut self, most: usize) -> &'a [u8] {
        let length = 1 + usize::from(self.lengths[self.next]);
        self.next = (self.next + 1) % CUTS;
        let (piece, rest) = self.rest.split_at(length.min(most).min(self.rest.len()));
        self.rest = rest;
        piece
    }
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let piece = self.next(buffer.remaining());
        buffer.put_slice(piece);
        Poll::Ready(Ok(()))
    }
}
