//! Where ssh would connect to. Where the person's ssh goes through a jump host or a proxy, there is
//! nothing to knock at.

use super::master;
use super::pin::CONFIGURED;
use crate::agent::door::Door;
use crate::config::SshGateway;
use crate::supervise;

/// Asks ssh where it would connect to. `None` if that is through something else.
pub async fn find(gateway: &SshGateway) -> Option<Door> {
    let mut command = master::ssh(gateway, &gateway.known_hosts);
    command.arg("-G");
    master::destination(&mut command, gateway);
    let said = supervise::output(&mut command, CONFIGURED).await.ok()?;
    let text = String::from_utf8_lossy(&said.stdout);
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    let goes_around =
        ["proxyjump", "proxycommand"].iter().any(|key| value(key).is_some_and(|v| v != "none"));
    if goes_around {
        return None;
    }
    Some(Door::new(value("hostname")?, value("port")?.parse().ok()?))
}
