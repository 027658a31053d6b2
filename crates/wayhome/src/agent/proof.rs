//! Proof: what answers behind a service, seen from the gateway, and what should.
//!
//! For `ssh` that is a host key, as `ssh-keyscan` reads it: a banner would not do, since a stranger's
//! sshd has one too. `ssh-keyscan` is given a port of its own on our loopback, and the one connection
//! that it makes there is joined with a stream to the service. The same program reads the target
//! directly, at home, for the key to be expected.

use std::io;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Child;
use tokio::time::timeout;
use wayhome_core::health::Detail;
use wayhome_core::host_key::HostKey;
use wayhome_core::known_hosts::KnownHost;
use wayhome_core::link::Sighting;
use wayhome_core::service::{ProofKind, Service, Target};

use crate::supervise;

/// How long a proof may take. Under a silent cut it would hang without limit.
const DEADLINE: Duration = Duration::from_secs(4);

/// How long the target may take when it is asked directly, without a gateway in between.
const DIRECT: Duration = Duration::from_secs(2);

/// How long a connection must stay open to count as held, at least. A refusal by the target comes
/// one round trip after the port took the connection; see `held`.
const HELD: Duration = Duration::from_millis(300);

/// The types that sshd may have, in the order in which they are asked for. One is enough.
pub const TYPES: [&str; 3] = ["ed25519", "ecdsa", "rsa"];

/// A way to a service, from the gateway's side of it.
pub trait Road: Sync {
    /// What it gives: a stream to the service.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send;

    /// Opens a stream.
    fn open(&self) -> impl Future<Output = Result<Self::Stream, NotOpened>> + Send;
}

/// Why there is no stream.
#[derive(Debug)]
pub enum NotOpened {
    /// The gateway, or the target behind it, takes no connection.
    Refused,
    /// Nothing was said in time.
    Silent,
    /// The gateway does not pass it on, for this reason.
    NoStream(Detail),
    /// It came to nothing.
    Failed(Detail),
}

impl From<io::Error> for NotOpened {
    fn from(error: io::Error) -> Self {
        Self::Failed(Detail::new(&error.to_string()))
    }
}

impl From<NotOpened> for Sighting {
    fn from(why: NotOpened) -> Self {
        match why {
            NotOpened::Refused => Self::Refused,
            NotOpened::Silent => Self::Silent,
            NotOpened::NoStream(why) => Self::NoStream(why),
            NotOpened::Failed(why) => Self::Wrong(why),
        }
    }
}

/// The keys that a service's target showed when it was read directly.
#[derive(Debug, Default)]
pub struct Expected {
    keys: Vec<HostKey>,
}

impl Expected {
    /// What answers behind a service, and what should.
    pub async fn prove(&mut self, road: &impl Road, service: &Service) -> (Sighting, Vec<HostKey>) {
        if service.proof != ProofKind::Ssh {
            return (speak(road, service.proof).await, Vec::new());
        }
        if self.keys.is_empty() {
            self.keys = read_target(&service.target, false).await;
        }
        let first = self.keys.first().map(|key| scan_type(key.algorithm().as_str()));
        let sighting = scan(road, first.unwrap_or("ed25519")).await.into();
        if let Sighting::HostKey { key, .. } = &sighting
            && !self.keys.contains(key)
        {
            // Before this is called a stranger: the target's own key may have been renewed.
            self.keys = read_target(&service.target, false).await;
        }
        (sighting, self.keys.clone())
    }
}

/// The host keys that a target shows when it is asked directly: all of them, or the first.
pub async fn read_target(target: &Target, all: bool) -> Vec<HostKey> {
    let Target::Tcp(host, port) = target else { return Vec::new() };
    let mut keys = Vec::new();
    let scans = async {
        for kind in TYPES {
            let Ok(output) = scan_target(host, *port, kind).await else { break };
            keys.extend(keys_in(&output));
            if !all && !keys.is_empty() {
                break;
            }
        }
    };
    // Whatever was read by then is what there is.
    let _ = timeout(DIRECT, scans).await;
    keys.sort();
    keys.dedup();
    keys
}

/// Reads a target's key of one type. The connection is ours, and not `ssh-keyscan`'s own: that tries
/// only the first address of a name, and `localhost` has two.
async fn scan_target(host: &str, port: u16, kind: &str) -> io::Result<Output> {
    scan_over(TcpStream::connect((host, port)).await?, kind).await
}

/// What came of reading a host key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scanned {
    /// A key, and its fingerprint.
    Key {
        /// The key.
        key: HostKey,
        /// Its fingerprint.
        fingerprint: String,
    },
    /// The gateway opened no connection: nothing listens there, or this login may not.
    NotOpened,
    /// It opened none, and says why.
    NoStream(Detail),
    /// The connection was closed before anything was said.
    Closed,
    /// Something answered that is no key of this type.
    Wrong(Detail),
    /// Nothing was said in time.
    Silent,
}

impl From<Scanned> for Sighting {
    fn from(scanned: Scanned) -> Self {
        match scanned {
            Scanned::Key { key, fingerprint } => Self::HostKey { key, fingerprint },
            Scanned::NotOpened | Scanned::Closed => Self::Refused,
            Scanned::NoStream(why) => Self::NoStream(why),
            Scanned::Wrong(why) => Self::Wrong(why),
            Scanned::Silent => Self::Silent,
        }
    }
}

/// Reads a host key of some type (`ed25519`, `ecdsa`, `rsa`).
pub async fn scan(road: &impl Road, kind: &str) -> Scanned {
    match timeout(DEADLINE, try_scan(road, kind)).await {
        Ok(Ok(scanned)) => scanned,
        Ok(Err(NotOpened::Refused)) => Scanned::NotOpened,
        Ok(Err(NotOpened::NoStream(why))) => Scanned::NoStream(why),
        Ok(Err(NotOpened::Failed(why))) => Scanned::Wrong(why),
        Ok(Err(NotOpened::Silent)) | Err(_) => Scanned::Silent,
    }
}

async fn try_scan(road: &impl Road, kind: &str) -> Result<Scanned, NotOpened> {
    let output = scan_over(road.open().await?, kind).await?;
    if let Some(key) = keys_in(&output).into_iter().next() {
        let fingerprint = fingerprint(&key).await;
        return Ok(Scanned::Key { key, fingerprint });
    }
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("SSH-2.0") || String::from_utf8_lossy(&output.stdout).contains("SSH-2.0") {
        return Ok(Scanned::Wrong(Detail::new("an SSH server without a key of the expected type")));
    }
    Ok(Scanned::Closed)
}

/// Runs `ssh-keyscan` over a stream.
async fn scan_over(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    kind: &str,
) -> io::Result<Output> {
    let (scan, mut asking) = start_scan(kind).await?;
    let join = async {
        // How the connection ends is of no interest; what was read before is.
        let _ = tokio::io::copy_bidirectional(&mut asking, &mut stream).await;
        drop(asking);
        std::future::pending().await
    };
    tokio::select! {
        output = supervise::collect(scan, DEADLINE) => output,
        never = join => never,
    }
}

/// Speaks to a service that is no SSH server.
async fn speak(road: &impl Road, proof: ProofKind) -> Sighting {
    match try_speak(road, proof).await {
        Ok(sighting) => sighting,
        Err(why) => why.into(),
    }
}

async fn try_speak(road: &impl Road, proof: ProofKind) -> Result<Sighting, NotOpened> {
    let asked = Instant::now();
    let Ok(opened) = timeout(DEADLINE, road.open()).await else {
        return Ok(Sighting::Silent);
    };
    let mut stream = opened?;
    let hello = match proof {
        ProofKind::Http => HTTP_HELLO,
        ProofKind::Tls => TLS_HELLO,
        ProofKind::Hold | ProofKind::Ssh => {
            let mut byte = [0];
            return Ok(match timeout(held(asked.elapsed()), stream.read(&mut byte)).await {
                Ok(Ok(0) | Err(_)) => Sighting::Refused,
                // A server that speaks first is as good as one that waits.
                Ok(Ok(_)) | Err(_) => Sighting::Answer,
            });
        }
    };
    let greeted = timeout(DEADLINE, greet(&mut stream, hello)).await;
    let Ok(answer) = greeted else { return Ok(Sighting::Silent) };
    let answer = answer?;
    Ok(match answer.len() {
        0 => Sighting::Refused,
        _ if is_answer(proof, &answer) => Sighting::Answer,
        _ => Sighting::Wrong(Detail::new(&format!("it began with `{}`", answer.escape_ascii()))),
    })
}

/// How long to wait whether a connection stays open, of which opening it took this long: that was a
/// round trip, as the refusal will be, which may be a slower one.
fn held(opening: Duration) -> Duration {
    HELD + opening * 3
}

/// Says hello, and gives the beginning of the answer; nothing if the stream was closed, which may be
/// before the hello was said.
async fn greet(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    hello: &[u8],
) -> io::Result<Vec<u8>> {
    let mut answer = vec![0; 16];
    let exchange = async {
        stream.write_all(hello).await?;
        stream.flush().await?;
        stream.read(&mut answer).await
    };
    let read = match exchange.await {
        Ok(read) => read,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
            ) =>
        {
            0
        }
        Err(error) => return Err(error),
    };
    answer.truncate(read);
    Ok(answer)
}

/// The smallest request that every HTTP server answers (RFC 1945).
pub const HTTP_HELLO: &[u8] = b"HEAD / HTTP/1.0\r\nConnection: close\r\n\r\n";

/// A ClientHello of TLS 1.2 without extensions (RFC 5246, its section on ClientHello), its random all zero. Every TLS
/// server answers it, if only with an alert that it wants a newer version; we read no further.
pub const TLS_HELLO: &[u8] = &[
    0x16, 0x03, 0x01, 0x00, 0x2f, // a handshake record of 47 bytes
    0x01, 0x00, 0x00, 0x2b, // a ClientHello of 43 bytes
    0x03, 0x03, // TLS 1.2
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0x00, // no session
    0x00, 0x04, 0xc0, 0x2f, 0x00, 0x2f, // two common suites
    0x01, 0x00, // no compression
];

/// Whether a server began as one of its kind does: an HTTP status line, or a TLS handshake record or
/// alert (RFC 8446, 5.1).
fn is_answer(proof: ProofKind, answer: &[u8]) -> bool {
    match proof {
        ProofKind::Http => answer.starts_with(b"HTTP/"),
        ProofKind::Tls => matches!(answer, [0x15 | 0x16, 0x03, ..]),
        ProofKind::Hold | ProofKind::Ssh => true,
    }
}

/// Runs `ssh-keyscan` for a key of one type, and gives the connection over which it asks.
async fn start_scan(kind: &str) -> io::Result<(Child, TcpStream)> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let port = listener.local_addr()?.port().to_string();
    let scan = supervise::command("ssh-keyscan")
        .args(["-T", "4", "-t", kind, "-p", &port, "127.0.0.1"])
        .env("LC_ALL", "C")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let (stream, _) = listener.accept().await?;
    // Whoever came first came through; the listener closes, and nobody else does.
    Ok((scan, stream))
}

fn keys_in(output: &Output) -> Vec<HostKey> {
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text.lines().take(16).filter_map(|line| KnownHost::parse_line(line).ok()?);
    lines.map(|known| known.key).collect()
}

/// What `ssh-keyscan` calls the type of a key.
pub fn scan_type(algorithm: &str) -> &'static str {
    match algorithm {
        "ssh-rsa" => "rsa",
        text if text.contains("ecdsa") => "ecdsa",
        _ => "ed25519",
    }
}

/// A key's fingerprint, as OpenSSH prints it.
pub async fn fingerprint(key: &HostKey) -> String {
    let computed = async {
        let mut child = supervise::command("ssh-keygen")
            .args(["-l", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(format!("{key}\n").as_bytes()).await?;
        }
        let output = supervise::collect(child, supervise::LOCAL).await?;
        Ok::<_, io::Error>(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let text = computed.await.unwrap_or_default();
    match text.split(' ').find(|word| word.starts_with("SHA256:")) {
        Some(fingerprint) => fingerprint.to_owned(),
        None => key.to_string(),
    }
}
