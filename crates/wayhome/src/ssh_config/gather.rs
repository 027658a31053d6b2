//! Finds out at home what a laptop needs to know: from the running agent, or from its configuration;
//! the keys from the targets themselves, and from the links' pins.

use wayhome_core::host_key::HostKey;
use wayhome_core::name::Name;
use wayhome_core::service::{ProofKind, Service};

use super::{Alias, GatewayRoad, HomeRoad, HostName, KeyPath, Roads, UserName, ValueError};
use crate::agent::proof;
use crate::agent::ssh::pin;
use crate::config::{Config, NativeGateway, SshGateway};
use crate::error::{Failure, Outcome};
use crate::wire::identity::Identity;

/// The key that most laptops have.
const USUAL_IDENTITY: &str = "~/.ssh/id_ed25519";

/// What a person said beyond what the home knows.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// Whom to log in as at home.
    pub user: Option<UserName>,
    /// Whom the laptop logs in as at the gateway.
    pub gateway_user: Option<UserName>,
    /// The laptop's key for the gateway.
    pub identity: Option<KeyPath>,
    /// What to call the home.
    pub alias: Option<Name>,
    /// What to call the gateway.
    pub gateway_alias: Option<Alias>,
    /// Whether logins share a connection.
    pub multiplex: bool,
}

/// The roads of a configuration, and what had to be left out of them.
pub async fn gather(config: &Config, wishes: &Wishes) -> Outcome<(Roads, Vec<String>)> {
    if let (None, Some(native)) = (config.ssh_gateways().next(), config.native_gateways().next()) {
        return Err(leads_natively(config, native, wishes).await);
    }
    let mut gateways = Vec::new();
    for (index, gateway) in config.ssh_gateways().enumerate() {
        gateways.push(gateway_road(config, gateway, index, wishes).await?);
    }
    let mut homes = Vec::new();
    let mut left_out = Vec::new();
    for (service, port, alias) in aliases(config, wishes) {
        let host_keys = proof::read_target(&service.target, true).await;
        if host_keys.is_empty() {
            left_out.push(format!(
                "`{}` is left out: its sshd at {} did not show a host key; start it and run this again",
                service.name, service.target
            ));
            continue;
        }
        for via in 0..gateways.len() {
            let (alias, host_keys) = (alias.clone(), host_keys.clone());
            let user = wishes.user.clone().or_else(this_user);
            homes.push(HomeRoad { alias, port, user, via, host_keys });
        }
    }
    if homes.is_empty() {
        let failure = Failure::new("there is no road to write down: no SSH service can be reached");
        return Err(match left_out.into_iter().next() {
            Some(why) => failure.hint(why),
            None => failure.hint("offer one: `-R 2222:localhost:22`"),
        });
    }
    let native = Vec::new();
    Ok((Roads { gateways, homes, native, multiplex: wishes.multiplex }, left_out))
}

/// Nothing can be pasted where all gateways run wayhome: the laptop has it too, and finds the way by its
/// pins. What it has to be told.
async fn leads_natively(config: &Config, gateway: &NativeGateway, wishes: &Wishes) -> Failure {
    let home = &config.name;
    let key = Identity::read(&gateway.identity).map(|identity| identity.key().to_string());
    let key = key.unwrap_or_else(|_| "what `wayhome keys` shows to the agent's user".to_owned());
    let mut connect = format!("wayhome ssh-config --connect {home}");
    if let Some(user) = wishes.user.clone().or_else(this_user) {
        connect += &format!(" --user {user}");
    }
    let ssh = config.services.iter().find(|service| service.proof == ProofKind::Ssh);
    if let Some(service) = ssh {
        for host_key in proof::read_target(&service.target, true).await {
            connect += &format!(" --host-key '{host_key}'");
        }
    }
    Failure::usage("all gateways of this home run wayhome, and so has the laptop to").hint(format!(
        "there: `wayhome keys pin {} '{}'`, `wayhome keys pin {home} '{key}'`, and `{connect}`",
        gateway.address, gateway.key
    ))
}

async fn gateway_road(
    config: &Config,
    gateway: &SshGateway,
    index: usize,
    wishes: &Wishes,
) -> Outcome<GatewayRoad> {
    let (host, port, _) = pin::resolved(gateway).await?;
    let host_keys: Vec<HostKey> = pin::keys(gateway).await?;
    if host_keys.is_empty() {
        return Err(Failure::new(format!("the gateway `{}` is not pinned", gateway.address))
            .hint("run the agent once: it pins the gateway's host key at the first contact"));
    }
    let home = wishes.alias.as_ref().unwrap_or(&config.name);
    let alias = match (&wishes.gateway_alias, index) {
        (Some(alias), 0) => alias.clone(),
        (Some(alias), _) => valid(&format!("{alias}-{}", index + 1))?,
        (None, 0) => valid(&format!("{home}-gateway"))?,
        (None, _) => valid(&format!("{home}-gateway-{}", index + 1))?,
    };
    let user = match (&wishes.gateway_user, &gateway.address.user) {
        (Some(user), _) => Some(user.clone()),
        (None, Some(user)) => Some(valid::<UserName>(user)?),
        (None, None) => None,
    };
    let identity = match &wishes.identity {
        Some(path) => path.clone(),
        None => valid(USUAL_IDENTITY)?,
    };
    let host: HostName = valid(&host)?;
    Ok(GatewayRoad { alias, host, port, user, identity: Some(identity), host_keys })
}

/// The SSH services, and what to type for each. The first one at home itself has the home's name,
/// every other one its own: an alias is one server, known by that server's keys alone.
fn aliases<'a>(config: &'a Config, wishes: &Wishes) -> Vec<(&'a Service, u16, Name)> {
    let ssh = || config.services.iter().filter(|service| service.proof == ProofKind::Ssh);
    let ssh = || ssh().filter_map(|service| Some((service, service.port?)));
    let home = ssh().find(|(service, _)| service.target.is_local());
    let of_home = wishes.alias.as_ref().unwrap_or(&config.name);
    let mut taken: Vec<Name> = home.map(|_| of_home.clone()).into_iter().collect();
    let mut alias = |service: &Service, port: u16| {
        if home.is_some_and(|(home, _)| home.name == service.name) {
            return of_home.clone();
        }
        let mut alias = service.name.clone();
        if taken.contains(&alias) {
            let with_port = format!("{alias}-{port}").parse();
            alias = with_port.unwrap_or_else(|_| Name::for_port(port));
        }
        taken.push(alias.clone());
        alias
    };
    ssh().map(|(service, port)| (service, port, alias(service, port))).collect()
}

/// Who asks, also under sudo.
fn this_user() -> Option<UserName> {
    let names = ["SUDO_USER", "USER", "LOGNAME"].map(|key| std::env::var(key).ok());
    names.into_iter().flatten().find_map(|name| name.parse().ok())
}

fn valid<T: std::str::FromStr<Err = ValueError>>(text: &str) -> Outcome<T> {
    text.parse().map_err(|error: ValueError| {
        Failure::usage("the road cannot be written as ssh's configuration").because(&error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(services: &[(&str, u16, &str)], alias: Option<&str>) -> Vec<String> {
        let services = services.iter().map(|(name, port, target)| Service {
            name: name.parse().unwrap(),
            bind: wayhome_core::service::Bind::Loopback,
            port: Some(*port),
            target: target.parse().unwrap(),
            proof: ProofKind::Ssh,
        });
        let config = Config {
            name: "home-ubuntu".parse().unwrap(),
            heartbeat: crate::config::HEARTBEAT,
            gateways: Vec::new(),
            services: services.collect(),
            grants: None,
        };
        let alias = alias.map(|alias| alias.parse().unwrap());
        let wishes = Wishes { alias, ..Wishes::default() };
        aliases(&config, &wishes).into_iter().map(|(_, _, alias)| alias.to_string()).collect()
    }

    #[test]
    fn each_server_has_an_alias_of_its_own() {
        let two = [("ssh", 2222, "localhost:22"), ("container", 2223, "localhost:2022")];
        assert_eq!(named(&two, None), ["home-ubuntu", "container"]);
        assert_eq!(named(&two, Some("attic")), ["attic", "container"]);
        assert_eq!(named(&two, Some("container")), ["container", "container-2223"]);
        // A machine on the network that is called as this one is.
        let other = [("home-ubuntu", 2223, "home-ubuntu:22"), ("ssh", 2222, "localhost:22")];
        assert_eq!(named(&other, None), ["home-ubuntu-2223", "home-ubuntu"]);
        let only_other = [("nas", 2223, "nas:22")];
        assert_eq!(named(&only_other, None), ["nas"]);
    }
}
