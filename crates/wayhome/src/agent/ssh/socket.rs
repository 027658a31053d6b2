//! What the kernel knows of an ssh process's TCP connection: its own address, and whether data
//! moves. Linux only; elsewhere nothing is known, and the link decides without.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;

use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, sendto, socket_with,
};

/// A TCP connection of some process of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    local: SocketAddr,
    remote: SocketAddr,
}

/// Data that was acknowledged or received within this span counts as moving. A heartbeat that the
/// other kernel merely acknowledged lies further back by the time it is late.
const MOVING_MS: u32 = 500;

const ESTABLISHED: &str = "01";

impl Connection {
    /// The connection that a process has to a port other than loopback's own services: an ssh has one.
    pub fn of_process(pid: u32) -> Option<Self> {
        let sockets = sockets_of(pid)?;
        ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|table| {
            let text = fs::read_to_string(table).ok()?;
            text.lines().skip(1).find_map(|line| row(line, &sockets))
        })
    }

    /// Whether this machine still has the connection's own address.
    pub fn has_local_address(&self) -> bool {
        match UdpSocket::bind((self.local.ip(), 0)) {
            Ok(_) => true,
            Err(error) => error.kind() != io::ErrorKind::AddrNotAvailable,
        }
    }

    /// Whether the other side has acknowledged or sent anything just now (sock_diag(7)).
    pub fn is_moving(&self) -> bool {
        let info = tcp_info(self).ok().flatten();
        info.is_some_and(|info| info.last_data_recv < MOVING_MS || info.last_ack_recv < MOVING_MS)
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

struct TcpInfo {
    last_data_recv: u32,
    last_ack_recv: u32,
}

/// Asks the kernel for a connection's `struct tcp_info`, by its addresses.
fn tcp_info(connection: &Connection) -> io::Result<Option<TcpInfo>> {
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
    Ok(info_in(answer))
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

/// Finds the attribute `INET_DIAG_INFO` behind `struct inet_diag_msg` (72 bytes).
fn info_in(answer: &[u8]) -> Option<TcpInfo> {
    const HEADERS: usize = 16 + 72;
    const INET_DIAG_INFO: u16 = 2;
    let mut rest = answer.get(HEADERS..)?;
    loop {
        let length = usize::from(u16::from_ne_bytes(rest.get(0..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?);
        let value = rest.get(4..length)?;
        if kind == INET_DIAG_INFO {
            let word =
                |at: usize| Some(u32::from_ne_bytes(value.get(at..at + 4)?.try_into().ok()?));
            // Offsets in `struct tcp_info` (linux/tcp.h), which only ever grows at its end.
            return Some(TcpInfo { last_data_recv: word(52)?, last_ack_recv: word(56)? });
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn finds_a_connection_and_sees_it_move() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        server.write_all(b"x").unwrap();
        let connection =
            Connection { local: client.local_addr().unwrap(), remote: client.peer_addr().unwrap() };
        assert!(connection.has_local_address());
        assert!(connection.is_moving());
        let gone = Connection { remote: "127.0.0.1:1".parse().unwrap(), ..connection };
        assert!(!gone.is_moving());
        let elsewhere = Connection { local: "203.0.113.9:1".parse().unwrap(), ..connection };
        assert!(!elsewhere.has_local_address());
        let of_us = Connection::of_process(std::process::id()).unwrap();
        assert!(of_us.local.ip().is_loopback());
    }

    #[test]
    fn reads_the_kernels_addresses() {
        assert_eq!(address("0100007F:08AE"), Some("127.0.0.1:2222".parse().unwrap()));
        let v6 = "00000000000000000000000001000000:0016";
        assert_eq!(address(v6), Some("[::1]:22".parse().unwrap()));
        assert_eq!(address("0100:1"), None);
    }
}
