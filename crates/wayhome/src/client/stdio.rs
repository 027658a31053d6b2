//! Standard input and output, without keeping a thread waiting where the kernel can tell when there
//! is something to do.
//!
//! `O_NONBLOCK` belongs to an open file and not to our descriptor: set on what we were given, it
//! would surprise the shell, or whoever else holds it. So a pipe is opened once more, and a socket
//! is asked call by call. Files and terminals are left to threads.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::unix::pipe;

/// Standard input.
pub fn input() -> io::Result<Box<dyn AsyncRead + Unpin>> {
    let ours = io::stdin().as_fd().try_clone_to_owned()?;
    let path = "/proc/self/fd/0";
    Ok(match kind(&ours)? {
        Kind::Pipe => match pipe::OpenOptions::new().open_receiver(path) {
            Ok(pipe) => Box::new(pipe),
            // Another user's pipe cannot be opened anew.
            Err(_) => Box::new(tokio::fs::File::from_std(ours.into())),
        },
        Kind::Socket => Box::new(Socket::new(ours, Interest::READABLE)?),
        Kind::Other => Box::new(tokio::fs::File::from_std(ours.into())),
    })
}

/// Standard output. What is written to descriptor 1 from now on goes nowhere; so a reader sees the
/// end when this is shut down and dropped.
pub fn output() -> io::Result<Box<dyn AsyncWrite + Unpin>> {
    let ours = io::stdout().as_fd().try_clone_to_owned()?;
    let path = "/proc/self/fd/1";
    let output: Box<dyn AsyncWrite + Unpin> = match kind(&ours)? {
        Kind::Pipe => match pipe::OpenOptions::new().open_sender(path) {
            Ok(pipe) => Box::new(pipe),
            Err(_) => Box::new(tokio::fs::File::from_std(ours.into())),
        },
        Kind::Socket => Box::new(Socket::new(ours, Interest::WRITABLE)?),
        Kind::Other => Box::new(tokio::fs::File::from_std(ours.into())),
    };
    let nowhere = fs::OpenOptions::new().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(nowhere)?;
    Ok(output)
}

enum Kind {
    Pipe,
    Socket,
    Other,
}

fn kind(descriptor: &OwnedFd) -> io::Result<Kind> {
    let file = File::from(descriptor.try_clone()?).metadata()?.file_type();
    Ok(match () {
        () if file.is_fifo() => Kind::Pipe,
        () if file.is_socket() => Kind::Socket,
        () => Kind::Other,
    })
}

/// A socket whose flags are left as they are.
struct Socket(AsyncFd<OwnedFd>);

impl Socket {
    fn new(descriptor: OwnedFd, interest: Interest) -> io::Result<Self> {
        #[allow(
            deprecated,
            reason = "what took its place is unsafe, for the sake of types that lie about the \
                      descriptor they own, which this one does not"
        )]
        AsyncFd::with_interest(descriptor, interest).map(Self)
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(cx))?;
            let room = buffer.initialize_unfilled();
            let tried = ready.try_io(|socket| Ok(recv(socket, room, RecvFlags::DONTWAIT)?.0));
            if let Ok(read) = tried {
                buffer.advance(read?);
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        loop {
            let mut ready = ready!(self.0.poll_write_ready(cx))?;
            if let Ok(sent) = ready.try_io(|socket| Ok(send(socket, bytes, flags)?)) {
                return Poll::Ready(sent);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Others may hold the same socket, standard input among them: a close alone would end nothing.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Where nobody is at the other end any more, there is nothing to end.
        let _ = shutdown(self.0.get_ref(), Shutdown::Write);
        Poll::Ready(Ok(()))
    }
}
