//! The files and the environment variables that play a part, for the manual's pages.

/// Something that stands around a command.
#[derive(Debug)]
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub text: &'static str,
    /// The commands that know it, by the beginnings of their paths.
    commands: &'static [&'static str],
}

impl Entry {
    /// Whether a command's page has it. The program's own has all.
    pub fn is_for(&self, path: &str) -> bool {
        path.is_empty() || self.commands.iter().any(|command| path.starts_with(command))
    }
}

const fn entry(name: &'static str, text: &'static str, commands: &'static [&'static str]) -> Entry {
    Entry { name, text, commands }
}

/// The files.
pub const FILES: &[Entry] = &[
    entry(
        "/etc/wayhome/agent.toml",
        "Where the agent's configuration usually lies; --config names it. See wayhome-agent.toml(5).",
        &["agent", "ssh-config"],
    ),
    entry(
        "/var/lib/wayhome/, ~/.local/state/wayhome/",
        "What outlives the agent, for root and for anybody else: the gateways' pinned host keys in \
         known_hosts, and the sessions that were ours. Only its owner can open it.",
        &["agent", "ssh-config", "connect", "forward", "open", "keys"],
    ),
    entry(
        "identity, known_gateways, known_homes",
        "In that folder: this machine's own key on the native road, and the keys that are pinned \
         there, in the format of OpenSSH's known_hosts.",
        &["connect", "forward", "open", "keys"],
    ),
    entry(
        "/run/wayhome/, $XDG_RUNTIME_DIR/wayhome/",
        "The agent's control socket, by which the other commands ask it.",
        &["agent", "status", "reload", "ssh-config"],
    ),
    entry(
        "~/.ssh/wayhome/",
        "On a laptop: what ssh-config --write has installed; one Include line in ~/.ssh/config leads \
         there.",
        &["ssh-config"],
    ),
];

/// The environment variables.
pub const ENVIRONMENT: &[Entry] = &[
    entry(
        "STATE_DIRECTORY, RUNTIME_DIRECTORY",
        "The folders for state and for sockets, as systemd sets them; they come before all others.",
        &["agent", "status", "reload", "ssh-config", "connect", "forward", "open", "keys"],
    ),
    entry(
        "XDG_STATE_HOME, XDG_RUNTIME_DIR, HOME",
        "The same for who is not root.",
        &["agent", "status", "reload", "ssh-config", "connect", "forward", "open", "keys"],
    ),
    entry(
        "SSH_AUTH_SOCK",
        "The ssh-agent that ssh may ask for keys. Wayhome itself does not speak to it.",
        &["agent run"],
    ),
    entry(
        "BROWSER, DISPLAY, WAYLAND_DISPLAY",
        "The program that opens an address; without it the desktop's own, where there is one.",
        &["open"],
    ),
    entry(
        "JOURNAL_STREAM",
        "Set by systemd. If standard error still leads to the journal, the log goes there with its \
         facts as fields: GATEWAY, SERVICE, CAUSE_KIND, FAULT, AFTER_MS, ATTEMPT, ROUND_TRIP_MS.",
        &["agent run"],
    ),
    entry(
        "NO_COLOR, CLICOLOR, CLICOLOR_FORCE",
        "Whether colours are shown where --color does not say; for standard output and standard \
         error, each by itself.",
        &[""],
    ),
    entry("COLUMNS", "How wide help may be where there is no terminal to ask; 80 at most.", &[""]),
];
