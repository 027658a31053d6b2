//! `wayhome ssh-config`: what it writes on a laptop, and what real `ssh` makes of that.

mod files;
mod program;
mod road;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use wayhome::command::ssh_config as command;
use wayhome::ssh_config::{GatewayRoad, HomeRoad, Printed, Roads, parse, render};

const KEY_A: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKurtUwOsd/SR5/pBFuwoXrsDbAiBVQUW7oSOlMEPUcL";
const KEY_B: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAurtUwOsd/SR5/pBFuwoXrsDbAiBVQUW7oSOlMEPUcL";

fn gateway(alias: &str, host: &str, key: &str) -> GatewayRoad {
    GatewayRoad {
        alias: alias.parse().unwrap(),
        host: host.parse().unwrap(),
        port: 22,
        user: Some("way".parse().unwrap()),
        identity: Some("~/.ssh/gateway.pem".parse().unwrap()),
        host_keys: vec![key.parse().unwrap()],
    }
}

fn home(alias: &str, port: u16, key: &str) -> HomeRoad {
    HomeRoad {
        alias: alias.parse().unwrap(),
        port,
        user: Some("fan".parse().unwrap()),
        via: 0,
        host_keys: vec![key.parse().unwrap()],
    }
}

/// The system of the write-up: a home, a machine on its LAN, and one gateway.
fn roads(name: &str) -> Roads {
    Roads {
        gateways: vec![gateway("ecs", "203.0.113.10", KEY_A)],
        homes: vec![home(name, 2222, KEY_B), home(&format!("{name}-2"), 2223, KEY_B)],
        native: Vec::new(),
        multiplex: false,
    }
}

fn printed(name: &str) -> Printed {
    parse(&render(&roads(name)).unwrap()).unwrap()
}

/// Set to a home folder, it makes this program be `wayhome ssh-config --write -` and nothing else,
/// so that the same can run in a machine of the lab and as another user.
const WRITE_INTO: &str = "WAYHOME_TEST_WRITE_INTO";

#[test]
fn the_copy_that_writes() {
    let Some(home) = std::env::var_os(WRITE_INTO) else { return };
    let (mut stdin, mut out) = (std::io::stdin(), std::io::stderr());
    let done = command::write(Path::new("-"), false, Path::new(&home), &mut stdin, &mut out);
    if let Err(error) = done {
        eprintln!("error: {error}");
        std::process::exit(3);
    }
}

/// Runs that copy by a command that starts this program somewhere.
fn write_by(mut program: Command, home: &Path, text: &str) -> Output {
    program
        .args(["--exact", "ssh_config::the_copy_that_writes", "--nocapture"])
        .env(WRITE_INTO, home)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = program.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}
