//! Gathers what can be known of a road with one login: who holds the port, what is behind it, how the
//! gateway's sshd is set.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::time::timeout;
use wayhome_core::address::Address;
use wayhome_core::health::{Cause, Detail};
use wayhome_core::host_key::HostKey;
use wayhome_core::known_hosts::{KnownHost, known_hosts_name};
use wayhome_core::link;
use wayhome_core::service::Target;

use super::sight::{Behind, Facts, Holder, Settings, Sight, Whose};
use crate::agent::proof::{self, Scanned};
use crate::agent::ssh::master::{self, Master};
use crate::agent::ssh::mux::{Mux, MuxError};
use crate::agent::ssh::proof::scan_at;
use crate::agent::ssh::{diagnose, hold};
use crate::config::SshGateway;
use crate::error::{Failure, Outcome};
use crate::supervise;

/// What the login may take: jump hosts, and a gateway that is busy.
const LOGIN: Duration = Duration::from_secs(30);

/// What one question over a login that stands may take.
const ANSWER: Duration = Duration::from_secs(8);

/// What the gateway may say about itself: a few lines.
const MOST: u64 = 16 * 1024;

const SEE: &str = include_str!("see.sh");

/// What is to be looked at, and by what the home is to be known.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The gateway.
    pub gateway: Address,
    /// Home's port there.
    pub port: u16,
    /// The key to log in with; ssh's own choice if none is given.
    pub identity: Option<PathBuf>,
    /// Where the port leads, if this is home. Without it, this machine's own sshd is tried, and that
    /// it has another key says nothing.
    pub target: Option<Target>,
    /// The fingerprint of home's host key.
    pub expect: Option<String>,
}

impl Wanted {
    fn target(&self) -> Target {
        self.target.clone().unwrap_or_else(|| Target::Tcp("localhost".to_owned(), 22))
    }
}

/// Looks.
pub async fn look(wanted: &Wanted) -> Outcome<Sight> {
    // A short path, which `TMPDIR` may not be: a control socket's has 108 bytes.
    let folder = tempfile::Builder::new().prefix("wayhome-").tempdir_in("/tmp").map_err(|e| {
        Failure::usage("no folder for ssh's control socket can be made in `/tmp`").because(&e)
    })?;
    let socket = folder.path().join("s");
    let gateway = SshGateway {
        address: wanted.gateway.clone(),
        identity: wanted.identity.clone(),
        known_hosts: PathBuf::new(),
    };
    let mut facts = Facts {
        gateway: wanted.gateway.to_string(),
        port: wanted.port,
        target: None,
        refused: None,
        listens: None,
        holder: Holder::Unknown,
        unseen: None,
        behind: Behind::NotChecked,
        sshd: Settings::default(),
    };
    let master = match Master::spawn(master::ssh_of_person(&gateway), &gateway, socket.clone()) {
        Ok(master) => master,
        Err(cause) => return Ok(Sight::of(Facts { refused: Some(cause), ..facts })),
    };
    let (close, closing) = oneshot::channel();
    let (connected, login) = oneshot::channel();
    let running = tokio::spawn(master.run(closing, async move {
        // Whoever waits for it may have lost patience.
        let _ = connected.send(());
    }));
    match timeout(LOGIN, login).await {
        Ok(Ok(())) => see(wanted, &socket, &mut facts).await,
        // It ended before it had logged in; why is what it said last.
        Ok(Err(_)) => facts.refused = Some(Cause::ConnectionLost { detail: Detail::default() }),
        Err(_) => facts.refused = Some(Cause::LoginTimedOut),
    }
    drop(close);
    let ended = running.await;
    if let (Some(Cause::ConnectionLost { .. }), Ok(cause)) = (&facts.refused, ended) {
        facts.refused = Some(cause);
    }
    Ok(Sight::of(facts))
}

async fn see(wanted: &Wanted, socket: &Path, facts: &mut Facts) {
    match timeout(ANSWER, holder(socket, wanted.port)).await {
        Ok(Ok((holder, listens))) => {
            facts.holder = holder;
            facts.listens = Some(listens);
        }
        Ok(Err(why)) => facts.unseen = Some(why.to_string()),
        Err(_) => facts.unseen = Some("it did not answer".to_owned()),
    }
    let pid = match &facts.holder {
        Holder::Session { pid, .. } => Some(*pid),
        _ => None,
    };
    // What is not told is not known; nothing here hangs on it.
    if let Ok(Ok(said)) = timeout(ANSWER, ask(socket, pid)).await {
        understand(&said, facts);
    }
    let known = Known::gather(wanted).await;
    facts.target = (!known.target.is_empty()).then(|| wanted.target().to_string());
    facts.behind = behind(socket, wanted, &known, facts).await;
}

/// Who holds the port, and on which addresses.
async fn holder(socket: &Path, port: u16) -> Result<(Holder, Vec<String>), Detail> {
    let mut held = hold::open(socket, &[port])
        .await
        .map_err(|why| Detail::new(&diagnose::no_hold(&why, false).to_string()))?;
    let said = held.look(port).await?;
    let words: Vec<&str> = said.split(' ').collect();
    let at = match words.as_slice() {
        ["free"] => "",
        ["unknown", reason] => return Err(Detail::new(reason)),
        [.., at] => at,
        [] => "",
    };
    let listens: Vec<String> =
        at.split(',').filter(|at| !at.is_empty()).map(|at| Detail::new(at).to_string()).collect();
    let holder = match hold::holder(&words, "") {
        link::Holder::Free => Holder::Nobody,
        link::Holder::Session { session, .. } => session_of(&session),
        link::Holder::OneOf(sessions) => match sessions.as_slice() {
            [only] => session_of(only),
            _ => Holder::Unknown,
        },
        link::Holder::Program { pid, name } => Holder::Program { pid, name: name.to_string() },
        link::Holder::Foreign { uid } => Holder::Foreign { uid },
        _ => Holder::Unknown,
    };
    Ok((holder, listens))
}

fn session_of(session: &link::Session) -> Holder {
    Holder::Session { pid: session.pid, title: None, since: None, from: None }
}

/// Runs the script at the gateway, for what it says.
async fn ask(socket: &Path, pid: Option<u32>) -> Result<String, MuxError> {
    let (ours, theirs) = StdUnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let theirs = OwnedFd::from(theirs);
    let null: OwnedFd = std::fs::OpenOptions::new().write(true).open("/dev/null")?.into();
    let pid = pid.map(|pid| format!(" {pid}")).unwrap_or_default();
    let stdio = [theirs.as_fd(), theirs.as_fd(), null.as_fd()];
    let _session =
        Mux::connect(socket).await?.session(&format!("exec sh -s --{pid}"), stdio).await?;
    drop(theirs);
    let mut stream = UnixStream::from_std(ours)?;
    stream.write_all(SEE.as_bytes()).await?;
    stream.shutdown().await?;
    let mut said = Vec::new();
    stream.take(MOST).read_to_end(&mut said).await?;
    Ok(String::from_utf8_lossy(&said).into_owned())
}

/// Reads what the script said; its head has the form.
fn understand(said: &str, facts: &mut Facts) {
    // Whatever the account prints at its start comes before.
    let lines = said.lines().skip_while(|line| *line != "wayhome-see 1").skip(1);
    for (key, value) in lines.filter_map(|line| line.split_once(' ')) {
        let text = || Some(Detail::new(value).to_string());
        match (key, &mut facts.holder) {
            ("since", Holder::Session { since, .. }) => *since = value.parse().ok(),
            ("title", Holder::Session { title, .. }) => *title = text(),
            ("from", Holder::Session { from, .. }) => *from = text(),
            ("sshd", _) => match value.split_once(' ') {
                Some(("clientaliveinterval", value)) => {
                    facts.sshd.client_alive_interval = value.parse().ok();
                }
                Some(("clientalivecountmax", value)) => {
                    facts.sshd.client_alive_count_max = value.parse().ok();
                }
                Some(("gatewayports", value)) => {
                    facts.sshd.gateway_ports = Some(Detail::new(value).to_string());
                }
                _ => {}
            },
            _ => {}
        }
    }
}

/// By what the home is known here.
struct Known {
    /// The keys that the target shows when it is read directly.
    target: Vec<HostKey>,
    /// The person says that this is home: then it is this key or none.
    is_home: bool,
    /// The keys that the person's known hosts have for this port.
    hosts: Vec<HostKey>,
    expect: Option<String>,
}

impl Known {
    async fn gather(wanted: &Wanted) -> Self {
        let mut hosts = Vec::new();
        for host in ["127.0.0.1", "::1", "localhost"] {
            let name = known_hosts_name(host, wanted.port);
            hosts.extend(known_to_the_person(&name).await.unwrap_or_default());
        }
        let target = proof::read_target(&wanted.target(), true).await;
        Self { target, is_home: wanted.target.is_some(), hosts, expect: wanted.expect.clone() }
    }

    /// The type of key to ask for first: one that can be compared.
    fn types(&self) -> Vec<&'static str> {
        let known = self.target.iter().chain(&self.hosts);
        let mut types: Vec<&'static str> =
            known.map(|key| proof::scan_type(key.algorithm().as_str())).collect();
        types.extend(proof::TYPES);
        let mut once = Vec::new();
        types.retain(|kind| {
            !once.contains(kind) && {
                once.push(*kind);
                true
            }
        });
        types
    }

    fn whose(&self, key: &HostKey, fingerprint: &str) -> Whose {
        if let Some(expect) = &self.expect {
            return if expect == fingerprint { Whose::Expected } else { Whose::Another };
        }
        if self.target.contains(key) {
            Whose::Target
        } else if self.hosts.contains(key) {
            Whose::Known
        } else if (self.is_home && !self.target.is_empty())
            || self.hosts.iter().any(|other| other.algorithm() == key.algorithm())
        {
            Whose::Another
        } else {
            // That this machine has another key says only that this may not be home.
            Whose::Nobodys
        }
    }
}

/// The keys that the person's known hosts have for a name, hashed or not.
async fn known_to_the_person(name: &str) -> io::Result<Vec<HostKey>> {
    let output = supervise::command("ssh-keygen").args(["-F", name]).output().await?;
    let text = String::from_utf8_lossy(&output.stdout);
    let known = text.lines().filter_map(|line| KnownHost::parse_line(line).ok()?);
    Ok(known.filter(|known| known.marker.is_none()).map(|known| known.key).collect())
}

/// Reads the host key behind the port.
async fn behind(socket: &Path, wanted: &Wanted, known: &Known, facts: &Facts) -> Behind {
    if facts.holder == Holder::Nobody {
        return Behind::NotChecked;
    }
    let listens = facts.listens.clone().unwrap_or_default();
    let on = |address: &str| listens.iter().any(|other| other == address);
    let hosts: &[&str] = if on("127.0.0.1") || on("0.0.0.0") {
        &["127.0.0.1"]
    } else if on("::1") && !on("::") {
        &["::1"]
    } else if listens.is_empty() || on("::") {
        &["127.0.0.1", "::1"]
    } else {
        return Behind::NotChecked;
    };
    let mut behind = Behind::NotChecked;
    for host in hosts {
        behind = behind_at(socket, host, wanted.port, known).await;
        if behind != Behind::NotOpened {
            return behind;
        }
    }
    behind
}

async fn behind_at(socket: &Path, host: &str, port: u16, known: &Known) -> Behind {
    let mut behind = Behind::NotChecked;
    for kind in known.types() {
        behind = match scan_at(socket, host, port, kind).await {
            Scanned::Key { key, fingerprint } => {
                let whose = known.whose(&key, &fingerprint);
                let key = key.to_string();
                Behind::HostKey { key, fingerprint, at: host.to_owned(), whose }
            }
            Scanned::NotOpened => Behind::NotOpened,
            Scanned::Closed => Behind::Closed,
            Scanned::Silent => Behind::Silent,
            // An SSH server may have a key of another type.
            Scanned::Wrong(detail) | Scanned::NoStream(detail) => {
                behind = Behind::Other { detail: detail.to_string() };
                continue;
            }
        };
        return behind;
    }
    behind
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn understands_what_the_script_says_and_nothing_else() {
        let mut facts = Facts {
            gateway: "gw".into(),
            port: 2222,
            target: None,
            refused: None,
            listens: None,
            holder: Holder::Session { pid: 7, title: None, since: None, from: None },
            unseen: None,
            behind: Behind::NotChecked,
            sshd: Settings::default(),
        };
        let said = "Welcome!\nsince 1\nwayhome-see 1\nsince 90\ntitle sshd: amy \u{1b}[31m\n\
                    from 192.0.2.2:40000\nsshd clientaliveinterval 0\nsshd gatewayports no\nx y\nz\n";
        understand(said, &mut facts);
        let holder = Holder::Session {
            pid: 7,
            title: Some("sshd: amy [31m".into()),
            since: Some(90),
            from: Some("192.0.2.2:40000".into()),
        };
        assert_eq!(facts.holder, holder);
        assert_eq!(facts.sshd.client_alive_interval, Some(0));
        assert_eq!(facts.sshd.gateway_ports.as_deref(), Some("no"));
        // A gate answers as a hold does: nothing of it is ours.
        let before = facts.clone();
        understand("wayhome-hold 1 pid=1\nerror unknown-request\n", &mut facts);
        assert_eq!(facts, before);
    }
}
