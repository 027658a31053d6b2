//! What differs between two configurations, in words.

use wayhome_core::service::Service;

use super::{Config, Gateway};

/// What is different in `new`, a line for each thing; nothing if they are the same.
pub fn between(old: &Config, new: &Config) -> Vec<String> {
    let mut changes = Vec::new();
    let gateway = |config: &Config, like: &Gateway| {
        config.gateways.iter().find(|gateway| gateway.name() == like.name()).cloned()
    };
    for there in &new.gateways {
        match gateway(old, there) {
            None => changes.push(format!("gateway {} is new", there.name())),
            Some(was) if was != *there => {
                changes.push(format!("gateway {} is changed: its link begins anew", there.name()));
            }
            Some(_) => {}
        }
    }
    let gone = old.gateways.iter().filter(|was| gateway(new, was).is_none());
    changes.extend(gone.map(|was| format!("gateway {} is gone", was.name())));

    let service = |config: &Config, like: &Service| {
        config.services.iter().find(|service| service.name == like.name).cloned()
    };
    for there in &new.services {
        match service(old, there) {
            None => changes.push(format!("service {} is new", there.label())),
            Some(was) if was != *there => {
                changes.push(format!("service {} is changed", there.name))
            }
            Some(_) => {}
        }
    }
    let gone = old.services.iter().filter(|was| service(new, was).is_none());
    changes.extend(gone.map(|was| format!("service {} is gone", was.name)));
    if old.heartbeat != new.heartbeat {
        changes.push(format!("heartbeat is {} s", new.heartbeat.as_secs()));
    }
    if old.grants != new.grants {
        changes.push(match &new.grants {
            Some(file) => format!("grants are those of {}", file.display()),
            None => "there are no grants any more".to_owned(),
        });
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SshGateway;
    use std::time::Duration;

    fn config() -> Config {
        let gateway = |address: &str| {
            Gateway::Ssh(SshGateway {
                address: address.parse().unwrap(),
                identity: None,
                known_hosts: "/var/lib/wayhome/known_hosts".into(),
            })
        };
        Config {
            name: "home".parse().unwrap(),
            heartbeat: Duration::from_secs(5),
            gateways: vec![gateway("root@203.0.113.10"), gateway("root@203.0.113.11")],
            services: ["2222:localhost:22", "8080:localhost:80"]
                .map(|forward| Service::from_forward(forward).unwrap())
                .to_vec(),
            grants: None,
        }
    }

    fn identity_of(gateway: &mut Gateway, file: &str) {
        match gateway {
            Gateway::Ssh(gateway) => gateway.identity = Some(file.into()),
            Gateway::Native(gateway) => gateway.identity = file.into(),
        }
    }

    fn changed(change: impl FnOnce(&mut Config)) -> Vec<String> {
        let mut new = config();
        change(&mut new);
        between(&config(), &new)
    }

    #[test]
    fn says_what_is_different() {
        assert!(changed(|_| {}).is_empty());
        assert!(changed(|new| new.services.reverse()).is_empty());
        assert_eq!(changed(|new| drop(new.services.remove(0))), ["service ssh is gone"],);
        assert_eq!(
            changed(|new| new.services[1].port = Some(8081)),
            ["service port-8080 is changed"],
        );
        assert_eq!(
            changed(|new| new.services[0].name = "door".parse().unwrap()),
            ["service door (port 2222) is new", "service ssh is gone"],
        );
        assert_eq!(
            changed(|new| drop(new.gateways.remove(0))),
            ["gateway root@203.0.113.10 is gone"],
        );
        assert_eq!(
            changed(|new| identity_of(&mut new.gateways[0], "/key")),
            ["gateway root@203.0.113.10 is changed: its link begins anew"],
        );
        assert_eq!(changed(|new| new.heartbeat *= 2), ["heartbeat is 10 s"]);
    }
}
