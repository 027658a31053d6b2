//! The roads home as text for OpenSSH. Pure: roads in, text out.
//!
//! Two forms share their blocks. The **printed** one has two parts, for `~/.ssh/config` and
//! `~/.ssh/known_hosts`, and works when it is pasted on a machine that has nothing but `ssh`. The
//! **installed** one has a file of its own for each part, and each block names that of its keys.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

use wayhome_core::host_key::HostKey;
use wayhome_core::known_hosts::{KnownHost, known_hosts_name};
use wayhome_core::name::Name;

use super::native::NativeRoad;
use super::values::{Alias, HostName, KeyPath, UserName, ValueError};

/// The version of the printed text, for a laptop that is older or newer than the home.
pub(super) const FORMAT: u32 = 1;
/// What the first line begins with; the version and the name of the home follow.
pub(super) const HEADER: &str = "# wayhome ssh-config";
pub(super) const BEGIN_CONFIG: &str = "# --- wayhome: begin config ---";
pub(super) const END_CONFIG: &str = "# --- wayhome: end config ---";
pub(super) const BEGIN_KNOWN_HOSTS: &str = "# --- wayhome: begin known_hosts ---";
pub(super) const END_KNOWN_HOSTS: &str = "# --- wayhome: end known_hosts ---";

/// Where the gateway's loopback ports are, seen from the gateway.
pub(super) const LOOPBACK: &str = "127.0.0.1";
/// A dead road is noticed within a minute and a half, and NAT forgets nobody: the shortest timeout
/// in common use for TCP is several minutes.
const ALIVE_INTERVAL: u32 = 30;
const ALIVE_COUNT: u32 = 3;

/// The longest alias whose connections are shared. The socket's path holds it, and macOS takes 103
/// characters for that: a home folder of 19, `/.ssh/wayhome-`, 40, a user name, and the 17 that
/// `ssh` appends.
const MAX_SHARED: usize = 40;

/// The roads to one home, and to the machines behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roads {
    /// The machines to jump through, the preferred one first.
    pub gateways: Vec<GatewayRoad>,
    /// The machines to reach. The first is the home, whose name the whole text has.
    pub homes: Vec<HomeRoad>,
    /// Homes that are reached by `wayhome connect`. No text that is printed has any.
    pub native: Vec<NativeRoad>,
    /// Whether logins to one machine share a connection.
    pub multiplex: bool,
}

/// How the laptop reaches a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayRoad {
    /// What the laptop calls it.
    pub alias: Alias,
    /// Where it is.
    pub host: HostName,
    /// The port of its `sshd`.
    pub port: u16,
    /// Whom the laptop logs in as; its own user name if `None`.
    pub user: Option<UserName>,
    /// The laptop's key for it; whatever `ssh` offers by itself if `None`.
    pub identity: Option<KeyPath>,
    /// The keys that its `sshd` may prove itself with.
    pub host_keys: Vec<HostKey>,
}

/// How the laptop reaches a machine by way of a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HomeRoad {
    /// The machine's name. Roads with the same name lead to the same machine by other gateways.
    pub alias: Name,
    /// Its loopback port on the gateway.
    pub port: u16,
    /// Whom to log in as; the laptop's own user name if `None`.
    pub user: Option<UserName>,
    /// Which of [`Roads::gateways`] to jump through.
    pub via: usize,
    /// The keys that its `sshd` may prove itself with.
    pub host_keys: Vec<HostKey>,
}

/// Why roads cannot be written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoadsError {
    /// There is no machine to reach.
    NoHome,
    /// A road goes through a gateway that is not in the list.
    NoSuchGateway(Name),
    /// Two blocks would have the same alias, and `ssh` would mix them.
    SameAlias(String),
    /// What a road would be called is no alias.
    BadAlias(ValueError),
    /// A name has no key, so that every login would be refused.
    NoKeys(String),
    /// A gateway and a machine behind it would be known by the same name, so that the one could
    /// pass itself off as the other.
    SameKnownName(String),
}

impl fmt::Display for RoadsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHome => f.write_str("there is no machine to reach"),
            Self::NoSuchGateway(home) => write!(f, "the gateway on the way to `{home}` is missing"),
            Self::SameAlias(alias) => {
                write!(f, "`{alias}` would mean two things: give one of them another alias")
            }
            Self::BadAlias(error) => write!(f, "{error}: choose other aliases"),
            Self::NoKeys(name) => write!(
                f,
                "no host key of `{name}` is known, and without one every login is refused: reach \
                 it once, and then write this again"
            ),
            Self::SameKnownName(name) => write!(
                f,
                "`{name}` would be both a gateway and a machine behind it in known_hosts: give the \
                 machine another alias"
            ),
        }
    }
}

impl std::error::Error for RoadsError {}

impl Roads {
    /// The name of the whole text: the first machine's.
    pub fn name(&self) -> Option<&Name> {
        let native = self.native.first().map(|road| &road.alias);
        self.homes.first().map(|home| &home.alias).or(native)
    }

    /// What a person types after `ssh`, for each of [`Roads::homes`]. The first road to a machine
    /// has its plain name, a later one says which gateway it takes.
    pub fn home_aliases(&self) -> Result<Vec<Alias>, RoadsError> {
        let mut seen = BTreeSet::new();
        let mut aliases = Vec::new();
        for home in &self.homes {
            let gateway = self.gateway_of(home)?;
            let text = if seen.insert(&home.alias) {
                home.alias.to_string()
            } else {
                format!("{}-via-{}", home.alias, gateway.alias)
            };
            aliases.push(text.parse().map_err(RoadsError::BadAlias)?);
        }
        Ok(aliases)
    }

    /// The same for each of [`Roads::native`].
    pub fn native_aliases(&self) -> Result<Vec<Alias>, RoadsError> {
        self.native.iter().map(|road| road.host().map_err(RoadsError::BadAlias)).collect()
    }

    /// Whether the roads can be written down such that `ssh` understands what is meant.
    pub fn check(&self) -> Result<(), RoadsError> {
        self.name().ok_or(RoadsError::NoHome)?;
        let (homes, native) = (self.home_aliases()?, self.native_aliases()?);
        let mut seen = BTreeSet::new();
        let gateways = self.gateways.iter().map(|gateway| &gateway.alias);
        for alias in gateways.chain(&homes).chain(&native) {
            // `ssh` looks names up in lower case in some places and as typed in others.
            if !seen.insert(alias.as_str().to_ascii_lowercase()) {
                return Err(RoadsError::SameAlias(alias.to_string()));
            }
        }
        for (place, home) in self.homes.iter().enumerate() {
            // Two servers under one name could each pass itself off as the other.
            let is_another = |other: &HomeRoad| {
                other.alias == home.alias
                    && (other.via == home.via || other.host_keys != home.host_keys)
            };
            if self.homes.iter().take(place).any(is_another) {
                return Err(RoadsError::SameAlias(home.alias.to_string()));
            }
        }
        if let Some((name, _)) = self.known_hosts().into_iter().find(|(_, keys)| keys.is_empty()) {
            return Err(RoadsError::NoKeys(name));
        }
        let known_homes: BTreeSet<_> = self.homes.iter().map(|h| h.alias.to_string()).collect();
        match self.gateways.iter().map(GatewayRoad::known_name).find(|n| known_homes.contains(n)) {
            Some(name) => Err(RoadsError::SameKnownName(name)),
            None => Ok(()),
        }
    }

    /// Each name's keys, the preferred ones first.
    pub(super) fn known_hosts(&self) -> BTreeMap<String, BTreeSet<&HostKey>> {
        let mut known: BTreeMap<String, BTreeSet<&HostKey>> = BTreeMap::new();
        for gateway in &self.gateways {
            known.entry(gateway.known_name()).or_default().extend(&gateway.host_keys);
        }
        for home in &self.homes {
            known.entry(home.alias.to_string()).or_default().extend(&home.host_keys);
        }
        for road in self.native.iter().filter(|road| !road.host_keys.is_empty()) {
            known.entry(road.alias.to_string()).or_default().extend(&road.host_keys);
        }
        known
    }

    fn gateway_of(&self, home: &HomeRoad) -> Result<&GatewayRoad, RoadsError> {
        self.gateways.get(home.via).ok_or_else(|| RoadsError::NoSuchGateway(home.alias.clone()))
    }

    /// The blocks of the configuration. With `keys_of`, each names the file of that home's keys.
    pub(super) fn blocks(&self, keys_of: Option<&Name>) -> Result<Vec<Block>, RoadsError> {
        self.check()?;
        let mut blocks = Vec::new();
        for gateway in &self.gateways {
            blocks.push(gateway_block(gateway, keys_of));
        }
        for (home, alias) in self.homes.iter().zip(self.home_aliases()?) {
            let gateway = &self.gateway_of(home)?.alias;
            blocks.push(home_block(home, alias, gateway, self.multiplex, keys_of));
        }
        for (road, alias) in self.native.iter().zip(self.native_aliases()?) {
            blocks.push(road.block(alias, self.multiplex, keys_of));
        }
        Ok(blocks)
    }
}

impl GatewayRoad {
    pub(super) fn known_name(&self) -> String {
        known_hosts_name(self.host.as_str(), self.port)
    }
}

/// One `Host` and the lines under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) alias: Alias,
    pub(super) lines: Vec<(&'static str, String)>,
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Host {}", self.alias)?;
        self.lines.iter().try_for_each(|(keyword, value)| writeln!(f, "  {keyword} {value}"))
    }
}

/// The text to paste, or to give to `wayhome ssh-config --write`.
pub fn render(roads: &Roads) -> Result<String, RoadsError> {
    let name = roads.name().ok_or(RoadsError::NoHome)?;
    let mut text = format!(
        "{HEADER} {FORMAT} {name}\n\
         #\n\
         # With this, `ssh {name}` works on your laptop. If wayhome is there, save this text and run\n\
         #   wayhome ssh-config --write FILE\n\
         # Otherwise paste the two parts below into two files.\n\
         \n\
         # Part 1 goes to the top of ~/.ssh/config\n\
         {BEGIN_CONFIG}\n"
    );
    for block in roads.blocks(None)? {
        push(&mut text, format_args!("{block}\n"));
    }
    // What a person has at the top of the file without a `Host` before it is meant for every host,
    // and must not become a part of the last block.
    push(&mut text, format_args!("# What follows is for every host, as it was.\nHost *\n"));
    push(
        &mut text,
        format_args!(
            "{END_CONFIG}\n\n# Part 2 goes to the end of ~/.ssh/known_hosts\n{BEGIN_KNOWN_HOSTS}\n"
        ),
    );
    text.push_str(&known_hosts_lines(roads));
    push(&mut text, format_args!("{END_KNOWN_HOSTS}\n"));
    Ok(text)
}

/// The two files of the installed form: configuration and known hosts.
pub(super) fn render_installed(roads: &Roads) -> Result<(String, String), RoadsError> {
    let name = roads.name().ok_or(RoadsError::NoHome)?;
    let by = if roads.native.is_empty() { "--write" } else { "--connect" };
    let origin = format!(
        "# Written by `wayhome ssh-config {by}`, and again by the next one.\n\
         # To take it away: `wayhome ssh-config --remove {name}`\n"
    );
    let mut config = origin.clone();
    for block in roads.blocks(Some(name))? {
        push(&mut config, format_args!("\n{block}"));
    }
    Ok((config, origin + &known_hosts_lines(roads)))
}

/// Where connections to an alias are shared. The alias stands in the path itself: `%C` says nothing
/// of the way there, so that two homes which have the same port on two gateways would share one
/// socket, and a login would end up on the wrong machine.
pub(super) fn control_path(alias: &Alias) -> Option<String> {
    (alias.as_str().len() <= MAX_SHARED).then(|| format!("~/.ssh/wayhome-{alias}-%r"))
}

fn gateway_block(gateway: &GatewayRoad, keys_of: Option<&Name>) -> Block {
    let mut lines = vec![("HostName", gateway.host.to_string())];
    if gateway.port != 22 {
        lines.push(("Port", gateway.port.to_string()));
    }
    lines.extend(gateway.user.iter().map(|user| ("User", user.to_string())));
    if let Some(identity) = &gateway.identity {
        lines.push(("IdentityFile", identity.quoted()));
        // Otherwise every key that an agent holds is tried first, and `sshd` counts.
        lines.push(("IdentitiesOnly", "yes".into()));
    }
    push_shared(&mut lines, "yes", keys_of);
    Block { alias: gateway.alias.clone(), lines }
}

fn home_block(
    home: &HomeRoad,
    alias: Alias,
    gateway: &Alias,
    multiplex: bool,
    keys_of: Option<&Name>,
) -> Block {
    let mut lines = vec![("HostName", LOOPBACK.into()), ("Port", home.port.to_string())];
    lines.extend(home.user.iter().map(|user| ("User", user.to_string())));
    lines.push(("ProxyJump", gateway.to_string()));
    // Every home is at 127.0.0.1 here: it is known by its name instead.
    lines.push(("HostKeyAlias", home.alias.to_string()));
    push_shared(&mut lines, "yes", keys_of);
    lines.extend(control_lines(&alias).filter(|_| multiplex));
    Block { alias, lines }
}

/// What lets further logins share the first one's connection.
pub(super) fn control_lines(alias: &Alias) -> impl Iterator<Item = (&'static str, String)> {
    let lines = control_path(alias).map(|path| {
        [("ControlMaster", "auto".into()), ("ControlPath", path), ("ControlPersist", "60s".into())]
    });
    lines.into_iter().flatten()
}

pub(super) fn push_shared(
    lines: &mut Vec<(&'static str, String)>,
    checking: &str,
    keys_of: Option<&Name>,
) {
    lines.push(("StrictHostKeyChecking", checking.into()));
    lines.extend(
        keys_of.map(|name| ("UserKnownHostsFile", format!("~/.ssh/wayhome/{name}.known_hosts"))),
    );
    lines.push(("ServerAliveInterval", ALIVE_INTERVAL.to_string()));
    lines.push(("ServerAliveCountMax", ALIVE_COUNT.to_string()));
}

fn known_hosts_lines(roads: &Roads) -> String {
    let mut text = String::new();
    for (name, keys) in roads.known_hosts() {
        keys.into_iter().for_each(|key| push(&mut text, format_args!("{name} {key}\n")));
    }
    text
}

fn push(text: &mut String, more: fmt::Arguments<'_>) {
    // Writing into a string cannot fail.
    let _ = text.write_fmt(more);
}

/// The names whose keys are all others than in this old file. `ssh` would have refused them.
pub(super) fn known_names_that_changed(roads: &Roads, old: &str) -> Vec<String> {
    let changed = |name: &str, keys: &BTreeSet<&HostKey>| {
        let before = keys_of(old, name);
        !before.is_empty() && before.iter().all(|key| !keys.contains(key))
    };
    let known = roads.known_hosts();
    known.into_iter().filter(|(name, keys)| changed(name, keys)).map(|(name, _)| name).collect()
}

/// The keys that a file of known hosts has for one name.
pub(super) fn keys_of(known_hosts: &str, name: &str) -> BTreeSet<HostKey> {
    let lines = known_hosts.lines().filter_map(|line| KnownHost::parse_line(line).ok().flatten());
    lines.filter(|host| host.lists(name)).map(|host| host.key).collect()
}
