//! Why somebody was refused on the native road, and how a person at the laptop reads it.
//!
//! The reasons are those of `proto/wayhome.proto`. Who decides on them is [`crate::grant`],
//! [`crate::route`] and the home; how they travel is for the program's `wire`.

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::health::Detail;
use crate::name::Name;

/// Why something was refused, or ended.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// None was given, or one that only a later version knows.
    #[default]
    Unspecified,
    /// No grant has this key.
    UnknownKey,
    /// The key's grant has expired.
    Expired,
    /// The key's grant was taken back.
    Revoked,
    /// The key may not come from this address.
    WrongAddress,
    /// The key has a grant, and what was asked for is not in it.
    NotAllowed,
    /// No grant speaks of such a home.
    NoSuchHome,
    /// The home is not connected.
    Offline,
    /// The home is connected, and does not answer.
    HomeSilent,
    /// Another agent with this identity is connected, and alive.
    Duplicate,
    /// A newer registration of this home has taken its place.
    Replaced,
    /// The home has no service of this name.
    NoSuchService,
    /// Nothing listens at the service's target.
    TargetRefused,
    /// The service's target does not answer.
    TargetSilent,
    /// As many streams or connections as there may be.
    Full,
    /// The gateway ends, or starts anew.
    GoingAway,
    /// What was sent is not as docs/protocol.md has it.
    Malformed,
    /// The port at the gateway is somebody else's.
    PortTaken,
}

impl Reason {
    /// All of them, each at the place of its number in `proto/wayhome.proto`.
    pub const ALL: [Self; 18] = [
        Self::Unspecified,
        Self::UnknownKey,
        Self::Expired,
        Self::Revoked,
        Self::WrongAddress,
        Self::NotAllowed,
        Self::NoSuchHome,
        Self::Offline,
        Self::HomeSilent,
        Self::Duplicate,
        Self::Replaced,
        Self::NoSuchService,
        Self::TargetRefused,
        Self::TargetSilent,
        Self::Full,
        Self::GoingAway,
        Self::Malformed,
        Self::PortTaken,
    ];

    /// Its number in `proto/wayhome.proto`.
    pub const fn number(self) -> i32 {
        // The variants stand in the order of `ALL`; a test compares both with the specification.
        self as i32
    }

    /// The reason with this number. One that is not known here is [`Reason::Unspecified`]: the peer
    /// may be newer.
    pub fn from_number(number: i32) -> Self {
        let place = usize::try_from(number).ok();
        place.and_then(|place| Self::ALL.get(place)).copied().unwrap_or_default()
    }

    /// Whether it is for this one to know. A gateway that speaks of a service's target says what it
    /// cannot see.
    fn is_known_to(self, speaker: Speaker) -> bool {
        match self {
            Self::WrongAddress
            | Self::NoSuchHome
            | Self::Offline
            | Self::HomeSilent
            | Self::Duplicate
            | Self::Replaced
            | Self::PortTaken => speaker == Speaker::Gateway,
            Self::NoSuchService | Self::TargetRefused | Self::TargetSilent => {
                speaker == Speaker::Home
            }
            Self::Unspecified
            | Self::UnknownKey
            | Self::Expired
            | Self::Revoked
            | Self::NotAllowed
            | Self::Full
            | Self::GoingAway
            | Self::Malformed => true,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unspecified => "no reason given",
            Self::UnknownKey => "no grant has this key",
            Self::Expired => "the key's grant has expired",
            Self::Revoked => "the key's grant was revoked",
            Self::WrongAddress => "the key may not come from this address",
            Self::NotAllowed => "the key's grant does not have this",
            Self::NoSuchHome => "no grant speaks of such a home",
            Self::Offline => "the home is offline",
            Self::HomeSilent => "the home is connected, and does not answer",
            Self::Duplicate => "another agent with this identity is connected, and alive",
            Self::Replaced => "a newer registration has taken its place",
            Self::NoSuchService => "the home has no such service",
            Self::TargetRefused => "nothing listens at the target",
            Self::TargetSilent => "the target does not answer",
            Self::Full => "there are as many as there may be",
            Self::GoingAway => "the gateway ends, or starts anew",
            Self::Malformed => "what was sent is not as the protocol has it",
            Self::PortTaken => "the port at the gateway is somebody else's",
        })
    }
}

/// Who refused. A home speaks inside the TLS between client and home, where no gateway can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Speaker {
    /// The gateway.
    Gateway,
    /// The home itself.
    Home,
}

/// A refusal, as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// More, in the words of who refused; often empty.
    pub detail: Detail,
    /// With [`Reason::Offline`]: how long ago the home was last seen.
    pub last_seen: Option<Duration>,
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self { reason, ..Self::default() }
    }
}

impl Refusal {
    /// The one line that a person reads who wanted this `service` of this `home`.
    pub fn line(&self, speaker: Speaker, home: &Name, service: &Name) -> String {
        let who = match speaker {
            Speaker::Gateway => "the gateway",
            Speaker::Home => home.as_str(),
        };
        let mut line = String::new();
        if !self.reason.is_known_to(speaker) {
            line += &format!("{who} says that ");
        }
        line += &match self.reason {
            Reason::Unspecified => format!("{who} refused, and gave no reason that is known here"),
            Reason::UnknownKey => format!("this key has no grant at {who}"),
            Reason::Expired => format!("this key's grant at {who} has expired"),
            Reason::Revoked => format!("this key's grant at {who} was revoked"),
            Reason::WrongAddress => {
                format!("this key's grant at {who} is not for the address that it comes from")
            }
            Reason::NotAllowed => match speaker {
                Speaker::Gateway => format!("this key may not reach {home}"),
                Speaker::Home => format!("this key may not use `{service}` of {home}"),
            },
            Reason::NoSuchHome => format!("there is no home `{home}`"),
            Reason::Offline => match self.last_seen {
                Some(span) => format!("{home} is offline, last seen {}", ago(span)),
                None => format!("{home} is offline"),
            },
            Reason::HomeSilent => format!("{home} is connected, and does not answer"),
            Reason::Duplicate => {
                format!("another agent with the identity of {home} is connected, and alive")
            }
            Reason::Replaced => format!("a newer registration of {home} has taken its place"),
            Reason::NoSuchService => format!("{home} has no service `{service}`"),
            Reason::TargetRefused => {
                format!("nothing listens at the target of `{service}` at {home}")
            }
            Reason::TargetSilent => {
                format!("the target of `{service}` at {home} does not answer")
            }
            Reason::Full => format!("{who} has no room for another stream"),
            Reason::GoingAway => format!("{who} ends, or starts anew"),
            Reason::Malformed => format!("{who} did not understand what was sent to it"),
            Reason::PortTaken => format!("the port of `{service}` at {who} is somebody else's"),
        };
        if !self.detail.as_str().is_empty() {
            line += &format!(" ({})", self.detail);
        }
        line
    }

    /// What that person can do about it.
    pub fn remedy(&self, speaker: Speaker) -> &'static str {
        #[rustfmt::skip] // a table
        let remedy = match (self.reason, speaker) {
            (Reason::Unspecified, _) =>
                "upgrade wayhome here: a later version may know the reason",
            (Reason::UnknownKey, Speaker::Gateway) =>
                "add this key to `grants.toml` at the gateway",
            (Reason::UnknownKey, Speaker::Home) =>
                "add this key to `grants.toml` at home",
            (Reason::Expired, Speaker::Gateway) =>
                "set a later `expires` in `grants.toml` at the gateway, if the key is still to be used; else check the clock there",
            (Reason::Expired, Speaker::Home) =>
                "set a later `expires` in `grants.toml` at home, if the key is still to be used; else check the clock there",
            (Reason::Revoked, _) =>
                "make a new key, and have a grant made for it: this one was taken back",
            (Reason::WrongAddress, _) =>
                "connect from one of the networks in the grant's `from`, or add this one in `grants.toml` at the gateway",
            (Reason::NotAllowed, Speaker::Gateway) =>
                "check the home's name, and `reach` of this key's grant at the gateway",
            (Reason::NotAllowed, Speaker::Home) =>
                "check the service's name, and `services` of this key's grant at home",
            (Reason::NoSuchHome, _) =>
                "check the home's name; a home has a grant at the gateway with its name in `homes`",
            (Reason::Offline, _) =>
                "see that the home is switched on and on the network, and `wayhome status` there",
            (Reason::HomeSilent, _) =>
                "try again; if it stays so, look at the home's load and network, and the agent's log there",
            (Reason::Duplicate, _) =>
                "stop one of the two agents, or give it an identity and a name of its own; if you run only one, the key was copied: revoke it",
            (Reason::Replaced, _) =>
                "nothing to do if the agent was restarted; else see who else has its identity",
            (Reason::NoSuchService, _) =>
                "check the service's name; `wayhome status` at home shows those that there are",
            (Reason::TargetRefused, _) =>
                "start what is to listen there (for `ssh`: sshd at home), or correct the service's `target`",
            (Reason::TargetSilent, _) =>
                "see whether the service's target hangs, or a firewall at home swallows its packets",
            (Reason::Full, _) =>
                "close some streams, or raise the limit there",
            (Reason::GoingAway, _) =>
                "nothing to do: try again in a moment",
            (Reason::Malformed, _) =>
                "bring both sides to versions of wayhome that are closer to each other",
            (Reason::PortTaken, _) =>
                "end what listens there at the gateway, or give the service another `port`",
        };
        remedy
    }
}

/// A span that has passed, in its largest unit: `4 minutes ago`.
fn ago(span: Duration) -> String {
    let seconds = span.as_secs();
    let (count, unit) = match seconds {
        0 => return "just now".to_string(),
        1..60 => (seconds, "second"),
        60..3600 => (seconds / 60, "minute"),
        // Two days in hours still tell yesterday's evening from its morning.
        3600..172_800 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{count} {unit}{} ago", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests;
