//! Why a road is not up: each cause with whose fault it is, what to do, and how to retry.
//!
//! A cause is a value, never a string to be searched: whoever meets a failure in the world names it
//! here, and everything that speaks of it (status, logs, exit codes, the retry policy) reads this.

use alloc::format;
use alloc::string::String;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::secret::masked;

/// The most characters of a stranger's text that a cause keeps.
const MAX_DETAIL: usize = 300;

/// Why a road is not up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Cause {
    /// The gateway's name has no address.
    NameUnresolved {
        /// What the resolver said.
        detail: Detail,
    },
    /// No route to the gateway: this machine is offline, or the gateway's network is.
    NoRoute,
    /// The gateway's machine answers, but nothing listens on its port.
    ConnectionRefused,
    /// Nothing answers at the gateway's address.
    TimedOut,
    /// The gateway ended the connection before anybody could log in.
    ResetInKeyExchange {
        /// What ssh said.
        detail: Detail,
    },
    /// The connection stands, but the login did not come to its end in time.
    LoginTimedOut,
    /// The gateway's host key is not pinned.
    HostKeyUnknown,
    /// The gateway's host key is not the pinned one.
    HostKeyChanged,
    /// The gateway does not accept this key.
    KeyRefused {
        /// What ssh said.
        detail: Detail,
    },
    /// There is no `ssh` to run.
    SshMissing {
        /// What the system said.
        detail: Detail,
    },
    /// ssh ended for a reason that has no name here.
    SshFailed {
        /// What ssh said.
        detail: Detail,
    },
    /// An established connection ended.
    ConnectionLost {
        /// What ssh said.
        detail: Detail,
    },
    /// The gateway no longer answers over an established connection.
    HeartbeatLost,
    /// The gateway's sshd does not permit this forward.
    ForwardingForbidden,
    /// The gateway refuses the forward, and what stands in the way cannot be seen with this key.
    ForwardRefused,
    /// A session that cannot be told apart from others holds the port.
    PortBusy {
        /// Why it cannot be told.
        detail: Detail,
    },
    /// A program that is not sshd holds the port.
    PortTakenByProgram {
        /// The program's name.
        program: Detail,
        /// Its process id at the gateway.
        pid: u32,
    },
    /// Another account's process holds the port.
    PortTakenByUser {
        /// The account's number at the gateway.
        uid: u32,
        /// The host key that answers behind the port, if one does.
        fingerprint: Option<String>,
    },
    /// Another live home holds the port, with this same login.
    AnotherHome {
        /// Its host key's fingerprint.
        fingerprint: String,
    },
    /// Another live tunnel from this same home holds the port.
    AnotherTunnelOfThisHome,
    /// A live session of the same login holds the port, and no SSH server answers behind it.
    AnotherLiveSession,
    /// The old session could not be ended.
    TakeoverFailed {
        /// What the gateway said.
        detail: Detail,
    },
    /// The port leads to a host key that is not the target's.
    TakenByAnotherHost {
        /// The host key's fingerprint.
        fingerprint: String,
    },
    /// Nothing listens at the target.
    TargetRefused,
    /// The target accepts a connection and says nothing, or the way to it swallows everything.
    TargetSilent,
    /// The target answers, but not with the proof that was asked for.
    TargetUnproven {
        /// What came instead.
        detail: Detail,
    },
}

/// Where to look first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// This machine, or its configuration.
    Home,
    /// The network between.
    Network,
    /// The gateway, or its configuration.
    Gateway,
    /// What stands behind a service at home.
    Target,
}

/// How a cause is retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// It passes by itself: try again within a second, always.
    Soon,
    /// The gateway was reached and did not want us: back off, up to half a minute.
    Gently,
    /// Only a person can mend it: halt, say so, and probe slowly.
    Halt,
}

impl Cause {
    /// Whose fault it is, as far as can be known.
    pub fn fault(&self) -> Fault {
        match self {
            Self::SshMissing { .. }
            | Self::SshFailed { .. }
            | Self::HostKeyUnknown
            | Self::AnotherTunnelOfThisHome => Fault::Home,
            Self::NameUnresolved { .. }
            | Self::NoRoute
            | Self::TimedOut
            | Self::ConnectionLost { .. }
            | Self::HeartbeatLost => Fault::Network,
            Self::ConnectionRefused
            | Self::ResetInKeyExchange { .. }
            | Self::LoginTimedOut
            | Self::HostKeyChanged
            | Self::KeyRefused { .. }
            | Self::ForwardingForbidden
            | Self::ForwardRefused
            | Self::PortBusy { .. }
            | Self::PortTakenByProgram { .. }
            | Self::PortTakenByUser { .. }
            | Self::AnotherHome { .. }
            | Self::AnotherLiveSession
            | Self::TakeoverFailed { .. }
            | Self::TakenByAnotherHost { .. } => Fault::Gateway,
            Self::TargetRefused | Self::TargetSilent | Self::TargetUnproven { .. } => Fault::Target,
        }
    }

    /// How it is retried.
    pub fn retry(&self) -> Retry {
        match self {
            Self::HostKeyUnknown
            | Self::HostKeyChanged
            | Self::KeyRefused { .. }
            | Self::SshMissing { .. }
            | Self::AnotherHome { .. } => Retry::Halt,
            Self::NameUnresolved { .. }
            | Self::NoRoute
            | Self::ConnectionRefused
            | Self::TimedOut
            | Self::ConnectionLost { .. }
            | Self::HeartbeatLost => Retry::Soon,
            _ => Retry::Gently,
        }
    }

    /// What a person can do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NameUnresolved { .. } => {
                "check the name in `address`, and this machine's resolver"
            }
            Self::NoRoute => "check this machine's network; the road comes back with it by itself",
            Self::ConnectionRefused => {
                "start sshd at the gateway, or check the port in `address` and the firewall"
            }
            Self::TimedOut => "check that the gateway runs and that its firewall lets SSH in",
            Self::ResetInKeyExchange { .. } => {
                "look at the gateway's sshd log: it may be overloaded (MaxStartups) or have banned this address"
            }
            Self::LoginTimedOut => {
                "look at the gateway's load and its sshd log; a too small path MTU also looks like this"
            }
            Self::HostKeyUnknown => {
                "run the agent once in a terminal to see and pin the gateway's key"
            }
            Self::HostKeyChanged => {
                "if the gateway was reinstalled, remove its line from the pinned `known_hosts` and pin the new key; if not, somebody stands in between"
            }
            Self::KeyRefused { .. } => {
                "add this identity's public key to `~/.ssh/authorized_keys` of the account at the gateway"
            }
            Self::SshMissing { .. } => "install OpenSSH's client (Debian: `openssh-client`)",
            Self::SshFailed { .. } => "run the same `ssh` by hand with `-v` to see more",
            Self::ConnectionLost { .. } | Self::HeartbeatLost => {
                "nothing to do: the road comes back by itself"
            }
            Self::ForwardingForbidden => {
                "at the gateway: `AllowTcpForwarding yes` (or `remote`) in sshd_config, and a `permitlisten` for this port if the key has one"
            }
            Self::ForwardRefused => {
                "at the gateway: look who holds the port with `ss -lntp`, and check AllowTcpForwarding and the key's `permitlisten`"
            }
            Self::PortBusy { .. } => {
                "at the gateway: look who holds the port with `ss -lntp`, and end it"
            }
            Self::PortTakenByProgram { .. } | Self::PortTakenByUser { .. } => {
                "choose another port for the service, or end what holds this one at the gateway"
            }
            Self::AnotherHome { .. } => "give one of the two homes another port",
            Self::AnotherTunnelOfThisHome => {
                "stop the other tunnel on this machine (autossh? `ssh -R`?); wayhome takes the port then"
            }
            Self::AnotherLiveSession => {
                "choose another port, or end the other session (`ss -lntp` at the gateway shows it)"
            }
            Self::TakeoverFailed { .. } => "at the gateway: end the old sshd session by hand",
            Self::TakenByAnotherHost { .. } => {
                "at the gateway: look who listens on the port with `ss -lntp`; the road does not lead here"
            }
            Self::TargetRefused => "start the service at home, or correct its `target`",
            Self::TargetSilent => "check the service at home: it accepts and does not answer",
            Self::TargetUnproven { .. } => {
                "check the service's `proof`: it answers as something else"
            }
        }
    }

    /// The cause's name in JSON and logs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NameUnresolved { .. } => "name-unresolved",
            Self::NoRoute => "no-route",
            Self::ConnectionRefused => "connection-refused",
            Self::TimedOut => "timed-out",
            Self::ResetInKeyExchange { .. } => "reset-in-key-exchange",
            Self::LoginTimedOut => "login-timed-out",
            Self::HostKeyUnknown => "host-key-unknown",
            Self::HostKeyChanged => "host-key-changed",
            Self::KeyRefused { .. } => "key-refused",
            Self::SshMissing { .. } => "ssh-missing",
            Self::SshFailed { .. } => "ssh-failed",
            Self::ConnectionLost { .. } => "connection-lost",
            Self::HeartbeatLost => "heartbeat-lost",
            Self::ForwardingForbidden => "forwarding-forbidden",
            Self::ForwardRefused => "forward-refused",
            Self::PortBusy { .. } => "port-busy",
            Self::PortTakenByProgram { .. } => "port-taken-by-program",
            Self::PortTakenByUser { .. } => "port-taken-by-user",
            Self::AnotherHome { .. } => "another-home",
            Self::AnotherTunnelOfThisHome => "another-tunnel-of-this-home",
            Self::AnotherLiveSession => "another-live-session",
            Self::TakeoverFailed { .. } => "takeover-failed",
            Self::TakenByAnotherHost { .. } => "taken-by-another-host",
            Self::TargetRefused => "target-refused",
            Self::TargetSilent => "target-silent",
            Self::TargetUnproven { .. } => "target-unproven",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NameUnresolved { detail } => {
                write!(f, "the gateway's name has no address ({detail})")
            }
            Self::NoRoute => f.write_str("no route to the gateway"),
            Self::ConnectionRefused => {
                f.write_str("the gateway refuses connections on its SSH port")
            }
            Self::TimedOut => f.write_str("the gateway does not answer"),
            Self::ResetInKeyExchange { detail } => {
                write!(f, "the gateway closed the connection before the login ({detail})")
            }
            Self::LoginTimedOut => f.write_str("the login at the gateway did not finish in time"),
            Self::HostKeyUnknown => f.write_str("the gateway's host key is not pinned"),
            Self::HostKeyChanged => f.write_str("the gateway's host key is not the pinned one"),
            Self::KeyRefused { detail } => write!(f, "the gateway refuses this key ({detail})"),
            Self::SshMissing { detail } => write!(f, "`ssh` cannot be run ({detail})"),
            Self::SshFailed { detail } => write!(f, "ssh failed ({detail})"),
            Self::ConnectionLost { detail } => write!(f, "the connection was lost ({detail})"),
            Self::HeartbeatLost => f.write_str("the gateway stopped answering"),
            Self::ForwardingForbidden => f.write_str("the gateway's sshd forbids this forward"),
            Self::ForwardRefused => {
                f.write_str("the gateway refused the forward: the port is busy, or forbidden")
            }
            Self::PortBusy { detail } => write!(f, "the port is busy at the gateway ({detail})"),
            Self::PortTakenByProgram { program, pid } => {
                write!(f, "the program `{program}` (process {pid}) holds the port at the gateway")
            }
            Self::PortTakenByUser { uid, fingerprint: Some(key) } => {
                write!(f, "the port is taken by another host, {key}, of the gateway's user {uid}")
            }
            Self::PortTakenByUser { uid, fingerprint: None } => {
                write!(f, "a process of the gateway's user {uid} holds the port")
            }
            Self::AnotherHome { fingerprint } => {
                write!(f, "another live home holds the port: its host key is {fingerprint}")
            }
            Self::AnotherTunnelOfThisHome => {
                f.write_str("another live tunnel from this home holds the port")
            }
            Self::AnotherLiveSession => {
                f.write_str("another live session of the same login holds the port")
            }
            Self::TakeoverFailed { detail } => {
                write!(f, "the old session at the gateway could not be ended ({detail})")
            }
            Self::TakenByAnotherHost { fingerprint } => {
                write!(f, "the port is taken by another host: its key is {fingerprint}")
            }
            Self::TargetRefused => f.write_str("nothing listens at the target"),
            Self::TargetSilent => f.write_str("the target does not answer"),
            Self::TargetUnproven { detail } => {
                write!(f, "the target answers, but not as it should ({detail})")
            }
        }
    }
}

/// A stranger's words, made fit for a terminal and a log: bounded, on one line, without controls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Detail(String);

impl Detail {
    /// Takes at most 300 characters of `text`; controls and line breaks become blanks, and a
    /// password in an address is masked.
    pub fn new(text: &str) -> Self {
        let mut clean = String::new();
        for word in
            masked(text).split(|c: char| c.is_control() || c.is_whitespace() || is_format(c))
        {
            if word.is_empty() {
                continue;
            }
            if !clean.is_empty() {
                clean.push(' ');
            }
            clean.push_str(word);
        }
        if clean.chars().count() > MAX_DETAIL {
            clean = format!("{}…", clean.chars().take(MAX_DETAIL).collect::<String>());
        }
        Self(clean)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Characters that change the order or the look of what a terminal shows beside them.
fn is_format(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "no reason given" } else { &self.0 })
    }
}

impl From<String> for Detail {
    fn from(text: String) -> Self {
        Self::new(&text)
    }
}

impl From<&str> for Detail {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<Detail> for String {
    fn from(detail: Detail) -> Self {
        detail.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_detail_is_bounded_and_has_no_controls(text in any::<String>()) {
            let detail = Detail::new(&text);
            prop_assert!(detail.as_str().chars().count() <= MAX_DETAIL + 1);
            prop_assert!(!detail.as_str().chars().any(|c| c.is_control() || is_format(c)));
            prop_assert_eq!(&Detail::new(detail.as_str()), &detail);
        }
    }

    #[test]
    fn an_escape_sequence_loses_its_teeth() {
        assert_eq!(Detail::new("a\u{1b}[31m\r\nb").to_string(), "a [31m b");
        assert_eq!(Detail::new(" \n").to_string(), "no reason given");
    }

    #[test]
    fn a_password_is_not_passed_on() {
        let said = Detail::new("proxy http://fan:hunter2@192.0.2.7:3128 answered 407");
        assert_eq!(said.to_string(), "proxy http://fan:***@192.0.2.7:3128 answered 407");
    }
}
