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
use wayhome_core::address::Address;
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
    /// The services; each is offered at each gateway.
    pub services: Vec<Service>,
}

/// One gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gateway {
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
            if !arguments.public && service.bind != Bind::Loopback {
                return Err(Failure::usage(format!(
                    "port {} would be open to the whole internet",
                    service.port
                ))
                .hint("leave the bind address out, or add `--public` if that is what you want"));
            }
            if services.iter().any(|other| other.port == service.port) {
                return Err(Failure::usage(format!("port {} is given twice", service.port))
                    .hint("give each forward a port of its own: `-R 2223:localhost:80`"));
            }
            if services.iter().any(|other| other.name == service.name) {
                service.name = Name::for_port(service.port);
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
            gateways: vec![Gateway {
                address,
                identity: arguments.identity.map(absolute).transpose()?,
                known_hosts: arguments.known_hosts.map_or_else(default_known_hosts, absolute)?,
            }],
            services,
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

/// Where pins are kept unless the configuration says otherwise.
fn default_known_hosts() -> Outcome<PathBuf> {
    let file = paths::state_dir()?.join("known_hosts");
    paths::for_ssh(&file).map(|()| file)
}
