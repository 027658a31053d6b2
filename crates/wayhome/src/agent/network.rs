//! Changes of this machine's addresses and routes, as the kernel tells them (rtnetlink(7)).
//!
//! What changed is not read: the link asks its own questions. Only that something did, once for each
//! burst of messages. Linux only; elsewhere heartbeats alone find a change.

use std::io;
use std::os::unix::net::UnixDatagram as StdDatagram;
use std::time::Duration;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};
use tokio::net::UnixDatagram;

use crate::burst::Burst;

/// One change of an address comes as several messages: the address, its routes, and IPv6's own.
const QUIET: Duration = Duration::from_millis(50);

/// A network that never comes to rest is still a change.
const LONGEST: Duration = Duration::from_millis(200);

/// Multicast groups (linux/rtnetlink.h): IPv4 and IPv6, addresses and routes.
const GROUPS: u32 = 0x10 | 0x40 | 0x100 | 0x400;

/// The kernel's messages about the network.
#[derive(Debug)]
pub struct Changes {
    /// A netlink socket. Its type says Unix only because tokio has no type for netlink: both are
    /// datagram sockets, and nothing but `recv` is called.
    socket: UnixDatagram,
    burst: Burst,
}

impl Changes {
    /// Begins to listen.
    pub fn listen() -> io::Result<Self> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None, // protocol 0 is NETLINK_ROUTE
        )?;
        bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
        let socket = UnixDatagram::from_std(StdDatagram::from(socket))?;
        Ok(Self { socket, burst: Burst::new(QUIET, LONGEST) })
    }

    /// Waits for the next burst of changes to be over. If the wait is dropped, the next one goes on
    /// with it.
    pub async fn next(&mut self) -> io::Result<()> {
        let socket = &self.socket;
        self.burst.over(async || read_one(socket).await).await
    }
}

async fn read_one(socket: &UnixDatagram) -> io::Result<()> {
    let mut message = [0; 4096];
    match socket.recv(&mut message).await {
        Ok(_) => Ok(()),
        // Too many messages to keep: that, too, says that something changed.
        Err(error) if is_overflow(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

fn is_overflow(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error())
}
