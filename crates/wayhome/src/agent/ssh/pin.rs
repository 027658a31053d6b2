//! The gateway's pinned host key, and the first contact.
//!
//! ssh itself fetches the key, through the person's own jump hosts and proxies, and has checked by
//! then that the server holds its private half; no login is tried. The person sees the fingerprint
//! and decides, unless a `known_hosts` file knows better. A pin that exists is never changed here.

use std::fs;
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use wayhome_core::address::Address;
use wayhome_core::health::Cause;
use wayhome_core::host_key::HostKey;
use wayhome_core::known_hosts::{KnownHost, Marker, known_hosts_name};

use super::diagnose::Said;
use super::known::{self, Known, Word};
use super::{master, proof};
use crate::config::Gateway;
use crate::error::{Failure, Outcome};
use crate::paths;
use crate::secret::{ExposeSecret, Secret};

/// How a first contact is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstContact {
    /// Show the fingerprint and ask at the terminal.
    Ask,
    /// Pin what is there (`--accept-new`).
    Accept,
    /// Nobody is there to be asked: pin only what the person's own ssh knows already.
    Known,
}

/// What a first contact came to.
#[derive(Debug)]
pub enum Pinned {
    /// The pin was there.
    Before,
    /// The key was pinned now: its fingerprint, and why it was trusted.
    Now(String, &'static str),
    /// There is no pin, and the gateway cannot be reached to make one.
    NotYet(Failure),
}

impl Pinned {
    /// Tells the log, if there is anything to tell.
    pub fn report(self, gateway: &Gateway) {
        match self {
            Self::Before => {}
            Self::Now(fingerprint, why) => {
                let gateway = &gateway.address;
                tracing::info!(
                    event = "pinned",
                    %gateway,
                    "{gateway}: pinned its host key {fingerprint}: {why}"
                );
            }
            Self::NotYet(why) => tracing::warn!("{why}"),
        }
    }
}

/// Makes sure that a gateway's key is pinned.
pub async fn ensure(gateway: &Gateway, first: FirstContact) -> Outcome<Pinned> {
    let name = pinned_name(gateway).await?;
    let file = &gateway.known_hosts;
    let mut lines = known::find(file, &name)?;
    if lines.iter().any(|line| line.marker != Some(Marker::Revoked)) {
        return Ok(Pinned::Before);
    }
    let key = match fetch(gateway).await? {
        Ok(key) => key,
        Err(cause) => return Ok(Pinned::NotYet(not_shown(gateway, &cause))),
    };
    let fingerprint = proof::fingerprint(&key).await;
    for file in files_of_the_person() {
        // What cannot be read says nothing.
        lines.extend(known::find(&file, &name).unwrap_or_default());
    }
    let trusted = match (known::word_on(&key, &lines), first) {
        (Word::Its, _) => "your own known_hosts has it",
        (Word::Another(line), _) => return Err(conflicts(gateway, &name, &fingerprint, line)),
        (Word::Revoked(line), _) => return Err(revoked(gateway, &fingerprint, line)),
        (Word::New, FirstContact::Accept) => "accepted unseen, as `--accept-new` says",
        (Word::New, FirstContact::Known) => {
            return Ok(Pinned::NotYet(unpinned(&gateway.address, &fingerprint)));
        }
        (Word::New, FirstContact::Ask) => {
            ask(&gateway.address, &key, &fingerprint)?;
            "you said so"
        }
    };
    let text = with_pin(read_pins(file)?, &name, &key);
    if let Some(dir) = file.parent() {
        paths::private_dir_if_missing(dir)?;
    }
    paths::rewrite(file, text.as_bytes()).map_err(|error| {
        Failure::new(format!("the pin cannot be written to `{}`", file.display())).because(&error)
    })?;
    Ok(Pinned::Now(fingerprint, trusted))
}

/// The pinned keys of a gateway, for whoever writes configurations for laptops.
pub async fn keys(gateway: &Gateway) -> Outcome<Vec<HostKey>> {
    keys_in(&gateway.known_hosts, &pinned_name(gateway).await?)
}

/// The keys that a `known_hosts` file has for a name.
pub fn keys_in(file: &Path, name: &str) -> Outcome<Vec<HostKey>> {
    let lines = known::find(file, name)?;
    let good = |line: &Known| matches!(known::word_on(&line.key, &lines), Word::Its);
    Ok(lines.iter().filter(|line| good(line)).map(|line| line.key.clone()).collect())
}

/// The name under which ssh looks a gateway up: its alias, or its host and port.
pub async fn pinned_name(gateway: &Gateway) -> Outcome<String> {
    let (host, port, alias) = resolved(gateway).await?;
    Ok(alias.unwrap_or_else(|| known_hosts_name(&host, port)))
}

/// Host, port and `HostKeyAlias` as the person's ssh configuration has them for a gateway.
pub async fn resolved(gateway: &Gateway) -> Outcome<(String, u16, Option<String>)> {
    let mut command = master::ssh(gateway, &gateway.known_hosts);
    command.arg("-G");
    master::destination(&mut command, gateway);
    let output = command.output().await.map_err(|error| not_run(&error))?;
    // All of the person's configuration: a ProxyCommand in it may have a password.
    let text = Secret::from(String::from_utf8_lossy(&output.stdout).into_owned());
    let value = |key: &str| {
        let found =
            text.expose_secret().lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        found.map(str::to_owned)
    };
    let port = value("port").and_then(|port| port.parse().ok());
    match (value("hostname"), port) {
        (Some(host), Some(port)) => Ok((host, port, value("hostkeyalias"))),
        _ => Err(Failure::new(format!("ssh does not take the gateway `{}`", gateway.address))
            .because(&io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
            .hint("run `ssh -G` with it by hand; your ssh configuration may have an error")),
    }
}

fn not_run(error: &io::Error) -> Failure {
    Failure::new("`ssh` cannot be run")
        .because(error)
        .hint("install OpenSSH's client (Debian: `openssh-client`)")
}

/// The text of a file of pins; empty if there is none.
pub fn read_pins(file: &Path) -> Outcome<String> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => {
            Err(Failure::usage(format!("the pins in `{}` cannot be read", file.display()))
                .because(&error))
        }
    }
}

fn not_shown(gateway: &Gateway, cause: &Cause) -> Failure {
    Failure::new(format!("the gateway `{}` did not show its host key", gateway.address))
        .because(&io::Error::other(cause.to_string()))
        .hint(cause.remedy())
}

/// Pins with one more.
pub fn with_pin(mut pins: String, name: &str, key: &HostKey) -> String {
    if !pins.is_empty() && !pins.ends_with('\n') {
        pins.push('\n');
    }
    pins.push_str(&format!("{name} {key}\n"));
    pins
}

/// Lets ssh connect and learn the key into an empty file.
pub async fn fetch(gateway: &Gateway) -> Outcome<Result<HostKey, Cause>> {
    let failed = |error: &io::Error| Failure::new("no temporary file can be made").because(error);
    let folder = tempfile::tempdir().map_err(|e| failed(&e))?;
    let learned: PathBuf = folder.path().join("known_hosts");
    let mut command = master::ssh(gateway, &learned);
    for option in [
        "StrictHostKeyChecking=accept-new",
        "HashKnownHosts=no",
        "PreferredAuthentications=none",
        "ControlMaster=no",
        "ConnectTimeout=20",
    ] {
        command.arg("-o").arg(option);
    }
    command.args(["-S", "none", "-N", "-T"]).stdout(Stdio::null()).stderr(Stdio::piped());
    master::destination(&mut command, gateway);
    let output = command.output().await.map_err(|error| not_run(&error))?;
    let text = fs::read_to_string(&learned).unwrap_or_default();
    let key = text.lines().find_map(|line| KnownHost::parse_line(line).ok()?);
    Ok(key.map(|known| known.key).ok_or_else(|| {
        let said = String::from_utf8_lossy(&output.stderr);
        let mut heard = Said::default();
        for line in said.lines() {
            heard.hear(line.trim_end());
        }
        heard.ended(false)
    }))
}

/// Where a person's own ssh, and this machine's, keep the keys that they know.
fn files_of_the_person() -> impl Iterator<Item = PathBuf> {
    let own = paths::home().ok().map(|home| home.join(".ssh/known_hosts"));
    own.into_iter().chain([PathBuf::from("/etc/ssh/ssh_known_hosts")])
}

fn conflicts(gateway: &Gateway, name: &str, fingerprint: &str, line: &Known) -> Failure {
    let file = line.file.display();
    Failure::new(format!(
        "the gateway `{}` shows the host key {fingerprint}, but line {} of `{file}` has another one for it",
        gateway.address, line.line
    ))
    .hint(format!(
        "if the gateway was reinstalled, remove the old key with `ssh-keygen -R '{name}' -f '{file}'`; if not, somebody stands in between"
    ))
}

fn revoked(gateway: &Gateway, fingerprint: &str, line: &Known) -> Failure {
    Failure::new(format!(
        "the gateway `{}` shows the host key {fingerprint}, which line {} of `{}` revokes",
        gateway.address,
        line.line,
        line.file.display()
    ))
    .hint("somebody else may have this key: give the gateway a new one")
}

fn unpinned(gateway: &Address, fingerprint: &str) -> Failure {
    Failure::usage(format!("the gateway `{gateway}` is new: its host key is not pinned"))
        .hint(format!(
            "compare {fingerprint} with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` at the gateway, then run this in a terminal, or with `--accept-new`"
        ))
}

/// Asks at the terminal, not at standard input, which may be a script.
pub fn ask(gateway: &Address, key: &HostKey, fingerprint: &str) -> Outcome {
    let terminal = fs::OpenOptions::new().read(true).write(true).open("/dev/tty");
    let Ok(mut terminal) = terminal else { return Err(unpinned(gateway, fingerprint)) };
    let question = format!(
        "The gateway {} is new here. Its {} host key is\n  {fingerprint}\n\
         At the gateway, `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` shows the same if it is the right one.\n\
         Pin it and go on? (yes/no) ",
        gateway,
        key.algorithm().as_str(),
    );
    let mut answer = String::new();
    let asked = terminal
        .write_all(question.as_bytes())
        .and_then(|()| io::BufReader::new(&terminal).read_line(&mut answer));
    match asked {
        Ok(_) if matches!(answer.trim(), "yes" | "y") => Ok(()),
        Ok(_) => Err(Failure::new("the gateway's host key was not pinned, so nothing was dialled")),
        Err(_) => Err(unpinned(gateway, fingerprint)),
    }
}
