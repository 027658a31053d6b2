//! `agent.toml`: its form, and its errors with file and line.

use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;
use wayhome_core::address::{Address, NativeAddress};
use wayhome_core::key::Key;
use wayhome_core::name::Name;
use wayhome_core::service::{Bind, ProofKind, Service, Target};

use super::{
    Config, Gateway, HEARTBEAT, NativeGateway, SshGateway, default_identity, default_known_hosts,
    default_name, identity, remedy,
};
use crate::error::{Failure, Outcome};
use crate::{paths, patient};

/// A configuration is a page of text; what is larger is some other file.
const MAX_SIZE: u64 = 1024 * 1024;

/// Slower than this, a cut would be noticed too late to be of use; faster, it costs more than it
/// tells.
const HEARTBEATS: std::ops::RangeInclusive<u64> = 1..=300;

/// How each kind of value is written, for who wrote it otherwise.
const A_NAME: &str = "for example `home-ubuntu`";
const AN_ADDRESS: &str =
    "for example `ssh://root@203.0.113.10:22`, or a `Host` of your ssh's config";
const A_NATIVE_ADDRESS: &str = "for example `wayhome://gw.example.org`";
const A_KEY: &str = "it is written as in a `.pub` file: `ssh-ed25519 AAAA…`";
const A_TARGET: &str = "for example `localhost:22`, `[2001:db8::1]:22`, or `/run/some.sock`";
const A_BIND: &str = "leave it out for loopback; `*` with `public = true` is for everybody";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    name: Option<Spanned<String>>,
    heartbeat: Option<Spanned<u64>>,
    grants: Option<Spanned<String>>,
    #[serde(default)]
    gateway: Vec<Spanned<GatewayForm>>,
    #[serde(default)]
    service: Vec<Spanned<ServiceForm>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GatewayForm {
    address: Spanned<String>,
    identity: Option<Spanned<String>>,
    known_hosts: Option<Spanned<String>>,
    key: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceForm {
    name: Option<Spanned<String>>,
    target: Spanned<String>,
    port: Option<Spanned<i64>>,
    proof: Option<Spanned<ProofKind>>,
    bind: Option<Spanned<String>>,
    #[serde(default)]
    public: bool,
}

/// Reads a configuration file.
pub fn read(path: &Path) -> Outcome<Config> {
    let mut config = parse(&text(path)?, path, &identity::check)?;
    if config.grants.is_none() && config.native_gateways().next().is_some() {
        config.grants = Some(grants_beside(path)?).filter(|beside| beside.exists());
    }
    Ok(config)
}

/// Where the grants are that no configuration names.
fn grants_beside(path: &Path) -> Outcome<PathBuf> {
    paths::absolute(&path.with_file_name("grants.toml"))
}

/// The text of a configuration file.
pub fn text(path: &Path) -> Outcome<String> {
    let unreadable = |error: &std::io::Error| {
        Failure::usage(format!("the configuration `{}` cannot be read", path.display()))
            .because(error)
            .hint("write it as the README shows, or name another: `--config FILE`")
    };
    // Its size is not asked for: that of a device says nothing.
    let mut text = String::new();
    let file = patient::open(path).map_err(|e| unreadable(&e))?;
    let read = file.take(MAX_SIZE + 1).read_to_string(&mut text);
    if text.len() as u64 > MAX_SIZE {
        return Err(Failure::usage(format!(
            "`{}` is too large to be a configuration",
            path.display()
        ))
        .hint("see what it is, and name the right file: `--config FILE`"));
    }
    read.map(|_| text).map_err(|e| unreadable(&e))
}

/// The check of an identity is an argument, since it looks at files.
pub fn parse(
    text: &str,
    path: &Path,
    check_identity: &dyn Fn(&Path) -> Outcome,
) -> Outcome<Config> {
    let source = Source { text, path };
    let form: Form = toml::from_str(text).map_err(|error| {
        let why = error.message().trim_end();
        source.wrong(&error.span().unwrap_or(0..0), why, &remedy::of(why))
    })?;
    let whole = 0..0;
    if form.gateway.is_empty() {
        let hint = "add one: [[gateway]] with address = \"ssh://root@203.0.113.10\"";
        return Err(source.wrong(&whole, "there is no `[[gateway]]`", hint));
    }
    if form.service.is_empty() {
        let hint = "add one: [[service]] with target = \"localhost:22\" and port = 2222";
        return Err(source.wrong(&whole, "there is no `[[service]]`", hint));
    }
    let name = match &form.name {
        Some(name) => source.parsed::<Name>(name, A_NAME)?,
        None => default_name()?,
    };
    let heartbeat = match &form.heartbeat {
        None => HEARTBEAT,
        Some(seconds) if HEARTBEATS.contains(seconds.get_ref()) => {
            Duration::from_secs(*seconds.get_ref())
        }
        Some(seconds) => {
            let why = "`heartbeat` is a number of seconds from 1 to 300";
            let hint = "leave it out for 5: a cut is then noticed within 6 seconds";
            return Err(source.wrong(&seconds.span(), why, hint));
        }
    };
    let mut gateways: Vec<Gateway> = Vec::new();
    for form in &form.gateway {
        let gateway = source.gateway(form.get_ref())?;
        if let Some(other) = gateways.iter().find(|other| other.is_same(&gateway)) {
            let (name, before) = (gateway.name(), other.name());
            let why = if name == before {
                format!("the gateway `{name}` is given twice")
            } else {
                format!("the gateway `{name}` was given before, as `{before}`")
            };
            let hint = "leave one out: each gateway has one link, for all services; a port that \
                        your ssh's config has for it is to be written here, too";
            return Err(source.wrong(&form.get_ref().address.span(), &why, hint));
        }
        if let (Gateway::Ssh(SshGateway { identity: Some(file), .. }), Some(text)) =
            (&gateway, &form.get_ref().identity)
        {
            check_identity(file).map_err(|failure| failure.at(&source.place(&text.span())))?;
        }
        gateways.push(gateway);
    }
    let mut services: Vec<Service> = Vec::new();
    for form in &form.service {
        let (form, span) = (form.get_ref(), form.span());
        let service = source.service(form)?;
        if services.iter().any(|other| other.name == service.name) {
            let span = form.name.as_ref().map_or(span, Spanned::span);
            let why = format!("the service `{}` is given twice", service.name);
            return Err(source.wrong(&span, &why, "give each service a name of its own"));
        }
        if let (Some(port), Some(span)) = (service.port, &form.port)
            && services.iter().any(|other| other.port == service.port)
        {
            let why = format!("port {port} is given twice");
            let hint = "give each service a port of its own";
            return Err(source.wrong(&span.span(), &why, hint));
        }
        if service.port.is_none() && gateways.iter().all(|g| matches!(g, Gateway::Ssh(_))) {
            let why = format!("the service `{}` has no `port`", service.name);
            let hint = "choose a port that is free at the gateway, such as 2222: only a gateway with a `wayhome://` address needs none";
            return Err(source.wrong(&span, &why, hint));
        }
        services.push(service);
    }
    for (gateway, form) in gateways.iter().zip(&form.gateway) {
        if gateway.offers(&services, &gateways).is_empty() {
            let why = format!("no service has a `port`, and `{}` needs one", gateway.name());
            let hint = "give one of the services a port that is free there, such as 2222";
            return Err(source.wrong(&form.get_ref().address.span(), &why, hint));
        }
    }
    let grants = form.grants.as_ref().map(|file| source.file(file)).transpose()?;
    Ok(Config { name, heartbeat, gateways, services, grants })
}

/// Where in a file something stands: `agent.toml:3`.
pub fn place(text: &str, path: &Path, start: usize) -> String {
    let before = text.get(..start).unwrap_or_default();
    format!("{}:{}", path.display(), before.matches('\n').count() + 1)
}

/// The file, for errors that point into it.
struct Source<'a> {
    text: &'a str,
    path: &'a Path,
}

impl Source<'_> {
    fn gateway(&self, form: &GatewayForm) -> Outcome<Gateway> {
        let file = |text: &Spanned<String>| self.file(text);
        if NativeAddress::is_meant(form.address.get_ref()) {
            return self.native(form).map(Gateway::Native);
        }
        if let Some(key) = &form.key {
            let why = "`key` is for a gateway with a `wayhome://` address";
            let hint = "an sshd's host key is pinned in `known_hosts`: leave `key` out";
            return Err(self.wrong(&key.span(), why, hint));
        }
        Ok(Gateway::Ssh(SshGateway {
            address: self.parsed::<Address>(&form.address, AN_ADDRESS)?,
            identity: form.identity.as_ref().map(file).transpose()?,
            known_hosts: form.known_hosts.as_ref().map_or_else(default_known_hosts, file)?,
        }))
    }

    fn native(&self, form: &GatewayForm) -> Outcome<NativeGateway> {
        let address = self.parsed::<NativeAddress>(&form.address, A_NATIVE_ADDRESS)?;
        if let Some(known_hosts) = &form.known_hosts {
            let why = "`known_hosts` is for a gateway that is an sshd";
            return Err(self.wrong(
                &known_hosts.span(),
                why,
                "leave it out: `key` is the pin here",
            ));
        }
        let Some(key) = &form.key else {
            let why = format!("the gateway `{address}` has no `key`");
            let hint = "add its public key, which `wayhome gateway` says there when it starts: key = \"ssh-ed25519 …\"";
            return Err(self.wrong(&form.address.span(), &why, hint));
        };
        Ok(NativeGateway {
            address,
            key: self.parsed::<Key>(key, A_KEY)?,
            identity: form
                .identity
                .as_ref()
                .map_or_else(default_identity, |text| self.file(text))?,
        })
    }

    fn service(&self, form: &ServiceForm) -> Outcome<Service> {
        let target = self.parsed::<Target>(&form.target, A_TARGET)?;
        let port = form.port.as_ref().map(|port| self.port(port)).transpose()?;
        let bind = match &form.bind {
            None => Bind::Loopback,
            Some(bind) => self.parsed::<Bind>(bind, A_BIND)?,
        };
        if let (Bind::Public(_), None, Some(span)) = (&bind, port, form.bind.as_ref()) {
            let hint = "leave `bind` out, or add `port`";
            return Err(self.wrong(&span.span(), "there is a `bind`, and no `port` to bind", hint));
        }
        if let (Bind::Public(_), false, Some(span)) = (&bind, form.public, form.bind.as_ref()) {
            let port = port.unwrap_or_default();
            let why = format!("port {port} would be open to the whole internet");
            let hint = "leave `bind` out, or add `public = true` if that is what you want";
            return Err(self.wrong(&span.span(), &why, hint));
        }
        let name = match &form.name {
            Some(name) => self.parsed::<Name>(name, A_NAME)?,
            None => target.suggested_name(port.unwrap_or_else(|| target.port())),
        };
        let proof = match &form.proof {
            Some(proof) => *proof.get_ref(),
            None => ProofKind::suggested_for(&target),
        };
        if let (ProofKind::Ssh, Target::Unix(_), Some(span)) = (proof, &target, &form.proof) {
            let why = "a Unix socket cannot have `proof = \"ssh\"`";
            return Err(self.wrong(&span.span(), why, "use `hold`, `http` or `tls`"));
        }
        Ok(Service { name, bind, port, target, proof })
    }

    fn port(&self, port: &Spanned<i64>) -> Outcome<u16> {
        match u16::try_from(*port.get_ref()) {
            Ok(number) if number > 0 => Ok(number),
            _ => {
                let why = "`port` is a number from 1 to 65535";
                let hint = "choose a port that is free at the gateway, such as 2222";
                Err(self.wrong(&port.span(), why, hint))
            }
        }
    }

    /// A path as the file has it: `~/` is the home folder, and a relative one is meant from the file.
    fn file(&self, text: &Spanned<String>) -> Outcome<PathBuf> {
        if text.get_ref().is_empty() {
            let hint = "name the file from `/` or `~/` on, or seen from the configuration's folder";
            return Err(self.wrong(&text.span(), "this is no path of a file", hint));
        }
        let path = paths::expand(text.get_ref())?;
        let dir = self.path.parent();
        let file = paths::absolute(&dir.map_or_else(|| path.clone(), |dir| dir.join(&path)))?;
        paths::for_ssh(&file).map_err(|failure| failure.at(&self.place(&text.span())))?;
        Ok(file)
    }

    fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
        &self,
        text: &Spanned<String>,
        hint: &str,
    ) -> Outcome<T> {
        text.get_ref()
            .parse()
            .map_err(|error: T::Err| self.wrong(&text.span(), &error.to_string(), hint))
    }

    /// `agent.toml:3`
    fn place(&self, span: &Range<usize>) -> String {
        place(self.text, self.path, span.start)
    }

    fn wrong(&self, span: &Range<usize>, why: &str, hint: &str) -> Failure {
        Failure::usage(why).at(&self.place(span)).hint(hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
name = "home-ubuntu"

[[gateway]]
address = "ssh://root@203.0.113.10:22"
identity = "keys/id_ed25519"
known_hosts = "/var/lib/wayhome/pins"

[[service]]
name = "ssh"
target = "localhost:22"
port = 2222

[[service]]
target = "home-ubuntu-2:22"
port = 2223
proof = "hold"
"#;

    fn ssh(gateway: &Gateway) -> &SshGateway {
        let Gateway::Ssh(ssh) = gateway else { panic!("{gateway:?}") };
        ssh
    }

    fn read(text: &str) -> Outcome<Config> {
        parse(text, Path::new("/etc/wayhome/agent.toml"), &|_| Ok(()))
    }

    #[test]
    fn reads_a_whole_configuration() {
        let config = read(GOOD).unwrap();
        assert_eq!(config.name.as_str(), "home-ubuntu");
        assert_eq!(config.heartbeat, HEARTBEAT);
        let gateway = ssh(&config.gateways[0]);
        assert_eq!(gateway.identity.as_deref(), Some(Path::new("/etc/wayhome/keys/id_ed25519")));
        assert_eq!(gateway.known_hosts, Path::new("/var/lib/wayhome/pins"));
        assert_eq!(config.services[0].proof, ProofKind::Ssh);
        assert_eq!(config.services[1].name.as_str(), "home-ubuntu-2");
        assert_eq!(config.services[1].proof, ProofKind::Hold);
    }

    #[test]
    fn paths_are_absolute_wherever_the_file_was_named_from() {
        let here = std::env::current_dir().unwrap();
        for (file, dir) in [("agent.toml", here.clone()), ("conf/agent.toml", here.join("conf"))] {
            let config = parse(GOOD, Path::new(file), &|_| Ok(())).unwrap();
            let identity = ssh(&config.gateways[0]).identity.as_deref();
            assert_eq!(identity, Some(dir.join("keys/id_ed25519").as_path()));
            assert_eq!(ssh(&config.gateways[0]).known_hosts, Path::new("/var/lib/wayhome/pins"));
        }
    }

    #[test]
    fn an_error_names_file_line_and_remedy() {
        for (from, to, line, part) in [
            ("port = 2222", "port = 70000", 12, "1 to 65535"),
            ("port = 2222", "port = 0", 12, "1 to 65535"),
            ("port = 2222", "port = -1", 12, "1 to 65535"),
            ("port = 2222", "port = \"x\"", 12, "invalid type"),
            ("port = 2222", "prot = 2222", 12, "unknown field `prot`"),
            ("port = 2223", "port = 2222", 16, "port 2222 is given twice"),
            (
                "target = \"home-ubuntu-2:22\"",
                "name = \"ssh\"\ntarget = \"a:1\"",
                15,
                "given twice",
            ),
            ("name = \"home-ubuntu\"", "name = \"Home\"", 2, "not `H`"),
            ("name = \"home-ubuntu\"", "nmae = \"home\"", 2, "unknown field `nmae`"),
            ("ssh://root@203.0.113.10:22", "http://x", 5, "no `ssh://`"),
            ("localhost:22", "localhost", 11, "no target"),
            ("\"hold\"", "\"holt\"", 17, "unknown variant `holt`"),
            ("port = 2222", "port = 2222\nbind = \"0.0.0.0\"", 13, "open to the whole internet"),
            ("name = \"home-ubuntu\"", "heartbeat = 0", 2, "1 to 300"),
            ("[[gateway]]", "[[gateway", 4, ""),
            ("address = \"ssh://root@203.0.113.10:22\"", "", 4, "missing field `address`"),
            (
                "[[service]]",
                "[[gateway]]\naddress = \"ssh://root@203.0.113.10:22\"\n[[service]]",
                10,
                "given twice",
            ),
            (
                "[[service]]",
                "[[gateway]]\naddress = \"root@203.0.113.10\"\n[[service]]",
                10,
                "given before, as `root@203.0.113.10:22`",
            ),
            ("\"keys/id_ed25519\"", "\"\"", 6, "no path"),
            ("\"keys/id_ed25519\"", "'keys/${HOME}/k'", 6, "it has `${` in it"),
            ("\"keys/id_ed25519\"", "\"keys\\u0000k\"", 6, "a control character"),
            ("\"/var/lib/wayhome/pins\"", "'/pins\\'", 7, "a backslash"),
            ("port = 2222", "port = 2222\nbind = \"x y\"", 13, ""),
            ("\"localhost:22\"", "\"/run/x.sock\"\nproof = \"ssh\"", 12, "Unix socket"),
        ] {
            let text = GOOD.replacen(from, to, 1);
            assert_ne!(text, GOOD, "`{from}` is there to be replaced");
            let error = read(&text).unwrap_err();
            let said = error.to_string();
            assert!(said.starts_with(&format!("/etc/wayhome/agent.toml:{line}: ")), "{to}: {said}");
            assert!(said.contains(part), "{to}: {said}");
            assert!(said.contains("\n  hint: "), "{to}: {said}");
            assert_eq!(error.code(), crate::error::USAGE);
        }
    }

    #[test]
    fn the_manual_names_exactly_the_keys_that_there_are() {
        use crate::manual::{keys, page};
        read(page::EXAMPLE).unwrap();
        for (table, _) in keys::TABLES {
            let text = match *table {
                "" => "nothing = 1".to_owned(),
                table => format!("[[{table}]]\nnothing = 1"),
            };
            let said = read(&text).unwrap_err().to_string();
            let said = said.lines().next().unwrap();
            let (_, expected) = said.split_once("expected one of ").unwrap();
            let mut there: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
            there.retain(|key| keys::TABLES.iter().all(|(table, _)| table != key));
            let told = keys::KEYS.iter().filter(|key| key.table == *table).map(|key| key.name);
            let mut told: Vec<&str> = told.collect();
            there.sort_unstable();
            told.sort_unstable();
            assert_eq!(told, there, "{said}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_one_has_a_remedy_too() {
        for file in ["/nonexistent/agent.toml", "/dev", "/dev/zero"] {
            let said = super::read(Path::new(file)).unwrap_err().to_string();
            assert!(said.contains(file) && said.contains("\n  hint: "), "{said}");
        }
    }

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f";

    #[test]
    fn a_native_gateway_has_a_key_and_needs_no_port() {
        let native =
            format!("[[gateway]]\naddress = \"wayhome://gw.example.org\"\nkey = \"{KEY}\"\n");
        let service = "[[service]]\ntarget = \"localhost:22\"\n";
        let config = read(&format!("name = \"home\"\n{native}{service}")).unwrap();
        assert_eq!(config.services[0].port, None);
        assert_eq!(config.native_gateways().next().unwrap().key.to_string(), KEY);
        let ssh = "[[gateway]]\naddress = \"gw\"\n";
        let both = read(&format!("name = \"home\"\n{ssh}{native}{service}port = 2222\n")).unwrap();
        let port = |config: &Config, gateway: usize| {
            config.gateways[gateway].offers(&config.services, &config.gateways)[0].port
        };
        assert_eq!((port(&both, 0), port(&both, 1)), (Some(2222), Some(2222)));
        // The same machine, reached both ways, has it once; and what is for everybody, over ssh alone.
        let ssh_there = "[[gateway]]\naddress = \"root@gw.example.org\"\n";
        let twice = read(&format!("name = \"home\"\n{ssh_there}{native}{service}port = 2222\n"));
        assert_eq!(port(&twice.unwrap(), 1), None);
        let public = format!("{service}port = 2222\nbind = \"*\"\npublic = true\n");
        let public = read(&format!("name = \"home\"\n{ssh}{native}{public}")).unwrap();
        assert_eq!(port(&public, 1), None);
        let bare = native.lines().take(2).collect::<Vec<_>>().join("\n");
        for (text, line, part) in [
            (format!("{bare}\n{service}"), 3, "has no `key`"),
            (format!("{ssh}key = \"{KEY}\"\n{service}port = 1\n"), 4, "`key` is for"),
            (format!("{native}known_hosts = \"x\"\n{service}"), 5, "`known_hosts` is for"),
            (format!("{ssh}{service}"), 4, "has no `port`"),
            (format!("{ssh}{native}{service}"), 3, "no service has a `port`"),
            (format!("{native}{service}bind = \"*\"\npublic = true\n"), 7, "no `port` to bind"),
        ] {
            let said = read(&format!("name = \"home\"\n{text}")).unwrap_err().to_string();
            assert!(said.starts_with(&format!("/etc/wayhome/agent.toml:{line}: ")), "{said}");
            assert!(said.contains(part) && said.contains("\n  hint: "), "{said}");
        }
    }

    #[test]
    fn an_empty_file_says_what_is_missing() {
        assert!(read("").unwrap_err().to_string().contains("there is no `[[gateway]]`"));
    }

    #[test]
    fn a_public_bind_is_asked_for_twice() {
        let text = GOOD.replacen("port = 2222", "port = 2222\nbind = \"*\"\npublic = true", 1);
        assert_eq!(read(&text).unwrap().services[0].bind, Bind::Public("*".into()));
    }
}
