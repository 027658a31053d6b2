//! A tunnel as the text of an `agent.toml`.

use std::fmt::Write;

use wayhome_core::name::Name;
use wayhome_core::service::{Bind, ProofKind};

use super::tunnel::Tunnel;

/// Writes the configuration.
pub fn render(tunnel: &Tunnel, name: Option<&Name>, from: &str) -> String {
    let mut out = format!("# Made by `wayhome import` from {}.\n", one_line(from));
    if let Some(name) = name {
        let _ = writeln!(out, "name = {}", text(name.as_str()));
    }
    let address = String::from(tunnel.gateway.clone());
    let _ = write!(out, "\n[[gateway]]\naddress = {}\n", text(&address));
    if let Some(identity) = &tunnel.identity {
        let _ = writeln!(out, "identity = {}", text(&identity.display().to_string()));
    }
    for service in &tunnel.services {
        let _ = write!(
            out,
            "\n[[service]]\nname = {}\ntarget = {}\nport = {}\n",
            text(service.name.as_str()),
            text(&service.target.to_string()),
            service.port.unwrap_or_default()
        );
        // What is left out is what would be taken anyway.
        if service.proof != ProofKind::suggested_for(&service.target) {
            let _ = writeln!(out, "proof = {}", text(&service.proof.to_string()));
        }
        if let Bind::Public(address) = &service.bind {
            let _ = writeln!(out, "bind = {}\npublic = true", text(address));
        }
    }
    out
}

/// A TOML string.
fn text(value: &str) -> String {
    toml::Value::from(value).to_string()
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;
    use crate::config::Config;
    use crate::import::tunnel::{Exposure, Place};

    fn imported(words: &[&str]) -> Tunnel {
        let place = Place {
            user: Some("fan".into()),
            home: "/home/fan".into(),
            folder: "/".into(),
            environment: [].into(),
        };
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        Tunnel::read(&words, &place, Exposure::Public).unwrap()
    }

    fn loaded(text: &str) -> Config {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.toml");
        fs::write(&path, text).unwrap();
        Config::from_file(&path).unwrap()
    }

    #[test]
    fn what_is_written_loads_as_it_was_meant() {
        let key = tempfile::tempdir().unwrap();
        // Neither a double quote nor a backslash may stand in it, for ssh's sake.
        let path = key.path().join("it's a 'key' %");
        let made = std::process::Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(&path)
            .status()
            .unwrap();
        assert!(made.success());
        let identity = path.display().to_string().replace('%', "%%");
        let tunnel = imported(&[
            "ssh",
            "-i",
            &identity,
            "-R",
            "2222:localhost:22",
            "-R",
            "*:8080:[::1]:80",
            "-R",
            "9000:/run/app.sock",
            "-p",
            "2200",
            "root@2001:db8::1",
        ]);
        let config = loaded(&render(&tunnel, Some(&"home".parse().unwrap()), "a\nline"));
        assert_eq!(config.name.as_str(), "home");
        let gateway = config.ssh_gateways().next().unwrap();
        assert_eq!(gateway.address, tunnel.gateway);
        assert_eq!(gateway.identity, Some(path));
        assert_eq!(config.services, tunnel.services);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn each_forward_comes_back(
            forwards in prop::collection::btree_map(
                1..=u16::MAX,
                ("(localhost|nas|10\\.0\\.0\\.7|\\[2001:db8::7\\])", 1..=u16::MAX),
                1..5,
            ),
            public in any::<bool>(),
        ) {
            let bind = if public { "*:" } else { "" };
            let mut words = vec!["ssh".to_owned()];
            for (port, (host, target)) in &forwards {
                words.extend(["-R".to_owned(), format!("{bind}{port}:{host}:{target}")]);
            }
            words.push("root@gw".into());
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let tunnel = imported(&words);
            let config = loaded(&render(&tunnel, Some(&"home".parse().unwrap()), "x"));
            prop_assert_eq!(config.services, tunnel.services);
        }
    }
}
