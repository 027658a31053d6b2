//! The control socket: how `wayhome status` and its like ask a running agent.
//!
//! A Unix socket in a folder that only its owner can open, and only the owner or root is answered.
//! A request is one line of JSON, and so is the answer.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use wayhome_core::name::Name;

use super::state::Lock;
use crate::error::{Failure, Outcome};
use crate::{paths, report};

/// A request is a word or two.
const MAX_REQUEST: u64 = 1024;

/// An answer has a few hundred bytes for each service of each gateway.
const MAX_ANSWER: u64 = 16 * 1024 * 1024;

/// How long a peer may take, on either side.
const PATIENCE: Duration = Duration::from_secs(5);

/// Requests that wait for the agent. When it is full, the next ones wait in their connections.
const QUEUE: usize = 8;

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Asked {
    /// A snapshot.
    Status,
    /// Try all that waits, now; then a snapshot.
    Kick,
    /// The configuration that runs.
    Config,
    /// Read the configuration file again; then what came of it ([`Reloaded`]).
    Reload,
}

/// What reading the configuration again came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reloaded {
    /// It runs; what is different.
    Taken(Vec<String>),
    /// It is wrong, and the one before runs on.
    Refused(String),
    /// There is no file to read.
    NoFile,
}

/// A request that waits for its answer.
#[derive(Debug)]
pub struct Request {
    /// What is asked.
    pub asked: Asked,
    answer: tokio::sync::oneshot::Sender<Vec<u8>>,
}

impl Request {
    /// Answers.
    pub fn reply<T: Serialize>(self, answer: &T) {
        let mut text = serde_json::to_vec(answer).unwrap_or_default();
        text.push(b'\n');
        // Whoever asked may be gone.
        let _ = self.answer.send(text);
    }
}

/// The agent's side.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    requests: tokio::sync::Mutex<mpsc::Receiver<Request>>,
    _tasks: JoinSet<()>,
}

impl Server {
    /// Begins to listen. A socket that a dead agent left is replaced; that no live one has it, the
    /// agent's lock has shown.
    pub fn bind(runtime: &Path, name: &Name) -> Outcome<Self> {
        Self::bind_at(socket_path(runtime, name))
    }

    /// Begins to listen where nobody else does: a program that is alive is not pushed aside.
    pub fn bind_alone(path: &Path) -> Outcome<Self> {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            let shown = path.display();
            return Err(Failure::usage(format!("another one runs already, with `{shown}`"))
                .hint("`wayhome status` shows it; end that one first"));
        }
        Self::bind_at(path.to_owned())
    }

    fn bind_at(path: PathBuf) -> Outcome<Self> {
        let failed = |error: &io::Error| {
            Failure::new(format!("the control socket `{}` cannot be made", path.display()))
                .because(error)
        };
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&error)),
            _ => {}
        }
        let listener = UnixListener::bind(&path).map_err(|e| failed(&e))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
            .map_err(|e| failed(&e))?;
        let (sender, requests) = mpsc::channel(QUEUE);
        let mut tasks = JoinSet::new();
        tasks.spawn(listen(listener, sender));
        Ok(Self { path, requests: tokio::sync::Mutex::new(requests), _tasks: tasks })
    }

    /// Begins anew, in the same place.
    pub fn renew(&mut self, runtime: &Path, name: &Name) -> Outcome {
        let again = Self::bind(runtime, name)?;
        // What goes must not take the new socket's name along.
        let mut old = std::mem::replace(self, again);
        old.path = PathBuf::new();
        Ok(())
    }

    /// Whether nobody can find it any more: its folder was taken away, as a user's runtime folder is
    /// at the last logout.
    pub fn is_gone(&self) -> bool {
        std::fs::symlink_metadata(&self.path).is_err()
    }

    /// The next request.
    pub async fn accept(&self) -> Request {
        match self.requests.lock().await.recv().await {
            Some(request) => request,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn listen(listener: UnixListener, requests: mpsc::Sender<Request>) {
    // More than a few at once is a script gone wrong; the rest wait in the kernel's queue.
    const AT_ONCE: usize = 16;
    let mut serving = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if serving.len() < AT_ONCE => match accepted {
                Ok((stream, _)) => {
                    serving.spawn(serve(stream, requests.clone()));
                }
                // Out of descriptors, say: they come back when others are closed.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            },
            Some(_) = serving.join_next() => {}
        }
    }
}

/// Serves one connection. Whatever goes wrong is the peer's affair, and ends the connection.
async fn serve(stream: UnixStream, requests: mpsc::Sender<Request>) {
    let me = rustix::process::geteuid().as_raw();
    let allowed = stream.peer_cred().is_ok_and(|peer| peer.uid() == me || peer.uid() == 0);
    if !allowed {
        return;
    }
    let mut stream = BufReader::new(stream);
    let exchange = async {
        let mut line = Vec::new();
        (&mut stream).take(MAX_REQUEST).read_until(b'\n', &mut line).await.ok()?;
        let asked: Asked = serde_json::from_slice(&line).ok()?;
        let (answer, answered) = tokio::sync::oneshot::channel();
        requests.send(Request { asked, answer }).await.ok()?;
        stream.write_all(&answered.await.ok()?).await.ok()
    };
    let _ = timeout(PATIENCE, exchange).await;
}

/// Where the agent with this name listens.
pub fn socket_path(runtime: &Path, name: &Name) -> PathBuf {
    runtime.join(format!("agent-{name}.sock"))
}

/// The control sockets of the agents on this machine that are ours. One that a dead agent left is
/// told of, and removed.
pub fn sockets() -> Outcome<Vec<PathBuf>> {
    sockets_in(&paths::runtime_dir()?)
}

/// The control sockets of agents in a folder.
pub fn sockets_in(dir: &Path) -> Outcome<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(error) => {
            return Err(Failure::usage(format!("the folder `{}` cannot be read", dir.display()))
                .because(&error));
        }
    };
    for entry in entries.flatten() {
        let file = entry.file_name();
        let name =
            file.to_str().and_then(|file| file.strip_prefix("agent-")?.strip_suffix(".sock"));
        let Some(name) = name.and_then(|name| name.parse().ok()) else { continue };
        if !was_left_behind(&entry.path(), &name) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// Whether nobody listens there any more, and nobody is about to.
fn was_left_behind(socket: &Path, name: &Name) -> bool {
    match std::os::unix::net::UnixStream::connect(socket) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        Err(error) => return error.kind() == io::ErrorKind::NotFound,
        Ok(_) => return false,
    }
    match Lock::look(name) {
        Lock::Held => return false,
        // Under the lock, so that it is not the socket of an agent that starts just now.
        Lock::Free(_lock) => drop(std::fs::remove_file(socket)),
        Lock::Nowhere => {}
    }
    report::warning(format!("the agent `{name}` has ended without a word"));
    true
}

/// The control socket of the one agent that is meant: the one with this name, or the only one.
pub fn socket(name: Option<&Name>) -> Outcome<PathBuf> {
    if let Some(name) = name {
        return Ok(socket_path(&paths::runtime_dir()?, name));
    }
    let mut found = sockets()?;
    match (found.pop(), found.len()) {
        (Some(only), 0) => Ok(only),
        (Some(_), _) => Err(Failure::usage("several agents run on this machine")
            .hint("say which: `--name NAME`; `wayhome status` shows them")),
        (None, _) => Err(no_agent()),
    }
}

/// There is nobody to ask.
pub fn no_agent() -> Failure {
    Failure::usage("no agent of yours runs on this machine")
        .hint("start one: `wayhome agent run`; an agent of root's answers root only")
}

/// Asks an agent.
pub async fn ask<T: DeserializeOwned>(socket: &Path, asked: Asked) -> io::Result<T> {
    let exchange = async {
        let mut stream = UnixStream::connect(socket).await?;
        let mut line = serde_json::to_vec(&asked)?;
        line.push(b'\n');
        stream.write_all(&line).await?;
        let mut answer = Vec::new();
        stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
        if answer.is_empty() {
            return Err(not_answered());
        }
        Ok(serde_json::from_slice(&answer)?)
    };
    match timeout(PATIENCE, exchange).await {
        // It hangs up on strangers without a word.
        Ok(Err(error))
            if matches!(
                error.kind(),
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
            ) =>
        {
            Err(not_answered())
        }
        Ok(answer) => answer,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

fn not_answered() -> io::Error {
    io::Error::other("the agent does not answer this user")
}
