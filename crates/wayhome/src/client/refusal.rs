//! A refusal as it travelled, made fit for a person.

use std::time::Duration;

use wayhome_core::health::Detail;
use wayhome_core::refusal::{Reason, Refusal};

use crate::wire::messages::Refused;

/// The longest detail that is taken (`docs/protocol.md`, "Bounds"). What is beyond it is cut off.
const MAX_DETAIL: usize = 256;

/// Reads what somebody said who is not trusted.
pub fn read(sent: &Refused) -> Refusal {
    let reason = Reason::from_number(sent.reason);
    let detail = sent.detail.get(..sent.detail.floor_char_boundary(MAX_DETAIL));
    let last_seen = sent.last_seen_ms.filter(|_| reason == Reason::Offline);
    Refusal {
        reason,
        detail: Detail::new(detail.unwrap_or_default()),
        last_seen: last_seen.map(Duration::from_millis),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detail_is_bounded_and_harmless() {
        let detail = format!("\u{1b}]0;owned\u{7}\n{}", "é".repeat(500_000));
        let sent = Refused { reason: 7, detail, last_seen_ms: Some(240_000) };
        let read = read(&sent);
        assert_eq!(read.reason, Reason::Offline);
        assert_eq!(read.last_seen, Some(Duration::from_secs(240)));
        assert!(read.detail.as_str().starts_with("]0;owned é"), "{}", read.detail);
        assert!(read.detail.as_str().len() <= MAX_DETAIL, "{}", read.detail);
    }

    #[test]
    fn what_a_later_version_says_is_still_a_refusal() {
        let sent = Refused { reason: 99, detail: String::new(), last_seen_ms: Some(1) };
        assert_eq!(read(&sent), Refusal::from(Reason::Unspecified));
    }
}
