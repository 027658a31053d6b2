//! A client of OpenSSH's control socket (PROTOCOL.mux, version 4).
//!
//! Only what a link needs: is the master alive, open and close a remote forward, a session, and a
//! stream to an address at the gateway. Each request has a connection of its own: the master answers
//! one request at a time on a connection, and under a silent cut it answers none.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;

const VERSION: u32 = 4;

const HELLO: u32 = 0x0000_0001;
const NEW_SESSION: u32 = 0x1000_0002;
const ALIVE_CHECK: u32 = 0x1000_0004;
const OPEN_FORWARD: u32 = 0x1000_0006;
const CLOSE_FORWARD: u32 = 0x1000_0007;
const NEW_STDIO_FORWARD: u32 = 0x1000_0008;

const OK: u32 = 0x8000_0001;
const PERMISSION_DENIED: u32 = 0x8000_0002;
const FAILURE: u32 = 0x8000_0003;
const EXIT_MESSAGE: u32 = 0x8000_0004;
const ALIVE: u32 = 0x8000_0005;
const SESSION_OPENED: u32 = 0x8000_0006;

const FORWARD_REMOTE: u32 = 2;

/// In place of a port: the host is the path of a Unix socket (`PORT_STREAMLOCAL` in OpenSSH's
/// misc.h, -2).
const PORT_STREAMLOCAL: u32 = 0xffff_fffe;

/// No reply that we ask for is longer; the master is our own child, but it speaks for a stranger.
const MAX_REPLY: u32 = 64 * 1024;

/// We use a request id only once per connection.
const REQUEST_ID: u32 = 1;

/// What a request came to, if it did not succeed.
#[derive(Debug)]
pub enum MuxError {
    /// The master could not be spoken to.
    Io(io::Error),
    /// The master said no, and why.
    Refused(String),
    /// The master said something that we do not understand.
    Protocol(&'static str),
}

impl From<io::Error> for MuxError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl std::fmt::Display for MuxError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => write!(f, "the control socket failed: {error}"),
            Self::Refused(reason) => f.write_str(reason),
            Self::Protocol(what) => write!(f, "the control socket's answer is wrong: {what}"),
        }
    }
}

impl std::error::Error for MuxError {}

/// One end of a remote forward.
#[derive(Clone, Copy, Debug)]
pub enum End<'a> {
    /// A host and a port.
    Tcp(&'a str, u16),
    /// A Unix socket.
    Unix(&'a str),
}

/// One connection to a master.
#[derive(Debug)]
pub struct Mux {
    stream: UnixStream,
}

impl Mux {
    /// Connects, and exchanges hellos.
    pub async fn connect(path: &Path) -> Result<Self, MuxError> {
        let mut mux = Self { stream: UnixStream::connect(path).await? };
        mux.send(&Packet::new(HELLO).int(VERSION)).await?;
        let mut reply = mux.receive().await?;
        if reply.int()? != HELLO || reply.int()? != VERSION {
            return Err(MuxError::Protocol("not a hello of version 4"));
        }
        Ok(mux)
    }

    /// Whether the master is there. It answers by itself, so this says nothing of the gateway.
    pub async fn check(mut self) -> Result<(), MuxError> {
        self.send(&Packet::new(ALIVE_CHECK).int(REQUEST_ID)).await?;
        self.expect(ALIVE).await.map(drop)
    }

    /// Asks the gateway to listen, and to lead what comes there to `target`.
    pub async fn open_forward(mut self, listen: End<'_>, target: End<'_>) -> Result<(), MuxError> {
        self.send(&forward(OPEN_FORWARD, listen, target)).await?;
        self.expect(OK).await.map(drop)
    }

    /// Asks the gateway to listen no more. Streams that are open stay so.
    pub async fn close_forward(mut self, listen: End<'_>, target: End<'_>) -> Result<(), MuxError> {
        self.send(&forward(CLOSE_FORWARD, listen, target)).await?;
        self.expect(OK).await.map(drop)
    }

    /// Runs a command at the gateway, with these as its standard input, output and error.
    pub async fn session(
        mut self,
        command: &str,
        stdio: [BorrowedFd<'_>; 3],
    ) -> Result<Opened, MuxError> {
        const NO_ESCAPE: u32 = u32::MAX;
        let (no_tty, no_x11, no_agent, no_subsystem) = (0, 0, 0, 0);
        let packet = Packet::new(NEW_SESSION)
            .int(REQUEST_ID)
            .text("")
            .int(no_tty)
            .int(no_x11)
            .int(no_agent)
            .int(no_subsystem)
            .int(NO_ESCAPE)
            .text("")
            .text(command);
        self.send(&packet).await?;
        for fd in stdio {
            self.send_fd(fd).await?;
        }
        self.expect(SESSION_OPENED).await?;
        Ok(Opened { mux: self })
    }

    /// Connects `socket` to an address as the gateway sees it.
    pub async fn stream(
        mut self,
        host: &str,
        port: u16,
        socket: BorrowedFd<'_>,
    ) -> Result<Opened, MuxError> {
        let packet =
            Packet::new(NEW_STDIO_FORWARD).int(REQUEST_ID).text("").text(host).int(u32::from(port));
        self.send(&packet).await?;
        self.send_fd(socket).await?;
        self.send_fd(socket).await?;
        self.expect(SESSION_OPENED).await?;
        Ok(Opened { mux: self })
    }

    async fn expect(&mut self, wanted: u32) -> Result<Reply, MuxError> {
        let mut reply = self.receive().await?;
        let kind = reply.int()?;
        if reply.int()? != REQUEST_ID {
            return Err(MuxError::Protocol("an answer to another request"));
        }
        match kind {
            kind if kind == wanted => Ok(reply),
            PERMISSION_DENIED | FAILURE => Err(MuxError::Refused(reply.text()?)),
            _ => Err(MuxError::Protocol("an answer of another kind")),
        }
    }

    async fn send(&mut self, packet: &Packet) -> Result<(), MuxError> {
        let length = u32::try_from(packet.0.len()).map_err(|_| MuxError::Protocol("too long"))?;
        let mut whole = length.to_be_bytes().to_vec();
        whole.extend_from_slice(&packet.0);
        Ok(self.stream.write_all(&whole).await?)
    }

    async fn receive(&mut self) -> Result<Reply, MuxError> {
        let length = self.stream.read_u32().await?;
        if length > MAX_REPLY {
            return Err(MuxError::Protocol("an answer that is too long"));
        }
        let mut body = vec![0; length as usize];
        self.stream.read_exact(&mut body).await?;
        Ok(Reply { body, read: 0 })
    }

    /// Each descriptor travels with one byte of its own.
    async fn send_fd(&mut self, fd: BorrowedFd<'_>) -> Result<(), MuxError> {
        let send = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let fds = [fd];
            if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            let byte = [IoSlice::new(&[0])];
            Ok(sendmsg(self.stream.as_fd(), &byte, &mut control, SendFlags::empty())?)
        };
        self.stream.async_io(Interest::WRITABLE, send).await?;
        Ok(())
    }
}

/// A session or a stream that is open. Dropping it closes it at the gateway too.
#[derive(Debug)]
pub struct Opened {
    mux: Mux,
}

impl Opened {
    /// Waits for the end. The exit code, if the command had one.
    pub async fn ended(&mut self) -> Result<Option<u32>, MuxError> {
        loop {
            let mut reply = match self.mux.receive().await {
                Err(MuxError::Io(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Ok(None);
                }
                other => other?,
            };
            if reply.int()? == EXIT_MESSAGE {
                let _session = reply.int()?;
                return reply.int().map(Some);
            }
        }
    }
}

fn forward(kind: u32, listen: End<'_>, target: End<'_>) -> Packet {
    Packet::new(kind).int(REQUEST_ID).int(FORWARD_REMOTE).end(listen).end(target)
}

struct Packet(Vec<u8>);

impl Packet {
    fn new(kind: u32) -> Self {
        Self(Vec::new()).int(kind)
    }

    fn int(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    fn text(self, text: &str) -> Self {
        // Every text here comes from a checked configuration; none is near 4 GB.
        let mut packet = self.int(text.len() as u32);
        packet.0.extend_from_slice(text.as_bytes());
        packet
    }

    fn end(self, end: End<'_>) -> Self {
        match end {
            End::Tcp(host, port) => self.text(host).int(u32::from(port)),
            End::Unix(path) => self.text(path).int(PORT_STREAMLOCAL),
        }
    }
}

struct Reply {
    body: Vec<u8>,
    read: usize,
}

impl Reply {
    fn int(&mut self) -> Result<u32, MuxError> {
        let bytes = self.take(4)?;
        let bytes = bytes.try_into().map_err(|_| MuxError::Protocol("cut short"))?;
        Ok(u32::from_be_bytes(bytes))
    }

    fn text(&mut self) -> Result<String, MuxError> {
        let length = self.int()? as usize;
        Ok(String::from_utf8_lossy(self.take(length)?).into_owned())
    }

    fn take(&mut self, length: usize) -> Result<&[u8], MuxError> {
        let end = self.read.checked_add(length).ok_or(MuxError::Protocol("cut short"))?;
        let bytes = self.body.get(self.read..end).ok_or(MuxError::Protocol("cut short"))?;
        self.read = end;
        Ok(bytes)
    }
}
