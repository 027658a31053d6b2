//! Row 3: ports on the gateway's loopback, for clients that have no wayhome.

use std::fs;
use std::process::Stdio;

use wayhome_core::status::{ServiceState, Snapshot};
use wayhome_lab::net::GATEWAY;
use wayhome_lab::{OpenSsh, Sshd, assert_eventually, needs_lab};

use super::seats::NativeSeats;
use crate::seats::{Running, SOON, output, wayhome};

/// Beside `ssh`, which has port 2222: one with a port, and one without.
const SERVICES: &str = "\
    [[service]]\nname = \"echo\"\ntarget = \"127.0.0.1:9000\"\nport = 9000\nproof = \"hold\"\n\
    [[service]]\nname = \"inside\"\ntarget = \"127.0.0.1:9000\"\nproof = \"hold\"\n";

/// Gives each byte back, and then ends; says `bye` first to whoever ends its own way at once.
const ECHO: &str = "
import socket, threading
def serve(c):
    try:
        while True:
            part = c.recv(65536)
            if not part: break
            c.sendall(part)
        c.sendall(b'bye')
        c.shutdown(socket.SHUT_WR)
    except OSError: pass
    c.close()
s = socket.create_server(('127.0.0.1', 9000), backlog=100)
while True: threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
";

fn python(machine: &wayhome_lab::Machine, program: &str) -> Running {
    let mut python = machine.command("python3");
    Running(python.args(["-c", program]).stderr(Stdio::null()).spawn().unwrap())
}

fn status(seats: &NativeSeats) -> Option<Snapshot> {
    let (_, json, _) = output(&mut wayhome(seats.lab.home(), &["status", "--json"]));
    serde_json::from_str(&json).ok()
}

fn state(seats: &NativeSeats, service: &str) -> Option<(ServiceState, String)> {
    let snapshot = status(seats)?;
    let found = snapshot.links[0].services.iter().find(|s| s.service.name.as_str() == service)?;
    let cause = found.cause.as_ref();
    // Which one, and in words.
    let said = cause.map(|finding| format!("{}: {}", finding.cause.kind(), finding.text));
    Some((found.state, said.unwrap_or_default()))
}

/// What listens at the gateway on a port: the addresses.
fn listens(seats: &NativeSeats, port: u16) -> Vec<String> {
    let listed = seats.lab.gateway().sh(&format!("ss -lntHp 'sport = :{port}'")).unwrap();
    let address = |line: &str| line.split_whitespace().nth(3).unwrap().to_owned();
    let mut all: Vec<_> = listed.lines().map(address).collect();
    all.sort();
    all
}

fn set_ports(seats: &NativeSeats, ports: &str) {
    let file = seats.lab.gateway().file("/etc/wayhome/grants.toml");
    let text = fs::read_to_string(&file).unwrap();
    let lines: Vec<_> =
        text.lines()
            .map(|line| {
                if line.starts_with("ports = ") { format!("ports = {ports}") } else { line.into() }
            })
            .collect();
    fs::write(file, lines.join("\n")).unwrap();
}

#[test]
fn ssh_through_the_gateways_own_sshd_as_over_the_ssh_link() {
    needs_lab!();
    let seats = NativeSeats::start(SERVICES);
    let _echo = python(seats.lab.home(), ECHO);
    let mut agent = Some(seats.agent());
    agent.as_ref().unwrap().until_up();
    assert_eq!(listens(&seats, 2222), ["127.0.0.1:2222", "[::1]:2222"]);
    assert_eq!(listens(&seats, 9000), ["127.0.0.1:9000", "[::1]:9000"]);

    // The laptop has what it would have for a road of `ssh -R`, and no wayhome in it.
    let (gateway, laptop) = (seats.lab.gateway(), seats.lab.laptop());
    gateway.add_user("jump", 4002, "/bin/sh").unwrap();
    let public = fs::read_to_string(laptop.file("/tmp/key.pub")).unwrap();
    let _sshd = Sshd::builder(&OpenSsh::system().unwrap())
        .port(22)
        .listen("0.0.0.0")
        .authorize("jump", public.trim())
        .start(gateway)
        .unwrap();
    let config = format!(
        "Host stock\n  HostName 127.0.0.1\n  Port 2222\n  User fan\n  ProxyJump jump@{GATEWAY}\n  \
         HostKeyAlias home-ubuntu\nHost *\n  IdentityFile /tmp/key\n  BatchMode yes\n  \
         StrictHostKeyChecking accept-new\n"
    );
    fs::write(laptop.file("/tmp/stock"), config).unwrap();
    seats.on_the_laptop(
        "set -e
        test \"$(ssh -F /tmp/stock stock id -un)\" = fan
        head -c 20000000 /dev/urandom > /tmp/there
        scp -q -F /tmp/stock /tmp/there stock:/tmp/f
        scp -q -F /tmp/stock stock:/tmp/f /tmp/back
        cmp /tmp/there /tmp/back",
    );

    // A program at the gateway: in both families, much at once both ways, and each way with an end.
    let talk = "
import os, socket, threading
for host in ['127.0.0.1', '::1']:
    s = socket.create_connection((host, 9000))
    sent = os.urandom(8 << 20)
    def send(): s.sendall(sent); s.shutdown(socket.SHUT_WR)
    threading.Thread(target=send).start()
    got = b''
    while True:
        part = s.recv(65536)
        if not part: break
        got += part
    assert got == sent + b'bye', (len(got), host)
print('whole')
";
    let mut run = gateway.command("python3");
    assert_eq!(output(run.args(["-c", talk])), (0, "whole\n".into(), String::new()));

    // Both seats say what is open.
    let (_, said, _) = output(&mut wayhome(seats.lab.home(), &["status"]));
    let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("user or program, reaches ssh by its port 2222"), "{said}");
    assert!(!words.contains("reaches inside"), "{said}");
    let held = python(
        gateway,
        "import socket, time; s = socket.create_connection(('127.0.0.1', 2222)); time.sleep(60)",
    );
    let by_port = || {
        let streams = seats.gateway().map(|gateway| gateway.streams).unwrap_or_default();
        streams.iter().any(|stream| stream.port == Some(2222) && stream.back > 0)
    };
    assert_eventually!(by_port(), within = SOON, "{:#?}", seats.gateway());
    let (_, said, _) = output(&mut wayhome(gateway, &["status"]));
    assert!(said.contains("port 2222 to home-ubuntu"), "{said}");
    assert!(said.contains("at 127.0.0.1:2222"), "{said}");
    drop(held);

    // A port goes with its home, and comes back with it.
    agent.take();
    assert_eventually!(listens(&seats, 2222).is_empty(), within = SOON, "it still listens");
    let agent = seats.agent();
    agent.until_up();
    assert_eq!(listens(&seats, 2222), ["127.0.0.1:2222", "[::1]:2222"]);
}

#[test]
fn who_has_a_port_already_is_named_and_it_is_had_when_that_ends() {
    needs_lab!();
    let seats = NativeSeats::start("");
    let taken = python(
        seats.lab.gateway(),
        "import socket, time; s = socket.create_server(('127.0.0.1', 2222)); time.sleep(600)",
    );
    let is_taken = || !listens(&seats, 2222).is_empty();
    assert_eventually!(is_taken(), within = SOON, "nobody has it");
    let agent = seats.agent();
    let named = || state(&seats, "ssh").is_some_and(|(_, why)| why.contains("`python3` (process "));
    assert_eventually!(named(), within = SOON, "{:?}\n{}", state(&seats, "ssh"), agent.log());
    assert_eq!(state(&seats, "ssh").unwrap().0, ServiceState::Blocked);
    drop(taken);
    assert_eventually!(!is_taken(), within = SOON, "it still listens");
    let kicked = output(&mut wayhome(seats.lab.home(), &["agent", "kick"]));
    assert_eq!(kicked.0, 0, "{kicked:?}");
    agent.until_up();
    assert_eq!(listens(&seats, 2222), ["127.0.0.1:2222", "[::1]:2222"]);
}

#[test]
fn a_port_needs_a_grant_and_ends_with_it() {
    needs_lab!();
    let seats = NativeSeats::start(SERVICES);
    let _echo = python(seats.lab.home(), ECHO);
    set_ports(&seats, "[9000]");
    let _agent = seats.agent();
    let refused = || {
        state(&seats, "ssh").is_some_and(|(state, why)| {
            state == ServiceState::Halted && why.contains("port-not-granted")
        })
    };
    assert_eventually!(refused(), within = SOON, "{:?}", state(&seats, "ssh"));
    let is_up = || state(&seats, "echo").is_some_and(|(state, _)| state == ServiceState::Up);
    assert_eventually!(is_up(), within = SOON, "{:?}", state(&seats, "echo"));
    assert!(listens(&seats, 2222).is_empty());
    // Which is no reason to keep out those who come with a key of their own.
    assert_eq!(output(&mut seats.ssh("id -un")).1, "fan\n");

    set_ports(&seats, "[2222, 9000]");
    let kick = || output(&mut wayhome(seats.lab.home(), &["agent", "kick"])).0 == 0;
    assert_eventually!(
        kick() && state(&seats, "ssh").is_some_and(|(state, _)| state == ServiceState::Up),
        within = SOON,
        "{:?}",
        state(&seats, "ssh")
    );

    // A stream that lives is cut when the port is taken back.
    let stream = "
import socket, sys
s = socket.create_connection(('127.0.0.1', 9000)); s.sendall(b'x'); s.recv(1)
print('open', flush=True)
try: print('an end' if s.recv(1) == b'' else 'a byte')
except ConnectionResetError: print('a reset')
";
    let mut python = seats.lab.gateway().command("python3");
    let mut child = python.args(["-c", stream]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    assert_eq!(lines.next().unwrap().unwrap(), "open");
    set_ports(&seats, "[2222]");
    assert_eq!(lines.next().unwrap().unwrap(), "a reset");
    child.wait().unwrap();
    assert_eventually!(listens(&seats, 9000).is_empty(), within = SOON, "it still listens");
    let refused = || state(&seats, "echo").is_some_and(|(_, why)| why.contains("port-not-granted"));
    assert_eventually!(refused(), within = SOON, "{:?}", state(&seats, "echo"));
    let ssh_is_up = || state(&seats, "ssh").is_some_and(|(state, _)| state == ServiceState::Up);
    assert_eventually!(ssh_is_up(), within = SOON, "{:?}", state(&seats, "ssh"));
}

#[test]
fn a_target_that_is_gone_or_a_home_that_dies_is_a_reset_and_no_end() {
    needs_lab!();
    let seats = NativeSeats::start(SERVICES);
    let echo = python(seats.lab.home(), ECHO);
    let agent = seats.agent();
    agent.until_up();
    let ask = "
import socket
s = socket.create_connection(('127.0.0.1', 9000))
try:
    s.sendall(b'x')
    print('an end' if s.recv(1) == b'' else 'a byte')
except ConnectionResetError: print('a reset')
";
    let asked = || {
        let mut python = seats.lab.gateway().command("python3");
        output(python.args(["-c", ask])).1
    };
    assert_eq!(asked(), "a byte\n");
    drop(echo);
    assert_eq!(asked(), "a reset\n");
    drop(agent);
}
