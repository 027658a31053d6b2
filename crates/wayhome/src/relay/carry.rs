//! A stream that a leg's own TLS carries: behind a gateway's loopback port, where the gateway is an end of
//! it. It goes in [pieces](crate::wire::pieces), so that the leg is as good as before when it has ended.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Counts;
use crate::wire::frame::breach;
use crate::wire::leg::Leg;
use crate::wire::pieces::{self, HEADER, Next, Position};

/// What is encrypted ahead of the leg's socket, and decrypted ahead of the other end's: the kernel has
/// buffers of its own.
const AHEAD: usize = 64 * 1024;

thread_local! {
    /// Room to read into. What is read is encrypted at once, so that one does for all.
    static ROOM: RefCell<Vec<u8>> = RefCell::new(vec![0; HEADER + pieces::MAX]);
}

/// Copies both ways between `other` and a leg, until both have ended; the first is towards the leg, which
/// may carry something else then. If this fails or is given up, it may not: it is to be dropped.
///
/// # Errors
/// What the first of them failed with. A leg whose TLS ends before the stream does was cut.
pub async fn carry<S>(other: &mut S, leg: &mut Leg, counts: &Counts) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut carry = Carry {
        other,
        leg,
        counts,
        at: 0,
        position: Position::default(),
        there_has_ended: false,
        back_has_ended: false,
        is_shut: false,
    };
    poll_fn(|cx| carry.poll(cx)).await
}

struct Carry<'a, S> {
    other: &'a mut S,
    leg: &'a mut Leg,
    counts: &'a Counts,
    /// How much is taken of what the leg has heard.
    at: usize,
    position: Position,
    there_has_ended: bool,
    back_has_ended: bool,
    /// The other end was told so.
    is_shut: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Carry<'_, S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let there = self.poll_there(cx)?;
        let back = self.poll_back(cx)?;
        match (there, back) {
            (Poll::Ready(()), Poll::Ready(())) => Poll::Ready(Ok(())),
            _ => Poll::Pending,
        }
    }

    /// From the other end to the leg.
    fn poll_there(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.there_has_ended {
            if self.leg.unsent() >= AHEAD {
                ready!(self.leg.poll_flush(cx))?;
            }
            let read = ROOM.with_borrow_mut(|room| {
                let mut buffer = ReadBuf::new(room);
                buffer.advance(HEADER);
                ready!(Pin::new(&mut *self.other).poll_read(cx, &mut buffer))?;
                let read = buffer.filled().len() - HEADER;
                let piece = buffer.filled_mut();
                if let Some(header) = piece.first_chunk_mut() {
                    *header = pieces::header(read);
                }
                self.leg.say(piece)?;
                Poll::Ready(io::Result::Ok(read))
            });
            let read = ready!(read)?;
            self.counts.there.fetch_add(read as u64, Ordering::Relaxed);
            self.there_has_ended = read == 0;
            // What it does not take now goes with what follows.
            if let Poll::Ready(Err(why)) = self.leg.poll_flush(cx) {
                return Poll::Ready(Err(why));
            }
        }
        self.leg.poll_flush(cx)
    }

    /// From the leg to the other end.
    fn poll_back(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.back_has_ended {
            let come = self.leg.heard(self.at);
            match self.position.next(come) {
                Next::Header => self.at += HEADER,
                Next::Bytes(length) => {
                    let bytes = come.get(..length).unwrap_or_default();
                    let written = match ready!(Pin::new(&mut *self.other).poll_write(cx, bytes))? {
                        0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                        written => written,
                    };
                    self.at += written;
                    self.position.took(written);
                    self.counts.back.fetch_add(written as u64, Ordering::Relaxed);
                }
                Next::End => {
                    self.leg.take_heard(self.at + HEADER);
                    self.back_has_ended = true;
                }
                Next::Nothing => {
                    self.leg.take_heard(std::mem::take(&mut self.at));
                    if !ready!(self.leg.poll_hear(cx, AHEAD))? {
                        return Poll::Ready(Err(breach("an end of TLS before that of the stream")));
                    }
                }
            }
        }
        if !self.is_shut {
            ready!(Pin::new(&mut *self.other).poll_shutdown(cx))?;
            self.is_shut = true;
        }
        Poll::Ready(Ok(()))
    }
}
