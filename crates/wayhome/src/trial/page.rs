//! What home offers where no sshd is installed: a page, and a visit to it.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{HOME, program};
use crate::error::{Failure, Outcome};
use crate::import::shell;
use crate::supervise;

const BODY: &str = "You are at home-ubuntu.\n";

const REQUEST: &str = "GET / HTTP/1.0\r\n\r\n";

/// The longest request, in bytes, and how long it may take. Visitors come one after the other.
const MOST: u64 = 4096;
const PATIENCE: Duration = Duration::from_secs(1);

/// The page on loopback, until it is dropped.
pub struct Page {
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl Page {
    /// Serves it, while the runtime runs.
    pub fn serve() -> Outcome<Self> {
        let listen = || {
            let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
            listener.set_nonblocking(true)?;
            Ok((listener.local_addr()?, TcpListener::from_std(listener)?))
        };
        let (address, listener) = listen().map_err(|error: io::Error| {
            Failure::new("no port is free on loopback").because(&error)
        })?;
        let server = tokio::spawn(async move {
            while let Ok((visitor, _)) = listener.accept().await {
                // One who does not ask, or not read, misses it.
                let _ = timeout(PATIENCE, answer(visitor)).await;
            }
        });
        Ok(Self { address, server })
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(mut visitor: TcpStream) -> io::Result<()> {
    let (read, mut write) = visitor.split();
    let mut lines = BufReader::new(read.take(MOST)).lines();
    while lines.next_line().await?.is_some_and(|line| !line.is_empty()) {}
    let head = format!(
        "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
        BODY.len()
    );
    write.write_all((head + BODY).as_bytes()).await?;
    write.shutdown().await
}

/// Reads the page as a program on the laptop would, through `wayhome connect`.
pub async fn visit(laptop: &Path) -> Outcome<String> {
    let failed = || Failure::new(format!("the page of `{HOME}` cannot be reached"));
    let visit = async {
        let mut connect = supervise::command(&program()?)
            .args(["connect", &format!("{HOME}:web")])
            .env("STATE_DIRECTORY", laptop.join("state"))
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .map_err(|error| failed().because(&error))?;
        if let Some(mut stdin) = connect.stdin.take() {
            // If it has ended already, what it said tells why.
            let _ = stdin.write_all(REQUEST.as_bytes()).await;
        }
        connect.wait_with_output().await.map_err(|error| failed().because(&error))
    };
    let output = visit.await?;
    let said = String::from_utf8_lossy(&output.stdout);
    match said.split_once("\r\n\r\n") {
        Some((_, body)) if output.status.success() && body == BODY => {
            Ok(body.lines().next().unwrap_or_default().to_owned())
        }
        _ => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(failed().because(&io::Error::other(said)))
        }
    }
}

/// What does the same, to be pasted.
pub fn command_line(laptop: &Path) -> String {
    let program = std::env::current_exe().unwrap_or_else(|_| "wayhome".into());
    format!(
        "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | STATE_DIRECTORY={} {} connect {HOME}:web",
        laptop.join("state").display(),
        shell::line([program.display().to_string()])
    )
}
