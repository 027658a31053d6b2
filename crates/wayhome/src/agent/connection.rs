//! What the kernel knows of a TCP connection of ours, or of an ssh process of ours: its own address,
//! and whether data moves. Linux only; elsewhere nothing is known, and the link decides without.
//!
//! Which of ssh's connections is the one to the gateway has to be learnt at the login: later, each
//! open stream has one too, to its target.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, sendto, socket_with,
};
use tokio::net::TcpStream;

/// A TCP connection of some process of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    local: SocketAddr,
    remote: SocketAddr,
}

/// Data that was acknowledged or received within this span counts as moving, if it goes on. A
/// heartbeat that the other kernel merely acknowledged lies further back by the time it is late.
const MOVING: Duration = Duration::from_millis(500);

/// How often it is looked whether it goes on.
const LOOK_EVERY: Duration = Duration::from_millis(50);

const ESTABLISHED: &str = "01";

impl Connection {
    /// One of this process's own.
    pub fn of(tcp: &TcpStream) -> io::Result<Self> {
        Ok(Self { local: tcp.local_addr()?, remote: tcp.peer_addr()? })
    }

    /// The first connection that a process has. Of an ssh that has just logged in, and opened
    /// nothing yet, it is the one to the gateway; one that goes through a jump host has none.
    pub fn of_process(pid: u32) -> Option<Self> {
        let sockets = sockets_of(pid)?;
        ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|table| {
            let text = fs::read_to_string(table).ok()?;
            text.lines().skip(1).find_map(|line| row(line, &sockets))
        })
    }

    /// The other end's address.
    pub fn gateway(&self) -> IpAddr {
        self.remote.ip().to_canonical()
    }

    /// Whether this machine still has the connection's own address.
    pub fn has_local_address(&self) -> bool {
        match UdpSocket::bind((self.local.ip(), 0)) {
            Ok(_) => true,
            Err(error) => error.kind() != io::ErrorKind::AddrNotAvailable,
        }
    }

    /// Whether data moves between the other side and the process that has the connection.
    ///
    /// What the kernels do by themselves does not count: one of a process that is frozen still
    /// takes data in, until there is no room.
    pub async fn is_moving(&self) -> bool {
        let Some(first) = self.traffic() else { return false };
        let lately = first.last_data_recv.min(first.last_ack_recv);
        if Duration::from_millis(lately.into()) >= MOVING {
            return false;
        }
        let mut waited = Duration::ZERO;
        while waited < MOVING {
            tokio::time::sleep(LOOK_EVERY).await;
            waited += LOOK_EVERY;
            let Some(now) = self.traffic() else { return false };
            if now.acked != first.acked || now.read != first.read {
                return true;
            }
        }
        false
    }

    fn traffic(&self) -> Option<Traffic> {
        ask_kernel(self).ok().flatten()
    }
}

fn sockets_of(pid: u32) -> Option<HashSet<u64>> {
    let inode = |entry: io::Result<fs::DirEntry>| {
        let link = fs::read_link(entry.ok()?.path()).ok()?;
        link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    };
    Some(fs::read_dir(format!("/proc/{pid}/fd")).ok()?.filter_map(inode).collect())
}

/// One row of `/proc/net/tcp` (proc(5)), if it is an established connection among `sockets`.
fn row(line: &str, sockets: &HashSet<u64>) -> Option<Connection> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [_, local, remote, ESTABLISHED, _, _, _, _, _, inode, ..] = fields.as_slice() else {
        return None;
    };
    let local_and_remote = Connection { local: address(local)?, remote: address(remote)? };
    sockets.contains(&inode.parse().ok()?).then_some(local_and_remote)
}

/// `0100007F:08AE`: the address in words of the machine's own byte order, the port in hexadecimal.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let words: Vec<[u8; 4]> = (0..address.len())
        .step_by(8)
        .map(|at| {
            let word = u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?;
            Some(word.to_ne_bytes())
        })
        .collect::<Option<_>>()?;
    let ip = match words.as_slice() {
        [v4] => IpAddr::V4(Ipv4Addr::from(*v4)),
        [a, b, c, d] => {
            let bytes: [u8; 16] = [*a, *b, *c, *d].concat().try_into().ok()?;
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// What has gone over a connection.
struct Traffic {
    /// Milliseconds since the other side last sent data, and since it last acknowledged any.
    last_data_recv: u32,
    last_ack_recv: u32,
    /// Bytes that the other side has acknowledged.
    acked: u64,
    /// Bytes that the process has read.
    read: u64,
}

/// Asks the kernel for a connection, by its addresses (sock_diag(7)).
fn ask_kernel(connection: &Connection) -> io::Result<Option<Traffic>> {
    let socket: OwnedFd = socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    bind(&socket, &SocketAddrNetlink::new(0, 0))?;
    sendto(&socket, &request(connection), SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut space = [MaybeUninit::uninit(); 8192];
    // The kernel answers such a request before `sendto` returns.
    let ((answer, _), _) = recv(&socket, &mut space, RecvFlags::DONTWAIT)?;
    Ok(traffic_in(answer))
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2` (linux/inet_diag.h).
fn request(connection: &Connection) -> Vec<u8> {
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    const NLM_F_REQUEST: u16 = 1;
    const AF_INET: u8 = 2;
    const AF_INET6: u8 = 10;
    const IPPROTO_TCP: u8 = 6;
    const INET_DIAG_INFO: u8 = 2;
    const LENGTH: u32 = 16 + 56;

    let family = if connection.local.is_ipv4() { AF_INET } else { AF_INET6 };
    let mut bytes = Vec::with_capacity(LENGTH as usize);
    bytes.extend(LENGTH.to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST.to_ne_bytes());
    bytes.extend([0; 8]); // sequence and port id
    bytes.extend([family, IPPROTO_TCP, 1 << (INET_DIAG_INFO - 1), 0]);
    bytes.extend(u32::MAX.to_ne_bytes()); // in any state
    bytes.extend(connection.local.port().to_be_bytes());
    bytes.extend(connection.remote.port().to_be_bytes());
    bytes.extend(sixteen(connection.local.ip()));
    bytes.extend(sixteen(connection.remote.ip()));
    bytes.extend([0; 4]); // any interface
    bytes.extend([0xff; 8]); // no cookie
    bytes
}

fn sixteen(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// Reads `struct inet_diag_msg` (72 bytes), and behind it the attribute `INET_DIAG_INFO`.
fn traffic_in(answer: &[u8]) -> Option<Traffic> {
    const HEADER: usize = 16;
    const MESSAGE: usize = 72;
    const RQUEUE: usize = 56;
    const INET_DIAG_INFO: u16 = 2;
    let unread = u32_at(answer, HEADER + RQUEUE)?;
    let mut rest = answer.get(HEADER + MESSAGE..)?;
    loop {
        let length = usize::from(u16::from_ne_bytes(rest.get(0..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?);
        let info = rest.get(4..length)?;
        if kind == INET_DIAG_INFO {
            // Offsets in `struct tcp_info` (linux/tcp.h), which only ever grows at its end.
            return Some(Traffic {
                last_data_recv: u32_at(info, 52)?,
                last_ack_recv: u32_at(info, 56)?,
                acked: u64_at(info, 120)?,
                read: u64_at(info, 128)?.wrapping_sub(unread.into()),
            });
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    /// A connection to ourselves: our end as the kernel knows it, and both ends.
    fn connection() -> (Connection, TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let (local, remote) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
        (Connection { local, remote }, client, server)
    }

    #[tokio::test]
    async fn finds_a_connection_and_its_address() {
        let (connection, _client, _server) = connection();
        assert!(connection.has_local_address());
        let elsewhere = Connection { local: "203.0.113.9:1".parse().unwrap(), ..connection };
        assert!(!elsewhere.has_local_address());
        let of_us = Connection::of_process(std::process::id()).unwrap();
        assert!(of_us.local.ip().is_loopback());
        let gone = Connection { remote: "127.0.0.1:1".parse().unwrap(), ..connection };
        assert!(!gone.is_moving().await);
    }

    #[tokio::test]
    async fn data_moves_if_it_is_read_or_acknowledged() {
        let (connection, mut client, mut server) = connection();
        // Both ends of a stream that somebody reads: a client that echoes.
        let (end, ended) = std::sync::mpsc::channel();
        let chatter = std::thread::spawn(move || {
            let mut byte = [0];
            while ended.recv_timeout(LOOK_EVERY).is_err() {
                server.write_all(b"x").unwrap();
                client.read_exact(&mut byte).unwrap();
            }
            (client, server)
        });
        assert!(connection.is_moving().await, "it is read");
        end.send(()).unwrap();
        let (client, mut server) = chatter.join().unwrap();
        // And now nobody does; the kernel takes it in all the same.
        let (end, ended) = std::sync::mpsc::channel();
        let sender = std::thread::spawn(move || {
            while ended.recv_timeout(LOOK_EVERY).is_err() {
                server.write_all(b"x").unwrap();
            }
        });
        assert!(!connection.is_moving().await, "it only arrives");
        end.send(()).unwrap();
        sender.join().unwrap();
        drop(client);
    }

    #[test]
    fn reads_the_kernels_addresses() {
        assert_eq!(address("0100007F:08AE"), Some("127.0.0.1:2222".parse().unwrap()));
        let v6 = "00000000000000000000000001000000:0016";
        assert_eq!(address(v6), Some("[::1]:22".parse().unwrap()));
        assert_eq!(address("0100:1"), None);
    }
}
