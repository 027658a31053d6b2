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
            service.port
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
