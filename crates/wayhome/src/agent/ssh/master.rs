//! One `ssh` process: how it is run, when it has logged in, and why it ended.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::{mpsc, oneshot};
use wayhome_core::health::Cause;
use wayhome_core::link::Stage;

use super::certificate;
use super::diagnose::{self, Said};
use super::mux::Mux;
use super::version::Version;
use crate::config::SshGateway;
use crate::secret::masked;
use crate::supervise;

/// How often to look whether ssh has made its control socket, which it does after the login.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Of a longer line the rest counts as the next one.
const LONGEST_LINE: u64 = 2048;

/// How long to wait for what ssh wrote just before it ended.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Options that make ssh fit to be supervised, whatever the person's own configuration says: ssh
/// takes the first value that it meets. `IgnoreUnknown` is not among them, since the person's own
/// would then count no more.
const SUPERVISED: &[&str] = &[
    // It stays our child, and does only what it is told over the socket.
    "ControlPersist=no",
    "RemoteCommand=none",
    "ClearAllForwardings=yes",
    "PermitLocalCommand=no",
    "ForwardAgent=no",
    "ForwardX11=no",
    "Tunnel=no",
    // Nobody is there to be asked.
    "BatchMode=yes",
    // What it says is read by `diagnose`.
    "LogLevel=INFO",
    "VisualHostKey=no",
    // The second line behind the heartbeat, and the only one where no hold is to be had.
    "ServerAliveInterval=10",
    "ServerAliveCountMax=3",
    "TCPKeepAlive=yes",
    // The pin alone says who the gateway is: no other file or program, no name server, not that it
    // is reached by way of localhost. And nothing is added to it.
    "GlobalKnownHostsFile=/dev/null",
    "UpdateHostKeys=no",
    "VerifyHostKeyDNS=no",
    "NoHostAuthenticationForLocalhost=no",
    "CheckHostIP=no",
];

/// The same, of what not every ssh knows: with the version that brought it (OpenSSH's release
/// notes). An older one would refuse it.
const SUPERVISED_SINCE: &[(Version, &str)] = &[
    (Version(8, 5), "KnownHostsCommand=none"),
    (Version(8, 5), diagnose::LOG_VERBOSE),
    (Version(8, 7), "ForkAfterAuthentication=no"),
    // It would end the hold, or a stream at rest.
    (Version(9, 6), "ChannelTimeout=none"),
];

fn supervised(version: Option<Version>) -> impl Iterator<Item = &'static str> {
    let newer = SUPERVISED_SINCE.iter().filter(move |(since, _)| version >= Some(*since));
    SUPERVISED.iter().copied().chain(newer.map(|(_, option)| *option))
}

/// The command that connects to a gateway, without what is to be done there.
///
/// The host key is checked against the pin, and nothing else: never asked for, never learned.
pub fn ssh(gateway: &SshGateway, known_hosts: &Path) -> Command {
    let mut command = unpinned(gateway);
    command.arg("-o").arg(file_option("UserKnownHostsFile", known_hosts));
    for option in ["GlobalKnownHostsFile=/dev/null", "UpdateHostKeys=no", "KnownHostsCommand=none"]
    {
        command.arg("-o").arg(option);
    }
    command
}

/// The same, with the host keys that the person's own ssh knows, in place of a pin.
pub fn ssh_of_person(gateway: &SshGateway) -> Command {
    let mut command = unpinned(gateway);
    command.args(["-o", "UpdateHostKeys=no"]);
    command
}

fn unpinned(gateway: &SshGateway) -> Command {
    let mut command = supervise::command("ssh");
    // What ssh says is read by `diagnose`, which knows it in one language.
    command.env("LC_ALL", "C");
    for option in supervised(Version::of_ssh()) {
        command.arg("-o").arg(option);
    }
    if let Some(identity) = &gateway.identity {
        // Not `-i`, which looks for the file before it makes anything of `%%`.
        command.arg("-o").arg(file_option("IdentityFile", identity));
        command.args(["-o", "IdentitiesOnly=yes"]);
    }
    command
}

/// Adds the destination, as the last arguments.
pub fn destination(command: &mut Command, gateway: &SshGateway) {
    let address = &gateway.address;
    if let Some(user) = &address.user {
        command.arg("-l").arg(user);
    }
    if let Some(port) = address.port {
        command.arg("-p").arg(port.to_string());
    }
    command.arg("--").arg(&address.host);
}

/// A file's name within an option: quoted, and literal.
fn file_option(key: &str, path: &Path) -> OsString {
    let mut option = OsString::from(key);
    option.push("=\"");
    option.push(literal(path));
    option.push("\"");
    option
}

/// A path with ssh's `%` tokens made harmless. What cannot be made so, `paths::for_ssh` has refused.
fn literal(path: &Path) -> OsString {
    let doubled = |byte: &u8| std::iter::repeat_n(*byte, if *byte == b'%' { 2 } else { 1 });
    OsString::from_vec(path.as_os_str().as_bytes().iter().flat_map(doubled).collect())
}

/// How far a login has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// To this stage of it.
    Reached(Stage),
    /// To its end.
    LoggedIn,
}

/// A login has fewer stages than this; if they are not read, ssh's messages wait.
pub const STAGES: usize = 8;

/// A running ssh.
#[derive(Debug)]
pub struct Master {
    child: Child,
    stderr: ChildStderr,
    socket: PathBuf,
    identity: Option<PathBuf>,
    said: Arc<Mutex<Said>>,
}

impl Master {
    /// Runs ssh to a gateway, with its control socket at a path that was never used before: ssh runs
    /// *without* a control socket if it finds one left over.
    pub fn start(
        gateway: &SshGateway,
        socket: PathBuf,
        family: Option<&str>,
    ) -> Result<Self, Cause> {
        let family = family.map(|family| format!("AddressFamily={family}"));
        Self::start_with(gateway, socket, family.as_slice())
    }

    /// The same, with further options.
    pub fn start_with(
        gateway: &SshGateway,
        socket: PathBuf,
        options: &[String],
    ) -> Result<Self, Cause> {
        let mut command = ssh(gateway, &gateway.known_hosts);
        for option in options {
            command.arg("-o").arg(option);
        }
        Self::spawn(command, gateway, socket)
    }

    /// Runs a command that [`ssh`] or [`ssh_of_person`] made, as a master.
    pub fn spawn(
        mut command: Command,
        gateway: &SshGateway,
        socket: PathBuf,
    ) -> Result<Self, Cause> {
        command.args(["-N", "-T", "-M", "-S"]).arg(literal(&socket));
        command.args(["-o", "StrictHostKeyChecking=yes"]);
        destination(&mut command, gateway);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| diagnose::not_started(&error))?;
        let Some(stderr) = child.stderr.take() else {
            return Err(Cause::SshFailed { detail: "its messages cannot be read".into() });
        };
        let identity = gateway.identity.clone();
        Ok(Self { child, stderr, socket, identity, said: Arc::default() })
    }

    /// The process id.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// What it has said until now, and will say.
    pub fn said(&self) -> Arc<Mutex<Said>> {
        Arc::clone(&self.said)
    }

    /// Waits for the end, which `close` brings about; runs `connected` once ssh has logged in.
    pub async fn run(
        self,
        close: oneshot::Receiver<()>,
        connected: impl Future<Output = ()>,
    ) -> Cause {
        let (teller, mut told) = mpsc::channel(STAGES);
        let logged_in = async {
            while let Some(progress) = told.recv().await {
                if progress == Progress::LoggedIn {
                    return connected.await;
                }
            }
        };
        tokio::join!(self.run_and_tell(close, teller), logged_in).0
    }

    /// Waits for the end, which `close` brings about; tells how far the login has come.
    pub async fn run_and_tell(
        mut self,
        close: oneshot::Receiver<()>,
        progress: mpsc::Sender<Progress>,
    ) -> Cause {
        let said = self.said();
        let hears = listen(self.stderr, Arc::clone(&said), progress.clone());
        let mut listening = tokio::spawn(hears);
        let mut is_in = false;
        let logged_in = async {
            while !self.socket.exists() || !answers(&self.socket).await {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            is_in = true;
            // Whoever listens may have ended; then nobody wants to know.
            let _ = progress.send(Progress::LoggedIn).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            _ = close => supervise::end(&mut self.child).await,
            _ = self.child.wait() => {}
            () = logged_in => {}
        }
        // What it said last may still be in the pipe; a child of ssh's may hold that open for long.
        if tokio::time::timeout(LAST_WORDS, &mut listening).await.is_err() {
            listening.abort();
        }
        let _ = std::fs::remove_file(&self.socket);
        let cause = match said.lock() {
            Ok(said) => said.ended(is_in),
            Err(_) => Cause::SshFailed { detail: "its messages were lost".into() },
        };
        match (&cause, &self.identity) {
            // A certificate out of its time is refused like any key.
            (Cause::KeyRefused { .. }, Some(identity)) => {
                let detail = certificate::not_valid_now(identity).await;
                detail.map_or(cause, |detail| Cause::Clock { detail })
            }
            _ => cause,
        }
    }
}

/// How long ssh may take to answer for itself, which needs no network. A stopped one never does.
const ANSWERS: Duration = Duration::from_secs(2);

/// Whether the ssh behind a control socket answers.
pub async fn answers(socket: &Path) -> bool {
    let asked = async { Mux::connect(socket).await?.check().await };
    tokio::time::timeout(ANSWERS, asked).await.is_ok_and(|answer| answer.is_ok())
}

/// Takes in what ssh writes, and tells the stages of its login.
async fn listen(stderr: ChildStderr, said: Arc<Mutex<Said>>, progress: mpsc::Sender<Progress>) {
    let mut reader = BufReader::new(stderr);
    loop {
        let mut line = Vec::new();
        match (&mut reader).take(LONGEST_LINE).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        // A person's proxy may say a whole address, password and all.
        let line = masked(String::from_utf8_lossy(&line).trim_end()).into_owned();
        if line.starts_with("debug") {
            tracing::trace!(target: "ssh", event = "ssh-said", "ssh: {}", line.escape_debug());
        } else {
            tracing::debug!(target: "ssh", event = "ssh-said", "ssh: {}", line.escape_debug());
        }
        let stage = said.lock().ok().and_then(|mut said| said.hear(&line));
        if let Some(stage) = stage {
            let _ = progress.send(Progress::Reached(stage)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ssh_is_given_what_it_knows() {
        let given = |version, option: &str| supervised(version).any(|given| given == option);
        for (version, known, unknown) in [
            (None, "BatchMode=yes", "KnownHostsCommand=none"),
            (Some(Version(8, 4)), "VerifyHostKeyDNS=no", diagnose::LOG_VERBOSE),
            (Some(Version(8, 5)), "KnownHostsCommand=none", "ForkAfterAuthentication=no"),
            (Some(Version(9, 2)), "ForkAfterAuthentication=no", "ChannelTimeout=none"),
            (Some(Version(10, 0)), "ChannelTimeout=none", "IgnoreUnknown=*"),
        ] {
            assert!(given(version, known), "{version:?}: {known}");
            assert!(!given(version, unknown), "{version:?}: {unknown}");
        }
    }
}
