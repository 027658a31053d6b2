//! Secrets: what may be held and used, and never be printed.
//!
//! [`Secret`] is a text that no `{}`, no `{:?}`, no log field and no serialiser shows, and that is
//! wiped when it is dropped. Whatever may hold a password goes into one as soon as it is read: what
//! `ssh -G` says of a person's proxies, and later invites. Passwords in other people's words are
//! [`masked`] before those go anywhere.

pub use secrecy::{ExposeSecret, SecretString as Secret};
pub use wayhome_core::secret::masked;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Failure;
    use crate::logging;

    const PASSWORD: &str = "hunter2";

    /// Does not compile if a `Secret` had what the rule names: then two functions are meant.
    macro_rules! a_secret_is_not {
        ($name:ident: $($rule:tt)+) => {
            mod $name {
                pub trait Ambiguous<A> {
                    fn is_refused() {}
                }
                impl<T: ?Sized> Ambiguous<()> for T {}
                impl<T: ?Sized + $($rule)+> Ambiguous<u8> for T {}
                pub fn check() {
                    <super::Secret as Ambiguous<_>>::is_refused();
                }
            }
        };
    }

    a_secret_is_not!(display: std::fmt::Display);
    a_secret_is_not!(serialize: serde::Serialize);
    a_secret_is_not!(error: std::error::Error);
    a_secret_is_not!(value: tracing::Value);
    a_secret_is_not!(text: AsRef<str>);
    a_secret_is_not!(deref: std::ops::Deref);

    #[test]
    fn a_secret_has_no_way_out_but_one() {
        for check in [
            display::check,
            serialize::check,
            error::check,
            value::check,
            text::check,
            deref::check,
        ] {
            check();
        }
        assert_eq!(Secret::from(PASSWORD).expose_secret(), PASSWORD);
    }

    /// As a structure that somebody logs would hold it.
    #[derive(Clone, Debug)]
    struct Login {
        user: &'static str,
        password: Secret,
    }

    #[test]
    fn what_debug_shows_of_a_secret_is_a_mask() {
        let login = Login { user: "fan", password: Secret::from(PASSWORD) };
        for shown in [
            format!("{:?}", login.password),
            format!("{login:?}"),
            format!("{login:#?}"),
            format!("{:?}", Some(vec![login.clone()])),
        ] {
            assert!(!shown.contains(PASSWORD) && shown.contains("REDACTED"), "{shown}");
        }
        assert_eq!(login.user, "fan");
    }

    #[test]
    fn a_log_field_shows_a_mask() {
        let password = Secret::from(PASSWORD);
        let log = logging::tests::json(|| {
            tracing::info!(?password, "a login");
            tracing::info!("{password:?}");
        });
        let shown = serde_json::to_string(&log).unwrap();
        assert!(!shown.contains(PASSWORD) && shown.contains("REDACTED"), "{shown}");
    }

    #[test]
    fn an_error_and_its_causes_are_masked_when_they_are_shown() {
        let proxy = std::io::Error::other(format!("http://fan:{PASSWORD}@192.0.2.7 answers 407"));
        let failure = Failure::new(format!("`ssh://root:{PASSWORD}@gw` is not reached"))
            .because(&proxy)
            .hint(format!("try ssh://root:{PASSWORD}@gw by hand"));
        for shown in [failure.to_string(), format!("{failure:?}")] {
            assert!(!shown.contains(PASSWORD), "{shown}");
        }
    }
}
