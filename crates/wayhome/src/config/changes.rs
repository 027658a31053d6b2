//! What differs between two configurations, in words.

use wayhome_core::service::Service;

use super::{Config, Gateway};

/// What is different in `new`, a line for each thing; nothing if they are the same.
pub fn between(old: &Config, new: &Config) -> Vec<String> {
    let mut changes = Vec::new();
    let gateway = |config: &Config, like: &Gateway| {
        config.gateways.iter().find(|gateway| gateway.address == like.address).cloned()
    };
    for there in &new.gateways {
        match gateway(old, there) {
            None => changes.push(format!("gateway {} is new", there.address)),
            Some(was) if was != *there => {
                changes.push(format!("gateway {} is changed: its link begins anew", there.address));
            }
            Some(_) => {}
        }
    }
    let gone = old.gateways.iter().filter(|was| gateway(new, was).is_none());
    changes.extend(gone.map(|was| format!("gateway {} is gone", was.address)));

    let service = |config: &Config, like: &Service| {
        config.services.iter().find(|service| service.name == like.name).cloned()
    };
    for there in &new.services {
        match service(old, there) {
            None => changes.push(format!("service {} (port {}) is new", there.name, there.port)),
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
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn config() -> Config {
        let gateway = |address: &str| Gateway {
            address: address.parse().unwrap(),
            identity: None,
            known_hosts: "/var/lib/wayhome/known_hosts".into(),
        };
        Config {
            name: "home".parse().unwrap(),
            heartbeat: Duration::from_secs(5),
            gateways: vec![gateway("root@203.0.113.10"), gateway("root@203.0.113.11")],
            services: ["2222:localhost:22", "8080:localhost:80"]
                .map(|forward| Service::from_forward(forward).unwrap())
                .to_vec(),
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
        assert_eq!(changed(|new| new.services[1].port = 8081), ["service port-8080 is changed"],);
        assert_eq!(
            changed(|new| new.services[0].name = "door".parse().unwrap()),
            ["service door (port 2222) is new", "service ssh is gone"],
        );
        assert_eq!(
            changed(|new| drop(new.gateways.remove(0))),
            ["gateway root@203.0.113.10 is gone"],
        );
        assert_eq!(
            changed(|new| new.gateways[0].identity = Some("/key".into())),
            ["gateway root@203.0.113.10 is changed: its link begins anew"],
        );
        assert_eq!(changed(|new| new.heartbeat *= 2), ["heartbeat is 10 s"]);
    }
}
