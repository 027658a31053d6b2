//! A trial of a configuration: each gateway is logged in to once, as an agent would that the machine
//! started and that nobody looks after. Nothing is forwarded, and nothing is changed.
//!
//! No ssh-agent counts that lives only as long as a person is logged in. Gateways that cannot be
//! reached just now are told apart from those that would never let this agent in.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use wayhome_core::address::Address;
use wayhome_core::health::{Cause, Fault, Retry};
use wayhome_core::host_key::HostKey;

use super::proof;
use super::ssh::master::{self, Master};
use super::ssh::pin;
use crate::config::identity::{self, Kind};
use crate::config::{Config, SshGateway};
use crate::error::{Failure, Outcome};
use crate::{paths, supervise};

/// How long one login may take. What takes longer fails now and then, which is for the agent to
/// live with; what fails for good fails sooner.
const PATIENCE: Duration = Duration::from_secs(30);

/// What came of the trial at one gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// The gateway.
    pub gateway: Address,
    /// The name under which it is pinned.
    pub pinned_as: String,
    /// The file that its pin belongs into.
    pub known_hosts: PathBuf,
    /// What came of it.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// What came of a login.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// It let us in.
    LoggedIn,
    /// It is not pinned, so nobody logged in. This is the key that it shows.
    Unpinned {
        /// Its host key.
        key: HostKey,
        /// The key's fingerprint.
        fingerprint: String,
    },
    /// It cannot be reached just now, or is busy: that passes.
    Away {
        /// Why.
        text: String,
        /// What to do.
        remedy: String,
    },
    /// It will not let us in until somebody does something about it.
    Refused {
        /// Why.
        text: String,
        /// What to do.
        remedy: String,
    },
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gateway = &self.gateway;
        match &self.verdict {
            Verdict::LoggedIn => write!(f, "{gateway}: logged in"),
            Verdict::Unpinned { fingerprint, .. } => {
                write!(f, "{gateway}: its host key is not pinned; it shows {fingerprint}")
            }
            Verdict::Away { text, remedy } | Verdict::Refused { text, remedy } => {
                write!(f, "{gateway}: {text}\n  hint: {remedy}")
            }
        }
    }
}

/// Reads a configuration as a service would, and checks its keys.
pub fn read(file: &Path) -> Outcome<Config> {
    let config = Config::from_text(&Config::text_of(file)?, file)?;
    for identity in config.ssh_gateways().filter_map(|gateway| gateway.identity.as_ref()) {
        identity::check_unattended(identity)
            .map_err(|failure| failure.at(&file.display().to_string()))?;
    }
    Ok(config)
}

/// Logs in to each gateway once.
pub async fn check(config: &Config) -> Outcome<Vec<Checked>> {
    let mut all = Vec::new();
    for gateway in config.ssh_gateways() {
        let pinned_as = pin::pinned_name(gateway).await?;
        let verdict = if pin::keys(gateway).await?.is_empty() {
            match pin::fetch(gateway).await? {
                Ok(key) => {
                    let fingerprint = proof::fingerprint(&key).await;
                    Verdict::Unpinned { key, fingerprint }
                }
                Err(cause) => of_cause(&cause),
            }
        } else {
            log_in(gateway).await?
        };
        all.push(Checked {
            gateway: gateway.address.clone(),
            pinned_as,
            known_hosts: gateway.known_hosts.clone(),
            verdict,
        });
    }
    Ok(all)
}

async fn log_in(gateway: &SshGateway) -> Outcome<Verdict> {
    let login = Login::of(gateway).await?;
    let folder = tempfile::tempdir()
        .map_err(|error| Failure::new("no temporary folder can be made").because(&error))?;
    let mut options = vec!["ConnectTimeout=20".to_owned()];
    if !login.has_lasting_agent() {
        options.push("IdentityAgent=none".to_owned());
    }
    let master = match Master::start_with(gateway, folder.path().join("s"), &options) {
        Ok(master) => master,
        Err(cause) => return Ok(of_cause(&cause)),
    };
    let (close, closed) = oneshot::channel();
    let mut is_in = false;
    // Let in, ssh is told to end; it would stay otherwise.
    let connected = async {
        is_in = true;
        drop(close);
    };
    let cause = match tokio::time::timeout(PATIENCE, master.run(closed, connected)).await {
        _ if is_in => return Ok(Verdict::LoggedIn),
        Ok(cause) => cause,
        Err(_) => Cause::LoginTimedOut,
    };
    if let Cause::KeyRefused { .. } = cause
        && let Some(why) = login.what_is_in_the_way()?
    {
        return Ok(why);
    }
    Ok(of_cause(&cause))
}

/// Whether a cause passes by itself is known to it already.
fn of_cause(cause: &Cause) -> Verdict {
    let (text, remedy) = (cause.to_string(), cause.remedy().to_owned());
    if cause.retry() == Retry::Halt || cause.fault() == Fault::Home {
        Verdict::Refused { text, remedy }
    } else {
        Verdict::Away { text, remedy }
    }
}

/// What ssh would log in with, by its own configuration.
#[derive(Debug, Default)]
struct Login {
    identities: Vec<String>,
    agent: Option<String>,
}

impl Login {
    async fn of(gateway: &SshGateway) -> Outcome<Self> {
        let mut command = master::ssh(gateway, &gateway.known_hosts);
        command.arg("-G");
        master::destination(&mut command, gateway);
        let output = supervise::output(&mut command, pin::CONFIGURED)
            .await
            .map_err(|error| pin::not_configured(gateway, &error))?;
        let mut login = Self::default();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            match line.split_once(' ') {
                Some(("identityfile", path)) => login.identities.push(path.to_owned()),
                Some(("identityagent", path)) => login.agent = Some(path.to_owned()),
                _ => {}
            }
        }
        Ok(login)
    }

    fn has_lasting_agent(&self) -> bool {
        self.agent.as_deref().is_some_and(is_there_at_boot)
    }

    /// The reason behind a refused key that only home knows.
    fn what_is_in_the_way(&self) -> Outcome<Option<Verdict>> {
        let refused = |why: &Failure| {
            let text = why.to_string();
            let (text, remedy) = text.split_once("\n  hint: ").unwrap_or((&text, ""));
            Some(Verdict::Refused { text: text.to_owned(), remedy: remedy.to_owned() })
        };
        for identity in &self.identities {
            let path = paths::expand(identity)?;
            match identity::kind(&path) {
                Ok(Kind::Locked) => return Ok(refused(&identity::locked(&path))),
                Ok(Kind::InDevice) => return Ok(refused(&identity::in_device(&path))),
                // Usable, or not there: ssh tries several, of which most do not exist.
                Ok(Kind::Free) | Err(_) => {}
            }
        }
        Ok(self.agent.as_deref().filter(|path| !is_there_at_boot(path)).map(|path| {
            Verdict::Refused {
                text: format!("the keys are in the ssh-agent at `{path}` (`IdentityAgent`), which is not there at boot"),
                remedy: "make a key for this home alone, and name it: `identity = …` in agent.toml".to_owned(),
            }
        }))
    }
}

/// Whether an ssh-agent's socket is the machine's, and not that of a person who is logged in.
fn is_there_at_boot(socket: &str) -> bool {
    let of_a_login = ["/run/user/", "/tmp/", "/var/tmp/", "/home/", "/root/"];
    socket.starts_with('/') && !of_a_login.iter().any(|folder| socket.starts_with(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_of_a_login_is_not_there_at_boot() {
        assert!(is_there_at_boot("/run/ssh-agent.sock"));
        for socket in
            ["SSH_AUTH_SOCK", "$AGENT", "none", "~/.1password/agent.sock", "/run/user/1000/keyring"]
        {
            assert!(!is_there_at_boot(socket), "{socket}");
        }
    }

    #[test]
    fn what_passes_is_no_refusal() {
        for cause in [Cause::NoRoute, Cause::TimedOut, Cause::ConnectionRefused] {
            assert!(matches!(of_cause(&cause), Verdict::Away { .. }), "{cause}");
        }
        let refused = Cause::KeyRefused { detail: "no".into() };
        for cause in [refused, Cause::HostKeyChanged, Cause::HostKeyUnknown] {
            assert!(matches!(of_cause(&cause), Verdict::Refused { .. }), "{cause}");
        }
    }
}
