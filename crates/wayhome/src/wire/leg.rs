//! A leg: an authenticated connection to or at a gateway, with frames on it, that can be unwrapped to
//! the plain socket below.
//!
//! Unwrapping is exact. What was read behind the peer's close_notify is no TLS's any more, and is kept
//! for whoever takes over the socket ([`Unwrapped::early`]). And once we have said our last words,
//! nothing of TLS is written any more, not even an alert: it would stand in the middle of somebody's
//! stream.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use prost::Message;
use rustls::{ClientConfig, CommonState, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use wayhome_core::key::Key;

use super::frame::{self, breach};
use super::session::{Heard, Session};
use super::tls;

/// What is read from the socket at once: more than any flight of a handshake has.
const PIECE: usize = 4096;

/// What is read of a stream at once: some records.
const LARGE: usize = 64 * 1024;

/// A connection whose peer has proven its key.
///
/// At rest it holds no buffer: a leg waits by the thousand.
pub struct Leg {
    line: Line,
    peer: Key,
    /// What was read and is no whole frame yet. A read can be given up at any moment, and loses
    /// nothing.
    begun: Vec<u8>,
}

/// What is left of a leg once both sides have ended TLS.
#[derive(Debug)]
pub struct Unwrapped {
    /// The socket.
    pub tcp: TcpStream,
    /// What has come over it already, behind the peer's close_notify.
    pub early: Vec<u8>,
}

impl From<TcpStream> for Unwrapped {
    fn from(tcp: TcpStream) -> Self {
        Self { tcp, early: Vec::new() }
    }
}

impl std::fmt::Debug for Leg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Leg({:?})", self.peer)
    }
}

impl Leg {
    /// Speaks first. What ends the handshake goes with our first words.
    ///
    /// # Errors
    /// [`tls::WrongKey`] if the peer has another key than the expected one.
    pub async fn dial(tcp: TcpStream, config: Arc<ClientConfig>) -> io::Result<Self> {
        Self::begin(Line::new(tcp, Session::client(config)?)).await
    }

    /// Is spoken to.
    ///
    /// # Errors
    /// If the peer does not speak as we do, or has no key.
    pub async fn accept(tcp: TcpStream, config: Arc<ServerConfig>) -> io::Result<Self> {
        Self::begin(Line::new(tcp, Session::server(config)?)).await
    }

    async fn begin(mut line: Line) -> io::Result<Self> {
        let begun = line.shake_hands().await?;
        let peer = tls::peer(line.session.state(), tls::LEG)?;
        Ok(Self { line, peer, begun })
    }

    /// The peer's key.
    pub fn peer(&self) -> Key {
        self.peer
    }

    /// The socket below.
    pub fn tcp(&self) -> &TcpStream {
        &self.line.tcp
    }

    /// What TLS knows of it.
    pub fn session(&self) -> &CommonState {
        self.line.session.state()
    }

    /// Reads one frame. May be given up and called again.
    ///
    /// # Errors
    /// `UnexpectedEof` if the peer ends, `InvalidData` if it sends what it must not.
    pub async fn read<M: Message + Default>(&mut self) -> io::Result<M> {
        loop {
            if let Some(message) = frame::take(&mut self.begun)? {
                if self.begun.is_empty() {
                    self.begun = Vec::new();
                }
                return Ok(message);
            }
            if !self.line.hear(&mut self.begun).await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Writes one frame.
    ///
    /// # Errors
    /// If the connection has broken.
    pub async fn write(&mut self, message: &impl Message) -> io::Result<()> {
        self.line.session.say(&frame::encode(message), &mut self.begun)?;
        self.line.flush().await
    }

    /// Writes the last frame, if there is one more, and ends our side of TLS with the same write. The
    /// socket stays open.
    ///
    /// # Errors
    /// If the connection has broken.
    pub async fn last_words(&mut self, message: Option<&impl Message>) -> io::Result<()> {
        let out = self.parting(&message.map(frame::encode).unwrap_or_default())?;
        self.line.tcp.write_all(&out).await
    }

    /// All that TLS has to write for these last bytes and its end. From here on it writes no more.
    fn parting(&mut self, last: &[u8]) -> io::Result<Vec<u8>> {
        let line = &mut self.line;
        line.session.say(last, &mut self.begun)?;
        line.session.end(&mut self.begun)?;
        line.is_mute = true;
        Ok(std::mem::take(&mut line.session.outgoing))
    }

    /// Waits for the peer's close_notify.
    ///
    /// # Errors
    /// `InvalidData` if it says more before, `UnexpectedEof` if it hangs up instead.
    pub async fn ended(&mut self) -> io::Result<()> {
        if !self.begun.is_empty() || self.line.hear(&mut self.begun).await? {
            return Err(breach("more than one frame where there is only one"));
        }
        Ok(())
    }

    /// Encrypts something that is no frame. [`Leg::poll_flush`] sends it.
    ///
    /// # Errors
    /// If TLS has broken.
    pub fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.line.session.say(bytes, &mut self.begun)
    }

    /// How much is encrypted and not sent yet.
    pub fn unsent(&self) -> usize {
        self.line.session.outgoing.len()
    }

    /// Sends it.
    ///
    /// # Errors
    /// If the connection has broken.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.line.poll_flush(cx)
    }

    /// What was heard and not taken, from this place on.
    pub fn heard(&self, from: usize) -> &[u8] {
        self.begun.get(from..).unwrap_or_default()
    }

    /// So much of that is done with. Nothing is kept while nothing is here.
    pub fn take_heard(&mut self, taken: usize) {
        if taken >= self.begun.len() {
            self.begun = Vec::new();
        } else {
            self.begun.drain(..taken);
        }
    }

    /// Hears more of what is no frame, and as much as is here already, up to about `most`. `false` if
    /// there is no more: the peer has sent its close_notify.
    ///
    /// # Errors
    /// If the connection or TLS has broken.
    pub fn poll_hear(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<io::Result<bool>> {
        let before = self.begun.len();
        while !self.line.has_ended && self.begun.len() < before + most {
            match self.line.process(&mut self.begun)? {
                Heard::Words => {}
                Heard::End => self.line.has_ended = true,
                Heard::Nothing if self.begun.len() > before => break,
                Heard::Nothing => {
                    // An answer of TLS's own. A peer that does not take it in may still speak.
                    if let Poll::Ready(Err(why)) = self.line.poll_flush(cx) {
                        return Poll::Ready(Err(why));
                    }
                    ready!(self.line.poll_receive_much(cx))?;
                }
            }
        }
        Poll::Ready(Ok(self.begun.len() > before))
    }

    /// Whether something has come behind the peer's close_notify.
    pub fn has_early(&self) -> bool {
        self.line.has_ended && self.line.session.has_unread()
    }

    /// The socket, once both sides have ended TLS.
    pub fn unwrap(self) -> Unwrapped {
        let Line { tcp, session, .. } = self.line;
        Unwrapped { tcp, early: session.into_unread() }
    }

    /// Tells the peer why it is let go, and gives it time to read that: a close with bytes unread
    /// would reset the connection, and the words with it.
    pub async fn refuse(mut self, message: &impl Message, patience: std::time::Duration) {
        let farewell = async {
            self.last_words(Some(message)).await?;
            let Unwrapped { mut tcp, .. } = self.unwrap();
            tcp.shutdown().await?;
            let mut rest = [0; 1024];
            while tcp.read(&mut rest).await? > 0 {}
            io::Result::Ok(())
        };
        // Whoever does not want to know need not.
        let _ = tokio::time::timeout(patience, farewell).await;
    }
}

/// TLS over a socket, that can be made mute.
struct Line {
    tcp: TcpStream,
    session: Session,
    has_ended: bool,
    is_mute: bool,
}

impl Line {
    fn new(tcp: TcpStream, session: Session) -> Self {
        Self { tcp, session, has_ended: false, is_mute: false }
    }

    /// Gives the words that came with the end of it, if there were any.
    async fn shake_hands(&mut self) -> io::Result<Vec<u8>> {
        let mut words = Vec::new();
        loop {
            let heard = self.process(&mut words)?;
            self.has_ended |= heard == Heard::End;
            if !self.session.state().is_handshaking() {
                return Ok(words);
            }
            if self.has_ended {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.flush().await?;
            self.receive().await?;
        }
    }

    /// Waits for what the peer says next, and puts it behind what is in `words`; `false` once the peer
    /// has sent its close_notify. May be given up and called again.
    async fn hear(&mut self, words: &mut Vec<u8>) -> io::Result<bool> {
        while !self.has_ended {
            match self.process(words)? {
                Heard::Words => return Ok(true),
                Heard::End => self.has_ended = true,
                Heard::Nothing => {
                    self.flush().await?;
                    self.receive().await?;
                }
            }
        }
        Ok(false)
    }

    /// What becomes of the bytes that are here. A peer that breaks TLS is told so, unless it would
    /// have to wait for that or we are mute.
    fn process(&mut self, words: &mut Vec<u8>) -> io::Result<Heard> {
        let heard = self.session.hear(words);
        if self.is_mute {
            self.session.outgoing = Vec::new();
        }
        if heard.is_err() && !self.session.outgoing.is_empty() {
            let _ = self.tcp.try_write(&self.session.outgoing);
        }
        heard
    }

    /// Takes some bytes from the socket.
    async fn receive(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_receive(cx)).await
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Only there while there is something to read.
        let mut piece = [0; PIECE];
        let mut room = ReadBuf::new(&mut piece);
        ready!(Pin::new(&mut self.tcp).poll_read(cx, &mut room))?;
        if room.filled().is_empty() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        self.session.receive(room.filled());
        Poll::Ready(Ok(()))
    }

    /// The same for what comes in a stream: straight to its place.
    fn poll_receive_much(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.tcp.poll_read_ready(cx))?;
            let Self { tcp, session, .. } = self;
            match session.receive_with(LARGE, |incoming| tcp.try_read_buf(incoming)) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => return Poll::Ready(Ok(())),
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => {}
                Err(why) => return Poll::Ready(Err(why)),
            }
        }
    }

    /// Sends what there is to send, and keeps no room for more. May be given up and called again.
    async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await?;
        self.session.outgoing = Vec::new();
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outgoing = &mut self.session.outgoing;
        while !outgoing.is_empty() {
            match ready!(Pin::new(&mut self.tcp).poll_write(cx, outgoing))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => drop(outgoing.drain(..sent)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
