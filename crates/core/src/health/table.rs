//! The table: what follows from each cause. The compiler keeps it complete.

use super::{Cause, Fault, Retry};
use Fault::{Gateway, Home, Network, Target};
use Retry::{Gently, Halt, Slowly, Soon};

/// What follows from a cause.
struct Row {
    /// Its name in JSON and logs: the variant's, in kebab case.
    kind: &'static str,
    fault: Fault,
    retry: Retry,
    remedy: &'static str,
}

impl Cause {
    /// The cause's name in JSON and logs.
    pub fn kind(&self) -> &'static str {
        self.row().kind
    }

    /// Whose fault it is, as far as can be known.
    pub fn fault(&self) -> Fault {
        self.row().fault
    }

    /// How it is retried.
    pub fn retry(&self) -> Retry {
        self.row().retry
    }

    /// What a person can do about it.
    pub fn remedy(&self) -> &'static str {
        self.row().remedy
    }

    fn row(&self) -> Row {
        let row = |kind, fault, retry, remedy| Row { kind, fault, retry, remedy };
        #[rustfmt::skip] // a table: one line for what it is, one for what to do
        let row = match self {
            Self::NameUnknown { .. } => row("name-unknown", Network, Soon,
                "check the name in `address`"),
            Self::ResolverDown { .. } => row("resolver-down", Network, Soon,
                "check this machine's resolver (`resolvectl status`, /etc/resolv.conf); the road comes back with it by itself"),
            Self::NoRoute => row("no-route", Network, Soon,
                "check this machine's network; the road comes back with it by itself"),
            Self::ConnectionRefused => row("connection-refused", Gateway, Soon,
                "start sshd at the gateway, or check the port in `address` and the firewall"),
            Self::TimedOut => row("timed-out", Network, Soon,
                "check that the gateway runs and that its firewall lets connections to its port in"),
            Self::ConnectFailed { .. } => row("connect-failed", Home, Soon,
                "check this machine's firewall and limits: its own system refused the connection"),
            Self::MaxStartups => row("max-startups", Gateway, Gently,
                "nothing to do if it passes; else look who connects so often in the gateway's sshd log, or raise MaxStartups there"),
            Self::NotAllowedNow => row("not-allowed-now", Gateway, Slowly,
                "wait: a ban ends by itself; if it comes back, look in the gateway's sshd log what fails from this address, and see PerSourcePenalties and MaxStartups there"),
            Self::ResetInKeyExchange { .. } => row("reset-in-key-exchange", Gateway, Gently,
                "look at the gateway's sshd log: it may be overloaded, or a guard before it may have cut the connection"),
            Self::KeyExchangeHangs => row("key-exchange-hangs", Network, Gently,
                "look for a too small path MTU: `ping -M do -s 1400` to the gateway; if that fails, lower the MTU of this machine's interface (`ip link set dev eth0 mtu 1280`), or clamp the MSS at the router"),
            Self::NoCommonAlgorithm { .. } => row("no-common-algorithm", Gateway, Halt,
                "upgrade the older OpenSSH of the two; `ssh -Q kex` and `sshd -T` show what each has"),
            Self::NoGreeting => row("no-greeting", Gateway, Gently,
                "see that sshd listens at this port, and whether it hangs: the gateway's load, its sshd log, and a slow name server there (`UseDNS no`)"),
            Self::LoginTimedOut => row("login-timed-out", Gateway, Gently,
                "look at the gateway's load and its log"),
            Self::HostKeyUnknown => row("host-key-unknown", Home, Halt,
                "to see and pin the gateway's key: for a service, install it again in a terminal (`wayhome service install agent`, with the same options), then `wayhome agent kick`; else run the agent once in a terminal"),
            Self::HostKeyChanged => row("host-key-changed", Gateway, Halt,
                "if the gateway was reinstalled, remove its line from the pinned `known_hosts` and pin the new key; if not, somebody stands in between"),
            Self::Clock { .. } => row("clock", Home, Halt,
                "check the clocks of this machine and of the gateway (`timedatectl`); if they are right, have the certificate renewed"),
            Self::KeyRefused { .. } => row("key-refused", Gateway, Halt,
                "add this identity's public key to `~/.ssh/authorized_keys` of the account at the gateway; if it is there, see whether the account is locked or expired (`passwd -S`, `chage -l`) or kept out (AllowUsers)"),
            Self::TooManyKeys => row("too-many-keys", Home, Halt,
                "name the one right key (`identity`, `-i`), and take the other IdentityFile lines for this gateway out of your ssh configuration"),
            Self::AccountRefused { .. } => row("account-refused", Gateway, Halt,
                "at the gateway: see whether the account is locked or expired (`passwd -S`, `chage -l`), and what PAM and /etc/nologin say"),
            Self::PasswordExpired => row("password-expired", Gateway, Halt,
                "at the gateway: give the account a password that does not expire (`chage -M -1`), or none at all (`usermod -p '*'`)"),
            Self::SshMissing { .. } => row("ssh-missing", Home, Halt,
                "install OpenSSH's client (Debian: `openssh-client`)"),
            Self::SshTooOld { .. } => row("ssh-too-old", Home, Halt,
                "upgrade OpenSSH's client: 7.6 is the oldest that does, 8.5 the oldest that tells each cause"),
            Self::SshMisconfigured { .. } => row("ssh-misconfigured", Home, Halt,
                "correct the line of the ssh configuration that it names"),
            Self::DiskFull { .. } => row("disk-full", Home, Gently,
                "make room (`df`, `df -i`); the road comes back with it by itself"),
            Self::ControlSocketFailed { .. } => row("control-socket-failed", Home, Gently,
                "see to it that the agent may write to its runtime folder; the road comes back with that by itself"),
            Self::SshFailed { .. } => row("ssh-failed", Home, Gently,
                "run the same `ssh` by hand with `-v` to see more"),
            Self::ConnectionLost { .. } => row("connection-lost", Network, Soon,
                "nothing to do: the road comes back by itself"),
            Self::HeartbeatLost => row("heartbeat-lost", Network, Soon,
                "nothing to do: the road comes back by itself"),
            Self::ForcedCommand { .. } => row("forced-command", Gateway, Gently,
                "give the key the line that `wayhome gate --authorize` prints, or take `command=` out of its line; without the hold, old sessions cannot be ended"),
            Self::NoShell { .. } => row("no-shell", Gateway, Gently,
                "give the account a real shell (`chsh -s /bin/sh`): with nologin not even a forced command runs"),
            Self::MaxSessions => row("max-sessions", Gateway, Gently,
                "at the gateway: `MaxSessions 1` or more in sshd_config; without the hold, old sessions cannot be ended"),
            Self::HoldRefused { .. } => row("hold-refused", Gateway, Gently,
                "at the gateway: look for ForceCommand in sshd_config, and at the account's shell and its start files; without the hold, old sessions cannot be ended"),
            Self::ForwardingForbidden => row("forwarding-forbidden", Gateway, Gently,
                "at the gateway: `AllowTcpForwarding yes` (or `remote`) in sshd_config, and a `permitlisten` for this port if the key has one"),
            Self::ForwardingForbiddenByKey => row("forwarding-forbidden-by-key", Gateway, Gently,
                "add `port-forwarding` to the key's line in authorized_keys, or give it the line that `wayhome gate --authorize` prints"),
            Self::ForwardingForbiddenByPermitlisten => row("forwarding-forbidden-by-permitlisten", Gateway, Gently,
                "add `permitlisten=\"127.0.0.1:PORT\"` to the key's line in authorized_keys (`localhost:PORT` is another), and see PermitListen in sshd_config"),
            Self::ForwardingForbiddenByServer => row("forwarding-forbidden-by-server", Gateway, Gently,
                "at the gateway: `AllowTcpForwarding yes` (or `remote`) and no DisableForwarding in sshd_config; a port below 1024 is root's alone"),
            Self::ForwardRefused => row("forward-refused", Gateway, Gently,
                "at the gateway: look who holds the port with `ss -lntp`, and check AllowTcpForwarding and the key's `permitlisten`"),
            Self::PortBusy { .. } => row("port-busy", Gateway, Gently,
                "at the gateway: look who holds the port with `ss -lntp`, and end it"),
            Self::PortTakenByProgram { .. } => row("port-taken-by-program", Gateway, Gently,
                "choose another port for the service, or end what holds this one at the gateway"),
            Self::PortTakenByUser { .. } => row("port-taken-by-user", Gateway, Gently,
                "choose another port for the service, or end what holds this one at the gateway"),
            Self::AnotherHome { .. } => row("another-home", Gateway, Halt,
                "give one of the two homes another port"),
            Self::AnotherTunnelOfThisHome => row("another-tunnel-of-this-home", Home, Gently,
                "stop the other tunnel on this machine (autossh? `ssh -R`?); wayhome takes the port then"),
            Self::AnotherLiveSession => row("another-live-session", Gateway, Gently,
                "choose another port, or end the other session (`ss -lntp` at the gateway shows it)"),
            Self::TakeoverFailed { .. } => row("takeover-failed", Gateway, Gently,
                "at the gateway: end the old sshd session by hand"),
            Self::TakenByAnotherHost { .. } => row("taken-by-another-host", Gateway, Gently,
                "at the gateway: look who listens on the port with `ss -lntp`; the road does not lead here"),
            Self::Exposed => row("exposed", Gateway, Halt,
                "at the gateway: `GatewayPorts no` (or `clientspecified`) in sshd_config, and reload sshd; or, if everybody may reach the service, ask for that (`--public`)"),
            Self::PublicOnLoopback => row("public-on-loopback", Gateway, Gently,
                "at the gateway: `GatewayPorts clientspecified` in sshd_config; or offer the service on loopback"),
            Self::NoGateway => row("no-gateway", Gateway, Soon,
                "start `wayhome gateway` there, or check the port in `address` and the firewall"),
            Self::GatewayKeyChanged { .. } => row("gateway-key-changed", Gateway, Halt,
                "if the gateway was given a new key, write that into `key` of agent.toml; if not, somebody stands in between"),
            Self::ProtocolBreach { .. } => row("protocol-breach", Gateway, Gently,
                "check that it is a `wayhome gateway` that listens there; if it is, bring it and this home to versions that are closer to each other"),
            Self::IdentityUnusable { .. } => row("identity-unusable", Home, Halt,
                "see to it that the agent can read its `identity`, or write to the folder that it is to be made in"),
            Self::HomeKeyUnknown => row("home-key-unknown", Gateway, Halt,
                "add this home's public key (`identity.pub`, beside its identity) to `grants.toml` at the gateway, with the home's name in `homes`"),
            Self::HomeKeyExpired => row("home-key-expired", Gateway, Halt,
                "set a later `expires` in `grants.toml` at the gateway; if it lies ahead, check the clock there"),
            Self::HomeKeyRevoked => row("home-key-revoked", Gateway, Halt,
                "this key was taken back: remove this home's identity, start the agent, and have a grant made for the new one"),
            Self::HomeKeyElsewhere => row("home-key-elsewhere", Gateway, Halt,
                "add this home's network to `from` of its grant at the gateway"),
            Self::HomeNotGranted => row("home-not-granted", Gateway, Halt,
                "add this home's name to `homes` of its grant at the gateway, or correct `name` here"),
            Self::ServiceNotGranted => row("service-not-granted", Gateway, Halt,
                "add the service to `services` of this home's grant at the gateway"),
            Self::PortNotGranted => row("port-not-granted", Gateway, Halt,
                "add the port to `ports` of this home's grant at the gateway, or take `port` out here if nobody there needs it"),
            Self::AnotherAgent => row("another-agent", Home, Halt,
                "stop one of the two agents, or give each an identity and a name of its own; if you run only one, the key was copied: revoke it at the gateway"),
            Self::IdentityElsewhere { .. } => row("identity-elsewhere", Home, Halt,
                "find that agent and stop it, or give it an identity and a name of its own; if there is none of yours, the key was copied: revoke it at the gateway"),
            Self::Replaced => row("replaced", Home, Gently,
                "nothing to do if the agent was started anew; else see who else has this home's identity"),
            Self::GatewayFull => row("gateway-full", Gateway, Gently,
                "raise the limit in the gateway's configuration, or see who uses it up"),
            Self::GatewayGoingAway => row("gateway-going-away", Gateway, Soon,
                "nothing to do: the road comes back with the gateway by itself"),
            Self::GatewayRefused { .. } => row("gateway-refused", Gateway, Gently,
                "look at the gateway's log; if the reason is none, upgrade this home: a later version may know it"),
            Self::StreamRefused { .. } => row("stream-refused", Gateway, Gently,
                "look at the gateway's log, and at its limits for streams"),
            Self::TargetRefused => row("target-refused", Target, Gently,
                "start the service at home, or correct its `target`"),
            Self::TargetSilent => row("target-silent", Target, Gently,
                "check the service at home: it accepts and does not answer"),
            Self::TargetUnproven { .. } => row("target-unproven", Target, Gently,
                "check the service's `proof`: it answers as something else"),
        };
        row
    }
}
