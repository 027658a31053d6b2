//! The ports of the gateway's loopback that homes have, for clients that have no wayhome: a program
//! here, or somebody who jumps through this machine's own sshd.
//!
//! A port belongs to the control connection that offered it, and closes with it. Which home may have
//! which, its grant says; whose it is already, stands in the [`Book`](super::book::Book).

use std::collections::BTreeMap;
use std::io;
use std::net::{self, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use wayhome_core::health::Detail;
use wayhome_core::key::Key;
use wayhome_core::name::Name;
use wayhome_core::refusal::{Reason, Refusal};
use wayhome_core::route::ConnId;

use super::book::Peer;
use super::store::{Left, Store};
use super::{Gateway, door, holder, local, wall_clock};

/// When nothing can be accepted: out of descriptors, say. They come back when others are closed.
const PAUSE: Duration = Duration::from_millis(50);

/// Whose a port is, and where it leads.
#[derive(Clone, Debug)]
pub struct Owner {
    /// The control connection that offered it.
    pub conn: ConnId,
    /// The home's key.
    pub key: Key,
    /// The home.
    pub home: Name,
    /// Its service.
    pub service: Name,
}

#[derive(Debug)]
struct Entry {
    owner: Owner,
    listening: Option<Listening>,
}

/// The tasks that listen on a port. They end with it.
#[derive(Debug)]
struct Listening {
    tasks: Vec<AbortHandle>,
    /// Its name in the store.
    name: String,
    store: Arc<Store>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        self.store.remove(&self.name);
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct Ports(BTreeMap<u16, Entry>);

impl Ports {
    /// Gives a port to an owner. `false` if it is listened on already, for an earlier connection of
    /// the same home, and goes on so.
    ///
    /// # Errors
    /// The home that has it.
    fn claim(&mut self, port: u16, owner: Owner) -> Result<bool, Name> {
        match self.0.get_mut(&port) {
            Some(entry) if entry.owner.home != owner.home => Err(entry.owner.home.clone()),
            Some(entry) => {
                entry.owner = owner;
                Ok(false)
            }
            None => {
                self.0.insert(port, Entry { owner, listening: None });
                Ok(true)
            }
        }
    }

    /// Where a port leads.
    pub fn owner(&self, port: u16) -> Option<&Owner> {
        self.0.get(&port).map(|entry| &entry.owner)
    }

    /// All that have one.
    pub fn owners(&self) -> impl Iterator<Item = (u16, &Owner)> {
        self.0.iter().map(|(port, entry)| (*port, &entry.owner))
    }

    /// The port of a service that was offered on this connection.
    pub fn of(&self, conn: ConnId, service: &Name) -> Option<u16> {
        let its = |owner: &Owner| owner.conn == conn && owner.service == *service;
        self.owners().find(|(_, owner)| its(owner)).map(|(port, _)| port)
    }

    /// Closes a port, if it is still this connection's.
    pub fn close(&mut self, port: u16, conn: ConnId) {
        if self.owner(port).is_some_and(|owner| owner.conn == conn) {
            self.0.remove(&port);
        }
    }

    /// Takes in nobody any more.
    pub fn stop(&mut self) {
        self.0.values_mut().for_each(|entry| entry.listening = None);
    }

    /// Closes all ports of a connection that is gone.
    pub fn left(&mut self, conn: ConnId) {
        self.0.retain(|_, entry| entry.owner.conn != conn);
    }
}

/// Listens on a port for a service of a home, if it may have it.
///
/// # Errors
/// Why it may not, or who has it.
pub fn open(
    gateway: &Arc<Gateway>,
    peer: &Peer,
    home: &Name,
    service: &Name,
    port: u16,
) -> Result<(), Refusal> {
    let grants = gateway.grants()?;
    grants.may_have_port(&peer.key, home, port, peer.from.ip(), wall_clock())?;
    let taken = |who: &str| Refusal {
        reason: Reason::PortTaken,
        detail: Detail::new(&format!("port {port}: {who}")),
        last_seen: None,
    };
    let owner =
        Owner { conn: peer.id, key: peer.key, home: home.clone(), service: service.clone() };
    let claimed = gateway.book().ports.claim(port, owner);
    match claimed {
        Ok(true) => {}
        Ok(false) => return Ok(()),
        Err(other) => return Err(taken(&format!("the home `{other}` has it"))),
    }
    let name = name_of(port, home);
    let before = gateway.left_ports().take_for(port, home);
    let before = match before {
        Ok(before) => before,
        Err(other) => {
            gateway.book().ports.close(port, peer.id);
            return Err(taken(&format!("it is kept for the home `{other}`, after a restart")));
        }
    };
    let listeners = match before.map_or_else(|| listen(port, &name, &gateway.store), go_on) {
        Ok(listeners) => listeners,
        Err(why) => {
            gateway.book().ports.close(port, peer.id);
            return Err(match why.kind() {
                io::ErrorKind::AddrInUse => taken(&holder::of(port)),
                _ => Refusal {
                    reason: Reason::Unspecified,
                    detail: Detail::new(&format!("port {port} cannot be listened on: {why}")),
                    last_seen: None,
                },
            });
        }
    };
    let keep = |listener| tokio::spawn(keep(Arc::clone(gateway), port, listener)).abort_handle();
    let tasks = listeners.into_iter().map(keep).collect();
    let listening = Listening { tasks, name, store: Arc::clone(&gateway.store) };
    let mut book = gateway.book();
    if let Some(entry) = book.ports.0.get_mut(&port) {
        entry.listening = Some(listening);
    }
    tracing::info!(
        event = "port-opened",
        port,
        home = home.as_str(),
        "port {port} leads to {home}:{service}"
    );
    Ok(())
}

/// 127.0.0.1, and [::1] where this machine has it. Half of a port would lead `localhost` to
/// somebody else.
fn listen(port: u16, name: &str, store: &Store) -> io::Result<Vec<TcpListener>> {
    let mut listeners = vec![door::listen_at((Ipv4Addr::LOCALHOST, port).into())?];
    match door::listen_at((Ipv6Addr::LOCALHOST, port).into()) {
        Ok(listener) => listeners.push(listener),
        Err(why) if why.kind() == io::ErrorKind::AddrInUse => return Err(why),
        Err(why) => tracing::debug!("[::1]:{port} is not listened on: {why}"),
    }
    store.put(name, &listeners.iter().map(AsFd::as_fd).collect::<Vec<_>>())?;
    Ok(listeners)
}

fn go_on(before: Vec<net::TcpListener>) -> io::Result<Vec<TcpListener>> {
    before.into_iter().map(door::go_on_at).collect()
}

/// How the names of ports begin in the store.
const NAME: &str = "port-";

/// Behind it the port and the home, so that the next process keeps it for that one.
fn name_of(port: u16, home: &Name) -> String {
    format!("{NAME}{port}-{home}")
}

/// Ports on which an earlier process listened, and for which home. Whoever calls there waits until that
/// home is back.
#[derive(Debug, Default)]
pub struct LeftPorts(BTreeMap<u16, (Name, Vec<net::TcpListener>)>);

impl LeftPorts {
    /// Those that it left.
    pub fn take(left: &mut Left, store: &Store) -> Self {
        let mut ports = BTreeMap::new();
        for (name, at, listener) in left.take_listeners(NAME) {
            let home = name.strip_prefix(&format!("{NAME}{}-", at.port()));
            let Some(home) = home.and_then(|home| home.parse::<Name>().ok()) else {
                store.remove(&name);
                continue;
            };
            let (_, all) = ports.entry(at.port()).or_insert_with(|| (home, Vec::new()));
            all.push(listener);
        }
        Self(ports)
    }

    /// What is kept of a port for this home, if it is kept.
    ///
    /// # Errors
    /// The home that it is kept for, if that is another.
    fn take_for(&mut self, port: u16, home: &Name) -> Result<Option<Vec<net::TcpListener>>, Name> {
        match self.0.get(&port) {
            Some((other, _)) if other != home => Err(other.clone()),
            _ => Ok(self.0.remove(&port).map(|(_, listeners)| listeners)),
        }
    }

    /// Closes them.
    pub fn give_up(self, store: &Store) {
        self.0.iter().for_each(|(port, (home, _))| store.remove(&name_of(*port, home)));
    }
}

/// Takes in whoever comes. Ends with its port.
async fn keep(gateway: Arc<Gateway>, port: u16, listener: TcpListener) {
    loop {
        let Ok((tcp, from)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let owner = gateway.book().ports.owner(port).cloned();
        if let Some(owner) = owner {
            tokio::spawn(local::serve(Arc::clone(&gateway), tcp, from, port, owner));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(conn: u64, home: &str, service: &str) -> Owner {
        let (home, service) = (home.parse().unwrap(), service.parse().unwrap());
        Owner { conn: ConnId(conn), key: Key::new([7; 32]), home, service }
    }

    #[test]
    fn what_was_left_is_kept_for_its_home() {
        let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (attic, van): (Name, Name) = ("attic".parse().unwrap(), "van".parse().unwrap());
        let mut left = LeftPorts([(2222, (attic.clone(), vec![listener]))].into());
        assert_eq!(left.take_for(2222, &van).unwrap_err(), attic);
        assert!(left.take_for(8080, &van).unwrap().is_none());
        assert_eq!(left.take_for(2222, &attic).unwrap().unwrap().len(), 1);
        assert!(left.take_for(2222, &van).unwrap().is_none(), "it has it already");
        assert_eq!(name_of(2222, &attic), "port-2222-attic");
    }

    #[test]
    fn a_port_is_one_homes_and_goes_with_its_connection() {
        let mut ports = Ports::default();
        assert_eq!(ports.claim(2222, owner(1, "attic", "ssh")), Ok(true));
        assert_eq!(ports.claim(2222, owner(2, "van", "ssh")), Err("attic".parse().unwrap()));
        // The same home comes back, before its old connection is gone.
        assert_eq!(ports.claim(2222, owner(3, "attic", "ssh")), Ok(false));
        ports.left(ConnId(1));
        assert_eq!(ports.of(ConnId(3), &"ssh".parse().unwrap()), Some(2222));
        ports.close(2222, ConnId(1));
        assert!(ports.owner(2222).is_some());
        ports.left(ConnId(3));
        assert!(ports.owner(2222).is_none());
        assert_eq!(ports.claim(2222, owner(2, "van", "ssh")), Ok(true));
    }
}
