//! Where a caller asks to be led, in the words of SOCKS 5 (RFC 1928). Names are homes, and nothing is
//! looked up in the DNS: `home-ubuntu` is a home, `web.home-ubuntu` its service `web`.
//!
//! With a home alone the port names the service: 22 is `ssh`, and every other one is asked for as
//! `port-8080`, which a home understands if one of its services has that port.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use fast_socks5::server::{Socks5ServerProtocol, SocksServerError, states::CommandRead};
use fast_socks5::util::target_addr::TargetAddr;
use fast_socks5::{ReplyError, Socks5Command};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use wayhome_core::name::Name;
use wayhome_core::refusal::Reason;

use crate::client::{Failed, Goal, Trouble};
use crate::error::Failure;

/// How long a caller may take to ask.
const ASK: Duration = Duration::from_secs(10);

/// A caller who has asked, and waits for the answer.
pub struct Asked<S> {
    /// Where to.
    pub goal: Goal,
    answer: Socks5ServerProtocol<S, CommandRead>,
}

/// Asks a caller.
///
/// # Errors
/// If it does not speak SOCKS 5; within, if it asks for what cannot be, and was told so.
pub async fn ask<S>(caller: S) -> Result<Result<Asked<S>, Failure>, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let asked = async { Socks5ServerProtocol::accept_no_auth(caller).await?.read_command().await };
    let asked: Result<_, SocksServerError> =
        timeout(ASK, asked).await.map_err(|_| "it takes too long".to_owned())?;
    let (answer, command, target) = asked.map_err(|why| why.to_string())?;
    let (told, unfit) = match (command, &target) {
        (Socks5Command::TCPConnect, TargetAddr::Domain(name, port)) => match goal(name, *port) {
            Some(goal) => return Ok(Ok(Asked { goal, answer })),
            None => (
                ReplyError::HostUnreachable,
                Failure::new(format!("`{}` is no home", name.escape_default()))
                    .hint("names are `home-ubuntu`, or `web.home-ubuntu` for its service `web`"),
            ),
        },
        (Socks5Command::TCPConnect, TargetAddr::Ip(address)) => (
            ReplyError::AddressTypeNotSupported,
            Failure::new(format!("`{address}` is an address, and homes have names")).hint(
                "have the name looked up here: `curl -x socks5h://…`, or in Firefox \"Proxy DNS \
                 when using SOCKS v5\"",
            ),
        ),
        _ => (
            ReplyError::CommandNotSupported,
            Failure::new("a caller asks for what is no TCP connection"),
        ),
    };
    // Whoever does not want to know need not.
    let _ = answer.reply_error(&told).await;
    Ok(Err(unfit))
}

/// What a name and a port mean.
fn goal(name: &str, port: u16) -> Option<Goal> {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let (service, home) = match name.split_once('.') {
        Some((service, home)) => (service.parse().ok()?, home),
        None if port == 22 => ("ssh".parse().ok()?, name.as_str()),
        None => (Name::for_port(port), name.as_str()),
    };
    Some(Goal { home: home.parse().ok()?, service })
}

impl<S> Asked<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    /// Tells it that it is there.
    pub async fn led(self) -> Result<S, SocksServerError> {
        // There is no address that would mean anything to it.
        self.answer.reply_success(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))).await
    }

    /// Tells it why not, as far as SOCKS can.
    pub async fn refused(self, why: Option<&Failed>) {
        let told = match why.map(|failed| &failed.trouble) {
            // No pin.
            None => ReplyError::ConnectionNotAllowed,
            Some(Trouble::Refused(_, refusal)) => match refusal.reason {
                Reason::TargetRefused | Reason::NoSuchService => ReplyError::ConnectionRefused,
                Reason::TargetSilent | Reason::HomeSilent => ReplyError::ConnectionTimeout,
                Reason::Offline | Reason::NoSuchHome => ReplyError::HostUnreachable,
                _ => ReplyError::ConnectionNotAllowed,
            },
            Some(Trouble::Unreachable(_) | Trouble::Silent) => ReplyError::NetworkUnreachable,
            Some(_) => ReplyError::GeneralFailure,
        };
        let _ = self.answer.reply_error(&told).await;
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_are_homes_and_ports_are_services() {
        for (name, port, goal) in [
            ("home-ubuntu", 22, Some("home-ubuntu:ssh")),
            ("home-ubuntu", 8080, Some("home-ubuntu:port-8080")),
            ("web.home-ubuntu", 80, Some("home-ubuntu:web")),
            ("Web.Home-Ubuntu.", 443, Some("home-ubuntu:web")),
            ("www.example.org", 80, None),
            ("", 80, None),
            (".", 80, None),
            ("home ubuntu", 80, None),
            ("web.", 80, Some("web:port-80")),
            (".web", 80, None),
        ] {
            let read = super::goal(name, port).map(|goal| goal.to_string());
            assert_eq!(read.as_deref(), goal, "{name}:{port}");
        }
    }
}
