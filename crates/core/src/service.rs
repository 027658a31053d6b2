//! What a home offers: a service, where it is reached at the gateway, and what stands behind it.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::name::Name;

/// Something that a home offers through its gateways.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// What it is called: `ssh` for the home's own.
    pub name: Name,
    /// Which of the gateway's addresses it listens on.
    pub bind: Bind,
    /// The port that it has at the gateway. Without one it is offered over native links alone.
    #[serde(default)]
    pub port: Option<u16>,
    /// Where its streams go, seen from home.
    pub target: Target,
    /// What counts as having reached it.
    pub proof: ProofKind,
}

/// Where a service listens at the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bind {
    /// `127.0.0.1`, and `[::1]` where it can be had: only the gateway itself can reach it. Meant by
    /// `localhost`, and by every address of loopback.
    Loopback,
    /// An address for everybody, which the person asked for twice (`--public`).
    Public(String),
}

/// Where a service's streams end, seen from home.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Target {
    /// A host and its port.
    Tcp(String, u16),
    /// The absolute path of a Unix socket.
    Unix(String),
}

/// What counts as proof that a service was reached, end to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProofKind {
    /// The target's own host key.
    Ssh,
    /// An answer to a request.
    Http,
    /// A TLS record in answer to a hello.
    Tls,
    /// A connection that stays open.
    Hold,
}

/// Why a text is no service, with what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceError(String);

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for ServiceError {}

impl Service {
    /// Reads a forward in the grammar of `ssh -R`: `[bind_address:]port:host:hostport`, or
    /// `[bind_address:]port:local_socket` (ssh(1)).
    pub fn from_forward(text: &str) -> Result<Self, ServiceError> {
        let bad = |why: &str| {
            Err(ServiceError(format!(
                "`-R {}` {why}; write `-R 2222:localhost:22`, as for ssh",
                text.escape_default()
            )))
        };
        let Some(fields) = split_fields(text) else {
            return bad("has a `[` without its `]`");
        };
        let fields: alloc::vec::Vec<&str> = fields.iter().map(String::as_str).collect();
        if fields.first().is_some_and(|first| first.starts_with('/')) {
            return bad("listens on a socket at the gateway, which is not supported");
        }
        let (bind, port, target) = match fields.as_slice() {
            [_] | [_, _] if !text.contains('/') => {
                return bad("names no target (a SOCKS proxy at the gateway is not supported)");
            }
            [port, path] if path.starts_with('/') => ("localhost", port, (*path).to_owned()),
            [bind, port, path] if path.starts_with('/') => (*bind, port, (*path).to_owned()),
            [port, host, hostport] => ("localhost", port, join_host(host, hostport)),
            [bind, port, host, hostport] => (*bind, port, join_host(host, hostport)),
            _ => return bad("is not a forward"),
        };
        let port = match port.parse::<u16>() {
            Ok(0) => return bad("asks for port 0, which changes each time"),
            Ok(port) => port,
            Err(_) => return bad("has a listening port that is not a number from 1 to 65535"),
        };
        let Ok(target) = target.parse::<Target>() else {
            return bad("has a target that is no `host:port` and no socket's path");
        };
        let Ok(bind) = bind.parse::<Bind>() else {
            return bad("has a bind address that is neither an address nor `*`");
        };
        Ok(Self {
            name: target.suggested_name(port),
            proof: ProofKind::suggested_for(&target),
            bind,
            port: Some(port),
            target,
        })
    }

    /// What it is called in a sentence: `ssh (port 2222)`.
    pub fn label(&self) -> String {
        match self.port {
            Some(port) => format!("{} (port {port})", self.name),
            None => self.name.to_string(),
        }
    }

    /// The service as it is offered over a native link, where no port is for everybody.
    pub fn on_native_links(&self) -> Self {
        match self.bind {
            Bind::Loopback => self.clone(),
            Bind::Public(_) => self.without_port(),
        }
    }

    /// The service where it has no port.
    pub fn without_port(&self) -> Self {
        Self { bind: Bind::Loopback, port: None, ..self.clone() }
    }
}

impl ProofKind {
    /// The proof for a target of which nothing more was said: a host key from port 22, an open
    /// connection from anything else.
    pub fn suggested_for(target: &Target) -> Self {
        match target {
            Target::Tcp(_, 22) => Self::Ssh,
            _ => Self::Hold,
        }
    }
}

impl Target {
    /// Whether the target is this machine itself.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(host, _) => is_loopback(host),
            Self::Unix(_) => true,
        }
    }

    /// The port that it has at home; 0 for a socket.
    pub fn port(&self) -> u16 {
        match self {
            Self::Tcp(_, port) => *port,
            Self::Unix(_) => 0,
        }
    }

    /// A service name for a forward that was given without one: `ssh` for the home's own sshd, the
    /// machine's name for the sshd of another one, `port-8080` for the rest.
    pub fn suggested_name(&self, port: u16) -> Name {
        let host = match self {
            Self::Tcp(_, 22) if self.is_local() => "ssh",
            Self::Tcp(host, 22) if !looks_like_address(host) => host,
            _ => "",
        };
        Name::from_hostname(host).unwrap_or_else(|| Name::for_port(port))
    }
}

fn looks_like_address(host: &str) -> bool {
    host.parse::<core::net::IpAddr>().is_ok()
}

/// Whether a host is the machine itself: by name, or by an address of loopback, which has many.
fn is_loopback(host: &str) -> bool {
    let address = host.parse::<core::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Splits at colons outside of `[…]`, whose brackets fall away.
fn split_fields(text: &str) -> Option<alloc::vec::Vec<String>> {
    let mut fields = alloc::vec![String::new()];
    let mut inside = false;
    for c in text.chars() {
        match c {
            '[' if !inside => inside = true,
            ']' if inside => inside = false,
            ':' if !inside => fields.push(String::new()),
            c => fields.last_mut()?.push(c),
        }
    }
    (!inside).then_some(fields)
}

fn join_host(host: &str, port: &str) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Whether a text can stand as a host wherever hosts are written: no option, no blank, no quote.
pub fn is_host(text: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
    !text.is_empty() && text.len() <= 255 && !text.starts_with('-') && text.chars().all(good)
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) => f.write_str(&join_host(host, &port.to_string())),
            Self::Unix(path) => f.write_str(path),
        }
    }
}

impl FromStr for Target {
    type Err = ServiceError;

    fn from_str(text: &str) -> Result<Self, ServiceError> {
        let bad = || {
            Err(ServiceError(format!(
                "`{}` is no target; write `localhost:22`, or a socket's absolute path",
                text.escape_default()
            )))
        };
        if text.starts_with('/') {
            // sun_path holds 108 bytes with its final zero (unix(7)).
            let good = text.len() < 108 && !text.chars().any(|c| c.is_control() || c == ':');
            return if good { Ok(Self::Unix(text.to_owned())) } else { bad() };
        }
        let Some((host, port)) = text.rsplit_once(':') else { return bad() };
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let host = match bare {
            Some(address) if address.contains(':') => address,
            None if !host.contains(':') => host,
            _ => return bad(),
        };
        match port.parse() {
            Ok(port) if port > 0 && is_host(host) => Ok(Self::Tcp(host.to_owned(), port)),
            _ => bad(),
        }
    }
}

impl TryFrom<String> for Target {
    type Error = ServiceError;

    fn try_from(text: String) -> Result<Self, ServiceError> {
        text.parse()
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.to_string()
    }
}

impl FromStr for Bind {
    type Err = ServiceError;

    fn from_str(text: &str) -> Result<Self, ServiceError> {
        match text {
            // It is one place, whichever of its addresses was named.
            text if is_loopback(text) => Ok(Self::Loopback),
            // ssh takes an empty bind address and `*` for all interfaces.
            "" | "*" => Ok(Self::Public("*".to_owned())),
            address if looks_like_address(address) => Ok(Self::Public(address.to_owned())),
            other => Err(ServiceError(format!(
                "`{}` is no address to listen on",
                other.escape_default()
            ))),
        }
    }
}

impl fmt::Display for ProofKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ssh => "ssh",
            Self::Http => "http",
            Self::Tls => "tls",
            Self::Hold => "hold",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn forward(text: &str) -> Service {
        Service::from_forward(text).unwrap()
    }

    #[test]
    fn reads_the_grammar_of_ssh() {
        let home = forward("2222:localhost:22");
        assert_eq!(
            (home.name.as_str(), home.port, &home.bind),
            ("ssh", Some(2222), &Bind::Loopback)
        );
        assert_eq!(
            (home.target.to_string().as_str(), home.proof),
            ("localhost:22", ProofKind::Ssh)
        );

        let second = forward("localhost:2223:home-ubuntu-2:22");
        assert_eq!((second.name.as_str(), second.bind), ("home-ubuntu-2", Bind::Loopback));

        let web = forward("[::1]:8080:[2001:db8::7]:80");
        assert_eq!(web.name.as_str(), "port-8080");
        assert_eq!(web.target, Target::Tcp("2001:db8::7".into(), 80));
        assert_eq!((web.proof, web.bind), (ProofKind::Hold, Bind::Loopback));

        assert_eq!(forward("8443:/run/web.sock").target, Target::Unix("/run/web.sock".into()));
        assert_eq!(forward("*:2222:localhost:22").bind, Bind::Public("*".into()));
        assert_eq!(forward(":2222:localhost:22").bind, Bind::Public("*".into()));
        assert_eq!(forward("0.0.0.0:2222:localhost:22").bind, Bind::Public("0.0.0.0".into()));
    }

    #[test]
    fn loopback_has_many_addresses() {
        for bind in ["localhost", "127.0.0.1", "127.0.0.2", "127.255.0.1", "[::1]"] {
            assert_eq!(forward(&format!("{bind}:2222:pi:22")).bind, Bind::Loopback, "{bind}");
        }
        for bind in ["[::2]", "[::]", "203.0.113.10"] {
            let bind = forward(&format!("{bind}:2222:pi:22")).bind;
            assert!(matches!(bind, Bind::Public(_)), "{bind:?}");
        }
        assert_eq!(forward("2222:127.0.1.1:22").name.as_str(), "ssh", "a Debian's own name");
    }

    #[test]
    fn refuses_with_what_to_write_instead() {
        for (text, part) in [
            ("2222", "names no target"),
            ("localhost:1080", "names no target"),
            ("0:localhost:22", "port 0"),
            ("70000:localhost:22", "1 to 65535"),
            ("2222:localhost:0", "no `host:port`"),
            ("2222:-oProxyCommand=x:22", "no `host:port`"),
            ("2222:a b:22", "no `host:port`"),
            ("/tmp/s:localhost:22", "socket at the gateway"),
            ("[::1:2222:localhost:22", "without its `]`"),
            ("not an address:2222:localhost:22", "bind address"),
            ("1:2:3:4:5", "not a forward"),
            ("", "names no target"),
        ] {
            let error = Service::from_forward(text).unwrap_err().to_string();
            assert!(error.contains(part), "`{text}`: {error}");
            assert!(error.contains("write `-R 2222:localhost:22`"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn a_target_reads_back_as_written(host in "[a-z0-9][a-z0-9.-]{0,40}", port in 1u16..) {
            let target = Target::Tcp(host, port);
            prop_assert_eq!(target.to_string().parse::<Target>().unwrap(), target);
        }

        #[test]
        fn no_text_brings_blanks_or_controls_into_a_forward(text in any::<String>()) {
            if let Ok(service) = Service::from_forward(&text) {
                prop_assert!(!service.target.to_string().chars().any(char::is_control));
                prop_assert!(service.port > Some(0));
            }
        }
    }
}
