//! Where a forward is reached on this machine: ports and sockets.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::fs::Mode;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::error::{Failure, Outcome};

/// A place to listen at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Local {
    /// A port of loopback, in both families; 0 for whichever is free.
    Port(u16),
    /// One address.
    Address(SocketAddr),
    /// A socket in the file system.
    Socket(PathBuf),
}

/// A text that is no place to listen at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotLocal(String);

impl std::error::Error for NotLocal {}

impl fmt::Display for NotLocal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is no place to listen at; write a port (`8080`), an address and a port \
             (`127.0.0.1:8080`), or a socket's path (`./web.sock`)",
            self.0.escape_default()
        )
    }
}

impl FromStr for Local {
    type Err = NotLocal;

    fn from_str(text: &str) -> Result<Self, NotLocal> {
        let place = match (text.parse(), text.parse(), text.rsplit_once(':')) {
            // Without a zero before it, or what is a typing error would be something else.
            (Ok(port), ..) if port > 0 && !text.starts_with(['+', '0']) => Some(Self::Port(port)),
            (_, Ok(address), _) => Some(Self::Address(address)),
            (.., Some(("localhost", port))) => return port.parse(),
            _ if text.contains('/') && !text.contains(char::is_control) => {
                Some(Self::Socket(text.into()))
            }
            _ => None,
        };
        place.ok_or_else(|| NotLocal(text.to_owned()))
    }
}

impl fmt::Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(port) => write!(f, "127.0.0.1:{port}"),
            Self::Address(address) => address.fmt(f),
            Self::Socket(path) => path.display().fmt(f),
        }
    }
}

impl Local {
    /// Whether others than this machine can reach it.
    pub fn is_public(&self) -> bool {
        matches!(self, Self::Address(address) if !address.ip().to_canonical().is_loopback())
    }

    /// Begins to listen there.
    ///
    /// # Errors
    /// If somebody else does already, or it is not allowed.
    pub fn listen(&self) -> Outcome<Vec<Listener>> {
        let listeners = match self {
            Self::Port(port) => on_loopback(*port),
            Self::Address(address) => tcp(*address).map(|listener| vec![listener]),
            Self::Socket(path) => unix(path).map(|listener| vec![listener]),
        };
        listeners.map_err(|why| {
            let hint = match (why.kind(), self) {
                (io::ErrorKind::AddrInUse, Self::Socket(_)) => {
                    "a program listens there already; choose another path, or end that one"
                }
                (io::ErrorKind::AlreadyExists, _) => "choose another path, or take it away",
                (io::ErrorKind::AddrInUse, _) => {
                    "`ss -lntp` shows who has it; choose another, or leave it out for a free one"
                }
                (io::ErrorKind::PermissionDenied, Self::Socket(_)) => {
                    "choose a folder that you may write to"
                }
                (io::ErrorKind::PermissionDenied, _) => "choose a port from 1024 on",
                (io::ErrorKind::AddrNotAvailable, _) => "`ip address` shows which there are",
                _ => "choose another place",
            };
            Failure::new(format!("`{self}` cannot be listened at")).because(&why).hint(hint)
        })
    }
}

/// 127.0.0.1, and the same port of [::1] where this machine has it and it is free.
fn on_loopback(port: u16) -> io::Result<Vec<Listener>> {
    let first = tcp((Ipv4Addr::LOCALHOST, port).into())?;
    let mut both = vec![first];
    if let Some(Listener::Tcp(first)) = both.first() {
        let port = first.local_addr()?.port();
        match tcp((Ipv6Addr::LOCALHOST, port).into()) {
            Ok(second) => both.push(second),
            // Half of a port would lead `localhost` to somebody else.
            Err(why) if why.kind() == io::ErrorKind::AddrInUse => return Err(why),
            Err(why) => tracing::debug!("[::1]:{port} is not listened at: {why}"),
        }
    }
    Ok(both)
}

fn tcp(address: SocketAddr) -> io::Result<Listener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(Listener::Tcp(TcpListener::from_std(listener)?))
}

/// For its owner alone. What a program left there that has ended is taken away.
fn unix(path: &Path) -> io::Result<Listener> {
    match path.symlink_metadata() {
        Err(why) if why.kind() == io::ErrorKind::NotFound => {}
        Err(why) => return Err(why),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "there is a file of that name",
            ));
        }
        Ok(_) => match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
            Err(why) if why.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path)?;
            }
            Err(why) => return Err(why),
        },
    }
    // Nothing else of this process makes files meanwhile.
    let before = rustix::process::umask(Mode::RWXG | Mode::RWXO);
    let bound = UnixListener::bind(path);
    rustix::process::umask(before);
    let listener = bound?;
    let inode = path.symlink_metadata()?.ino();
    Ok(Listener::Unix(listener, Mine { path: path.to_owned(), inode }))
}

/// What is listened with.
#[derive(Debug)]
pub enum Listener {
    /// A port.
    Tcp(TcpListener),
    /// A socket, which is taken away in the end.
    Unix(UnixListener, Mine),
}

/// A socket's name in the file system. It goes with whoever has this.
#[derive(Debug)]
pub struct Mine {
    path: PathBuf,
    inode: u64,
}

impl Drop for Mine {
    fn drop(&mut self) {
        // Another program may have taken the name meanwhile.
        if self.path.symlink_metadata().is_ok_and(|found| found.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Somebody on this machine who wants to go there.
#[derive(Debug)]
pub enum Caller {
    /// By a port.
    Tcp(TcpStream),
    /// By a socket.
    Unix(UnixStream),
}

impl Listener {
    /// The next caller.
    ///
    /// # Errors
    /// If there is no descriptor left, say. The next call may succeed.
    pub async fn accept(&self) -> io::Result<Caller> {
        Ok(match self {
            Self::Tcp(listener) => Caller::Tcp(listener.accept().await?.0),
            Self::Unix(listener, _) => Caller::Unix(listener.accept().await?.0),
        })
    }

    /// Where it is reached.
    pub fn place(&self) -> Place {
        match self {
            Self::Tcp(listener) => listener.local_addr().map_or(Place::Unknown, Place::Address),
            Self::Unix(_, mine) => Place::Path(mine.path.clone()),
        }
    }
}

/// Where a listener is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// An address.
    Address(SocketAddr),
    /// A socket's path.
    Path(PathBuf),
    /// The system does not say.
    Unknown,
}

impl Place {
    /// The port, and the address that a program on this machine reaches it by.
    pub fn reached_at(&self) -> Option<SocketAddr> {
        let Self::Address(address) = self else { return None };
        let ip = match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        Some(SocketAddr::new(ip, address.port()))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Path(path) => path.display().fmt(f),
            Self::Unknown => f.write_str("an unknown place"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_ports_addresses_and_paths() {
        let address = |text: &str| Local::Address(text.parse().unwrap());
        for (text, local) in [
            ("8080", Local::Port(8080)),
            ("localhost:8080", Local::Port(8080)),
            ("127.0.0.1:8080", address("127.0.0.1:8080")),
            ("[::1]:80", address("[::1]:80")),
            ("./web.sock", Local::Socket("./web.sock".into())),
            ("/run/web", Local::Socket("/run/web".into())),
        ] {
            assert_eq!(text.parse::<Local>(), Ok(local), "{text}");
        }
        for text in ["", "0", "08080", "+80", "70000", "web", "localhost:", "attic:web", "/a\n"] {
            let said = text.parse::<Local>().unwrap_err().to_string();
            assert!(said.contains("write a port"), "{said}");
        }
    }

    #[test]
    fn who_can_reach_it_is_known() {
        for (text, is_public) in [
            ("8080", false),
            ("127.0.0.2:80", false),
            ("[::1]:80", false),
            ("[::ffff:127.0.0.1]:80", false),
            ("/run/web", false),
            ("0.0.0.0:80", true),
            ("[::]:80", true),
            ("203.0.113.7:80", true),
        ] {
            assert_eq!(text.parse::<Local>().unwrap().is_public(), is_public, "{text}");
        }
    }

    #[tokio::test]
    async fn a_free_port_is_the_same_in_both_families() {
        let listeners = Local::Port(0).listen().unwrap();
        let ports: Vec<_> = listeners.iter().map(|at| at.place().reached_at().unwrap()).collect();
        assert!(ports.iter().all(|at| at.port() == ports[0].port() && at.ip().is_loopback()));
        let taken = Local::Port(ports[0].port()).listen().unwrap_err();
        assert!(taken.hint_text().unwrap().contains("ss -lntp"), "{taken}");
    }

    #[tokio::test]
    async fn a_socket_is_its_owners_and_goes_with_its_listener() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.sock");
        let local = Local::Socket(path.clone());
        let listening = local.listen().unwrap();
        assert_eq!(path.symlink_metadata().unwrap().mode() & 0o777, 0o700);
        assert!(local.listen().unwrap_err().hint_text().unwrap().contains("already"));
        drop(listening);
        assert!(path.symlink_metadata().is_err());
        // One that was left behind.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        drop(local.listen().unwrap());
        // And what is no socket.
        std::fs::write(&path, "precious").unwrap();
        assert!(local.listen().is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }
}
