//! The agent's configuration: `agent.toml`, or what the command line said.
//!
//! It is read as a whole and checked as a whole before anything is dialled. An error names the file,
//! the line and the remedy. All its paths are absolute: whoever asks the agent for it may stand in
//! another folder.

pub mod changes;
mod file;
pub mod identity;
mod remedy;

pub use file::place;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wayhome_core::address::{Address, NativeAddress};
use wayhome_core::key::Key;
use wayhome_core::name::Name;
use wayhome_core::service::{Bind, Service};

use crate::error::{Failure, Outcome};
use crate::paths;

/// A heartbeat each five seconds finds a silent cut within six, and costs about 50 MB a month.
pub const HEARTBEAT: Duration = Duration::from_secs(5);

/// What an agent is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The home's name.
    pub name: Name,
    /// How often to send a heartbeat over each link.
    pub heartbeat: Duration,
    /// The gateways; a link to each, at all times.
    pub gateways: Vec<Gateway>,
    /// The services; each is offered at each gateway, those without a port at native ones alone.
    pub services: Vec<Service>,
    /// The file that says who may enter over native links. Without one, only the home itself may.
    #[serde(default)]
    pub grants: Option<PathBuf>,
}

/// One gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gateway {
    /// A plain sshd.
    Ssh(SshGateway),
    /// A `wayhome gateway`.
    Native(NativeGateway),
}

impl Gateway {
    /// What it is called in messages: its address.
    pub fn name(&self) -> String {
        match self {
            Self::Ssh(gateway) => gateway.address.to_string(),
            Self::Native(gateway) => gateway.address.to_string(),
        }
    }

    /// Whether both lead to the same place.
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Ssh(one), Self::Ssh(other)) => one.address.is_same_login(&other.address),
            (Self::Native(one), Self::Native(other)) => one.address == other.address,
            (Self::Ssh(_), Self::Native(_)) | (Self::Native(_), Self::Ssh(_)) => false,
        }
    }

    /// The machine.
    fn host(&self) -> &str {
        match self {
            Self::Ssh(gateway) => &gateway.address.host,
            Self::Native(gateway) => &gateway.address.host,
        }
    }

    /// The services that are offered there, as they are offered there; `all` are all gateways. Where
    /// one machine is reached both ways, its ports are had over the ssh link alone: there are no two
    /// of them.
    pub fn offers(&self, services: &[Service], all: &[Self]) -> Vec<Service> {
        let is_twice =
            || all.iter().any(|other| matches!(other, Self::Ssh(_)) && other.host() == self.host());
        match self {
            Self::Ssh(_) => services.iter().filter(|s| s.port.is_some()).cloned().collect(),
            Self::Native(_) if is_twice() => services.iter().map(Service::without_port).collect(),
            Self::Native(_) => services.iter().map(Service::on_native_links).collect(),
        }
    }
}

/// A gateway that runs `wayhome gateway`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NativeGateway {
    /// Where it is.
    pub address: NativeAddress,
    /// Its pinned key.
    pub key: Key,
    /// The home's own key there; made if there is none.
    pub identity: PathBuf,
}

/// A gateway that is a plain sshd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SshGateway {
    /// Where it is.
    pub address: Address,
    /// The private key to log in with; ssh's own choice if none is given.
    pub identity: Option<PathBuf>,
    /// The file with its pinned host key.
    pub known_hosts: PathBuf,
}

/// What the command line said.
#[derive(Clone, Debug, Default)]
pub struct Arguments {
    /// The gateway.
    pub address: Option<Address>,
    /// Forwards, in ssh's grammar.
    pub forwards: Vec<Service>,
    /// The private key.
    pub identity: Option<PathBuf>,
    /// The file with the pinned host key.
    pub known_hosts: Option<PathBuf>,
    /// The home's name.
    pub name: Option<Name>,
    /// Whether a bind address for everybody was asked for twice.
    pub public: bool,
}

impl Config {
    /// The gateways that are plain sshds.
    pub fn ssh_gateways(&self) -> impl Iterator<Item = &SshGateway> {
        self.gateways.iter().filter_map(|gateway| match gateway {
            Gateway::Ssh(gateway) => Some(gateway),
            Gateway::Native(_) => None,
        })
    }

    /// The gateways that run wayhome.
    pub fn native_gateways(&self) -> impl Iterator<Item = &NativeGateway> {
        self.gateways.iter().filter_map(|gateway| match gateway {
            Gateway::Native(gateway) => Some(gateway),
            Gateway::Ssh(_) => None,
        })
    }

    /// Reads and checks a configuration file.
    pub fn from_file(path: &Path) -> Outcome<Self> {
        file::read(path)
    }

    /// The text of a configuration file.
    pub fn text_of(path: &Path) -> Outcome<String> {
        file::text(path)
    }

    /// Checks the text of a configuration file that lies at `path`, without looking at the
    /// identities that it names.
    pub fn from_text(text: &str, path: &Path) -> Outcome<Self> {
        file::parse(text, path, &|_| Ok(()))
    }

    /// Checks what the command line said.
    pub fn from_arguments(arguments: Arguments) -> Outcome<Self> {
        let Some(address) = arguments.address else {
            return Err(Failure::usage("no gateway was named")
                .hint("`wayhome agent run root@203.0.113.10 -R 2222:localhost:22`"));
        };
        if arguments.forwards.is_empty() {
            return Err(Failure::usage("no forward was named, so there is nothing to offer")
                .hint(format!("`wayhome agent run {address} -R 2222:localhost:22`")));
        }
        let mut services: Vec<Service> = Vec::new();
        for mut service in arguments.forwards {
            // A forward always has one.
            let port = service.port.unwrap_or_default();
            if !arguments.public && service.bind != Bind::Loopback {
                return Err(Failure::usage(format!(
                    "port {port} would be open to the whole internet"
                ))
                .hint("leave the bind address out, or add `--public` if that is what you want"));
            }
            if services.iter().any(|other| other.port == service.port) {
                return Err(Failure::usage(format!("port {port} is given twice"))
                    .hint("give each forward a port of its own: `-R 2223:localhost:80`"));
            }
            if services.iter().any(|other| other.name == service.name) {
                service.name = Name::for_port(port);
            }
            services.push(service);
        }
        let absolute = |path: PathBuf| {
            let path = paths::absolute(&path)?;
            paths::for_ssh(&path).map(|()| path)
        };
        if let Some(identity) = &arguments.identity {
            absolute(identity.clone())?;
            identity::check(identity)?;
        }
        Ok(Self {
            name: arguments.name.map_or_else(default_name, Ok)?,
            heartbeat: HEARTBEAT,
            gateways: vec![Gateway::Ssh(SshGateway {
                address,
                identity: arguments.identity.map(absolute).transpose()?,
                known_hosts: arguments.known_hosts.map_or_else(default_known_hosts, absolute)?,
            })],
            services,
            grants: None,
        })
    }
}

/// The name that this machine's host name suggests.
fn default_name() -> Outcome<Name> {
    let uname = rustix::system::uname();
    let hostname = uname.nodename().to_string_lossy();
    Name::from_hostname(&hostname).ok_or_else(|| {
        Failure::usage(format!(
            "this machine's host name `{}` makes no name for the home",
            hostname.escape_default()
        ))
        .hint("give one: `--name home`, or `name = \"home\"` in the configuration")
    })
}

/// Where the home's own key for native gateways lies unless the configuration says otherwise.
fn default_identity() -> Outcome<PathBuf> {
    Ok(paths::state_dir()?.join("identity"))
}

/// Where pins are kept unless the configuration says otherwise.
fn default_known_hosts() -> Outcome<PathBuf> {
    let file = paths::state_dir()?.join("known_hosts");
    paths::for_ssh(&file).map(|()| file)
}
