//! `wayhome service`: what it writes, what it refuses, and what the agent tells a service manager.
//! Without a booted systemd: units are judged by systemd-analyze, and images are written into.

mod check;
mod image;
mod notify;
mod refusals;
mod unit;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::seats::output;

const WAYHOME: &str = env!("CARGO_BIN_EXE_wayhome");

/// A person's folder with a configuration and a key, and an image to install into.
struct Desk {
    folder: TempDir,
}

impl Desk {
    fn new() -> Self {
        let desk = Self { folder: tempfile::tempdir().unwrap() };
        desk.key("key", "");
        desk.config("key");
        let program = desk.image("/usr/local/bin/wayhome");
        fs::create_dir_all(program.parent().unwrap()).unwrap();
        fs::write(program, "").unwrap();
        desk
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn image(&self, path: &str) -> PathBuf {
        self.at("image").join(path.trim_start_matches('/'))
    }

    fn key(&self, name: &str, passphrase: &str) {
        let file = self.at(name);
        let arguments = ["-q", "-t", "ed25519", "-C", "", "-N", passphrase, "-f"];
        let made = Command::new("ssh-keygen").args(arguments).arg(file).status().unwrap();
        assert!(made.success());
    }

    /// A configuration that names a key.
    fn config(&self, identity: &str) {
        let text = format!(
            "name = \"home-ubuntu\"\n\n[[gateway]]\naddress = \"ssh://root@203.0.113.10\"\n\
             identity = \"{identity}\" # for this alone\n\n[[service]]\n\
             target = \"localhost:22\"\nport = 2222\n"
        );
        fs::write(self.at("agent.toml"), text).unwrap();
    }

    fn install(&self, more: &[&str]) -> (i32, String, String) {
        let mut command = self.wayhome(&["service", "install", "agent", "--config"]);
        output(command.arg(self.at("agent.toml")).arg("--root").arg(self.at("image")).args(more))
    }

    fn service(&self, verb: &str, more: &[&str]) -> (i32, String, String) {
        let mut command = self.wayhome(&["service", verb, "agent", "--root"]);
        output(command.arg(self.at("image")).args(more))
    }

    /// The program, for a person whose home is the folder.
    fn wayhome(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(WAYHOME);
        command.args(arguments).env("NO_COLOR", "1").env("HOME", self.folder.path());
        for name in ["SUDO_USER", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "SSH_AUTH_SOCK"] {
            command.env_remove(name);
        }
        command.stdin(Stdio::null());
        command
    }
}

/// All files below a folder, with mode and content, in order.
fn tree(folder: &Path) -> Vec<(PathBuf, u32, Vec<u8>)> {
    use std::os::unix::fs::PermissionsExt;
    let mut all = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            let meta = entry.path().symlink_metadata().unwrap();
            let mut content = Vec::new();
            if meta.is_dir() {
                folders.push(entry.path());
            } else {
                content = fs::read(entry.path()).unwrap_or_default();
            }
            all.push((entry.path(), meta.permissions().mode() & 0o7777, content));
        }
    }
    all.sort();
    all
}
