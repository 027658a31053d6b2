//! A TCP connection to a gateway: all the addresses of its name, the two families in turn
//! (RFC 8305).

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use wayhome_core::address::NativeAddress;

use super::race;
use crate::relay::tune;

/// How long after one address the next is tried (RFC 8305, section 5).
const STAGGER: Duration = Duration::from_millis(250);

/// Connects.
///
/// # Errors
/// What the resolver said; or, of several addresses, what the first one failed with.
pub async fn dial(gateway: &NativeAddress) -> io::Result<TcpStream> {
    let found = lookup_host((gateway.host.as_str(), gateway.port)).await?.collect();
    let won = race::first(in_turn(found).into_iter().map(TcpStream::connect), STAGGER).await;
    let tcp = won.map_err(|failed| {
        let first = failed.into_iter().next();
        first.unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, "it has no address"))
    })?;
    tune(&tcp)?;
    Ok(tcp)
}

/// One of each family after the other, beginning with the one that the system prefers.
fn in_turn(found: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let Some(preferred) = found.first().map(SocketAddr::is_ipv6) else { return found };
    let (ones, others): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|address| address.is_ipv6() == preferred);
    let longest = ones.len().max(others.len());
    let pairs = (0..longest).flat_map(|place| [ones.get(place), others.get(place)]);
    pairs.flatten().copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_families_take_turns() {
        let turns = |found: &[&str]| -> Vec<String> {
            let found = found.iter().map(|address| SocketAddr::new(address.parse().unwrap(), 1));
            in_turn(found.collect()).iter().map(|address| address.ip().to_string()).collect()
        };
        let (six, other_six) = ("2001:db8::1", "2001:db8::2");
        let (four, other_four) = ("203.0.113.1", "203.0.113.2");
        assert_eq!(turns(&[six, other_six, four]), [six, four, other_six]);
        assert_eq!(turns(&[four, other_four, six]), [four, six, other_four]);
        assert_eq!(turns(&[four]), [four]);
        assert!(turns(&[]).is_empty());
    }
}
