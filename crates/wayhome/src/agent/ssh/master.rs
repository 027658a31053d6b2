//! One `ssh` process: how it is run, when it has logged in, and why it ended.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::oneshot;
use wayhome_core::health::Cause;

use super::diagnose;
use super::mux::Mux;
use crate::config::Gateway;
use crate::supervise;

/// How often to look whether ssh has made its control socket, which it does after the login.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How much of what ssh says is kept: the cause stands in its last lines.
const KEPT_LINES: usize = 32;
const LONGEST_LINE: u64 = 2048;

/// How long to wait for what ssh wrote just before it ended.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Options that make ssh fit to be supervised, whatever the person's own configuration says.
///
/// `IgnoreUnknown` comes first: it lets an older ssh pass over what it does not know yet.
const SUPERVISED: &[&str] = &[
    "IgnoreUnknown=ForkAfterAuthentication,StdinNull,SessionType,KnownHostsCommand,ObscureKeystrokeTiming",
    // It stays our child, and does only what it is told over the socket.
    "ControlPersist=no",
    "ForkAfterAuthentication=no",
    "RemoteCommand=none",
    "ClearAllForwardings=yes",
    "PermitLocalCommand=no",
    "ForwardAgent=no",
    "ForwardX11=no",
    "Tunnel=no",
    // Nobody is there to be asked.
    "BatchMode=yes",
    "LogLevel=INFO",
    // The second line behind the heartbeat, and the only one where no hold is to be had.
    "ServerAliveInterval=10",
    "ServerAliveCountMax=3",
    "TCPKeepAlive=yes",
];

/// The command that connects to a gateway, without what is to be done there.
///
/// The host key is checked against the pin, and nothing else: never asked for, never learned.
pub fn ssh(gateway: &Gateway, known_hosts: &Path) -> Command {
    let mut command = supervised(gateway);
    command.arg("-o").arg(file_option("UserKnownHostsFile", known_hosts));
    for option in ["GlobalKnownHostsFile=/dev/null", "UpdateHostKeys=no", "KnownHostsCommand=none"]
    {
        command.arg("-o").arg(option);
    }
    command
}

/// The same, with the host keys that the person's own ssh knows, in place of a pin.
pub fn ssh_of_person(gateway: &Gateway) -> Command {
    let mut command = supervised(gateway);
    command.args(["-o", "UpdateHostKeys=no"]);
    command
}

fn supervised(gateway: &Gateway) -> Command {
    let mut command = supervise::command("ssh");
    // What ssh says is read by `diagnose`, which knows it in one language.
    command.env("LC_ALL", "C");
    for option in SUPERVISED {
        command.arg("-o").arg(option);
    }
    if let Some(identity) = &gateway.identity {
        command.arg("-i").arg(identity).args(["-o", "IdentitiesOnly=yes"]);
    }
    command
}

/// Adds the destination, as the last arguments.
pub fn destination(command: &mut Command, gateway: &Gateway) {
    let address = &gateway.address;
    if let Some(user) = &address.user {
        command.arg("-l").arg(user);
    }
    if let Some(port) = address.port {
        command.arg("-p").arg(port.to_string());
    }
    command.arg("--").arg(&address.host);
}

/// A file's name within an option: quoted, with ssh's `%` tokens made harmless.
fn file_option(key: &str, path: &Path) -> String {
    format!("{key}=\"{}\"", path.display().to_string().replace('%', "%%"))
}

/// A running ssh.
#[derive(Debug)]
pub struct Master {
    child: Child,
    stderr: ChildStderr,
    socket: PathBuf,
}

impl Master {
    /// Runs ssh to a gateway, with its control socket at a path that was never used before: ssh runs
    /// *without* a control socket if it finds one left over.
    pub fn start(gateway: &Gateway, socket: PathBuf, family: Option<&str>) -> Result<Self, Cause> {
        let mut command = ssh(gateway, &gateway.known_hosts);
        if let Some(family) = family {
            command.arg("-o").arg(format!("AddressFamily={family}"));
        }
        Self::spawn(command, gateway, socket)
    }

    /// Runs a command that [`ssh`] or [`ssh_of_person`] made, as a master.
    pub fn spawn(mut command: Command, gateway: &Gateway, socket: PathBuf) -> Result<Self, Cause> {
        command.args(["-N", "-T", "-M", "-S"]).arg(&socket);
        command.args(["-o", "StrictHostKeyChecking=yes"]);
        destination(&mut command, gateway);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| diagnose::not_started(&error))?;
        let Some(stderr) = child.stderr.take() else {
            return Err(Cause::SshFailed { detail: "its messages cannot be read".into() });
        };
        Ok(Self { child, stderr, socket })
    }

    /// The process id.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits for the end, which `close` brings about; runs `connected` once ssh has logged in.
    pub async fn run(
        mut self,
        close: oneshot::Receiver<()>,
        connected: impl Future<Output = ()>,
    ) -> Cause {
        let said = Arc::new(Mutex::new(Vec::new()));
        let mut listening = tokio::spawn(listen(self.stderr, Arc::clone(&said)));
        let logged_in = async {
            while !self.socket.exists() || answers(&self.socket).await.is_none() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            connected.await;
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
        let lines = said.lock().map(|lines| lines.clone()).unwrap_or_default();
        diagnose::ended(&lines)
    }
}

async fn answers(socket: &Path) -> Option<()> {
    Mux::connect(socket).await.ok()?.check().await.ok()
}

/// Keeps the last lines that ssh writes.
async fn listen(stderr: ChildStderr, said: Arc<Mutex<Vec<String>>>) {
    let mut reader = BufReader::new(stderr);
    loop {
        let mut line = Vec::new();
        match (&mut reader).take(LONGEST_LINE).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        tracing::debug!(target: "ssh", "{}", line.escape_debug());
        if let Ok(mut lines) = said.lock() {
            if lines.len() == KEPT_LINES {
                lines.remove(0);
            }
            lines.push(line);
        }
    }
}
