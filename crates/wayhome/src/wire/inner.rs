//! The TLS between a client and a home. Its first flights travel inside of messages, and the rest
//! over the sockets that the gateway joins.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{Accept, Connect, TlsAcceptor, TlsConnector, client, server};
use wayhome_core::key::Key;

use super::leg::Unwrapped;
use super::tls;

/// A client's end of a stream, once the home has proven its key.
pub type Client = client::TlsStream<Carrier>;

/// A home's end of a stream, once the client has proven its key.
pub type Home = server::TlsStream<Carrier>;

/// A client's half-way handshake: its hello has been written, and waits to be sent.
pub struct Hello(Connect<Carrier>);

/// Begins at the client. The bytes are its first flight.
///
/// # Errors
/// If there is no randomness.
pub fn hello(config: Arc<ClientConfig>) -> io::Result<(Hello, Vec<u8>)> {
    let mut connect = TlsConnector::from(config).connect(tls::no_name(), Carrier::default());
    poll_once(&mut connect)?;
    let carrier = connect.get_mut().ok_or(io::ErrorKind::UnexpectedEof)?;
    let flight = std::mem::take(&mut carrier.written);
    Ok((Hello(connect), flight))
}

impl Hello {
    /// Goes on with the home's first flight, over the socket that leads to it.
    ///
    /// # Errors
    /// [`tls::WrongKey`] if it is not the expected home that answers.
    pub async fn go_on(mut self, flight: Vec<u8>, leg: Unwrapped) -> io::Result<Client> {
        let carrier = self.0.get_mut().ok_or(io::ErrorKind::UnexpectedEof)?;
        carrier.attach(flight, leg);
        let tls = self.0.await?;
        tls::peer(tls.get_ref().1, tls::STREAM)?;
        Ok(tls)
    }
}

/// A home's half-way handshake: its first flight has been written, and waits to be sent.
pub struct Answer(Accept<Carrier>);

/// Answers at the home. The bytes are its first flight.
///
/// # Errors
/// If the client's is none.
pub fn answer(config: Arc<ServerConfig>, hello: Vec<u8>) -> io::Result<(Answer, Vec<u8>)> {
    let carrier = Carrier { flight: hello, ..Carrier::default() };
    let mut accept = TlsAcceptor::from(config).accept(carrier);
    poll_once(&mut accept)?;
    let carrier = accept.get_mut().ok_or(io::ErrorKind::UnexpectedEof)?;
    let flight = std::mem::take(&mut carrier.written);
    if flight.is_empty() {
        return Err(super::frame::breach("a hello that has lost its end"));
    }
    Ok((Answer(accept), flight))
}

impl Answer {
    /// Goes on over the socket that leads to the client. Gives the client's key, which is proven.
    pub async fn go_on(mut self, leg: Unwrapped) -> io::Result<(Home, Key)> {
        let carrier = self.0.get_mut().ok_or(io::ErrorKind::UnexpectedEof)?;
        carrier.attach(Vec::new(), leg);
        let tls = self.0.await?;
        let key = tls::peer(tls.get_ref().1, tls::STREAM)?;
        Ok((tls, key))
    }
}

/// Lets a handshake do what it can without its peer. It cannot finish so.
fn poll_once<T>(handshake: &mut (impl Future<Output = io::Result<T>> + Unpin)) -> io::Result<()> {
    match pin!(handshake).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Pending => Ok(()),
        Poll::Ready(Err(why)) => Err(why),
        Poll::Ready(Ok(_)) => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// What carries it: at first memory, then a socket.
#[derive(Debug, Default)]
pub struct Carrier {
    /// The peer's flight that came in a message, and how much of it was read.
    flight: Vec<u8>,
    read: usize,
    /// Our flight, which is to go into a message.
    written: Vec<u8>,
    tcp: Option<TcpStream>,
}

impl Carrier {
    fn attach(&mut self, mut flight: Vec<u8>, leg: Unwrapped) {
        flight.extend(leg.early);
        (self.flight, self.read, self.tcp) = (flight, 0, Some(leg.tcp));
    }

    /// The socket below.
    pub fn tcp(&self) -> Option<&TcpStream> {
        self.tcp.as_ref()
    }
}

impl AsyncRead for Carrier {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(rest) = this.flight.get(this.read..).filter(|rest| !rest.is_empty()) {
            let most = rest.len().min(buffer.remaining());
            buffer.put_slice(rest.get(..most).unwrap_or_default());
            this.read += most;
            if this.read == this.flight.len() {
                (this.flight, this.read) = (Vec::new(), 0);
            }
            return Poll::Ready(Ok(()));
        }
        match &mut this.tcp {
            Some(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            // Polled again once there is a socket.
            None => Poll::Pending,
        }
    }
}

impl AsyncWrite for Carrier {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(tcp) = &mut self.tcp {
            return Pin::new(tcp).poll_write(cx, bytes);
        }
        self.written.extend(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(tcp) = &mut self.tcp {
            return Pin::new(tcp).poll_write_vectored(cx, bytes);
        }
        bytes.iter().for_each(|part| self.written.extend(part.iter()));
        Poll::Ready(Ok(bytes.iter().map(|part| part.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.tcp {
            Some(tcp) => Pin::new(tcp).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}
