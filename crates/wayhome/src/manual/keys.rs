//! The keys of `agent.toml`, for its page and the README.

use std::fmt::Write;

/// What is said of a key that has no default.
pub const NEEDED: &str = "must be there";

/// A key of the configuration.
#[derive(Debug)]
pub struct Key {
    /// The table it stands in; empty for the top of the file.
    pub table: &'static str,
    /// Its name.
    pub name: &'static str,
    /// What it is set to, as an example.
    pub example: &'static str,
    /// What it means.
    pub means: &'static str,
    /// What is taken if it is not there.
    pub without: &'static str,
}

const fn key(
    table: &'static str,
    name: &'static str,
    example: &'static str,
    means: &'static str,
    without: &'static str,
) -> Key {
    Key { table, name, example, means, without }
}

/// The tables, in order, with what one of them is.
pub const TABLES: &[(&str, &str)] = &[
    ("", "What the home is called, and how closely it watches."),
    ("gateway", "A gateway. One or several: there is a link to each, all the time."),
    ("service", "Something that home offers, at each of the gateways. One or several."),
];

/// All keys.
pub const KEYS: &[Key] = &[
    key("", "name", "\"home-ubuntu\"", "the home's name", "this machine's host name"),
    key("", "heartbeat", "5", "seconds between two heartbeats, 1 to 300", "5"),
    key(
        "",
        "grants",
        "\"grants.toml\"",
        "the file that says who may enter over native links; without one only the home itself may",
        "`grants.toml` beside the configuration, if there is one",
    ),
    key(
        "gateway",
        "address",
        "\"ssh://root@203.0.113.10:22\"",
        "where it is; a `Host` of ~/.ssh/config will do, or `wayhome://gw.example.org` for a `wayhome gateway`",
        NEEDED,
    ),
    key(
        "gateway",
        "identity",
        "\"~/.ssh/wayhome\"",
        "the private key to log in with",
        "what ssh itself would take; at a `wayhome gateway`, `identity` in the state folder, which is made if there is none",
    ),
    key(
        "gateway",
        "known_hosts",
        "\"pins\"",
        "the file with its pinned host key",
        "`known_hosts` in the state folder",
    ),
    key(
        "gateway",
        "key",
        "\"ssh-ed25519 AAAA…\"",
        "the pinned key of a `wayhome gateway`, which needs one",
        "none, for an sshd",
    ),
    key("service", "name", "\"ssh\"", "what it is called", "a name after its target"),
    key(
        "service",
        "target",
        "\"localhost:22\"",
        "where it is, seen from home: host and port, or the path of a Unix socket",
        NEEDED,
    ),
    key(
        "service",
        "port",
        "2222",
        "its port at the gateway",
        "none: it is offered at gateways that run wayhome alone",
    ),
    key(
        "service",
        "proof",
        "\"http\"",
        "what counts as proof that it is reached: `ssh`, `http`, `tls` or `hold`",
        "what its target suggests",
    ),
    key(
        "service",
        "bind",
        "\"0.0.0.0\"",
        "the gateway's address on which it listens; not loopback only with `public`",
        "loopback",
    ),
    key("service", "public", "true", "that its port may be open to the whole internet", "`false`"),
];

/// The table as the README has it.
pub fn markdown() -> String {
    let mut text =
        String::from("| Key | For example | What it is | Without it |\n|---|---|---|---|\n");
    for Key { table, name, example, means, without } in KEYS {
        let name = if table.is_empty() { (*name).to_owned() } else { format!("{table}.{name}") };
        let _ = writeln!(text, "| `{name}` | `{example}` | {means} | {without} |");
    }
    text
}
