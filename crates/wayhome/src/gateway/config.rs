//! `gateway.toml`: where to listen, who we are, who may do what, and how much of it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use wayhome_core::address::NATIVE_PORT;

use crate::config::place;
use crate::error::{Failure, Outcome};
use crate::paths;

/// What a gateway is to do. Each value has a default, and there need be no file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where to listen.
    pub listen: Vec<SocketAddr>,
    /// The file with our own key; it is made if there is none.
    pub identity: PathBuf,
    /// The file with what each key may do.
    pub grants: PathBuf,
    /// How much is let in.
    pub limits: Limits,
}

/// How much is let in (docs/protocol.md, "Bounds").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections whose peer has not yet said who it is; and as many more from addresses that lately
    /// succeeded.
    pub half_open: usize,
    /// Data connections of a home that wait.
    pub pool: usize,
    /// Streams in all.
    pub streams: usize,
    /// Streams of a client's key.
    pub streams_per_key: usize,
    /// Streams of a home.
    pub streams_per_home: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            half_open: 512,
            pool: 4,
            streams: 4096,
            streams_per_key: 256,
            streams_per_home: 1024,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![
                (std::net::Ipv6Addr::UNSPECIFIED, NATIVE_PORT).into(),
                (std::net::Ipv4Addr::UNSPECIFIED, NATIVE_PORT).into(),
            ],
            identity: PathBuf::new(),
            grants: PathBuf::from("grants.toml"),
            limits: Limits::default(),
        }
    }
}

impl Config {
    /// Reads a configuration; the default one if no file is named and there is none in its place.
    ///
    /// # Errors
    /// Where it is wrong: the file, the line, and what to write.
    pub fn read(named: Option<&Path>) -> Outcome<Self> {
        let usual = paths::config_dir()?.join("gateway.toml");
        let path = paths::absolute(named.unwrap_or(&usual))?;
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(why) if named.is_none() && why.kind() == std::io::ErrorKind::NotFound => {
                String::new()
            }
            Err(why) => {
                let shown = path.display();
                return Err(Failure::usage(format!("the configuration `{shown}` cannot be read"))
                    .because(&why)
                    .hint("name another: `--config FILE`; without one, the defaults serve"));
            }
        };
        Self::parse(&text, &path)
    }

    /// Checks the text of a configuration that lies at `path`.
    pub fn parse(text: &str, path: &Path) -> Outcome<Self> {
        let config: Self = toml::from_str(text).map_err(|error| {
            let start = error.span().unwrap_or(0..0).start;
            Failure::usage(error.message().trim_end())
                .at(&place(text, path, start))
                .hint("the README shows what a `gateway.toml` may have, under \"The gateway\"")
        })?;
        let wrong =
            |why: &str, hint: &str| Err(Failure::usage(why).at(&place(text, path, 0)).hint(hint));
        if config.listen.is_empty() {
            return wrong("`listen` has no address", "leave it out for all addresses, port 7222");
        }
        let Limits { half_open, pool, streams, streams_per_key, streams_per_home } = config.limits;
        for (name, value, most) in [
            ("half_open", half_open, 16_384),
            ("pool", pool, 64),
            ("streams", streams, 65_536),
            ("streams_per_key", streams_per_key, 65_536),
            ("streams_per_home", streams_per_home, 65_536),
        ] {
            if value == 0 || value > most {
                let why = format!("`limits.{name}` is a number from 1 to {most}");
                return wrong(&why, "leave it out for the default");
            }
        }
        let beside = path.parent().unwrap_or(Path::new("/"));
        let file = |given: &Path| -> Outcome<PathBuf> {
            let expanded = match given.to_str() {
                Some(text) => paths::expand(text)?,
                None => given.to_owned(),
            };
            Ok(beside.join(expanded))
        };
        let identity = match config.identity.as_os_str().is_empty() {
            true => paths::state_dir()?.join("identity"),
            false => file(&config.identity)?,
        };
        Ok(Self { identity, grants: file(&config.grants)?, ..config })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Outcome<Config> {
        Config::parse(text, Path::new("/etc/wayhome/gateway.toml"))
    }

    #[test]
    fn an_empty_file_is_the_default() {
        let config = parse("").unwrap();
        let listen: Vec<_> = config.listen.iter().map(ToString::to_string).collect();
        assert_eq!(listen, ["[::]:7222", "0.0.0.0:7222"]);
        assert_eq!(config.grants, Path::new("/etc/wayhome/grants.toml"));
        assert_eq!(config.limits, Limits::default());
    }

    #[test]
    fn paths_are_meant_from_the_file() {
        let config = parse("identity = \"key\"\ngrants = \"/srv/grants.toml\"").unwrap();
        assert_eq!(config.identity, Path::new("/etc/wayhome/key"));
        assert_eq!(config.grants, Path::new("/srv/grants.toml"));
    }

    #[test]
    fn an_error_names_file_line_and_remedy() {
        for (text, line, part) in [
            ("\nlisten = [\"7222\"]", 2, "invalid socket address"),
            ("listen = []", 1, "`listen` has no address"),
            ("port = 7222", 1, "unknown field `port`"),
            ("[limits]\npool = 0", 1, "`limits.pool` is a number from 1 to 64"),
            ("[limits]\nstreams = -1", 2, "invalid value"),
            ("[limits]\nstream = 5", 2, "unknown field `stream`"),
            ("listen = [", 1, ""),
        ] {
            let why = parse(text).unwrap_err();
            let beginning = format!("/etc/wayhome/gateway.toml:{line}: ");
            assert!(why.message().starts_with(&beginning), "{why}");
            assert!(why.message().contains(part) && why.hint_text().is_some(), "{why}");
        }
    }
}
