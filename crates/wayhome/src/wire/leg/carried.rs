//! A stream that a leg's own TLS carries: behind a gateway's loopback port, where the gateway is an
//! end of it. A close_notify is its end in that direction; a connection that ends without one was cut.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::net::Shutdown;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::{Leg, Line};
use crate::wire::session::Heard;

/// What is read from the socket at once: some records.
const PIECE: usize = 64 * 1024;

/// What is encrypted ahead of the socket, and no more: the kernel has buffers of its own.
const AHEAD: usize = 64 * 1024;

/// Bytes both ways, with an end each.
pub struct Carried {
    line: Line,
    /// What the peer has said and nobody has read yet, from `read` on.
    words: Vec<u8>,
    read: usize,
    has_closed: bool,
}

impl Leg {
    /// From here on it carries bytes, and no frames any more.
    pub fn carry(self) -> Carried {
        Carried { line: self.line, words: self.begun, read: 0, has_closed: false }
    }
}

impl Carried {
    /// The socket below.
    pub fn tcp(&self) -> &TcpStream {
        &self.line.tcp
    }

    /// Takes bytes from the socket. No record needs to be stopped at: nothing follows TLS here.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.line.tcp.poll_read_ready(cx))?;
            let Line { tcp, session, .. } = &mut self.line;
            match session.receive_with(PIECE, |incoming| tcp.try_read_buf(incoming)) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => return Poll::Ready(Ok(())),
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => {}
                Err(why) => return Poll::Ready(Err(why)),
            }
        }
    }
}

impl AsyncRead for Carried {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if let Some(rest) = this.words.get(this.read..).filter(|rest| !rest.is_empty()) {
                let most = rest.len().min(buffer.remaining());
                buffer.put_slice(rest.get(..most).unwrap_or_default());
                this.read += most;
                if this.read == this.words.len() {
                    (this.words, this.read) = (Vec::new(), 0);
                }
                return Poll::Ready(Ok(()));
            }
            if this.line.has_ended {
                return Poll::Ready(Ok(()));
            }
            match this.line.process(&mut this.words)? {
                Heard::Words => {}
                Heard::End => this.line.has_ended = true,
                Heard::Nothing => {
                    // An answer of TLS's own. A peer that does not take it in may still speak.
                    if let Poll::Ready(Err(why)) = this.line.poll_flush(cx) {
                        return Poll::Ready(Err(why));
                    }
                    ready!(this.poll_receive(cx))?;
                }
            }
        }
    }
}

impl AsyncWrite for Carried {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.has_closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let waits = self.line.session.outgoing.len();
        if waits >= AHEAD {
            ready!(self.line.poll_flush(cx))?;
        }
        let most = bytes.len().min(AHEAD);
        let some = bytes.get(..most).unwrap_or_default();
        let this = &mut *self;
        this.line.session.say(some, &mut this.words)?;
        if let Poll::Ready(Err(why)) = self.line.poll_flush(cx) {
            return Poll::Ready(Err(why));
        }
        Poll::Ready(Ok(most))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.line.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.has_closed {
            let this = &mut *self;
            this.line.session.end(&mut this.words)?;
            this.has_closed = true;
        }
        ready!(self.line.poll_flush(cx))?;
        // A peer that has hung up already has seen our end.
        let _ = rustix::net::shutdown(&self.line.tcp, Shutdown::Write);
        Poll::Ready(Ok(()))
    }
}
