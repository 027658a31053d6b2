//! Other programs that bring a port of home's to the gateway, where they are on PATH. Each is run as its
//! own documents have it, without encryption of its own where it has a choice.

use std::fs;
use std::path::{Path, PathBuf};

use wayhome_lab::Machine;
use wayhome_lab::net::GATEWAY;

use super::seats::NativeSeats;
use super::targets::Target;
use crate::Result;
use crate::bench::Bench;
use crate::bench::resources::Cpu;
use crate::bench::seats::Running;

/// One of them, at both ends.
pub struct Peer {
    pub name: &'static str,
    /// What is added to a target's port.
    offset: u16,
    at_gateway: Vec<Running>,
    at_home: Vec<Running>,
}

impl Peer {
    /// Where a target is found at the gateway.
    pub fn port(&self, target: Target) -> u16 {
        target.port() + self.offset
    }

    /// The CPU time that it has used at the gateway and at home.
    pub fn cpu(&self) -> Result<(f64, f64)> {
        Ok((sum(&self.at_gateway)?, sum(&self.at_home)?))
    }
}

fn sum(running: &[Running]) -> Result<f64> {
    running.iter().map(|each| Ok(Cpu::of(each.pid()?)?.ms / 1000.0)).sum()
}

/// Starts all that there are.
pub fn start(bench: &Bench<'_>, seats: &NativeSeats) -> Result<Vec<Peer>> {
    let mut peers = Vec::new();
    if let Some(program) = find("rathole") {
        peers.push(rathole(bench, seats, &program)?);
    }
    if let Some(program) = find("bore") {
        peers.push(bore(bench, seats, &program)?);
    }
    for peer in &peers {
        for target in Target::ALL {
            seats.until_listening_anywhere(peer.port(target))?;
        }
    }
    Ok(peers)
}

fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file())
}

fn rathole(bench: &Bench<'_>, seats: &NativeSeats, program: &Path) -> Result<Peer> {
    const OFFSET: u16 = 200;
    let (home, gateway) = (seats.lab.home(), seats.lab.gateway());
    let mut server =
        "[server]\nbind_addr = \"0.0.0.0:2333\"\ndefault_token = \"bench\"\n".to_owned();
    let mut client =
        format!("[client]\nremote_addr = \"{GATEWAY}:2333\"\ndefault_token = \"bench\"\n");
    for target in Target::ALL {
        let (name, port) = (target.name(), target.port());
        let at = port + OFFSET;
        server += &format!("[server.services.{name}]\nbind_addr = \"127.0.0.1:{at}\"\n");
        client += &format!("[client.services.{name}]\nlocal_addr = \"127.0.0.1:{port}\"\n");
    }
    fs::write(gateway.file("/tmp/rathole.toml"), server)?;
    fs::write(home.file("/tmp/rathole.toml"), client)?;
    let run = |machine: &Machine, role: &str| -> Result<Running> {
        let mut run = machine.command(machine.bring(program)?);
        run.args([role, "/tmp/rathole.toml"]);
        Running::start(run, &bench.log(&format!("rathole{role}")))
    };
    Ok(Peer {
        name: "rathole",
        offset: OFFSET,
        at_gateway: vec![run(gateway, "--server")?],
        at_home: vec![run(home, "--client")?],
    })
}

fn bore(bench: &Bench<'_>, seats: &NativeSeats, program: &Path) -> Result<Peer> {
    const OFFSET: u16 = 300;
    let (home, gateway) = (seats.lab.home(), seats.lab.gateway());
    let mut server = gateway.command(gateway.bring(program)?);
    server.args(["server", "--min-port", "9300"]);
    let at_gateway = vec![Running::start(server, &bench.log("bore-server"))?];
    // Its own port.
    seats.until_listening_anywhere(7835)?;
    let (mut at_home, at) = (Vec::new(), home.bring(program)?);
    for target in Target::ALL {
        let mut client = home.command(&at);
        let (port, at) = (target.port().to_string(), (target.port() + OFFSET).to_string());
        client.args(["local", &port, "--local-host", "127.0.0.1", "--to", GATEWAY, "--port", &at]);
        at_home.push(Running::start(client, &bench.log("bore-client"))?);
    }
    Ok(Peer { name: "bore", offset: OFFSET, at_gateway, at_home })
}
