//! The causes, in the order in which a road can fail: the name, the way, the login, what the login
//! may do, the port, the target. What follows from each stands in `table`.

use alloc::string::String;
use core::fmt;

use serde::{Deserialize, Serialize};

use super::Detail;

/// Why a road is not up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Cause {
    /// The gateway's name has no address: the resolver said so.
    NameUnknown {
        /// What the resolver said.
        detail: Detail,
    },
    /// The resolver does not answer, or cannot: nothing is known of the name.
    ResolverDown {
        /// What came instead of an answer.
        detail: Detail,
    },
    /// No route to the gateway: this machine is offline, or the gateway's network is.
    NoRoute,
    /// The gateway's machine answers, but nothing listens on its port.
    ConnectionRefused,
    /// Nothing answers at the gateway's address.
    TimedOut,
    /// The system could not connect, for a reason that has no name here.
    ConnectFailed {
        /// What the system said.
        detail: Detail,
    },
    /// Too many others are logging in at the gateway (sshd before 9.8 says so).
    MaxStartups,
    /// sshd (9.8 and later) lets nobody in from here for now: a ban, or too many who log in.
    NotAllowedNow,
    /// The gateway ended the connection before anybody could log in.
    ResetInKeyExchange {
        /// What ssh said.
        detail: Detail,
    },
    /// The gateway has greeted, and then the key exchange does not go on.
    KeyExchangeHangs,
    /// The gateway and this ssh have no algorithm in common.
    NoCommonAlgorithm {
        /// What ssh said.
        detail: Detail,
    },
    /// The gateway takes the connection, and then not even its greeting comes.
    NoGreeting,
    /// The connection stands, but the login did not come to its end in time.
    LoginTimedOut,
    /// The gateway's host key is not pinned.
    HostKeyUnknown,
    /// The gateway's host key is not the pinned one.
    HostKeyChanged,
    /// A certificate is not valid at this time: by the calendar, or because a clock is wrong.
    Clock {
        /// Which, and how.
        detail: Detail,
    },
    /// The gateway does not accept this key.
    KeyRefused {
        /// What ssh said.
        detail: Detail,
    },
    /// ssh offered so many keys that the gateway hung up before the right one.
    TooManyKeys,
    /// The gateway accepts the key, but not the account.
    AccountRefused {
        /// What the gateway said.
        detail: Detail,
    },
    /// The account's password has expired, and until it is changed the login may do nothing.
    PasswordExpired,
    /// There is no `ssh` to run.
    SshMissing {
        /// What the system said.
        detail: Detail,
    },
    /// This machine's ssh does not know what it is told to do.
    SshTooOld {
        /// What ssh said.
        detail: Detail,
    },
    /// ssh does not take the person's own configuration.
    SshMisconfigured {
        /// What ssh said.
        detail: Detail,
    },
    /// There is no room for ssh's control socket.
    DiskFull {
        /// What ssh said.
        detail: Detail,
    },
    /// ssh's control socket cannot be made.
    ControlSocketFailed {
        /// What ssh said.
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
    /// A forced command runs in place of the hold.
    ForcedCommand {
        /// What it said.
        detail: Detail,
    },
    /// The account's shell runs nothing.
    NoShell {
        /// What it said.
        detail: Detail,
    },
    /// The gateway allows no sessions over the connection.
    MaxSessions,
    /// The hold does not run, or ended, for a reason that has no name here.
    HoldRefused {
        /// What came instead.
        detail: Detail,
    },
    /// The gateway's sshd does not permit this forward, and says no more.
    ForwardingForbidden,
    /// The key's own line does not let it forward.
    ForwardingForbiddenByKey,
    /// A `permitlisten`, of the key or the server, does not have this port.
    ForwardingForbiddenByPermitlisten,
    /// The gateway's sshd_config does not permit forwards, or the port is one of root's.
    ForwardingForbiddenByServer,
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
    /// Our own old session holds the port, and could not be ended.
    TakeoverFailed {
        /// What the gateway said.
        detail: Detail,
    },
    /// The port leads to a host key that is not the target's.
    TakenByAnotherHost {
        /// The host key's fingerprint.
        fingerprint: String,
    },
    /// The port was to be on loopback, and the gateway opens it to everybody.
    Exposed,
    /// The port was to be public, and is on the gateway's loopback alone.
    PublicOnLoopback,
    /// Nothing listens at the target.
    TargetRefused,
    /// The gateway's machine answers, but no `wayhome gateway` listens on its port.
    NoGateway,
    /// The key of a `wayhome gateway` is not the pinned one.
    GatewayKeyChanged {
        /// The one that it shows.
        shown: String,
    },
    /// A `wayhome gateway` sends what its protocol does not have, or does not answer as it should.
    ProtocolBreach {
        /// What it did.
        detail: Detail,
    },
    /// Home's own key cannot be used, or not be made.
    IdentityUnusable {
        /// Why.
        detail: Detail,
    },
    /// No grant at the gateway has this home's key.
    HomeKeyUnknown,
    /// The grant of this home's key has expired.
    HomeKeyExpired,
    /// The grant of this home's key was taken back.
    HomeKeyRevoked,
    /// This home's key may not come from where it is.
    HomeKeyElsewhere,
    /// This home's key has a grant, and it is one for other homes.
    HomeNotGranted,
    /// This home's key has a grant, and it does not have the service.
    ServiceNotGranted,
    /// This home's key has a grant, and it does not have the service's port.
    PortNotGranted,
    /// Another agent with this home's identity is connected at the gateway, and alive.
    AnotherAgent,
    /// Another agent wanted this home's place at the gateway, while this one has it.
    IdentityElsewhere {
        /// Where it came from, as the gateway says.
        from: Detail,
    },
    /// A newer registration of this home has taken the place of this one.
    Replaced,
    /// The gateway has as many homes, connections or services as it may.
    GatewayFull,
    /// The gateway ends, or starts anew.
    GatewayGoingAway,
    /// The gateway refuses this home for a reason that has no name here.
    GatewayRefused {
        /// What it said.
        detail: Detail,
    },
    /// The service is offered, and the gateway passes no stream on to it.
    StreamRefused {
        /// What it said.
        detail: Detail,
    },
    /// The target accepts a connection and says nothing, or the way to it swallows everything.
    TargetSilent,
    /// The target answers, but not with the proof that was asked for.
    TargetUnproven {
        /// What came instead.
        detail: Detail,
    },
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NameUnknown { detail } => {
                write!(f, "the gateway's name has no address ({detail})")
            }
            Self::ResolverDown { detail } => {
                write!(f, "the resolver does not answer for the gateway's name ({detail})")
            }
            Self::NoRoute => f.write_str("no route to the gateway"),
            Self::ConnectionRefused => {
                f.write_str("the gateway refuses connections on its SSH port")
            }
            Self::TimedOut => f.write_str("the gateway does not answer"),
            Self::ConnectFailed { detail } => {
                write!(f, "no connection to the gateway can be made ({detail})")
            }
            Self::MaxStartups => {
                f.write_str("too many others are logging in at the gateway (MaxStartups)")
            }
            Self::NotAllowedNow => f.write_str(
                "the gateway lets nobody in from here for now: a ban (PerSourcePenalties), or \
                 too many others who log in (MaxStartups)",
            ),
            Self::ResetInKeyExchange { detail } => {
                write!(f, "the gateway closed the connection before the login ({detail})")
            }
            Self::KeyExchangeHangs => f.write_str(
                "the key exchange hangs: the gateway greets, and larger packets do not come through",
            ),
            Self::NoCommonAlgorithm { detail } => {
                write!(f, "ssh and the gateway have no algorithm in common ({detail})")
            }
            Self::NoGreeting => f.write_str(
                "the login takes long: the gateway takes the connection, and no greeting has come",
            ),
            Self::LoginTimedOut => f.write_str("the login at the gateway does not finish in time"),
            Self::HostKeyUnknown => f.write_str("the gateway's host key is not pinned"),
            Self::HostKeyChanged => f.write_str("the gateway's host key is not the pinned one"),
            Self::Clock { detail } => {
                write!(f, "a certificate is not valid at this time ({detail})")
            }
            Self::KeyRefused { detail } => write!(f, "the gateway refuses this key ({detail})"),
            Self::TooManyKeys => {
                f.write_str("ssh offered too many keys, and the gateway hung up before the right one")
            }
            Self::AccountRefused { detail } => {
                write!(f, "the gateway accepts the key, but not the account ({detail})")
            }
            Self::PasswordExpired => f.write_str(
                "the account's password at the gateway has expired: until it is changed the login \
                 may do nothing",
            ),
            Self::SshMissing { detail } => write!(f, "`ssh` cannot be run ({detail})"),
            Self::SshTooOld { detail } => {
                write!(f, "this machine's `ssh` is too old ({detail})")
            }
            Self::SshMisconfigured { detail } => {
                write!(f, "ssh does not take its own configuration ({detail})")
            }
            Self::DiskFull { detail } => {
                write!(f, "there is no room for ssh's control socket ({detail})")
            }
            Self::ControlSocketFailed { detail } => {
                write!(f, "ssh's control socket cannot be made ({detail})")
            }
            Self::SshFailed { detail } => write!(f, "ssh failed ({detail})"),
            Self::ConnectionLost { detail } => write!(f, "the connection was lost ({detail})"),
            Self::HeartbeatLost => f.write_str("the gateway stopped answering"),
            Self::ForcedCommand { detail } => {
                write!(f, "a forced command runs in place of the hold ({detail})")
            }
            Self::NoShell { detail } => {
                write!(f, "the account's shell at the gateway runs nothing ({detail})")
            }
            Self::MaxSessions => {
                f.write_str("the gateway allows this login no session (MaxSessions)")
            }
            Self::HoldRefused { detail } => {
                write!(f, "the gateway does not run the hold for this login ({detail})")
            }
            Self::ForwardingForbidden => f.write_str("the gateway's sshd forbids this forward"),
            Self::ForwardingForbiddenByKey => {
                f.write_str("the key's line in authorized_keys forbids all forwards")
            }
            Self::ForwardingForbiddenByPermitlisten => {
                f.write_str("a `permitlisten` at the gateway does not have this port")
            }
            Self::ForwardingForbiddenByServer => {
                f.write_str("the gateway's sshd_config forbids this forward")
            }
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
            Self::Exposed => f.write_str(
                "the gateway opens the port to everybody, and not on its loopback alone; it was \
                 given back",
            ),
            Self::PublicOnLoopback => {
                f.write_str("the port is not public: the gateway opened it on its loopback alone")
            }
            Self::NoGateway => f.write_str("nothing listens on the gateway's port"),
            Self::GatewayKeyChanged { shown } => {
                write!(f, "the gateway's key is not the pinned one: it shows `{shown}`")
            }
            Self::ProtocolBreach { detail } => {
                write!(f, "the gateway does not keep to the protocol ({detail})")
            }
            Self::IdentityUnusable { detail } => {
                write!(f, "this home's identity cannot be used ({detail})")
            }
            Self::HomeKeyUnknown => f.write_str("no grant at the gateway has this home's key"),
            Self::HomeKeyExpired => {
                f.write_str("the grant of this home's key at the gateway has expired")
            }
            Self::HomeKeyRevoked => {
                f.write_str("the grant of this home's key at the gateway was revoked")
            }
            Self::HomeKeyElsewhere => f.write_str(
                "the grant of this home's key at the gateway is not for the address that it comes from",
            ),
            Self::HomeNotGranted => {
                f.write_str("the grant of this home's key at the gateway is not for a home of this name")
            }
            Self::ServiceNotGranted => {
                f.write_str("the grant of this home's key at the gateway does not have this service")
            }
            Self::PortNotGranted => {
                f.write_str("the grant of this home's key at the gateway does not have this port")
            }
            Self::AnotherAgent => f.write_str(
                "another agent with this home's identity is connected at the gateway, and alive",
            ),
            Self::IdentityElsewhere { from } => {
                write!(f, "another agent with this home's identity wanted its place (from {from})")
            }
            Self::Replaced => {
                f.write_str("another registration of this home has taken this one's place")
            }
            Self::GatewayFull => f.write_str("the gateway has as many as it may"),
            Self::GatewayGoingAway => f.write_str("the gateway ends, or starts anew"),
            Self::GatewayRefused { detail } => {
                write!(f, "the gateway refuses this home ({detail})")
            }
            Self::StreamRefused { detail } => {
                write!(f, "the gateway passes no stream on to the service ({detail})")
            }
            Self::TargetRefused => f.write_str("nothing listens at the target"),
            Self::TargetSilent => f.write_str("the target does not answer"),
            Self::TargetUnproven { detail } => {
                write!(f, "the target answers, but not as it should ({detail})")
            }
        }
    }
}
