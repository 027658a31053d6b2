//! The road comes back by itself: after cuts, new addresses, killed and frozen processes.

use std::time::Duration;

use wayhome_core::status::{LinkState, ServiceState};
use wayhome_lab::{OpenSsh, assert_eventually, needs_lab};

use crate::gateway::variants;
use crate::seats::{Agent, Login, PORT, Running, SOON, Seats, output};

#[test]
fn a_silent_cut_with_an_old_session_that_holds_the_port_as_root() {
    silent_cut(Login::Root);
}

#[test]
fn a_silent_cut_with_an_old_session_that_holds_the_port_as_a_plain_user() {
    silent_cut(Login::Plain);
}

#[test]
fn a_silent_cut_with_an_old_session_that_holds_the_port_behind_the_gate() {
    silent_cut(Login::Gated);
}

fn silent_cut(login: Login) {
    needs_lab!();
    for (openssh, pam) in variants() {
        let seats = Seats::with(login, 1, &openssh, |builder| builder.pam(pam));
        let agent = seats.agent();
        agent.until_up();
        let old = seats.holder(PORT);
        let _touching = seats.touch_the_port();
        // With luck of phase the old connection answers first, and wins; then once more.
        for _ in 0..5 {
            seats.lab.cut().unwrap();
            let suspect = || agent.link().state != LinkState::Up;
            assert_eventually!(suspect(), within = SOON, "suspect: {}", agent.log());
            assert_eq!(seats.holder(PORT), old, "the cut is silent: the gateway knows nothing");
            seats.lab.heal().unwrap();
            agent.until_up();
            if agent.link().reconnects > 0 {
                break;
            }
        }
        assert_ne!(seats.holder(PORT), old, "PAM {pam}: {}", agent.log());
        // With luck of phase the old session ends by itself a moment before it would be ended.
    }
}

/// A heartbeat each 5 s, its second of patience, and a loaded machine.
const SUSPICION: Duration = Duration::from_secs(10);

#[test]
fn a_silent_cut_while_streams_are_busy() {
    needs_lab!();
    let seats = Seats::start(Login::Root);
    let (agent, _chat) = agent_with_busy_streams(&seats);
    seats.lab.cut().unwrap();
    let suspect = || agent.link().state != LinkState::Up;
    assert_eventually!(suspect(), within = SUSPICION, "suspect: {}", agent.log());
    seats.lab.heal().unwrap();
    agent.until_back(0);
}

#[test]
fn its_ssh_is_frozen_while_streams_are_busy() {
    needs_lab!();
    let seats = Seats::start(Login::Root);
    let (agent, _chat) = agent_with_busy_streams(&seats);
    let (_, children) = agent.pids();
    agent.machine.sh(&format!("kill -STOP {}", children[0])).unwrap();
    let suspect = || agent.link().state != LinkState::Up || agent.link().reconnects > 0;
    assert_eventually!(suspect(), within = SUSPICION, "suspect: {}", agent.log());
    agent.until_back(0);
}

/// A road with eight streams through it, over which both ends talk all the time.
fn agent_with_busy_streams(seats: &Seats) -> (Agent<'_>, [Running; 2]) {
    let serve = "import socket, threading, time
def talk(c):
    try:
        while True: c.sendall(b'x' * 100); time.sleep(0.05)
    except OSError: pass
s = socket.create_server(('127.0.0.1', 7000))
while True:
    c = s.accept()[0]
    threading.Thread(target=talk, args=(c,), daemon=True).start()";
    let call = "import socket, time
c = [socket.create_connection(('127.0.0.1', 7000)) for _ in range(8)]
for each in c: each.recv(1)
open('/tmp/talking', 'w')
while True:
    for each in c: each.sendall(b'x' * 100)
    time.sleep(0.05)";
    let python = |machine: &wayhome_lab::Machine, script: &str| {
        Running(machine.command("python3").args(["-c", script]).spawn().unwrap())
    };
    let server = python(seats.lab.home(), serve);
    let agent = seats.agent_with(&["-R", "2222:localhost:22", "-R", "7000:localhost:7000"]);
    agent.until_up();
    let callers = python(seats.lab.gateway(), call);
    let talking = seats.lab.gateway().file("/tmp/talking");
    assert_eventually!(talking.exists(), within = SOON, "{}", agent.log());
    (agent, [server, callers])
}

#[test]
fn a_new_address() {
    needs_lab!();
    let seats = Seats::start(Login::Root);
    let agent = seats.agent();
    agent.until_up();
    seats.household(0).new_address("192.168.1.77").unwrap();
    agent.until_back(0);
    assert!(agent.log().contains("ended our old session"), "{}", agent.log());
}

#[test]
fn an_agent_that_was_killed_in_a_cut_leaves_a_session_that_the_next_one_ends() {
    needs_lab!();
    for login in Login::HOLDING {
        let seats = Seats::start(login);
        let agent = seats.agent();
        agent.until_up();
        orphan(&seats, agent);
        assert!(!seats.holder(PORT).is_empty(), "the old session still holds the port");
        let agent = seats.agent();
        agent.until_up();
        // It was recorded on disk, so that nobody had to be asked.
        let log = agent.log();
        assert!(log.contains("ended our old session"), "{login:?}: {log}");
        assert!(!log.contains("is not up"), "{login:?}: {log}");
    }
}

/// Kills an agent so that its session at the gateway never hears of it: in a cut, and with its
/// address gone, from which the kernel would otherwise still say goodbye.
fn orphan(seats: &Seats, mut agent: Agent<'_>) {
    seats.lab.cut().unwrap();
    agent.kill_9();
    seats.household(0).new_address("192.168.1.77").unwrap();
    seats.lab.heal().unwrap();
}

#[test]
fn a_silent_session_that_nobody_recorded_is_ended_too() {
    needs_lab!();
    for login in Login::HOLDING {
        let seats = Seats::start(login);
        let agent = seats.agent();
        agent.until_up();
        orphan(&seats, agent);
        seats.lab.home().sh("rm /var/lib/wayhome/sessions-*").unwrap();
        let agent = seats.agent();
        // Silent twice, a quarter of a minute apart.
        let within = Duration::from_secs(45);
        assert_eventually!(agent.is_up(), within = within, "{login:?}: {}", agent.log());
        assert!(agent.log().contains("ended our old session"), "{login:?}: {}", agent.log());
    }
}

#[test]
fn its_ssh_is_killed() {
    needs_lab!();
    let seats = Seats::start(Login::Plain);
    let agent = seats.agent();
    agent.until_up();
    let (_, children) = agent.pids();
    assert_eq!(children.len(), 1, "{children:?}");
    agent.machine.sh(&format!("kill -9 {}", children[0])).unwrap();
    agent.until_back(0);
}

#[test]
fn the_gateways_sshd_goes_and_comes_back() {
    needs_lab!();
    let seats = Seats::start(Login::Root);
    let agent = seats.agent();
    agent.until_up();
    seats.stop_gateway();
    let refused = || {
        let cause = agent.link().cause;
        cause.is_some_and(|finding| finding.cause.kind() == "connection-refused")
    };
    assert_eventually!(refused(), within = SOON, "refused: {}", agent.log());
    seats.start_gateway();
    agent.until_back(0);
}

#[test]
fn a_slow_line_under_load_is_not_taken_for_a_cut() {
    needs_lab!();
    let seats = Seats::start(Login::Root);
    let home = seats.lab.home();
    let serve = "import socket
s = socket.create_server(('127.0.0.1', 7000))
while True:
    c = s.accept()[0]; c.sendall(bytes(3000000)); c.close()";
    let mut server = home.command("python3");
    let _server = Running(server.args(["-c", serve]).spawn().unwrap());
    let agent = seats.agent_with(&["-R", "2222:localhost:22", "-R", "7000:localhost:7000"]);
    agent.until_service(0, ServiceState::Up);
    seats.lab.rate(home, "2mbit").unwrap();
    // 3 MB at 2 Mbit/s: the heartbeat stands in line behind them for longer than its deadline.
    let read = "exec 3<>/dev/tcp/127.0.0.1/7000; wc -c <&3";
    let began = std::time::Instant::now();
    let (_, bytes, _) = output(seats.lab.gateway().command("bash").args(["-c", read]));
    assert_eq!(bytes.trim(), "3000000");
    assert!(began.elapsed() > Duration::from_secs(8), "the line is slow: {:?}", began.elapsed());
    assert_eq!(agent.link().reconnects, 0, "{}", agent.log());
    assert!(!agent.log().contains("no answer"), "{}", agent.log());
}

#[test]
fn a_gateway_whose_ipv6_leads_nowhere() {
    needs_lab!();
    let seats =
        Seats::with(Login::Root, 1, &OpenSsh::system().unwrap(), |builder| builder.listen("::"));
    let home = seats.lab.home();
    // The name has both; IPv6 comes first, and vanishes on the way.
    seats.lab.internet().sh("nft add rule inet weather forward meta nfproto ipv6 drop").unwrap();
    let began = std::time::Instant::now();
    let arguments = ["root@gateway.example.org", "-i", "/tmp/key", "--name", "home-ubuntu"];
    home.sh("mkdir -p /var/lib/wayhome").unwrap();
    let pin = format!("gateway.example.org {}\n", seats.gateway_key());
    std::fs::write(home.file("/var/lib/wayhome/known_hosts"), pin).unwrap();
    let agent = Agent::run(home, &[&arguments[..], &["-R", "2222:localhost:22"]].concat());
    agent.until_up();
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}
