//! Row 6: ports of this machine that sessions of its own `sshd` hold, for homes that run plain
//! `ssh -R`: whose session each is, and what answers behind it.
//!
//! It is `wayhome status` that looks, and not the gateway: that has a user of its own, who sees nothing
//! of others' processes. To read a host key is a login that is broken off, and OpenSSH 9.8 and later
//! bans an address that does so often; so what was found behind a port is remembered for a while.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use wayhome_core::health::Detail;
use wayhome_core::link::Sighting;
use wayhome_core::service::{ProofKind, Service};
use wayhome_core::status::gateway::{Behind, StockStatus};

use crate::agent::proof::{self, Expected, NotOpened, Road, Scanned};
use crate::paths;
use crate::sockets::{self, Process, Socket};

/// How long it may take to see what is behind a port; all of them are looked at together.
const LOOK: Duration = Duration::from_secs(4);

/// How long a host may take to show its key before it is asked whether it is something else.
const FIRST_WORD: Duration = Duration::from_millis(1500);

/// How long what was seen is not looked at again.
const KEPT: Duration = Duration::from_secs(120);

/// So many ports are looked at. There are not many, where each is a session of a home.
const MOST: usize = 256;

/// The file in which is remembered what was seen.
const FILE: &str = "stock.json";

/// All of them, in the order of their ports.
pub async fn listeners() -> Vec<StockStatus> {
    let mut found = find();
    found.truncate(MOST);
    let file = folder().map(|folder| folder.join(FILE));
    let mut seen = file.as_deref().map(read).unwrap_or_default();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    let kept = u64::try_from(KEPT.as_millis()).unwrap_or(u64::MAX);
    seen.retain(|_, seen| now.saturating_sub(seen.at) < kept && seen.at <= now);
    let mut looks = JoinSet::new();
    for (place, listener) in found.iter().enumerate() {
        if !seen.contains_key(&listener.mark)
            && let Some(at) = listener.addresses.first().copied()
        {
            looks.spawn(async move { (place, behind(at).await) });
        }
    }
    while let Some(looked) = looks.join_next().await {
        let Ok((place, behind)) = looked else { continue };
        if let Some(listener) = found.get(place) {
            seen.insert(listener.mark.clone(), Seen { at: now, behind });
        }
    }
    if let Some(file) = file {
        // Of no weight: without it, it is looked at again.
        let _ = write(&file, &seen);
    }
    found.into_iter().map(|listener| listener.status(&seen, now)).collect()
}

/// Where it is remembered: a folder of whoever looks. The one for sockets may be a service's, whose user
/// is another one, or not be there yet.
fn folder() -> Option<PathBuf> {
    let folders = [paths::runtime_dir().ok()?, PathBuf::from("/run/wayhome-status")];
    folders.into_iter().find(|folder| paths::private_dir(folder).is_ok())
}

/// What was seen, and when: milliseconds since 1970.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Seen {
    at: u64,
    behind: Behind,
}

fn read(file: &Path) -> HashMap<String, Seen> {
    let text = fs::read_to_string(file).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

fn write(file: &Path, seen: &HashMap<String, Seen>) -> io::Result<()> {
    paths::write_private(file, &serde_json::to_vec(seen)?)
}

/// A port that a session of sshd's holds.
#[derive(Debug, PartialEq, Eq)]
struct Listener {
    port: u16,
    addresses: Vec<SocketAddr>,
    account: String,
    pid: Option<u32>,
    from: Option<SocketAddr>,
    /// The same only for the same socket.
    mark: String,
}

impl Listener {
    fn status(self, seen: &HashMap<String, Seen>, now: u64) -> StockStatus {
        let seen = seen.get(&self.mark).cloned();
        StockStatus {
            port: self.port,
            is_public: self.addresses.iter().any(|at| !at.ip().is_loopback()),
            addresses: self.addresses.iter().map(ToString::to_string).collect(),
            account: Detail::new(&self.account),
            pid: self.pid,
            from: self.from.map(|from| from.ip().to_string()),
            seen_ms: seen.as_ref().map(|seen| now.saturating_sub(seen.at)),
            behind: seen.map_or(Behind::Silent, |seen| seen.behind),
        }
    }
}

fn find() -> Vec<Listener> {
    let sockets = sockets::all();
    let owners = sockets::owners();
    let sessions: Vec<(Process, String)> = sockets::processes()
        .filter_map(|process| {
            let account = account(&process)?;
            Some((process, account))
        })
        .collect();
    let user_of = |pid: u32| {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(format!("/proc/{pid}")).ok().map(|process| process.uid())
    };
    let mut found: Vec<Listener> = Vec::new();
    for socket in sockets.iter().filter(|socket| socket.listens) {
        let holds = |process: &Process| {
            let open = owners.get(&socket.inode);
            open.is_some_and(|open| open.iter().any(|its| its.pid == process.pid))
        };
        let holder = sessions.iter().find(|(process, _)| holds(process));
        // Whoever may not see what another user's process has open still sees whose socket it is; root's
        // may be anything.
        let guess = || {
            let is_unseen = !owners.contains_key(&socket.inode) && socket.user != 0;
            let of_user = |(process, _): &&(Process, String)| {
                is_unseen && user_of(process.pid) == Some(socket.user)
            };
            sessions.iter().find(of_user)
        };
        let (account, pid) = match (holder, holder.is_none().then(guess).flatten()) {
            (Some((process, account)), _) => (account.clone(), Some(process.pid)),
            (None, Some((_, account))) => (account.clone(), None),
            (None, None) => continue,
        };
        let port = socket.local.port();
        if let Some(known) = found.iter_mut().find(|it| it.port == port && it.pid == pid) {
            known.addresses.push(socket.local);
            continue;
        }
        let from = pid.and_then(|pid| from(pid, &sockets, &owners));
        let mark = format!("{port} {} {}", socket.inode, pid.unwrap_or(0));
        let addresses = vec![socket.local];
        found.push(Listener { port, addresses, account, pid, from, mark });
    }
    for listener in &mut found {
        listener.addresses.sort();
    }
    found.sort_by_key(|listener| listener.port);
    found
}

/// Whose session this is: `sshd: amy`, `sshd-session: amy@notty`. The daemon itself is none, nor is the
/// half of a session that only watches (`[priv]`).
fn account(process: &Process) -> Option<String> {
    let rest = ["sshd: ", "sshd-session: "]
        .iter()
        .find_map(|beginning| process.title.strip_prefix(beginning))?;
    let account = rest.split(['@', ' ']).next()?;
    let is_other = rest.contains("[priv]") || rest.contains("[listener]") || rest.contains("[net]");
    (!account.is_empty() && !account.contains(['/', '[']) && !is_other).then(|| account.to_owned())
}

/// Where a session comes from: the one connection that it has and that is not to this machine.
fn from(pid: u32, sockets: &[Socket], owners: &HashMap<u64, Vec<Process>>) -> Option<SocketAddr> {
    let has = |inode| owners.get(&inode).is_some_and(|open| open.iter().any(|it| it.pid == pid));
    let mut its = sockets.iter().filter(|socket| !socket.listens && has(socket.inode));
    its.find(|socket| !socket.remote.ip().is_loopback()).map(|socket| socket.remote)
}

/// A port of this machine.
struct At(SocketAddr);

impl Road for At {
    type Stream = TcpStream;

    async fn open(&self) -> Result<TcpStream, NotOpened> {
        let mut at = self.0;
        if at.ip().is_unspecified() {
            at.set_ip(match at {
                SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            });
        }
        TcpStream::connect(at).await.map_err(|why| match why.kind() {
            io::ErrorKind::ConnectionRefused => NotOpened::Refused,
            _ => why.into(),
        })
    }
}

/// What answers there.
async fn behind(at: SocketAddr) -> Behind {
    let look = async {
        // One after the other: a small server may serve one at a time.
        if let Ok(Some(host)) = timeout(FIRST_WORD, host(at)).await {
            return host;
        }
        match other(at).await {
            Some(other) => other,
            // A host, and a slow one.
            None => host(at).await.unwrap_or(Behind::Other),
        }
    };
    timeout(LOOK, look).await.unwrap_or(Behind::Silent)
}

/// A host that speaks SSH, if it is one.
async fn host(at: SocketAddr) -> Option<Behind> {
    for kind in proof::TYPES {
        match proof::scan(&At(at), kind).await {
            Scanned::Key { key, fingerprint } => {
                return Some(Behind::Host { key: key.to_string(), fingerprint });
            }
            // A server of ssh with keys of other types.
            Scanned::Wrong(_) => {}
            Scanned::Silent | Scanned::Closed | Scanned::NotOpened | Scanned::NoStream(_) => break,
        }
    }
    None
}

/// What it is if it is no host: most of what is no SSH has something to say to a question in HTTP.
/// `None` if it speaks SSH.
async fn other(at: SocketAddr) -> Option<Behind> {
    let mut service = Service::from_forward("1:localhost:1").ok()?;
    service.proof = ProofKind::Http;
    match Expected::default().prove(&At(at), &service).await.0 {
        Sighting::Wrong(began) if began.as_str().contains("SSH-") => None,
        Sighting::Answer | Sighting::Wrong(_) | Sighting::HostKey { .. } => Some(Behind::Other),
        Sighting::Silent => Some(Behind::Silent),
        Sighting::Refused | Sighting::NoStream(_) | Sighting::OnLoopback(_) => {
            Some(Behind::Nothing)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_told_from_the_daemon() {
        let of =
            |title: &str| account(&Process { pid: 1, name: "sshd".into(), title: title.into() });
        assert_eq!(of("sshd: amy").as_deref(), Some("amy"));
        assert_eq!(of("sshd: root@notty").as_deref(), Some("root"));
        assert_eq!(of("sshd-session: amy@pts/0").as_deref(), Some("amy"));
        for other in [
            "sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups",
            "sshd: amy [priv]",
            "sshd: [accepted]",
            "sshd: unknown [net]",
            "/usr/sbin/sshd -D",
            "sshd: ",
            "ssh: amy",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
