//! What must not be repeated: passwords that stand in addresses.
//!
//! Wayhome asks for none. But people write `ssh://root:password@host`, and proxies that a person's
//! ssh goes through say whole addresses when they fail; and what is said goes to terminals, logs
//! and the journal.

use alloc::borrow::Cow;
use alloc::string::String;

/// What stands in a secret's place.
pub const MASK: &str = "***";

/// The text, with each password in an address (`scheme://user:password@`) replaced.
pub fn masked(text: &str) -> Cow<'_, str> {
    let mut clean = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        clean.push_str(before);
        clean.push_str("://");
        rest = after;
        // The last `@` before the host ends it: a careless password has one of its own.
        let authority = rest.split(ends_authority).next().unwrap_or_default();
        if let Some((login, place)) = authority.rsplit_once('@')
            && let Some((user, _password)) = login.split_once(':')
        {
            clean.push_str(user);
            clean.push(':');
            clean.push_str(MASK);
            clean.push('@');
            clean.push_str(place);
            rest = rest.strip_prefix(authority).unwrap_or_default();
        }
    }
    if clean.is_empty() {
        return Cow::Borrowed(text);
    }
    clean.push_str(rest);
    Cow::Owned(clean)
}

/// Where a user, a host and a port end, in an address that stands in somebody's words.
fn ends_authority(c: char) -> bool {
    c.is_whitespace() || matches!(c, '/' | '?' | '#' | '"' | '\'' | '`' | '<' | '>')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_password_in_an_address_is_masked_and_nothing_else() {
        for (text, clean) in [
            ("ssh://root:hunter2@203.0.113.10:22", "ssh://root:***@203.0.113.10:22"),
            ("ssh://root:hun@ter2@gw", "ssh://root:***@gw"),
            (
                "via http://fan:p:q@proxy.example.org/x?a@b ok",
                "via http://fan:***@proxy.example.org/x?a@b ok",
            ),
            (
                "`http://:x@p` and 'socks5://u:y@[2001:db8::1]:1080'",
                "`http://:***@p` and 'socks5://u:***@[2001:db8::1]:1080'",
            ),
            ("ssh://root@203.0.113.10:22", "ssh://root@203.0.113.10:22"),
            (
                "root@203.0.113.10: Permission denied (publickey).",
                "root@203.0.113.10: Permission denied (publickey).",
            ),
            ("://", "://"),
            ("", ""),
        ] {
            assert_eq!(masked(text), clean);
        }
    }

    proptest! {
        #[test]
        fn whatever_stands_around_it_a_password_does_not_come_through(
            before in "[ -~]{0,9}", user in "[a-z]{0,5}", secret in "[A-Z]{8,12}", after in "[ -~]{0,9}",
        ) {
            let text = alloc::format!("{before} http://{user}:{secret}@proxy {after}");
            prop_assert!(!masked(&text).contains(&secret));
        }

        #[test]
        fn masking_twice_changes_nothing(text in any::<String>()) {
            let once = masked(&text);
            prop_assert_eq!(masked(&once), once.clone());
        }
    }
}
