//! The gateway's pinned host key, and the first contact.
//!
//! ssh itself fetches the key, through the person's own jump hosts and proxies, and has checked by
//! then that the server holds its private half; no login is tried. The person sees the fingerprint
//! and decides, unless a `known_hosts` file knows better. A pin that exists is never changed here.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use wayhome_core::address::Address;
use wayhome_core::health::{Cause, Detail, Fault, Retry};
use wayhome_core::host_key::HostKey;
use wayhome_core::known_hosts::{KnownHost, Marker, known_hosts_name};

use super::diagnose::Said;
use super::known::{self, Known, Word};
use super::{ask, master};
use crate::agent::proof;
use crate::config::SshGateway;
use crate::error::{Failure, Outcome};
use crate::secret::{ExposeSecret, Secret};
use crate::{paths, supervise};

/// How long ssh may take to read its configuration, which may run programs (`Match exec`).
pub const CONFIGURED: Duration = Duration::from_secs(10);

/// How long a gateway may take to show its host key. With [`CONFIGURED`] half a minute in all, which
/// is more than any login should take.
const SHOWN: Duration = Duration::from_secs(20);

/// After this long it is said what is waited for.
const UNTOLD: Duration = Duration::from_secs(2);

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
}

impl Pinned {
    /// Tells the log, if there is anything to tell.
    pub fn report(self, gateway: &SshGateway) {
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
        }
    }
}

/// Makes sure that a gateway's key is pinned.
pub async fn ensure(gateway: &SshGateway, first: FirstContact) -> Outcome<Pinned> {
    let name = pinned_name(gateway).await?;
    let file = &gateway.known_hosts;
    let mut lines = known::find(file, &name).await?;
    if lines.iter().any(|line| line.marker != Some(Marker::Revoked)) {
        return Ok(Pinned::Before);
    }
    let key = match fetch(gateway).await? {
        Ok(key) => key,
        Err(cause) => return Err(not_shown(gateway, &cause)),
    };
    let fingerprint = proof::fingerprint(&key).await;
    for file in files_of_the_person() {
        // What cannot be read says nothing.
        lines.extend(known::find(&file, &name).await.unwrap_or_default());
    }
    let trusted = match (known::word_on(&key, &lines), first) {
        (Word::Its, _) => "your own known_hosts has it",
        (Word::Another(line), _) => return Err(conflicts(gateway, &name, &fingerprint, line)),
        (Word::Revoked(line), _) => return Err(revoked(gateway, &fingerprint, line)),
        (Word::New, FirstContact::Accept) => "accepted unseen, as `--accept-new` says",
        (Word::New, FirstContact::Known) => {
            return Err(unpinned_for_a_service(&gateway.address, &fingerprint));
        }
        (Word::New, FirstContact::Ask) => {
            ask::at_terminal(&gateway.address, &key, &fingerprint).await?;
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
pub async fn keys(gateway: &SshGateway) -> Outcome<Vec<HostKey>> {
    keys_in(&gateway.known_hosts, &pinned_name(gateway).await?).await
}

/// The keys that a `known_hosts` file has for a name.
pub async fn keys_in(file: &Path, name: &str) -> Outcome<Vec<HostKey>> {
    let lines = known::find(file, name).await?;
    let good = |line: &Known| matches!(known::word_on(&line.key, &lines), Word::Its);
    Ok(lines.iter().filter(|line| good(line)).map(|line| line.key.clone()).collect())
}

/// The name under which ssh looks a gateway up: its alias, or its host and port.
pub async fn pinned_name(gateway: &SshGateway) -> Outcome<String> {
    let (host, port, alias) = resolved(gateway).await?;
    Ok(alias.unwrap_or_else(|| known_hosts_name(&host, port)))
}

/// Host, port and `HostKeyAlias` as the person's ssh configuration has them for a gateway.
pub async fn resolved(gateway: &SshGateway) -> Outcome<(String, u16, Option<String>)> {
    let mut command = master::ssh(gateway, &gateway.known_hosts);
    command.arg("-G");
    master::destination(&mut command, gateway);
    let ran = telling(gateway, "ssh to read its configuration", async {
        supervise::output(&mut command, CONFIGURED).await
    });
    let output = ran.await.map_err(|error| not_configured(gateway, &error))?;
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

/// Waits for something, and says so in the log if it takes long.
async fn telling<T>(gateway: &SshGateway, what: &str, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    if let Ok(done) = tokio::time::timeout(UNTOLD, &mut work).await {
        return done;
    }
    let gateway = &gateway.address;
    tracing::info!(event = "waiting", %gateway, "{gateway}: waiting for {what}");
    work.await
}

/// Why ssh could not read its configuration.
pub fn not_configured(gateway: &SshGateway, error: &io::Error) -> Failure {
    if !matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::FileTooLarge) {
        return not_run(error);
    }
    let gateway = &gateway.address;
    Failure::new(format!("ssh does not come to an end with its configuration for `{gateway}`"))
        .because(error)
        .hint("run `ssh -G` with it by hand; a `Match exec` in your ssh configuration may run a program that hangs")
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

fn not_shown(gateway: &SshGateway, cause: &Cause) -> Failure {
    Failure::new(format!("the gateway `{}` did not show its host key", gateway.address))
        .because(&io::Error::other(cause.to_string()))
        .hint(match cause.retry() {
            // Its remedy is for a link, which tries again by itself.
            Retry::Soon if cause.fault() == Fault::Network => AGAIN,
            _ => cause.remedy(),
        })
}

/// What to do about a first contact that the network has broken off.
const AGAIN: &str =
    "see that `ssh` itself gets to the gateway from here, and run this again once it does";

/// Pins with one more.
pub fn with_pin(mut pins: String, name: &str, key: &HostKey) -> String {
    if !pins.is_empty() && !pins.ends_with('\n') {
        pins.push('\n');
    }
    pins.push_str(&format!("{name} {key}\n"));
    pins
}

/// Lets ssh connect and learn the key into an empty file.
pub async fn fetch(gateway: &SshGateway) -> Outcome<Result<HostKey, Cause>> {
    let failed = |error: &io::Error| Failure::new("no temporary file can be made").because(error);
    let folder = tempfile::tempdir().map_err(|e| failed(&e))?;
    let learned: PathBuf = folder.path().join("known_hosts");
    let mut command = master::ssh(gateway, &learned);
    for option in [
        "StrictHostKeyChecking=accept-new",
        "HashKnownHosts=no",
        "PreferredAuthentications=none",
        "ControlMaster=no",
        // Sooner than we lose patience, so that it says itself how far it came.
        "ConnectTimeout=15",
    ] {
        command.arg("-o").arg(option);
    }
    command.args(["-S", "none", "-N", "-T"]);
    master::destination(&mut command, gateway);
    let ended = telling(gateway, "it to show its host key", async {
        supervise::output(&mut command, SHOWN).await
    });
    let ended = ended.await;
    let text = fs::read_to_string(&learned).unwrap_or_default();
    let key = text.lines().find_map(|line| KnownHost::parse_line(line).ok()?);
    // Learnt is learnt, however it went on: the key comes before any login.
    if let Some(known) = key {
        return Ok(Ok(known.key));
    }
    match ended {
        Ok(output) => {
            let mut heard = Said::default();
            for line in String::from_utf8_lossy(&output.stderr).lines() {
                heard.hear(line.trim_end());
            }
            Ok(Err(heard.ended(false)))
        }
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(Err(Cause::LoginTimedOut)),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            Ok(Err(Cause::SshFailed { detail: Detail::new(&error.to_string()) }))
        }
        Err(error) => Err(not_run(&error)),
    }
}

/// Where a person's own ssh, and this machine's, keep the keys that they know.
fn files_of_the_person() -> impl Iterator<Item = PathBuf> {
    let own = paths::home().ok().map(|home| home.join(".ssh/known_hosts"));
    own.into_iter().chain([PathBuf::from("/etc/ssh/ssh_known_hosts")])
}

fn conflicts(gateway: &SshGateway, name: &str, fingerprint: &str, line: &Known) -> Failure {
    let file = line.file.display();
    Failure::new(format!(
        "the gateway `{}` shows the host key {fingerprint}, but line {} of `{file}` has another one for it",
        gateway.address, line.line
    ))
    .hint(format!(
        "if the gateway was reinstalled, remove the old key with `ssh-keygen -R '{name}' -f '{file}'`; if not, somebody stands in between"
    ))
}

fn revoked(gateway: &SshGateway, fingerprint: &str, line: &Known) -> Failure {
    Failure::new(format!(
        "the gateway `{}` shows the host key {fingerprint}, which line {} of `{}` revokes",
        gateway.address,
        line.line,
        line.file.display()
    ))
    .hint(
        "somebody else may have this key, so nothing accepts it, `--accept-new` neither: give the \
         gateway a new one. If it was revoked by mistake, remove that line",
    )
}

/// There is no pin, and nobody who could be asked.
pub fn unpinned(gateway: &Address, fingerprint: &str) -> Failure {
    is_new(gateway, fingerprint, "run this in a terminal, or with `--accept-new`")
}

/// The same where a service manager runs this, or where a new configuration brought the gateway.
fn unpinned_for_a_service(gateway: &Address, fingerprint: &str) -> Failure {
    let what = "for a service, install it again in a terminal (`wayhome service install agent`, with \
                the same options), then `wayhome agent kick`; else start the agent again in a terminal";
    is_new(gateway, fingerprint, what)
}

fn is_new(gateway: &Address, fingerprint: &str, what: &str) -> Failure {
    Failure::usage(format!("the gateway `{gateway}` is new: its host key is not pinned"))
        .hint(format!(
            "compare {fingerprint} with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` at the gateway, then {what}"
        ))
}
