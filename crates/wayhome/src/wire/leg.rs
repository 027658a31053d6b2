//! A leg: an authenticated connection to or at a gateway, with frames on it, that can be unwrapped to
//! the plain socket below.
//!
//! Unwrapping is exact. A read never crosses the end of a TLS record, so that what the peer sends
//! behind its close_notify is still in the kernel when TLS has ended: rustls would take it and throw
//! it away. And once we have said our last words, nothing of TLS is written any more, not even an
//! alert: it would stand in the middle of somebody's stream.

use std::io::{self, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use prost::Message;
use rustls::{ClientConfig, CommonState, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use wayhome_core::key::Key;

use super::frame::{self, breach};
use super::record::Position;
use super::tls;

/// A connection whose peer has proven its key.
pub struct Leg {
    /// Boxed: a leg is handed around, and waits by the thousand.
    tls: Box<TlsStream<Records>>,
    peer: Key,
    /// What was read and is no whole frame yet. A read can be given up at any moment, and loses
    /// nothing.
    begun: Vec<u8>,
}

impl std::fmt::Debug for Leg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Leg({:?})", self.peer)
    }
}

impl Leg {
    /// Speaks first.
    ///
    /// # Errors
    /// [`tls::WrongKey`] if the peer has another key than the expected one.
    pub async fn dial(tcp: TcpStream, config: Arc<ClientConfig>) -> io::Result<Self> {
        let records = Records::new(tcp)?;
        let tls = TlsConnector::from(config).connect(tls::no_name(), records).await?;
        let peer = tls::peer(tls.get_ref().1, tls::LEG)?;
        Ok(Self { tls: Box::new(tls.into()), peer, begun: Vec::new() })
    }

    /// Is spoken to.
    pub async fn accept(tcp: TcpStream, config: Arc<ServerConfig>) -> io::Result<Self> {
        let records = Records::new(tcp)?;
        let tls = TlsAcceptor::from(config).accept(records).await?;
        let peer = tls::peer(tls.get_ref().1, tls::LEG)?;
        Ok(Self { tls: Box::new(tls.into()), peer, begun: Vec::new() })
    }

    /// The peer's key.
    pub fn peer(&self) -> Key {
        self.peer
    }

    /// The socket below.
    pub fn tcp(&self) -> &TcpStream {
        &self.tls.get_ref().0.tcp
    }

    /// What TLS knows of it.
    pub fn session(&self) -> &CommonState {
        self.tls.get_ref().1
    }

    /// Reads one frame. May be given up and called again.
    ///
    /// # Errors
    /// `UnexpectedEof` if the peer ends, `InvalidData` if it sends what it must not.
    pub async fn read<M: Message + Default>(&mut self) -> io::Result<M> {
        loop {
            if let Some(message) = frame::take(&mut self.begun)? {
                return Ok(message);
            }
            if self.tls.read_buf(&mut self.begun).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Writes one frame.
    pub async fn write(&mut self, message: &impl Message) -> io::Result<()> {
        self.tls.write_all(&frame::encode(message)).await?;
        self.tls.flush().await
    }

    /// Writes the last frame, if there is one more, and ends our side of TLS with the same write. The
    /// socket stays open.
    pub async fn last_words(&mut self, message: Option<&impl Message>) -> io::Result<()> {
        let out = self.parting(&message.map(frame::encode).unwrap_or_default())?;
        let records = self.records();
        records.is_mute = true;
        records.tcp.write_all(&out).await
    }

    /// All that TLS has to write for these last bytes and its end.
    fn parting(&mut self, last: &[u8]) -> io::Result<Vec<u8>> {
        fn part<D>(session: &mut rustls::ConnectionCommon<D>, last: &[u8]) -> io::Result<Vec<u8>> {
            session.writer().write_all(last)?;
            session.send_close_notify();
            let mut out = Vec::new();
            while session.wants_write() {
                session.write_tls(&mut out)?;
            }
            Ok(out)
        }
        match &mut *self.tls {
            TlsStream::Client(tls) => part(tls.get_mut().1, last),
            TlsStream::Server(tls) => part(tls.get_mut().1, last),
        }
    }

    fn records(&mut self) -> &mut Records {
        match &mut *self.tls {
            TlsStream::Client(tls) => tls.get_mut().0,
            TlsStream::Server(tls) => tls.get_mut().0,
        }
    }

    /// Waits for the peer's close_notify.
    ///
    /// # Errors
    /// `InvalidData` if it says more before, `UnexpectedEof` if it hangs up instead.
    pub async fn ended(&mut self) -> io::Result<()> {
        let mut more = [0; 1];
        if !self.begun.is_empty() || self.tls.read(&mut more).await? > 0 {
            return Err(breach("more than one frame where there is only one"));
        }
        Ok(())
    }

    /// The socket, once both sides have ended TLS.
    pub fn unwrap(self) -> TcpStream {
        match *self.tls {
            TlsStream::Client(tls) => tls.into_inner().0.tcp,
            TlsStream::Server(tls) => tls.into_inner().0.tcp,
        }
    }

    /// Tells the peer why it is let go, and gives it time to read that: a close with bytes unread
    /// would reset the connection, and the words with it.
    pub async fn refuse(mut self, message: &impl Message, patience: std::time::Duration) {
        let farewell = async {
            self.last_words(Some(message)).await?;
            let mut tcp = self.unwrap();
            tcp.shutdown().await?;
            let mut rest = [0; 1024];
            while tcp.read(&mut rest).await? > 0 {}
            io::Result::Ok(())
        };
        // Whoever does not want to know need not.
        let _ = tokio::time::timeout(patience, farewell).await;
    }
}

/// A socket that is read a TLS record at a time, and that can be made mute.
struct Records {
    tcp: TcpStream,
    position: Position,
    is_mute: bool,
}

impl Records {
    fn new(tcp: TcpStream) -> io::Result<Self> {
        tcp.set_nodelay(true)?;
        Ok(Self { tcp, position: Position::default(), is_mute: false })
    }
}

impl AsyncRead for Records {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let most = this.position.may_read().min(buffer.remaining());
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(most));
        ready!(Pin::new(&mut this.tcp).poll_read(cx, &mut part))?;
        this.position.take_in(part.filled());
        let read = part.filled().len();
        buffer.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Records {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_mute {
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.tcp).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// The end of TLS is not the end of the connection.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
