//! The words of OpenSSH, and what each line means.
//!
//! They are those of 9.2 and 10.0, which the tests meet, and of 7.5 to 10.5 as their source has
//! them. System errors are in the C locale, of glibc; of musl and BSD where those differ.

use wayhome_core::health::{Cause, Detail};

use super::line::{Line, is_like};

/// What a line means before the login.
#[derive(Clone, Copy, Debug)]
pub enum Means {
    /// It alone decides.
    Decides(fn(Detail) -> Cause),
    /// The host key is not pinned, unless something else was wrong with it.
    HostKeyUnknown,
    /// sshd ended the connection.
    Closed,
    /// The connection ended, by sshd or on the way.
    Cut,
    /// The same, and before sshd had greeted.
    CutInGreeting,
    /// It only says that it is over.
    Filler,
}

use Means::{Closed, Cut, CutInGreeting, Decides, Filler, HostKeyUnknown};

/// What a line means, if it is known.
pub fn meaning(line: &Line<'_>) -> Option<Means> {
    let rows = if line.is_of_greeting() { GREETING } else { LOGIN };
    if let Some((_, means)) = rows.iter().find(|(pattern, _)| is_like(line.text, pattern)) {
        return Some(*means);
    }
    REASONED.iter().find_map(|(patterns, reasons)| {
        let rest = patterns.iter().find_map(|pattern| after(line.text, pattern))?;
        reasons.iter().find(|(reason, _)| rest == *reason).map(|(_, cause)| Decides(*cause))
    })
}

/// Whether this line is the end of a connection that stood, and whether by silence.
pub fn after_login(line: &Line<'_>) -> Option<bool> {
    let is = |pattern: &&str| is_like(line.text, pattern);
    if is(&"Timeout, server * not responding.") {
        return Some(true);
    }
    LOST.iter().any(is).then_some(false)
}

/// Whether sshd knows this option of a key (`auth_log_authopts` in its auth.c).
pub fn is_key_option(word: &str) -> bool {
    KEY_OPTIONS.contains(&word) || word.strip_prefix("tun=").is_some()
}

const KEY_OPTIONS: &[&str] = &[
    "agent-forwarding",
    "command",
    "environment",
    "no-touch-required",
    "permitlisten",
    "permitopen",
    "port-forwarding",
    "principals",
    "pty",
    "user-rc",
    "uv",
    "x11-forwarding",
];

/// What the resolver's words mean.
pub fn resolver(reason: &str) -> Option<fn(Detail) -> Cause> {
    RESOLVER.iter().find(|(known, _)| *known == reason).map(|(_, cause)| *cause)
}

type Row = (&'static str, Means);
type Reason = (&'static str, fn(Detail) -> Cause);

/// Said while the greetings are exchanged.
pub(super) const GREETING: &[Row] = &[
    // sshd's own words, before it hangs up: up to 9.7, and from 9.8 on for bans as well.
    ("banner line *: Exceeded MaxStartups", Decides(|_| Cause::MaxStartups)),
    ("banner line *: Not allowed at this time", Decides(|_| Cause::NotAllowedNow)),
    ("Connection closed by remote host", CutInGreeting),
    ("read: Connection reset by peer", CutInGreeting),
];

#[rustfmt::skip] // a table: one line for each
pub(super) const LOGIN: &[Row] = &[
    ("Connection timed out during banner exchange", Decides(|_| Cause::LoginTimedOut)),
    ("Unable to negotiate with * port *: no matching **", Decides(|detail| Cause::NoCommonAlgorithm { detail })),

    ("@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @", Decides(|_| Cause::HostKeyChanged)),
    ("Host key for * has changed and you have requested strict checking.", Decides(|_| Cause::HostKeyChanged)),
    ("* host key for * has changed and you have requested strict checking.", Decides(|_| Cause::HostKeyChanged)),
    ("Certificate invalid: expired", Decides(|detail| Cause::Clock { detail })),
    ("Certificate invalid: not yet valid", Decides(|detail| Cause::Clock { detail })),
    ("No * host key is known for * and you have requested strict checking.", HostKeyUnknown),
    ("Host key verification failed.", Filler),

    ("*: Permission denied (*).", Decides(|detail| Cause::KeyRefused { detail })),
    ("Permission denied (*).", Decides(|detail| Cause::KeyRefused { detail })),
    ("Received disconnect from * port *:2: Too many authentication failures", Decides(|_| Cause::TooManyKeys)),
    ("Received disconnect from *: 2: Too many authentication failures", Decides(|_| Cause::TooManyKeys)),

    ("command-line: line *: Bad configuration option: *", Decides(|detail| Cause::SshTooOld { detail })),
    ("command-line line *: unsupported option *", Decides(|detail| Cause::SshTooOld { detail })),
    ("unknown option -- *", Decides(|detail| Cause::SshTooOld { detail })),
    ("*/*: line *: Bad configuration option: *", Decides(|detail| Cause::SshMisconfigured { detail })),
    ("*/* line *: unsupported option *", Decides(|detail| Cause::SshMisconfigured { detail })),
    ("*/*: terminating, * bad configuration options", Decides(|detail| Cause::SshMisconfigured { detail })),
    ("Bad owner or permissions on */*", Decides(|detail| Cause::SshMisconfigured { detail })),
    ("unix_listener: path * too long for Unix domain socket", Decides(|detail| Cause::ControlSocketFailed { detail })),

    ("Connection closed by * port *", Closed),
    ("Connection reset by * port *", Cut),
    ("Connection to * port * timed out", Cut),
    ("Disconnected from * port *", Cut),
    ("ssh_dispatch_run_fatal: Connection to * port *: **", Cut),
    ("banner exchange: Connection to * port *: **", Cut),
    // Up to 7.6.
    ("ssh_exchange_identification: Connection closed by remote host", CutInGreeting),
    ("ssh_exchange_identification: read: Connection reset by peer", CutInGreeting),
];

/// Beginnings of lines that end with a reason of the system's.
#[rustfmt::skip]
pub(super) const REASONED: &[(&[&str], &[Reason])] = &[
    (&["ssh: Could not resolve hostname *:"], RESOLVER),
    // The second is a jump host's, of its own attempt.
    (&["ssh: connect to host * port *:", "channel *: open failed: connect failed:"], &[
        ("Connection refused", |_| Cause::ConnectionRefused),
        ("Connection timed out", |_| Cause::TimedOut),
        ("Operation timed out", |_| Cause::TimedOut),
        ("No route to host", |_| Cause::NoRoute),
        ("Network is unreachable", |_| Cause::NoRoute),
        ("Network is down", |_| Cause::NoRoute),
    ]),
    (&["unix_listener: cannot bind to path *:", "muxserver_listen: link mux listener * => *:"], &[
        ("No space left on device", |detail| Cause::DiskFull { detail }),
        ("Disk quota exceeded", |detail| Cause::DiskFull { detail }),
        ("No such file or directory", |detail| Cause::ControlSocketFailed { detail }),
        ("Not a directory", |detail| Cause::ControlSocketFailed { detail }),
        ("Permission denied", |detail| Cause::ControlSocketFailed { detail }),
        ("Operation not permitted", |detail| Cause::ControlSocketFailed { detail }),
        ("Read-only file system", |detail| Cause::ControlSocketFailed { detail }),
    ]),
];

/// What getaddrinfo(3) says.
#[rustfmt::skip]
const RESOLVER: &[Reason] = &[
    ("Name or service not known", |detail| Cause::NameUnknown { detail }),
    ("No address associated with hostname", |detail| Cause::NameUnknown { detail }),
    ("nodename nor servname provided, or not known", |detail| Cause::NameUnknown { detail }), // BSD
    ("Name does not resolve", |detail| Cause::NameUnknown { detail }), // musl
    ("Temporary failure in name resolution", |detail| Cause::ResolverDown { detail }),
    ("Non-recoverable failure in name resolution", |detail| Cause::ResolverDown { detail }),
    ("Try again", |detail| Cause::ResolverDown { detail }), // musl
];

/// The ends of a connection that stood.
const LOST: &[&str] = &[
    "Connection to * closed by remote host.",
    "Connection to * closed.",
    "Connection closed by * port *",
    "Connection reset by * port *",
    "Connection to * port * timed out",
    "Received disconnect from * port **",
    "Read from remote host *: **",
    "client_loop: send disconnect: **",
    "ssh_dispatch_run_fatal: Connection to * port *: **",
    "packet_write_wait: Connection to * port *: **",
    "packet_write_poll: Connection to * port *: **",
];

/// What follows a beginning, if the line has it.
fn after<'a>(text: &'a str, beginning: &str) -> Option<&'a str> {
    let words = beginning.split(' ').count();
    let mut at = text;
    for _ in 0..words {
        at = at.split_once(' ')?.1;
    }
    let begins = text.get(..text.len() - at.len())?.trim_end();
    is_like(begins, beginning).then_some(at)
}
