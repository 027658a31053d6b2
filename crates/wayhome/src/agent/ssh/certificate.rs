//! The certificate beside an identity, and whether it is valid now.
//!
//! sshd refuses one that is not as it refuses any key: "Permission denied". So its window of time is
//! read here, by the same `ssh-keygen` and in the same clock and time zone as people would.

use std::path::Path;

use wayhome_core::health::Detail;

use crate::supervise::{self, LOCAL};

/// Why the certificate of an identity is not valid at this time, if it has one and it is not.
pub async fn not_valid_now(identity: &Path) -> Option<Detail> {
    let mut certificate = identity.as_os_str().to_owned();
    certificate.push("-cert.pub");
    let certificate = Path::new(&certificate);
    if !certificate.is_file() {
        return None;
    }
    let shown =
        said("ssh-keygen", &["-L".as_ref(), "-f".as_ref(), certificate.as_os_str()]).await?;
    let now = said("date", &["+%Y-%m-%dT%H:%M:%S".as_ref()]).await?;
    let why = outside(&shown, now.trim())?;
    Some(Detail::new(&format!("`{}` {why}, and it is {}", certificate.display(), now.trim())))
}

async fn said(program: &str, arguments: &[&std::ffi::OsStr]) -> Option<String> {
    let mut command = supervise::command(program);
    command.args(arguments).env("LC_ALL", "C");
    let output = supervise::output(&mut command, LOCAL).await.ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// How a moment lies outside of the window that `ssh-keygen -L` shows. Moments of this form come in
/// the order of their letters.
fn outside(shown: &str, now: &str) -> Option<String> {
    let window = shown.lines().find_map(|line| line.trim().strip_prefix("Valid: "))?;
    let words: Vec<&str> = window.split(' ').collect();
    let (from, to) = match words.as_slice() {
        ["from", from, "to", to] => (Some(*from), Some(*to)),
        ["after", from] => (Some(*from), None),
        ["before", to] => (None, Some(*to)),
        _ => (None, None),
    };
    match (from, to) {
        (Some(from), _) if now < from => Some(format!("is valid only from {from} on")),
        (_, Some(to)) if now >= to => Some(format!("was valid until {to}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_before_within_and_after() {
        let now = "2026-11-25T08:00:00";
        let shown =
            |window: &str| format!("id-cert.pub:\n        Serial: 0\n        Valid: {window}\n");
        for (window, why) in [
            ("forever", None),
            ("from 2026-11-25T08:00:00 to 2026-11-26T08:00:00", None),
            ("after 2020-01-01T00:00:00", None),
            ("before 2040-01-01T00:00:00", None),
            (
                "from 2020-01-01T00:00:00 to 2020-02-01T00:00:00",
                Some("was valid until 2020-02-01T00:00:00"),
            ),
            (
                "from 2040-01-01T00:00:00 to 2041-01-01T00:00:00",
                Some("is valid only from 2040-01-01T00:00:00 on"),
            ),
            ("before 2026-11-25T08:00:00", Some("was valid until 2026-11-25T08:00:00")),
            ("from what to whatever else", None),
        ] {
            assert_eq!(outside(&shown(window), now).as_deref(), why, "{window}");
        }
        assert_eq!(outside("nothing", now), None);
    }
}
