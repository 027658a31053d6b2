//! The way that packets take from here to a gateway, as the kernel's routes have it: whether a change
//! of the network concerns a link at all.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use super::door::Door;

/// Where packets would leave from, for each address of the gateway. Two ways that are equal need no
/// new connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way(Vec<(SocketAddr, Option<IpAddr>)>);

impl Way {
    /// The way to a gateway. Where its addresses are not known (not looked up yet, or behind a jump
    /// host), the way out into the world stands for it.
    pub fn to(door: Option<&Door>) -> Self {
        let mut addresses = door.map(Door::known).unwrap_or_default();
        if addresses.is_empty() {
            // Nothing is sent there; they stand for any address that only a default route reaches.
            let anywhere: [IpAddr; 2] = [
                Ipv4Addr::new(192, 0, 2, 1).into(),
                Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
            ];
            addresses.extend(anywhere.map(|ip| SocketAddr::new(ip, 9)));
        }
        Self(addresses.into_iter().map(|address| (address, leaving_from(address))).collect())
    }
}

/// The address from which packets to `there` would leave; `None` if there is no route. Connecting a
/// UDP socket asks the kernel for the route, and sends nothing.
fn leaving_from(there: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr =
        if there.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(there).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_left_from_loopback() {
        let here: SocketAddr = "127.0.0.1:22".parse().unwrap();
        assert_eq!(leaving_from(here), Some(here.ip()));
    }

    #[test]
    fn the_same_network_is_the_same_way() {
        assert_eq!(Way::to(None), Way::to(None));
        assert_eq!(Way::to(None).0.len(), 2);
    }
}
