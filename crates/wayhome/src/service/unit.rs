//! The systemd units: text from facts, and nothing else.
//!
//! The sandbox is a list of settings of its own, because the login that is tried before anything is
//! installed happens in the very same one ([`Unit::sandbox`]).

use std::fmt::Write;
use std::path::{Path, PathBuf};

/// The unit's name.
pub const NAME: &str = "wayhome-agent.service";

/// The account that is made for the agent, where no other is named.
pub const OWN_USER: &str = "wayhome";

/// The home and state folder of that account, and the state folder of every system service here.
pub const STATE: &str = "/var/lib/wayhome";

/// How every file begins that is ours to replace and to remove.
pub const MARK: &str = "# Written by `wayhome service install agent`";

/// The first systemd whose restarts can be spaced out.
const HAS_RESTART_STEPS: u32 = 254;

/// Whom the agent runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunsAs {
    /// An account that is made for it.
    Own,
    /// A person's account, named with `--as`.
    Person(String),
    /// Whoever's service manager it is (`--user`).
    Me,
}

impl RunsAs {
    /// The account, where the unit has to name one.
    pub fn user(&self) -> Option<&str> {
        match self {
            Self::Own => Some(OWN_USER),
            Self::Person(name) => Some(name),
            Self::Me => None,
        }
    }
}

/// The facts of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// This program, where the service finds it.
    pub program: PathBuf,
    /// The configuration.
    pub config: PathBuf,
    /// Whom it runs as.
    pub runs_as: RunsAs,
    /// Systemd's version, if it is known.
    pub systemd: Option<u32>,
}

impl Unit {
    /// The unit file.
    pub fn render(&self) -> String {
        let program = program(&self.program);
        let config = word(&self.config);
        let mut text = format!(
            "{MARK}; `wayhome service uninstall agent` removes it.\n\
             # Settings of your own belong into a drop-in: `{}`.\n\n",
            match self.runs_as {
                RunsAs::Me => format!("systemctl --user edit {NAME}"),
                _ => format!("systemctl edit {NAME}"),
            }
        );
        text.push_str(
            "[Unit]\n\
             Description=Wayhome agent: keeps the road home open\n\
             # It waits for the network by itself, and then for as long as that takes.\n\
             After=network.target\n\
             # Never given up: nobody is there to start it again.\n\
             StartLimitIntervalSec=0\n\n\
             [Service]\n\
             Type=notify\n\
             NotifyAccess=main\n",
        );
        if let Some(user) = self.runs_as.user() {
            let _ = writeln!(text, "User={user}");
        }
        let _ = write!(
            text,
            "ExecStart={program} agent run --config {config}\n\
             # A configuration that is wrong makes this fail; the one before runs on.\n\
             ExecReload={program} reload\n\
             Restart=always\n\
             RestartSec=2\n"
        );
        if self.systemd.is_some_and(|version| version >= HAS_RESTART_STEPS) {
            text.push_str("RestartSteps=5\nRestartMaxDelaySec=30\n");
        }
        text.push_str(
            "# Fed from the loop that does the work. One that is stuck has nothing to save.\n\
             WatchdogSec=30\n\
             WatchdogSignal=SIGKILL\n\
             # The agent ends its ssh in order; what is left after that is ended for it.\n\
             KillMode=mixed\n\
             TimeoutStopSec=10\n",
        );
        if self.runs_as != RunsAs::Me {
            text.push_str("RuntimeDirectory=wayhome\nRuntimeDirectoryMode=0700\n");
        }
        text.push_str(match self.runs_as {
            RunsAs::Me => "\n# What it may ask of the kernel.\n",
            _ => "\n# What it can reach: the network, its own state, and nothing else.\n",
        });
        for setting in self.sandbox() {
            let _ = writeln!(text, "{setting}");
        }
        let target = if self.runs_as == RunsAs::Me { "default" } else { "multi-user" };
        let _ = write!(text, "\n[Install]\nWantedBy={target}.target\n");
        text
    }

    /// The settings that bound what the agent can reach, each `Key=value`.
    ///
    /// Where they run as root's, all that an ssh needs is left: the network, Unix sockets (an
    /// ssh-agent's, and its own control sockets), and netlink, by which the resolver and the agent
    /// ask the kernel about addresses.
    pub fn sandbox(&self) -> Vec<&'static str> {
        let mut settings = Vec::new();
        if self.runs_as != RunsAs::Me {
            settings.extend(["StateDirectory=wayhome", "StateDirectoryMode=0700"]);
            if self.runs_as == RunsAs::Own {
                // Its key and configuration lie elsewhere. (Of a person, RemoveIPC would remove
                // what other programs of that person's use.)
                settings.extend(["ProtectHome=yes", "RemoveIPC=yes"]);
            } else {
                // `~/.ssh` is read, and nothing there is written.
                settings.push("ProtectHome=read-only");
            }
            settings.extend(SYSTEM);
        }
        settings.extend(ANYONE);
        if self.runs_as == RunsAs::Me {
            // Set while its person is logged in; what works only then is no help at boot.
            settings.push("UnsetEnvironment=SSH_AUTH_SOCK");
        }
        settings
    }

    /// Whether a file is hidden from the agent by the sandbox.
    pub fn hides(&self, path: &Path) -> bool {
        self.runs_as == RunsAs::Own
            && ["/home", "/root", "/run/user"].iter().any(|folder| path.starts_with(folder))
            || self.runs_as != RunsAs::Me
                && ["/tmp", "/var/tmp"].iter().any(|folder| path.starts_with(folder))
    }
}

/// What takes root's service manager to set up.
pub const SYSTEM: &[&str] = &[
    "AmbientCapabilities=",
    "CapabilityBoundingSet=",
    "PrivateDevices=yes",
    "PrivateTmp=yes",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectProc=invisible",
    "ProtectSystem=strict",
];

/// What a person's own service manager can do as well.
pub const ANYONE: &[&str] = &[
    "LockPersonality=yes",
    "MemoryDenyWriteExecute=yes",
    "NoNewPrivileges=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "SystemCallArchitectures=native",
    "SystemCallErrorNumber=EPERM",
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@privileged @resources",
    "UMask=0077",
];

/// The text that makes the account, for systemd-sysusers(8).
pub fn sysusers() -> String {
    format!(
        "{MARK}; `wayhome service uninstall agent` removes it.\n\
         # Its home is where its key lies; a home's key logs in elsewhere, and nobody logs in here.\n\
         u {OWN_USER} - \"Wayhome agent\" {STATE} /usr/sbin/nologin\n"
    )
}

/// The path of a program, in which systemd replaces no variable: there is no `$$` for `$`.
pub fn program(path: &Path) -> String {
    word(path).replace("$$", "$")
}

/// A path as one word of a command line (systemd.service(5)).
pub fn word(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@:,=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text;
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '%' | '$' => quoted.extend([c, c]),
            _ => quoted.push(c),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(runs_as: RunsAs, systemd: Option<u32>) -> Unit {
        Unit {
            program: "/usr/local/bin/wayhome".into(),
            config: "/etc/wayhome/agent.toml".into(),
            runs_as,
            systemd,
        }
    }

    #[test]
    fn the_system_unit_with_an_account_of_its_own() {
        insta::assert_snapshot!(unit(RunsAs::Own, Some(252)).render());
    }

    #[test]
    fn the_system_unit_as_a_person() {
        insta::assert_snapshot!(unit(RunsAs::Person("fan".into()), Some(257)).render());
    }

    #[test]
    fn the_user_unit() {
        let mut unit = unit(RunsAs::Me, None);
        unit.config = "/home/fan/.config/wayhome/agent.toml".into();
        insta::assert_snapshot!(unit.render());
    }

    #[test]
    fn the_account() {
        insta::assert_snapshot!(sysusers());
    }

    #[test]
    fn a_path_is_one_word() {
        for (path, expected) in [
            ("/usr/local/bin/wayhome", "/usr/local/bin/wayhome"),
            ("/opt/my tools/w", "\"/opt/my tools/w\""),
            ("/opt/100%/$x\\\"", "\"/opt/100%%/$$x\\\\\\\"\""),
            ("/opt/é", "\"/opt/é\""),
        ] {
            assert_eq!(word(Path::new(path)), expected);
        }
        assert_eq!(program(Path::new("/opt/w$x%y z")), "\"/opt/w$x%%y z\"");
        assert_eq!(program(Path::new("/opt/$$")), "\"/opt/$$\"");
    }

    #[test]
    fn what_the_sandbox_hides() {
        let hidden = |runs_as, path: &str| unit(runs_as, None).hides(Path::new(path));
        for path in ["/home/fan/.ssh/wayhome", "/root/key", "/run/user/1000/bus", "/tmp/agent.1"] {
            assert!(hidden(RunsAs::Own, path), "{path}");
            assert!(!hidden(RunsAs::Me, path), "{path}");
        }
        assert!(!hidden(RunsAs::Person("fan".into()), "/home/fan/.ssh/wayhome"));
        assert!(hidden(RunsAs::Person("fan".into()), "/tmp/agent.1"));
        assert!(!hidden(RunsAs::Own, "/var/lib/wayhome/keys/id"));
        assert!(!hidden(RunsAs::Own, "/homes/fan/key"));
    }
}
