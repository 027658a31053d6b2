//! What ssh said, as a cause.
//!
//! The words are OpenSSH's own (9.2 and 10.0 agree on all of them); system errors are in the C
//! locale. A line that is not known makes `SshFailed` or `ConnectionLost`, never a guess.

use std::io;

use wayhome_core::health::{Cause, Detail};

/// Why an ssh that was started has ended.
pub fn ended(lines: &[String]) -> Cause {
    let has = |part: &str| lines.iter().any(|line| line.contains(part));
    let find = |part: &str| lines.iter().rev().find(|line| line.contains(part));
    let detail = |line: &String| Detail::new(line);

    if has("REMOTE HOST IDENTIFICATION HAS CHANGED") {
        return Cause::HostKeyChanged;
    }
    if has("Host key verification failed") {
        return Cause::HostKeyUnknown;
    }
    if let Some(line) = find("Could not resolve hostname") {
        return Cause::NameUnresolved { detail: detail(line) };
    }
    if let Some(line) =
        find("Permission denied (").or_else(|| find("Too many authentication failures"))
    {
        return Cause::KeyRefused { detail: detail(line) };
    }
    // Only with a port is this about our own connection; a forward's target is named otherwise.
    if let Some(line) = find("connect to host") {
        return connect_failed(line);
    }
    if let Some(line) = find("kex_exchange_identification:")
        .or_else(|| find("Not allowed at this time"))
        .or_else(|| find("banner exchange:"))
        .or_else(|| find("ssh_dispatch_run_fatal:"))
    {
        return Cause::ResetInKeyExchange { detail: detail(line) };
    }
    if has("Timeout, server") {
        return Cause::HeartbeatLost;
    }
    let closed =
        |line: &&String| line.starts_with("Connection ") || line.starts_with("client_loop:");
    if let Some(line) = lines.iter().rev().find(closed) {
        return Cause::ConnectionLost { detail: detail(line) };
    }
    match lines.last() {
        Some(line) => Cause::SshFailed { detail: detail(line) },
        None => Cause::ConnectionLost { detail: Detail::new("ssh ended without a word") },
    }
}

/// Why ssh could not be started.
pub fn not_started(error: &io::Error) -> Cause {
    let detail = Detail::new(&error.to_string());
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => Cause::SshMissing { detail },
        _ => Cause::SshFailed { detail },
    }
}

/// Why a plain connect failed.
pub fn connect_error(error: &io::Error) -> Cause {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Cause::ConnectionRefused,
        io::ErrorKind::TimedOut => Cause::TimedOut,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Cause::NoRoute,
        _ => Cause::NoRoute,
    }
}

fn connect_failed(line: &str) -> Cause {
    if line.contains("Connection refused") {
        Cause::ConnectionRefused
    } else if line.contains("timed out") {
        Cause::TimedOut
    } else {
        Cause::NoRoute
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_ssh_said() {
        for (said, kind) in [
            ("ssh: connect to host gw port 22: Connection refused", "connection-refused"),
            ("ssh: connect to host gw port 22: Connection timed out", "timed-out"),
            ("ssh: connect to host gw port 22: No route to host", "no-route"),
            ("ssh: connect to host gw port 22: Network is unreachable", "no-route"),
            ("ssh: Could not resolve hostname gw: Name or service not known", "name-unresolved"),
            ("root@gw: Permission denied (publickey).", "key-refused"),
            (
                "kex_exchange_identification: read: Connection reset by peer",
                "reset-in-key-exchange",
            ),
            ("Host key verification failed.", "host-key-unknown"),
            ("Timeout, server gw not responding.", "heartbeat-lost"),
            ("Connection to gw closed by remote host.", "connection-lost"),
            ("client_loop: send disconnect: Broken pipe", "connection-lost"),
            ("something new", "ssh-failed"),
        ] {
            assert_eq!(ended(&[said.to_owned()]).kind(), kind, "{said}");
        }
        assert_eq!(ended(&[]).kind(), "connection-lost");
        let changed = [
            "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @",
            "Host key verification failed.",
        ];
        assert_eq!(ended(&changed.map(str::to_owned)), Cause::HostKeyChanged);
    }
}
