//! An old tunnel as an agent has it: a gateway, a key, services; and notes on all the rest.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use wayhome_core::address::{Address, AddressError};
use wayhome_core::name::Name;
use wayhome_core::service::{Bind, Service};

use super::notes::{Notes, Weight};
use super::options::{self, Fate};
use super::shell::{self, ShellError};
use super::ssh_args::{self, Program, SshArgs, SshArgsError};

/// Where an old command ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The user, where it is known.
    pub user: Option<String>,
    /// That user's home folder.
    pub home: PathBuf,
    /// The folder in which relative paths began.
    pub folder: PathBuf,
    /// The environment that was set for it.
    pub environment: BTreeMap<String, String>,
}

/// What to do with a port that is open to everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposure {
    /// Refuse, and let the person say.
    Ask,
    /// Keep it so.
    Public,
    /// Open it on the gateway's loopback alone.
    Loopback,
}

/// An old tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// The gateway.
    pub gateway: Address,
    /// The key that was named for it.
    pub identity: Option<PathBuf>,
    /// What it offers there.
    pub services: Vec<Service>,
    /// What is not carried over as it stood.
    pub notes: Notes,
}

/// Why a command is no tunnel that could be imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TunnelError {
    /// There is no command.
    Empty,
    /// The program is neither ssh nor autossh.
    Program(String),
    /// It is run by a shell that does more.
    Shell(ShellError),
    /// The command line is none of ssh's.
    Arguments(SshArgsError),
    /// It runs ssh for something else.
    NoTunnel(char),
    /// An `-o` that is no option.
    Option(String),
    /// It has no destination.
    NoDestination,
    /// Its destination cannot be the gateway's address.
    Destination(AddressError),
    /// A port of ssh's that is none.
    Port(String),
    /// Nothing of it leads home.
    NoForward,
    /// A port is given twice.
    Twice(u16),
    /// A port is open to everybody.
    Public(u16),
}

impl fmt::Display for TunnelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("there is no command"),
            Self::Program(name) => {
                write!(f, "`{}` is run, and neither `ssh` nor `autossh`", name.escape_debug())
            }
            Self::Shell(error) => write!(f, "a shell runs it, and {error}"),
            Self::Arguments(error) => error.fmt(f),
            Self::NoTunnel(option) => write!(f, "with `-{option}` ssh opens no tunnel to a home"),
            Self::Option(text) => write!(f, "`-o {}` is no option", text.escape_debug()),
            Self::NoDestination => f.write_str("it names no gateway"),
            Self::Destination(error) => error.fmt(f),
            Self::Port(text) => write!(f, "`{}` is no port", text.escape_debug()),
            Self::NoForward => f.write_str("it has no `-R` that could be imported"),
            Self::Twice(port) => write!(f, "port {port} is given twice"),
            Self::Public(port) => write!(f, "port {port} would be open to the whole internet"),
        }
    }
}

impl std::error::Error for TunnelError {}

impl TunnelError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Empty | Self::Program(_) | Self::NoDestination => {
                "give the whole command: wayhome import ssh -N -R 2222:localhost:22 root@203.0.113.10"
            }
            Self::Shell(_) => {
                "give the command that it comes to: wayhome import ssh -N -R 2222:localhost:22 …"
            }
            Self::Public(_) => {
                "say which: `--public` keeps it so, `--loopback` opens it to the gateway alone (as \
                 an sshd with `GatewayPorts no` has done all along)"
            }
            Self::NoForward => "an agent offers services of home; without one it has nothing to do",
            Self::Twice(_) => "leave one of the two out",
            Self::NoTunnel(_) | Self::Arguments(_) | Self::Option(_) => {
                "give the command as it is run, with each option"
            }
            Self::Destination(_) | Self::Port(_) => {
                "the gateway is `user@host`, `ssh://user@host:port`, or a `Host` of ~/.ssh/config"
            }
        }
    }
}

impl Tunnel {
    /// Reads a command: the program with its arguments.
    pub fn read(words: &[String], place: &Place, exposure: Exposure) -> Result<Self, TunnelError> {
        let mut place = place.clone();
        let (program, arguments) = unwrapped(words.to_vec(), &mut place)?;
        let parsed = SshArgs::parse(&arguments, program).map_err(TunnelError::Arguments)?;
        let Some(destination) = parsed.destination else { return Err(TunnelError::NoDestination) };
        let address = destination.parse::<Address>().map_err(TunnelError::Destination)?;
        let mut reading = Reading {
            // A login that an option names comes before that of the destination (ssh.c).
            user: None,
            port: None,
            identities: Vec::new(),
            services: Vec::new(),
            notes: Notes { host: address.host.clone(), ..Notes::default() },
        };
        for (option, value) in parsed.options {
            reading.option(program, option, value)?;
        }
        reading.environment(&place.environment);
        if !parsed.command.is_empty() {
            let why = "wayhome runs its own small script there, and nothing else";
            reading.notes.add(Weight::Mind, shell::line(&parsed.command), why);
        }
        reading.finish(address, &place, exposure)
    }
}

/// Takes away what stands around ssh: `env`, `sh -c`, `exec`, and assignments before a command.
fn unwrapped(
    mut words: Vec<String>,
    place: &mut Place,
) -> Result<(Program, Vec<String>), TunnelError> {
    // Each turn takes words away; a shell within a shell within a shell is nobody's tunnel.
    for _ in 0..4 {
        assignments(&mut words, place);
        if words.is_empty() {
            return Err(TunnelError::Empty);
        }
        let first = words.remove(0);
        let name = Path::new(&first).file_name().map(|name| name.to_string_lossy().into_owned());
        match name.as_deref().unwrap_or_default() {
            "ssh" => return Ok((Program::Ssh, words)),
            "autossh" => return Ok((Program::Autossh, words)),
            // What it sets is read at the next turn.
            "env" => {}
            "sh" | "bash" | "dash" => match words.as_slice() {
                [option, script, ..] if matches!(option.as_str(), "-c" | "-ec" | "-lc") => {
                    let home = place.home.display().to_string();
                    let known = |name: &str| match name {
                        "HOME" => Some(home.clone()),
                        name => place.environment.get(name).cloned(),
                    };
                    words = shell::split(script, &known).map_err(TunnelError::Shell)?;
                    assignments(&mut words, place);
                    if words.first().is_some_and(|word| word == "exec") {
                        words.remove(0);
                    }
                }
                _ => return Err(TunnelError::Program(first)),
            },
            _ => return Err(TunnelError::Program(first)),
        }
    }
    Err(TunnelError::Program(words.into_iter().next().unwrap_or_default()))
}

fn assignments(words: &mut Vec<String>, place: &mut Place) {
    while let Some((name, value)) = words.first().and_then(|word| word.split_once('=')) {
        if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return;
        }
        place.environment.insert(name.to_owned(), value.to_owned());
        words.remove(0);
    }
}

/// What has been read so far. The first that is said counts, as for ssh.
struct Reading {
    user: Option<String>,
    port: Option<u16>,
    identities: Vec<String>,
    services: Vec<Service>,
    notes: Notes,
}

impl Reading {
    fn option(
        &mut self,
        program: Program,
        option: char,
        value: Option<String>,
    ) -> Result<(), TunnelError> {
        let written = match &value {
            Some(value) => format!("-{option} {}", shell::quote(value)),
            None => format!("-{option}"),
        };
        match (option, value) {
            ('o', Some(text)) => {
                let Some((key, value)) = ssh_args::key_and_value(&text) else {
                    return Err(TunnelError::Option(text));
                };
                let fate = options::fate(&key, &value);
                let typed: String =
                    text.trim().chars().take_while(char::is_ascii_alphanumeric).collect();
                self.fated(fate, &written, &typed, &value)
            }
            ('M', Some(port)) if program == Program::Autossh => {
                if port != "0" {
                    self.notes.add(Weight::NotNeeded, written, MONITOR);
                }
                Ok(())
            }
            ('W' | 'Q' | 'G' | 'V', _) => Err(TunnelError::NoTunnel(option)),
            (option @ ('R' | 'i' | 'l' | 'p'), Some(value)) => self.carry(option, &value, &written),
            (option, value) => {
                let value = match option {
                    '4' => "inet".to_owned(),
                    '6' => "inet6".to_owned(),
                    _ => value.unwrap_or_else(|| "yes".to_owned()),
                };
                self.fated(options::flag_fate(option), &written, "", &value)
            }
        }
    }

    fn fated(
        &mut self,
        fate: Fate,
        written: &str,
        typed: &str,
        value: &str,
    ) -> Result<(), TunnelError> {
        match fate {
            Fate::As(option @ ('R' | 'i' | 'l' | 'p')) => {
                return self.carry(option, value, written);
            }
            Fate::As(_) => {}
            Fate::NotNeeded(why) => self.notes.add(Weight::NotNeeded, written, why),
            Fate::Differs(why) => self.notes.add(Weight::Mind, written, why),
            Fate::Lost(why) => self.notes.add(Weight::Lost, written, why),
            Fate::Config(key) => self.notes.host_block.push(format!("{key} {value}")),
            Fate::ConfigAsIs => self.notes.host_block.push(format!("{typed} {value}")),
        }
        Ok(())
    }

    /// What an agent has too.
    fn carry(&mut self, option: char, value: &str, written: &str) -> Result<(), TunnelError> {
        match option {
            'l' if self.user.is_none() => self.user = Some(value.to_owned()),
            'p' if self.port.is_none() => match value.parse() {
                Ok(port) if port > 0 => self.port = Some(port),
                _ => return Err(TunnelError::Port(value.to_owned())),
            },
            'i' => self.identities.push(value.to_owned()),
            'R' => {
                // In a configuration a blank stands between the two ends.
                let forward = value.split_whitespace().collect::<Vec<_>>().join(":");
                match Service::from_forward(&forward) {
                    Ok(service) => self.services.push(service),
                    Err(error) => self.notes.add(Weight::Lost, written, error.to_string()),
                }
            }
            _ => self.notes.add(Weight::NotNeeded, written, "ssh heeded the first of its kind"),
        }
        Ok(())
    }

    fn environment(&mut self, environment: &BTreeMap<String, String>) {
        for (name, value) in environment.iter().filter(|(name, _)| name.starts_with("AUTOSSH_")) {
            let (weight, why) = match name.as_str() {
                "AUTOSSH_PATH" => (Weight::Mind, "wayhome runs the `ssh` that `PATH` has"),
                "AUTOSSH_MAXSTART" | "AUTOSSH_MAXLIFETIME" => {
                    (Weight::Mind, "wayhome does not give up: it is there until it is stopped")
                }
                "AUTOSSH_LOGFILE" | "AUTOSSH_PIDFILE" => {
                    (Weight::Mind, "the journal and `systemctl` have this for wayhome")
                }
                "AUTOSSH_LOGLEVEL" | "AUTOSSH_DEBUG" => {
                    (Weight::NotNeeded, "`wayhome -v` says more")
                }
                "AUTOSSH_PORT" | "AUTOSSH_MESSAGE" => (Weight::NotNeeded, MONITOR),
                _ => (Weight::NotNeeded, RETRIES),
            };
            self.notes.add(weight, format!("{name}={value}"), why);
        }
    }

    fn finish(
        mut self,
        address: Address,
        place: &Place,
        exposure: Exposure,
    ) -> Result<Tunnel, TunnelError> {
        let gateway = Address {
            user: self.user.take().or(address.user),
            host: address.host,
            port: self.port.or(address.port),
        };
        // What was put together must be an address too: a login may have come from `-l`.
        let gateway: Address = String::from(gateway).parse().map_err(TunnelError::Destination)?;
        if gateway.user.is_none() {
            let user = place.user.as_deref().unwrap_or("the user that ran it");
            let why = format!(
                "ssh logged in by the name of {user} then, if ~/.ssh/config names no other; write \
                 the login into `address` if the agent runs as somebody else"
            );
            self.notes.add(Weight::Mind, format!("no login for {}", gateway.host), why);
        }
        let identity = self.identity(&gateway, place);
        let mut services: Vec<Service> = Vec::new();
        for mut service in self.services {
            // A forward always has one.
            let port = service.port.unwrap_or_default();
            if services.iter().any(|other| other.port == service.port) {
                return Err(TunnelError::Twice(port));
            }
            match exposure {
                Exposure::Ask if service.bind != Bind::Loopback => {
                    return Err(TunnelError::Public(port));
                }
                Exposure::Loopback => service.bind = Bind::Loopback,
                Exposure::Ask | Exposure::Public => {}
            }
            if services.iter().any(|other| other.name == service.name) {
                service.name = Name::for_port(port);
            }
            services.push(service);
        }
        if services.is_empty() {
            return Err(TunnelError::NoForward);
        }
        Ok(Tunnel { gateway, identity, services, notes: self.notes })
    }

    /// The first key that was named, as the path of a file.
    fn identity(&mut self, gateway: &Address, place: &Place) -> Option<PathBuf> {
        let mut found = None;
        for text in std::mem::take(&mut self.identities) {
            if text.eq_ignore_ascii_case("none") {
                continue;
            }
            if found.is_some() {
                // Offered after the first, in this order, if they stand in ssh's configuration.
                self.notes.host_block.push(format!("IdentityFile {text}"));
                continue;
            }
            match key_path(&text, &gateway.host, place) {
                Some(path) => found = Some(path),
                None => {
                    let why = "this path means something to ssh that is not known here; write it \
                               into `identity` as it is meant";
                    self.notes.add(Weight::Mind, format!("-i {text}"), why);
                }
            }
        }
        if found.is_some()
            && self.notes.host_block.iter().any(|line| line.starts_with("IdentityFile"))
        {
            let why = "an agent has one `identity`, and offers that one first";
            self.notes.add(Weight::Mind, "several keys", why);
        }
        if found.is_none() {
            let user = place.user.as_deref().unwrap_or("its user");
            let why = format!(
                "ssh took the keys of {user}; the agent's ssh does so too if it runs as that user; \
                 better is `identity`, with a key for this alone"
            );
            self.notes.add(Weight::Mind, "no key (-i)", why);
        }
        found
    }
}

const MONITOR: &str = "wayhome watches the connection itself, and needs no ports for it";
const RETRIES: &str = "wayhome has its own rules for when to try again, and gives up never";

/// The file that ssh takes for a key: `~` and its `%` tokens replaced (ssh_config(5), `IdentityFile`).
fn key_path(text: &str, host: &str, place: &Place) -> Option<PathBuf> {
    let text = match text.strip_prefix('~') {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => {
            format!("{}{rest}", place.home.display())
        }
        Some(_) => return None,
        None => text.to_owned(),
    };
    let mut out = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '%' => match rest.next()? {
                '%' => out.push('%'),
                'd' => out.push_str(&place.home.display().to_string()),
                'u' => out.push_str(place.user.as_deref()?),
                'h' => out.push_str(host),
                _ => return None,
            },
            '$' => return None,
            c => out.push(c),
        }
    }
    let bad = out.is_empty() || out.contains(['\n', '"']);
    (!bad).then(|| place.folder.join(out))
}

#[cfg(test)]
mod tests;
