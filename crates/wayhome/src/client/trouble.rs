//! Why there is no stream, or no more: whose fault it is, and what a person can do.

use std::fmt;
use std::io;

use wayhome_core::address::NativeAddress;
use wayhome_core::key::Key;
use wayhome_core::refusal::{Refusal, Speaker};

use super::{Goal, PATIENCE};
use crate::error::Failure;

/// What went wrong on the way through one gateway.
#[derive(Debug)]
pub enum Trouble {
    /// The gateway's name is not known, or there is no connection to it.
    Unreachable(io::Error),
    /// The whole of it took too long.
    Silent,
    /// The gateway has this key, and another is pinned.
    WrongGatewayKey(Key),
    /// The gateway does not keep to the protocol, or hung up.
    Gateway(io::Error),
    /// Somebody said no.
    Refused(Speaker, Refusal),
    /// The home has this key, and another is pinned.
    WrongHomeKey(Key),
    /// What came through the gateway is no home's first flight, or not an answer to ours.
    Home(io::Error),
    /// The home was asked for the service, and did not answer.
    HomeSilent,
    /// The stream was cut, or changed on its way.
    Lost(io::Error),
    /// What is to be sent cannot be read.
    Input(io::Error),
    /// What came cannot be written: whoever wanted it is gone, or there is no room.
    Output(io::Error),
}

impl Trouble {
    /// How much it tells, where several gateways failed: who refused knew what was asked for.
    fn rank(&self) -> u8 {
        match self {
            Self::Unreachable(_) => 0,
            Self::Silent => 1,
            Self::Gateway(_) | Self::Home(_) => 2,
            Self::WrongGatewayKey(_) => 3,
            Self::WrongHomeKey(_) => 4,
            Self::Refused(Speaker::Gateway, _) => 5,
            Self::Refused(Speaker::Home, _) => 6,
            // These come when one gateway has won.
            Self::HomeSilent | Self::Lost(_) | Self::Input(_) | Self::Output(_) => 7,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => write!(f, "it cannot be reached: {why}"),
            Self::Silent => write!(f, "no answer within {} seconds", PATIENCE.as_secs()),
            Self::WrongGatewayKey(key) => {
                write!(f, "it shows the key `{key}`, which is not the pinned one")
            }
            Self::Gateway(why) | Self::Home(why) | Self::Lost(why) => f.write_str(&told(why)),
            Self::Refused(Speaker::Gateway, refusal) => refusal.reason.fmt(f),
            Self::Refused(Speaker::Home, refusal) => write!(f, "the home: {}", refusal.reason),
            Self::WrongHomeKey(key) => {
                write!(f, "the home at its end shows the key `{key}`, which is not the pinned one")
            }
            Self::HomeSilent => f.write_str("the home does not answer"),
            Self::Input(why) | Self::Output(why) => why.fmt(f),
        }
    }
}

/// What happened on a connection. Its end is an error only where more should have come.
fn told(why: &io::Error) -> String {
    match why.kind() {
        io::ErrorKind::UnexpectedEof => "it ended in the middle".to_owned(),
        _ => why.to_string(),
    }
}

/// What went wrong, and at which gateway.
#[derive(Debug)]
pub struct Failed {
    /// The gateway.
    pub gateway: NativeAddress,
    /// What went wrong there.
    pub trouble: Trouble,
}

impl Failed {
    /// The most telling of several; of those that tell as much, the first.
    pub(super) fn most_telling(all: Vec<Self>) -> Self {
        let nothing = || Self {
            gateway: NativeAddress { host: "no gateway".into(), port: 0 },
            trouble: Trouble::Unreachable(io::ErrorKind::NotFound.into()),
        };
        let most = all.into_iter().rev().max_by_key(|failed| failed.trouble.rank());
        most.unwrap_or_else(nothing)
    }

    /// For the person who wanted to go there.
    pub fn failure(&self, goal: &Goal) -> Failure {
        let (gateway, home) = (&self.gateway, &goal.home);
        let again = |name: &dyn fmt::Display| {
            format!(
                "if it was set up anew, and you have its new key by a way you trust: \
                 `wayhome keys unpin {name}`, and pin that"
            )
        };
        match &self.trouble {
            Trouble::Refused(speaker, refusal) => {
                tracing::debug!("what to do: {}", refusal.remedy(*speaker));
                Failure::new(refusal.line(*speaker, home, &goal.service))
            }
            Trouble::Unreachable(why) => {
                Failure::new(format!("the gateway {gateway} cannot be reached: {why}"))
            }
            Trouble::Silent => Failure::new(format!(
                "no answer by way of {gateway} within {} seconds",
                PATIENCE.as_secs()
            )),
            Trouble::WrongGatewayKey(key) => Failure::new(format!(
                "the gateway {gateway} shows the key `{key}`, which is not the pinned one"
            ))
            .hint(again(gateway)),
            Trouble::WrongHomeKey(key) => Failure::new(format!(
                "who answers for {home} at {gateway} shows the key `{key}`, which is not the \
                 pinned one"
            ))
            .hint(again(home)),
            Trouble::Gateway(why) => Failure::new(format!(
                "the gateway {gateway} does not speak as it should: {}",
                told(why)
            )),
            Trouble::Home(why) => Failure::new(format!(
                "what comes from {home} by way of {gateway} does not belong to this stream: {}",
                told(why)
            )),
            Trouble::HomeSilent => {
                Failure::new(format!("{home} does not say whether `{}` is granted", goal.service))
            }
            Trouble::Lost(why) => {
                Failure::new(format!("the stream to {goal} was cut: {}", told(why)))
            }
            Trouble::Input(why) => {
                Failure::new(format!("what is to be sent to {goal} cannot be read: {why}"))
            }
            Trouble::Output(why) => {
                Failure::new(format!("what comes from {goal} cannot be written: {why}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wayhome_core::refusal::Reason;

    fn failed(gateway: &str, trouble: Trouble) -> Failed {
        Failed { gateway: gateway.parse().unwrap(), trouble }
    }

    fn no_route() -> io::Error {
        io::ErrorKind::HostUnreachable.into()
    }

    #[test]
    fn the_most_telling_reason_is_told() {
        let key = Key::new([7; 32]);
        // From the least telling to the most.
        let steps: [fn(Key) -> Trouble; 7] = [
            |_| Trouble::Unreachable(no_route()),
            |_| Trouble::Silent,
            |_| Trouble::Gateway(no_route()),
            Trouble::WrongGatewayKey,
            Trouble::WrongHomeKey,
            |_| Trouble::Refused(Speaker::Gateway, Reason::Offline.into()),
            |_| Trouble::Refused(Speaker::Home, Reason::NotAllowed.into()),
        ];
        for (place, more) in steps.iter().enumerate() {
            for less in steps.iter().take(place) {
                for both in [[more, less], [less, more]] {
                    let all = both.map(|trouble| failed("wayhome://gw", trouble(key)));
                    let told = Failed::most_telling(all.into()).trouble;
                    assert_eq!(told.to_string(), more(key).to_string());
                }
            }
        }
        let two = ["wayhome://a", "wayhome://b"].map(|gateway| failed(gateway, Trouble::Silent));
        assert_eq!(Failed::most_telling(two.into()).gateway.host, "a");
    }

    #[test]
    fn each_reads_as_one_sentence() {
        let goal: Goal = "home-ubuntu:web".parse().unwrap();
        let said = |trouble| failed("wayhome://gw.example.org", trouble).failure(&goal).to_string();
        assert_eq!(
            said(Trouble::Unreachable(no_route())),
            "the gateway wayhome://gw.example.org cannot be reached: host unreachable"
        );
        assert_eq!(
            said(Trouble::Refused(Speaker::Gateway, Reason::Offline.into())),
            "home-ubuntu is offline"
        );
        assert_eq!(
            said(Trouble::Lost(io::ErrorKind::UnexpectedEof.into())),
            "the stream to home-ubuntu:web was cut: it ended in the middle"
        );
        let wrong = said(Trouble::WrongHomeKey(Key::new([7; 32])));
        assert!(wrong.contains("`wayhome keys unpin home-ubuntu`"), "{wrong}");
        let wrong = said(Trouble::WrongGatewayKey(Key::new([7; 32])));
        assert!(wrong.contains("`wayhome keys unpin wayhome://gw.example.org`"), "{wrong}");
    }
}
