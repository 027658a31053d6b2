//! The stock road's seats: a gateway's sshd, a home's sshd, and a laptop that has nothing but ssh.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use wayhome_core::host_key::HostKey;
use wayhome_lab::keys::Key;
use wayhome_lab::{Here, OpenSsh, Sshd};

use super::folder::InFolder;
use super::{HOME, Road, Step, breathe, free_port, write};
use crate::error::{Failure, Outcome};
use crate::supervise;

/// The keys that log in.
pub struct Keys {
    openssh: OpenSsh,
    home: Key,
    laptop: Key,
}

impl Keys {
    /// Makes them.
    pub fn make(openssh: OpenSsh, dir: &Path) -> Outcome<Self> {
        let key = |name: &str| {
            let comment = format!("wayhome try: {name}");
            Key::make(&Here, &openssh, &dir.join(name), &comment).map_err(|error| missing(&error))
        };
        let (home, laptop) = (key("home-key")?, key("laptop-key")?);
        Ok(Self { openssh, home, laptop })
    }
}

/// The servers, running.
pub struct Stock {
    keys: Keys,
    user: String,
    home: Sshd,
    gateway: Sshd,
    /// The port of home's sshd at the gateway.
    port: u16,
}

impl Stock {
    /// Starts them.
    pub async fn start(keys: Keys, dir: &Path, show: &mut dyn FnMut(Step)) -> Outcome<Self> {
        let user = whoami()?;
        let start = |login: &[&Key]| {
            let mut builder = Sshd::builder(&keys.openssh).pam(needs_pam());
            for key in login {
                builder = builder.authorize(&user, key.public_line());
            }
            builder.start(&InFolder(dir)).map_err(|error| missing(&error))
        };
        let began = Instant::now();
        let gateway = start(&[&keys.home, &keys.laptop])?;
        show(Step::new("the gateway's sshd", Road::Stock, began.elapsed(), &at(&gateway)));
        breathe().await;
        let began = Instant::now();
        let home = start(&[&keys.laptop])?;
        show(Step::new("the home's sshd", None, began.elapsed(), &at(&home)));
        breathe().await;
        let pin = format!("[127.0.0.1]:{} {}\n", gateway.port(), gateway.host_key_line());
        write(&dir.join("known_hosts"), &pin)?;
        Ok(Self { keys, user, home, gateway, port: free_port()? })
    }

    /// The agent's link to the gateway, for its configuration.
    pub fn gateway(&self) -> String {
        format!(
            "\n[[gateway]]\naddress = \"ssh://{}@127.0.0.1:{}\"\nidentity = \"home-key\"\n\
             known_hosts = \"known_hosts\"\n",
            self.user,
            self.gateway.port()
        )
    }

    /// Where home's sshd is, and its port at the gateway, for the same.
    pub fn service(&self) -> String {
        format!("target = \"{}\"\nport = {}\n", at(&self.home), self.port)
    }

    /// The way of a login, in words.
    pub fn way(&self) -> String {
        format!("127.0.0.1:{} at the gateway → the home's sshd, host key and all", self.port)
    }

    /// The file of the laptop's private key.
    pub fn laptop_key(&self) -> &Path {
        self.keys.laptop.path()
    }

    /// Whom to log in as at home.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The home's host key.
    pub fn host_key(&self) -> Outcome<HostKey> {
        let line = self.home.host_key_line();
        line.parse().map_err(|_| Failure::new(format!("`{line}` is no host key")))
    }

    /// Writes what `wayhome ssh-config` printed, as a person would paste it, but into files of ours.
    pub fn write_laptop(&self, config: &Path, printed: &str) -> Outcome {
        let known_hosts = config.with_extension("known_hosts");
        let (blocks, keys) =
            printed.split_once("# --- wayhome: end config ---").unwrap_or((printed, ""));
        let pins: String = keys
            .lines()
            .filter(|line| !line.starts_with('#'))
            .fold(String::new(), |pins, line| pins + line + "\n");
        write(&known_hosts, &pins)?;
        let ours = format!(
            "\nHost *\n  UserKnownHostsFile {}\n  IdentityFile {}\n",
            known_hosts.display(),
            self.laptop_key().display()
        );
        write(config, &format!("{blocks}{ours}"))
    }

    /// Logs in at home with the real ssh. Gives where home saw the login come from.
    pub async fn log_in(&self, config: &Path, state: &Path) -> Outcome<String> {
        let output = supervise::command(self.keys.openssh.ssh())
            .arg("-F")
            .arg(config)
            .args(["-o", "BatchMode=yes", "-o", "ConnectTimeout=20", HOME])
            .arg("echo \"$SSH_CONNECTION\"")
            .env("STATE_DIRECTORY", state)
            .output()
            .await
            .map_err(|error| Failure::new("`ssh` cannot be run").because(&error))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(Failure::new(format!("`ssh {HOME}` failed"))
            .because(&std::io::Error::other(said))
            .hint("this account may not have a login shell (`getent passwd` shows it)"))
    }
}

/// What logs in at home, to be pasted; with this folder where `wayhome connect` needs one.
pub fn command_line(config: &Path, state: Option<PathBuf>) -> String {
    let state = state.map(|dir| format!("STATE_DIRECTORY={} ", dir.display()));
    format!("{}ssh -F {} {HOME}", state.unwrap_or_default(), config.display())
}

fn at(sshd: &Sshd) -> String {
    format!("127.0.0.1:{}", sshd.port())
}

fn missing(error: &wayhome_lab::Error) -> Failure {
    Failure::new("an OpenSSH server cannot be run here")
        .because(error)
        .hint("install OpenSSH (Debian: `openssh-server`), or run `cargo xtask try`, which does")
}

/// This account's name, as sshd knows it.
fn whoami() -> Outcome<String> {
    let output = Command::new("id").arg("-un").output();
    let output = output.map_err(|error| Failure::new("`id` cannot be run").because(&error))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// As root, an account that is locked (Ubuntu locks root) lets sshd in only through PAM.
fn needs_pam() -> bool {
    rustix::process::geteuid().is_root() && Path::new("/etc/pam.d/sshd").exists()
}
