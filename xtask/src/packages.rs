//! The Debian packages that tests and trials need: which are missing, and installing them when we may.
//!
//! `openssh-server` is installed rather than extracted from its package, because its libraries, its
//! user `sshd` and its PAM service come with it. Its service is neither started nor enabled: nobody
//! shall find port 22 open for having run a test.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::Result;
use crate::say::say;

/// A program (or a file, by its whole path) that is needed, and the package that brings it.
pub type Need = (&'static str, &'static str);

/// What `try` needs.
pub const TRY: &[Need] = &[
    ("ssh", "openssh-client"),
    ("ssh-keygen", "openssh-client"),
    ("ssh-keyscan", "openssh-client"),
    ("sshd", "openssh-server"),
    ("setpriv", "util-linux"),
];

/// What the tests need.
pub const TEST: &[Need] = &[
    ("ssh", "openssh-client"),
    ("ssh-keygen", "openssh-client"),
    ("ssh-keyscan", "openssh-client"),
    ("sshd", "openssh-server"),
    ("setpriv", "util-linux"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("ip", "iproute2"),
    ("ss", "iproute2"),
    ("tc", "iproute2"),
    ("nft", "nftables"),
    ("kill", "procps"),
    ("pgrep", "procps"),
    ("rsync", "rsync"),
    ("curl", "curl"),
    ("script", "bsdutils"),
    ("man", "man-db"),
    ("debootstrap", "debootstrap"),
    ("systemd-nspawn", "systemd-container"),
    // These play the servers that are no sshd.
    ("openssl", "openssl"),
    ("python3", "python3"),
    // Debian's own, which has its packages: another one may come first on PATH.
    ("/usr/bin/python3", "python3"),
    ("/usr/lib/python3/dist-packages/websockets/__init__.py", "python3-websockets"),
    ("systemd-analyze", "systemd"),
];

/// What the tests try the gateway's scripts with: login shells that people have, and a checker.
pub const SHELLS: &[Need] = &[
    ("busybox", "busybox"),
    ("fish", "fish"),
    ("mksh", "mksh"),
    ("shellcheck", "shellcheck"),
    ("tcsh", "tcsh"),
    ("zsh", "zsh"),
];

/// What libFuzzer is built with.
pub const FUZZ: &[Need] = &[("c++", "g++")];

/// What `bench --stock` compares with.
pub const STOCK: &[Need] = &[("autossh", "autossh")];

/// Whether packages can be installed without asking anybody.
pub fn can_install() -> bool {
    installer().is_some()
}

/// Sees to it that the programs are there. `false` if they are not and somebody else has to install
/// them, who has been told how.
pub fn bring(needs: &[Need]) -> Result<bool> {
    let missing = missing(needs, is_here);
    if missing.is_empty() {
        return Ok(true);
    }
    let names = missing.join(" ");
    let Some(mut shell) = installer() else {
        say(format_args!("These Debian packages are missing: {names}"));
        say(format_args!("Please install them with this command, and try again:"));
        say(format_args!("  {}", by_hand(&missing)));
        return Ok(false);
    };
    say(format_args!("Installing Debian packages that are missing: {names}"));
    if missing.contains(&"openssh-server") {
        say(format_args!("(the service of openssh-server will be neither started nor enabled)"));
    }
    let status = shell.args(["sh", "-c", INSTALL, "sh"]).args(&missing).status()?;
    if !status.success() {
        return Err(format!("could not install the packages {names} ({status})").into());
    }
    Ok(true)
}

/// Runs with the packages as arguments. `policy-rc.d` is how Debian keeps a service from starting
/// while its package is installed; a machine that has one already has its own opinion. A service that
/// was disabled stays so when its package is upgraded.
const INSTALL: &str = r#"
set -eu
export DEBIAN_FRONTEND=noninteractive
server=no
for package in "$@"; do [ "$package" != openssh-server ] || server=yes; done
guard=/usr/sbin/policy-rc.d
if [ "$server" = yes ] && [ ! -e "$guard" ]; then
    trap 'rm -f "$guard"' EXIT
    trap 'exit 1' HUP INT TERM
    printf '%s\n' '#!/bin/sh' \
        '# Of wayhome, while it installs openssh-server; to be removed if no install runs.' \
        'exit 101' > "$guard"
    chmod 755 "$guard"
fi
apt-get update --quiet=2
apt-get install --yes --quiet=2 --no-install-recommends "$@"
if [ "$server" = yes ] && command -v systemctl > /dev/null; then
    systemctl --quiet disable ssh.service ssh.socket
fi
"#;

/// The packages of the programs that are not here, each once.
fn missing(needs: &[Need], is_here: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let mut packages = Vec::new();
    for &(program, package) in needs {
        if !is_here(program) && !packages.contains(&package) {
            packages.push(package);
        }
    }
    packages
}

fn is_here(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        // A user's own PATH lacks these, where `sshd`, `nft` and `ip` are.
        .chain(["/usr/sbin", "/sbin"].map(Into::into))
        .any(|folder| folder.join(program).is_file())
}

/// What runs a command as root without asking, if anything does.
fn installer() -> Option<Command> {
    if !Path::new("/usr/bin/apt-get").is_file() {
        return None;
    }
    let quiet = |program: &str, args: &[&str]| {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()
    };
    if quiet("id", &["-u"]).is_some_and(|id| id.stdout == b"0\n") {
        return Some(Command::new("env"));
    }
    if quiet("sudo", &["-n", "true"]).is_some_and(|sudo| sudo.status.success()) {
        let mut sudo = Command::new("sudo");
        sudo.arg("-n");
        return Some(sudo);
    }
    None
}

fn by_hand(missing: &[&str]) -> String {
    let install = format!("sudo apt-get install --no-install-recommends {}", missing.join(" "));
    if missing.contains(&"openssh-server") {
        // Debian starts the server at once; a person who had none does not want one for this.
        format!("{install} && sudo systemctl disable --now ssh")
    } else {
        install
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_each_missing_package_once() {
        let has = |program: &str| ["ssh", "ip"].contains(&program);
        assert_eq!(missing(TRY, has), ["openssh-client", "openssh-server", "util-linux"]);
        assert_eq!(missing(TEST, |_| true), Vec::<&str>::new());
    }

    /// What every Debian has, and what cannot be missing where this runs.
    const ALWAYS: &[&str] = &[
        "/usr/bin/perl",
        "apt-config",
        "apt-get",
        "bash",
        "dpkg-deb",
        "env",
        "flock",
        "git",
        "id",
        "mount",
        "rustc",
        "setsid",
        "sh",
        "sha1sum",
        "sleep",
        "sudo",
    ];

    /// What runs in booted computers alone, whose image brings it or whose test does.
    const BOOTED: &[&str] = &["journalctl", "su", "systemctl", "wayhome"];

    /// The programs that are started by their name in a text of Rust.
    fn started(text: &str) -> Vec<&str> {
        let mut started = Vec::new();
        for (call, argument) in [("Command::new(", 0), ("command(", 0), ("command_as(", 1)] {
            for part in text.split(call).skip(1) {
                let arguments = part.split(')').next().unwrap();
                let program = arguments.split(',').nth(argument).unwrap_or_default().trim();
                started.extend(program.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')));
            }
        }
        started
    }

    #[test]
    fn whatever_a_test_starts_is_on_the_list() {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        // What the program itself starts, it says for itself when it is missing.
        let places = ["crates/core", "crates/lab", "crates/wayhome/tests", "xtask"];
        let mut places: Vec<_> = places.iter().map(|place| workspace.join(place)).collect();
        let mut listed: Vec<&str> = [ALWAYS, BOOTED].concat();
        listed.extend(TEST.iter().chain(SHELLS).map(|(program, _)| *program));
        let mut found = 0;
        while let Some(place) = places.pop() {
            if place.is_dir() {
                places.extend(place.read_dir().unwrap().map(|entry| entry.unwrap().path()));
            } else if place.extension().is_some_and(|extension| extension == "rs")
                && !place.ends_with("packages.rs")
            {
                let text = std::fs::read_to_string(&place).unwrap();
                for program in started(&text) {
                    let is_there = listed.contains(&program);
                    assert!(is_there, "{}: `{program}` is on no list", place.display());
                    found += 1;
                }
            }
        }
        assert!(found > 20, "only {found} programs were found");
    }

    #[test]
    fn programs_are_found_where_they_are_started() {
        let text = "Command::new(\"a\"); machine.command(\"b\"); home.command_as(\"fan\", \"c\"); \
                    home.command_as(\"fan\", &program); machine.command_as(user, \"d\")";
        assert_eq!(started(text), ["a", "b", "c", "d"]);
    }

    #[test]
    fn tests_need_all_that_a_trial_needs() {
        assert!(TRY.iter().all(|need| TEST.contains(need)));
    }

    #[test]
    fn by_hand_is_one_command_that_leaves_no_server_running() {
        assert_eq!(by_hand(&["nftables"]), "sudo apt-get install --no-install-recommends nftables");
        let command = by_hand(&["nftables", "openssh-server"]);
        assert!(command.ends_with("openssh-server && sudo systemctl disable --now ssh"));
    }
}
