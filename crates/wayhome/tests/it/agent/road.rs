//! A person's whole road: agent, stock gateway, stock laptop.

use std::fs;
use std::process::Stdio;

use wayhome_core::status::{LinkState, ServiceState};
use wayhome_lab::net::GATEWAY;
use wayhome_lab::sshd::Builder;
use wayhome_lab::{OpenSsh, Sshd, assert_eventually, needs_lab};

use crate::gateway::variants;
use crate::seats::{Agent, Login, PORT, SOON, Seats, output, wayhome};

#[test]
fn ssh_home_from_a_laptop_that_has_nothing_installed() {
    needs_lab!();
    let seats = Seats::start(Login::Plain);
    let agent = seats.agent();
    agent.until_up();
    let (code, table, _) = output(&mut wayhome(agent.machine, &["status"]));
    assert_eq!(code, 0);
    assert!(table.contains("ssh   2222 → localhost:22  up "), "{table}");
    let link = agent.link();
    assert!(link.hold && link.round_trip_ms.is_some_and(|ms| ms < 1000.0), "{link:?}");
    let host_key = link.services[0].host_key.clone();
    assert_eq!(host_key, Some(seats.homes[0].host_key_line()));

    // What `ssh-config` prints at home, pasted on the laptop.
    let arguments =
        ["ssh-config", "--user", "fan", "--gateway-user", "way", "--identity", "/tmp/key"];
    let (code, printed, error) = output(&mut wayhome(agent.machine, &arguments));
    assert_eq!(code, 0, "{error}");
    let laptop = seats.lab.laptop();
    let (config, keys) = printed.split_once("# --- wayhome: begin known_hosts ---").unwrap();
    laptop.sh("mkdir -p ~/.ssh; chmod 700 ~/.ssh").unwrap();
    fs::write(
        laptop.file("/run/homes/root/.ssh/config"),
        config.to_owned() + " IdentityFile /tmp/key\n",
    )
    .unwrap();
    fs::write(laptop.file("/run/homes/root/.ssh/known_hosts"), keys).unwrap();
    let mut ssh = laptop.command(seats.openssh.ssh());
    ssh.args(["-o", "BatchMode=yes", "home-ubuntu", "id -un; cat /proc/sys/kernel/hostname"]);
    let (code, said, error) = output(ssh.stdin(Stdio::null()));
    assert_eq!((code, said.as_str()), (0, "fan\nhome\n"), "{error}");

    // A file, both ways, and whole.
    laptop.sh("head -c 8000000 /dev/urandom > /tmp/there").unwrap();
    let scp = "scp -q -o BatchMode=yes";
    laptop
        .sh(&format!("{scp} /tmp/there home-ubuntu:/tmp/f; {scp} home-ubuntu:/tmp/f /tmp/back"))
        .unwrap();
    laptop.sh("cmp /tmp/there /tmp/back").unwrap();
}

#[test]
fn a_configuration_file_with_two_machines_and_a_web_server() {
    needs_lab!();
    let seats = Seats::start(Login::Root);
    let home = seats.lab.home();
    home.sh("echo '127.0.0.9 home-ubuntu-2' >> /etc/hosts").unwrap();
    let second =
        Sshd::builder(&OpenSsh::system().unwrap()).listen("127.0.0.9").start(home).unwrap();
    fs::write(
        home.file("/tmp/agent.toml"),
        format!(
            "name = \"home-ubuntu\"\n\
             [[gateway]]\naddress = \"ssh://root@{GATEWAY}:22\"\nidentity = \"key\"\n\
             [[service]]\nname = \"ssh\"\ntarget = \"localhost:22\"\nport = 2222\n\
             [[service]]\nname = \"home-ubuntu-2\"\ntarget = \"home-ubuntu-2:{}\"\nport = 2223\nproof = \"ssh\"\n\
             [[service]]\nname = \"web\"\ntarget = \"localhost:8080\"\nport = 8080\nproof = \"http\"\n",
            second.port()
        ),
    )
    .unwrap();
    let agent = Agent::run(home, &["--config", "/tmp/agent.toml", "--accept-new"]);
    agent.until_service(0, ServiceState::Up);
    agent.until_service(1, ServiceState::Up);
    assert_eq!(agent.service(1).host_key, Some(second.host_key_line()));
    agent.until_service(2, ServiceState::Unproven);
    assert_eq!(agent.cause(2), Some("target-refused"));
    let (code, table, _) = output(&mut wayhome(home, &["status"]));
    assert_eq!(code, 1, "one is not up: {table}");
    assert!(table.contains("nothing listens at the target"), "{table}");

    // It is started: the road is found up by itself.
    let serve = "cd /tmp && exec python3 -m http.server --bind 127.0.0.1 8080";
    let mut web = home.command("sh").args(["-c", serve]).stderr(Stdio::null()).spawn().unwrap();
    agent.until_up();
    let get =
        "exec 3<>/dev/tcp/127.0.0.1/8080; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; head -1 <&3";
    let (_, status, _) = output(seats.lab.gateway().command("bash").args(["-c", get]));
    assert!(status.contains("200 OK"), "{status}");
    web.kill().unwrap();
    web.wait().unwrap();

    // Each machine has an alias and a key of its own.
    let (_, printed, _) = output(&mut wayhome(home, &["ssh-config", "--user", "fan"]));
    assert!(printed.contains("Host home-ubuntu\n") && printed.contains("Host home-ubuntu-2\n"));
    assert!(printed.contains(&second.host_key_line()), "{printed}");
}

#[test]
fn listens_on_loopback_alone_unless_asked_twice() {
    needs_lab!();
    let seats = Seats::start(Login::Root);
    let agent = seats.agent();
    agent.until_up();
    let listeners = seats.holder(PORT);
    assert!(listeners.contains("127.0.0.1:2222"), "{listeners}");
    assert!(listeners.contains("[::1]:2222"), "{listeners}");
    assert_eq!(listeners.lines().count(), 2, "{listeners}");
    drop(agent);
    assert_eventually!(seats.holder(PORT).is_empty(), within = SOON, "the port is free");

    let public = ["-R", "0.0.0.0:2222:localhost:22"];
    let mut refused = seats.agent_with(&public);
    assert_eq!(refused.child.wait().unwrap().code(), Some(2));
    assert!(refused.log().contains("open to the whole internet"), "{}", refused.log());
    let agent = seats.agent_with(&["-R", "0.0.0.0:2222:localhost:22", "--public"]);
    agent.until_up();
    assert!(seats.holder(PORT).contains("0.0.0.0:2222"), "{}", seats.holder(PORT));
}

#[test]
fn two_gateways_of_which_one_is_down() {
    needs_lab!();
    let seats = Seats::start(Login::Root);
    let home = seats.lab.home();
    fs::write(
        home.file("/tmp/agent.toml"),
        format!(
            "[[gateway]]\naddress = \"ssh://root@{GATEWAY}\"\nidentity = \"key\"\n\
             [[gateway]]\naddress = \"ssh://root@{GATEWAY}:24\"\nidentity = \"key\"\nknown_hosts = \"pins\"\n\
             [[service]]\ntarget = \"localhost:22\"\nport = 2222\n"
        ),
    )
    .unwrap();
    let pin = format!("[{GATEWAY}]:24 {}\n", seats.gateway_key());
    fs::write(home.file("/tmp/pins"), pin).unwrap();
    let agent = Agent::run(home, &["--config", "/tmp/agent.toml", "--accept-new"]);
    agent.until_service(0, ServiceState::Up);
    let links = agent.status().unwrap().links;
    assert_eq!((links[0].state, links[1].state), (LinkState::Up, LinkState::Down));
    let cause = links[1].cause.as_ref().map(|finding| finding.cause.kind());
    assert_eq!(cause, Some("connection-refused"));
    let (code, ..) = output(&mut wayhome(home, &["status"]));
    assert_eq!(code, 1);
}

#[test]
fn proofs_of_services_that_are_no_ssh() {
    needs_lab!();
    let seats = Seats::start(Login::Root);
    let home = seats.lab.home();
    home.sh("cd /tmp; openssl req -x509 -newkey ed25519 -nodes -subj /CN=x -out c -keyout k 2>/dev/null")
        .unwrap();
    let program = "import socket,ssl,sys,threading
def serve(listener, talk):
    while True:
        c = listener.accept()[0]
        threading.Thread(target=talk, args=(c,), daemon=True).start()
def tls(c):
    x = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); x.minimum_version = ssl.TLSVersion.TLSv1_3
    x.load_cert_chain('/tmp/c', '/tmp/k')
    try: x.wrap_socket(c, server_side=True)
    except ssl.SSLError: pass
def mute(c): c.recv(1)
def wrong(c): c.recv(1); c.sendall(b'\\x1b[31mhello'); c.close()
u = socket.socket(socket.AF_UNIX); u.bind('/tmp/u.sock'); u.listen()
for where, talk in [(('127.0.0.1', 8443), tls), (('127.0.0.1', 7001), mute), (('127.0.0.1', 7002), wrong)]:
    threading.Thread(target=serve, args=(socket.create_server(where), talk)).start()
open('/tmp/ready', 'w'); serve(u, mute)";
    let mut servers = home.command("python3");
    let _servers = crate::seats::Running(servers.args(["-c", program]).spawn().unwrap());
    assert_eventually!(home.file("/tmp/ready").exists(), within = SOON);
    let service = |name: &str, target: &str, port: u16, proof: &str| {
        format!(
            "[[service]]\nname = \"{name}\"\ntarget = \"{target}\"\nport = {port}\nproof = \"{proof}\"\n"
        )
    };
    let config = format!("[[gateway]]\naddress = \"ssh://root@{GATEWAY}\"\nidentity = \"key\"\n")
        + &service("tls", "localhost:8443", 8443, "tls")
        + &service("unix", "/tmp/u.sock", 8444, "hold")
        + &service("mute", "localhost:7001", 7001, "http")
        + &service("wrong", "localhost:7002", 7002, "tls");
    fs::write(home.file("/tmp/agent.toml"), config).unwrap();
    let agent = Agent::run(home, &["-c", "/tmp/agent.toml", "--accept-new"]);
    agent.until_service(0, ServiceState::Up);
    agent.until_service(1, ServiceState::Up);
    agent.until_service(2, ServiceState::Unproven);
    agent.until_service(3, ServiceState::Unproven);
    assert_eq!((agent.cause(2), agent.cause(3)), (Some("target-silent"), Some("target-unproven")));
    let text = agent.service(3).cause.unwrap().text;
    assert!(text.contains("hello") && !text.contains('\u{1b}'), "{text}");
}

#[test]
fn a_public_port_is_proven_where_it_is_public() {
    needs_lab!();
    let ways = [
        "*:2222:localhost:22".to_owned(),
        format!("{GATEWAY}:2223:localhost:22"),
        "0.0.0.0:2224:localhost:7000".to_owned(),
        "2225:localhost:22".to_owned(),
    ];
    let mut all = vec!["--public"];
    all.extend(ways.iter().flat_map(|way| ["-R", way]));

    let seats = Seats::start(Login::Root);
    let serve = "import socket
s = socket.create_server(('127.0.0.1', 7000)); held = []
while True: held.append(s.accept())";
    let mut server = seats.lab.home().command("python3");
    let _server = crate::seats::Running(server.args(["-c", serve]).spawn().unwrap());
    let agent = seats.agent_with(&all);
    agent.until_up();
    assert!(seats.holder(2223).contains(&format!("{GATEWAY}:2223")), "{}", seats.holder(2223));
    drop(agent);

    // sshd grants it, and listens on loopback alone: that is what it does by default.
    let system = OpenSsh::system().unwrap();
    let seats = Seats::with(Login::Root, 1, &system, |gateway| gateway.line("GatewayPorts no"));
    let mut server = seats.lab.home().command("python3");
    let _server = crate::seats::Running(server.args(["-c", serve]).spawn().unwrap());
    let agent = seats.agent_with(&all);
    for service in 0..3 {
        agent.until_service(service, ServiceState::Unproven);
        assert_eq!(agent.cause(service), Some("public-on-loopback"), "{}", agent.log());
    }
    agent.until_service(3, ServiceState::Up);
    assert!(seats.holder(2222).contains("127.0.0.1:2222"), "{}", seats.holder(2222));
    let (code, table, _) = output(&mut wayhome(agent.machine, &["status"]));
    assert_eq!(code, 1);
    assert!(table.contains("GatewayPorts clientspecified"), "the remedy: {table}");
}

/// sshd grants a port on loopback, and opens it to everybody.
#[test]
fn a_gateway_that_opens_ports_to_everybody_gets_none() {
    needs_lab!();
    let all = [Login::Root, Login::Plain, Login::Gated, Login::Bare];
    for (openssh, _) in variants().into_iter().filter(|(_, pam)| !pam) {
        for login in all {
            let wide = |gateway: Builder| gateway.line("GatewayPorts yes");
            let seats = Seats::with(login, 1, &openssh, wide);
            let agent = seats.agent();
            let halted = || agent.link().state == LinkState::Halted;
            assert_eventually!(halted(), within = SOON, "{login:?}: {}", agent.log());
            let cause = agent.link().cause.map(|finding| finding.cause.kind());
            assert_eq!(cause, Some("exposed"), "{login:?}: {}", agent.log());
            let given_back = || seats.holder(PORT).is_empty();
            assert_eventually!(given_back(), within = SOON, "{login:?}: {}", seats.holder(PORT));
            let (code, table, _) = output(&mut wayhome(agent.machine, &["status"]));
            assert_eq!(code, 1);
            assert!(table.contains("GatewayPorts no"), "the remedy: {table}");
            let log = agent.log();
            assert!(log.contains("ERROR") && log.contains("to everybody"), "{log}");
            assert!(!log.contains("is up: proven"), "{login:?}: {log}");
        }
    }
}

#[test]
fn a_gateway_that_was_mended_gets_its_port_at_the_next_login() {
    needs_lab!();
    let system = OpenSsh::system().unwrap();
    let seats =
        Seats::with(Login::Root, 1, &system, |gateway| gateway.line("Include /tmp/ports.conf"));
    // The file is not there yet.
    let agent = seats.agent();
    agent.until_up();
    drop(agent);
    seats.stop_gateway();
    let file = seats.lab.gateway().file("/tmp/ports.conf");
    fs::write(&file, "GatewayPorts yes\n").unwrap();
    seats.start_gateway();
    let agent = seats.agent();
    let halted = || agent.link().state == LinkState::Halted;
    assert_eventually!(halted(), within = SOON, "{}", agent.log());
    fs::write(&file, "GatewayPorts no\n").unwrap();
    seats.stop_gateway();
    seats.start_gateway();
    let (code, ..) = output(&mut wayhome(agent.machine, &["agent", "kick"]));
    assert_eq!(code, 0);
    agent.until_up();
    assert!(!seats.holder(PORT).contains("0.0.0.0:2222"), "{}", seats.holder(PORT));
}

/// A ProxyCommand through which everything takes 250 ms, each way.
const SLOW: &str = "import os, queue, socket, threading, time
s = socket.create_connection(('203.0.113.10', 22))
def carry(read, write):
    line = queue.Queue()
    def deliver():
        while True:
            due, data = line.get()
            time.sleep(max(0, due - time.time())); write(data)
    threading.Thread(target=deliver, daemon=True).start()
    while True:
        data = read(65536)
        if not data: os._exit(0)
        line.put((time.time() + 0.25, data))
threading.Thread(target=carry, args=(s.recv, lambda data: os.write(1, data)), daemon=True).start()
carry(lambda n: os.read(0, n), s.sendall)";

#[test]
fn a_dead_target_is_no_proof_over_a_long_line_either() {
    needs_lab!();
    let seats = Seats::start(Login::Root);
    let home = seats.lab.home();
    fs::write(home.file("/tmp/slow.py"), SLOW).unwrap();
    home.sh("mkdir -p ~/.ssh; echo 'ProxyCommand python3 /tmp/slow.py' > ~/.ssh/config").unwrap();
    let agent = seats.agent_with(&["-R", "7000:localhost:7000"]);
    agent.until_service(0, ServiceState::Unproven);
    assert_eq!(agent.cause(0), Some("target-refused"));
    assert!(agent.link().round_trip_ms.is_some_and(|ms| ms > 500.0), "{:?}", agent.link());
    assert!(!agent.log().contains("port-7000 (port 7000) is up"), "{}", agent.log());
}
