//! What a gateway refuses, and how it fails, as causes.

use std::io;

use wayhome_core::health::{Cause, Detail};
use wayhome_core::refusal::Reason;

use crate::wire::messages::Refused;
use crate::wire::tls::WrongKey;

/// Why a connect failed. Nothing listens there that an ssh link would want to find.
pub fn connecting(cause: Cause) -> Cause {
    match cause {
        Cause::ConnectionRefused => Cause::NoGateway,
        other => other,
    }
}

/// Why a connection to a gateway ended, or came to nothing.
pub fn speaking(why: &io::Error) -> Cause {
    if let Some(wrong) = WrongKey::of(why) {
        return Cause::GatewayKeyChanged { shown: wrong.shown.to_string() };
    }
    let detail = Detail::new(&why.to_string());
    match why.kind() {
        // TLS has no other kind for what it does not take.
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
            Cause::ProtocolBreach { detail }
        }
        io::ErrorKind::UnexpectedEof => {
            Cause::ConnectionLost { detail: Detail::new("the gateway hung up") }
        }
        _ => Cause::ConnectionLost { detail },
    }
}

/// Something that has no place where it came.
pub fn breach(what: &str) -> Cause {
    Cause::ProtocolBreach { detail: Detail::new(what) }
}

/// Why the gateway does not take this home in, or lets it go.
pub fn home(refused: &Refused) -> Cause {
    match Reason::from_number(refused.reason) {
        Reason::UnknownKey => Cause::HomeKeyUnknown,
        Reason::Expired => Cause::HomeKeyExpired,
        Reason::Revoked => Cause::HomeKeyRevoked,
        Reason::WrongAddress => Cause::HomeKeyElsewhere,
        Reason::NotAllowed => Cause::HomeNotGranted,
        Reason::Duplicate => Cause::AnotherAgent,
        Reason::Replaced => Cause::Replaced,
        Reason::Full => Cause::GatewayFull,
        Reason::GoingAway => Cause::GatewayGoingAway,
        Reason::Malformed => Cause::ProtocolBreach { detail: said(refused) },
        _ => Cause::GatewayRefused { detail: said(refused) },
    }
}

/// Why it does not offer a service of this home's.
pub fn service(refused: &Refused) -> Cause {
    match Reason::from_number(refused.reason) {
        Reason::NotAllowed => Cause::ServiceNotGranted,
        _ => home(refused),
    }
}

/// Why a service of this home's does not get its port there.
pub fn port(refused: &Refused) -> Cause {
    match Reason::from_number(refused.reason) {
        Reason::NotAllowed => Cause::PortNotGranted,
        Reason::PortTaken => Cause::PortBusy { detail: Detail::new(&refused.detail) },
        _ => home(refused),
    }
}

/// A refusal in words.
pub fn said(refused: &Refused) -> Detail {
    let reason = Reason::from_number(refused.reason);
    match refused.detail.as_str() {
        "" => Detail::new(&reason.to_string()),
        detail => Detail::new(&format!("{reason}: {detail}")),
    }
}

/// A refusal of ours.
pub fn because(reason: Reason, detail: &str) -> Refused {
    Refused { reason: reason.number(), detail: detail.to_owned(), last_seen_ms: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wayhome_core::health::Retry;

    #[test]
    fn what_only_a_person_mends_halts_the_link() {
        for reason in Reason::ALL {
            let cause = home(&because(reason, ""));
            let is_for_a_person = matches!(
                reason,
                Reason::UnknownKey
                    | Reason::Expired
                    | Reason::Revoked
                    | Reason::WrongAddress
                    | Reason::NotAllowed
                    | Reason::Duplicate
            );
            assert_eq!(cause.retry() == Retry::Halt, is_for_a_person, "{reason:?}: {cause}");
        }
        let refused = because(Reason::NotAllowed, "");
        assert_eq!(service(&refused), Cause::ServiceNotGranted);
        assert_eq!(port(&refused), Cause::PortNotGranted);
        let taken = Cause::PortBusy { detail: "`nginx` has it".into() };
        assert_eq!(port(&because(Reason::PortTaken, "`nginx` has it")), taken);
        assert_eq!(said(&because(Reason::Offline, "x")).as_str(), "the home is offline: x");
    }
}
