//! What else may be at a gateway: another home, another user, another program, another tunnel. None
//! of them is ever ended, and each is named.

use std::time::Duration;

use wayhome_core::status::{LinkState, ServiceState};
use wayhome_lab::net::GATEWAY;
use wayhome_lab::{OpenSsh, Sshd, assert_eventually, needs_lab};

use crate::seats::{Agent, Login, PORT, Running, SOON, Seats, output, wayhome};

fn fingerprint(seats: &Seats, line: &str) -> String {
    let script = format!("echo '{line}' | ssh-keygen -lf - | cut -d' ' -f2");
    seats.lab.gateway().sh(&script).unwrap().trim().to_owned()
}

#[test]
fn two_live_homes_with_one_login_and_one_port() {
    needs_lab!();
    for login in Login::HOLDING {
        let seats = Seats::with(login, 2, &OpenSsh::system().unwrap(), |builder| builder);
        let first = seats.agent_of(0, &["-R", "2222:localhost:22"]);
        first.until_up();
        let holder = seats.holder(PORT);
        let second = seats.agent_of(1, &["-R", "2222:localhost:22", "-R", "2299:localhost:22"]);
        second.until_service(0, ServiceState::Halted);
        let finding = second.service(0).cause.unwrap();
        assert_eq!(finding.cause.kind(), "another-home", "{login:?}");
        let other = fingerprint(&seats, &seats.homes[0].host_key_line());
        assert!(finding.text.contains(&other), "{} names {other}", finding.text);
        assert_eq!(seats.holder(PORT), holder, "{login:?}: the first is untouched");
        assert!(first.is_up() && first.link().reconnects == 0, "{login:?}: {}", first.log());
        if login != Login::Gated {
            second.until_service(1, ServiceState::Up);
        }
    }
}

/// The session that is older is not always the one that holds the port.
#[test]
fn a_home_that_waits_for_the_port_is_not_ended_when_the_other_one_comes_back() {
    needs_lab!();
    for login in [Login::Plain, Login::Gated] {
        let seats = Seats::with(login, 2, &OpenSsh::system().unwrap(), |builder| builder);
        let first = seats.agent_of(0, &["-R", "2222:localhost:22"]);
        first.until_up();
        let second = seats.agent_of(1, &["-R", "2222:localhost:22"]);
        second.until_service(0, ServiceState::Halted);
        let (_, ssh) = first.pids();
        first.machine.sh(&format!("kill -9 {}", ssh[0])).unwrap();
        first.until_back(0);
        let (_, waiting) = second.pids();
        // Now the second one's session is the older of the two.
        let began = std::time::Instant::now();
        seats.household(0).new_address("192.168.1.77").unwrap();
        first.until_back(1);
        let took = began.elapsed();
        assert!(took < Duration::from_secs(6), "{login:?}: {took:?}: {}", first.log());
        assert!(first.log().contains("ended our old session"), "{login:?}: {}", first.log());
        assert_eq!(second.pids().1, waiting, "{login:?}: {}", second.log());
        assert_eq!(second.link().reconnects, 0, "{login:?}: {}", second.log());
    }
}

/// Silence is no death: the server behind the port may hang, and its home be well.
#[test]
fn a_live_home_whose_server_hangs_keeps_its_port() {
    needs_lab!();
    for login in Login::HOLDING {
        let seats = Seats::with(login, 2, &OpenSsh::system().unwrap(), |builder| builder);
        let first = seats.agent_of(0, &["-R", "2222:localhost:22"]);
        first.until_up();
        let holder = seats.holder(PORT);
        let sshd = first.machine.sh("pgrep -o sshd").unwrap();
        first.machine.sh(&format!("kill -STOP {sshd}")).unwrap();
        let second = seats.agent_of(1, &["-R", "2222:localhost:22"]);
        let told = || second.cause(0) == Some("another-live-session");
        let within = Duration::from_secs(40);
        assert_eventually!(told(), within = within, "{login:?}: {}", second.log());
        assert_eq!(seats.holder(PORT), holder, "{login:?}: it is untouched");
        assert_eq!(first.link().reconnects, 0, "{login:?}: {}", first.log());
        first.machine.sh(&format!("kill -CONT {sshd}")).unwrap();
        first.until_up();
    }
}

#[test]
fn another_users_sshd_behind_the_port_is_not_up() {
    needs_lab!();
    let seats = Seats::start(Login::Plain);
    let stranger = Sshd::builder(&seats.openssh)
        .port(PORT)
        .start(&seats.lab.gateway().user("bob").unwrap())
        .unwrap();
    let agent = seats.agent_with(&["-R", "2222:localhost:22", "-R", "2223:localhost:22"]);
    agent.until_service(0, ServiceState::Blocked);
    let finding = agent.service(0).cause.unwrap();
    assert_eq!(finding.cause.kind(), "port-taken-by-user");
    let key = fingerprint(&seats, &stranger.host_key_line());
    assert!(finding.text.contains("taken by another host") && finding.text.contains(&key));
    agent.until_service(1, ServiceState::Up);
    assert!(seats.holder(PORT).contains(&format!("pid={}", inside(&seats))), "it still listens");
}

/// The process id in the gateway of bob's sshd.
fn inside(seats: &Seats) -> String {
    seats.lab.gateway().sh("pgrep -u bob sshd").unwrap().trim().to_owned()
}

#[test]
fn a_program_that_is_no_sshd_holds_the_port() {
    needs_lab!();
    let seats = Seats::start(Login::Root);
    let listen = "import socket,time; s=socket.create_server(('127.0.0.1',2222)); time.sleep(600)";
    let mut program = seats.lab.gateway().command("python3");
    let _program = Running(program.args(["-c", listen]).spawn().unwrap());
    assert_eventually!(!seats.holder(PORT).is_empty(), within = SOON);
    let holder = seats.holder(PORT);
    let agent = seats.agent_with(&["-R", "2222:localhost:22", "-R", "2223:localhost:22"]);
    agent.until_service(0, ServiceState::Blocked);
    assert_eq!(agent.cause(0), Some("port-taken-by-program"));
    agent.until_service(1, ServiceState::Up);
    assert_eq!(seats.holder(PORT), holder);
}

/// A tunnel made by hand, as this home's agent would log in; it holds port 2222.
fn hand_made(seats: &Seats, login: Login) -> Running {
    let home = seats.lab.home();
    let known = format!("{GATEWAY} {}", seats.gateway_key());
    home.sh(&format!("mkdir -p ~/.ssh; echo '{known}' > ~/.ssh/known_hosts")).unwrap();
    let mut tunnel = home.command(seats.openssh.ssh());
    tunnel.args(["-N", "-i", "/tmp/key", "-R", "127.0.0.1:2222:localhost:22"]);
    tunnel.args(["-o", "BatchMode=yes", &format!("{}@{GATEWAY}", login.user())]);
    let tunnel = Running(tunnel.spawn().unwrap());
    assert_eventually!(!seats.holder(PORT).is_empty(), within = SOON);
    tunnel
}

#[test]
fn the_old_hand_made_tunnel_of_this_same_home() {
    needs_lab!();
    for login in Login::HOLDING {
        let seats = Seats::start(login);
        let home = seats.lab.home();
        let tunnel = hand_made(&seats, login);
        let holder = seats.holder(PORT);
        let agent = seats.agent();
        agent.until_service(0, ServiceState::Blocked);
        assert_eq!(agent.cause(0), Some("another-tunnel-of-this-home"), "{login:?}");
        assert_eq!(seats.holder(PORT), holder, "{login:?}: a live tunnel is never ended");
        // The person follows the remedy.
        drop(tunnel);
        assert_eventually!(seats.holder(PORT).is_empty(), within = SOON);
        let (code, _, error) = output(&mut wayhome(home, &["agent", "kick"]));
        assert_eq!(code, 0, "{error}");
        agent.until_up();
    }
}

/// A plain user's agent cannot see which of two sessions holds the port, and ends its own old one.
#[test]
fn an_old_session_that_did_not_hold_the_port_is_ended_in_vain() {
    needs_lab!();
    let seats = Seats::start(Login::Plain);
    let _tunnel = hand_made(&seats, Login::Plain);
    let holder = seats.holder(PORT);
    let agent = seats.agent();
    agent.until_service(0, ServiceState::Blocked);
    let (_, ssh) = agent.pids();
    agent.machine.sh(&format!("kill -STOP {}", ssh[0])).unwrap();
    let said = || agent.log().contains("the old session at the gateway could not be ended");
    assert_eventually!(said(), within = SOON, "{}", agent.log());
    let blocked = || agent.cause(0) == Some("another-tunnel-of-this-home");
    assert_eventually!(blocked(), within = SOON, "{}", agent.log());
    assert_eq!(seats.holder(PORT), holder, "the tunnel lives");
}

#[test]
fn a_bystander_session_of_the_same_login_lives_on() {
    needs_lab!();
    for login in [Login::Root, Login::Plain] {
        let seats = Seats::start(login);
        let agent = seats.agent();
        agent.until_up();
        // A person at work at the gateway, and another tunnel, both with this very login.
        let laptop_like = |arguments: &[&str]| {
            let mut ssh = seats.lab.home().command(seats.openssh.ssh());
            ssh.args(["-i", "/tmp/key", "-o", "BatchMode=yes"]);
            ssh.args(["-o", "UserKnownHostsFile=/var/lib/wayhome/known_hosts"]).args(arguments);
            Running(ssh.stdin(std::process::Stdio::piped()).spawn().unwrap())
        };
        let address = format!("{}@{GATEWAY}", login.user());
        let mut at_work = laptop_like(&[&address, "cat"]);
        let mut other = laptop_like(&["-N", "-R", "127.0.0.1:2300:localhost:22", &address]);
        assert_eventually!(!seats.holder(2300).is_empty(), within = SOON);
        let (_, ssh) = agent.pids();
        agent.machine.sh(&format!("kill -STOP {}", ssh[0])).unwrap();
        agent.until_back(0);
        assert!(agent.log().contains("ended our old session"), "{login:?}: {}", agent.log());
        assert!(matches!(at_work.0.try_wait(), Ok(None)), "{login:?}: the person is still there");
        assert!(matches!(other.0.try_wait(), Ok(None)) && !seats.holder(2300).is_empty());
    }
}

#[test]
fn a_key_that_may_run_nothing_still_gets_its_road() {
    needs_lab!();
    let seats = Seats::start(Login::Bare);
    let agent = seats.agent();
    agent.until_up();
    assert!(!agent.link().hold);
    assert!(agent.log().contains("a forced command runs in place of the hold"), "{}", agent.log());
    let (_, ssh) = agent.pids();
    agent.machine.sh(&format!("kill -9 {}", ssh[0])).unwrap();
    agent.until_back(0);
}

#[test]
fn a_gateway_that_forbids_the_forward() {
    needs_lab!();
    let seats = Seats::with(Login::Gated, 1, &OpenSsh::system().unwrap(), |builder| builder);
    let agent = seats.agent_with(&["-R", "2222:localhost:22", "-R", "2300:localhost:22"]);
    agent.until_service(0, ServiceState::Up);
    agent.until_service(1, ServiceState::Blocked);
    assert_eq!(agent.cause(1), Some("forwarding-forbidden-by-permitlisten"));

    let seats = Seats::with(Login::Root, 1, &OpenSsh::system().unwrap(), |builder| {
        builder.line("AllowTcpForwarding local")
    });
    let agent = seats.agent();
    agent.until_service(0, ServiceState::Blocked);
    assert_eq!(agent.cause(0), Some("forwarding-forbidden-by-server"));
    assert_eq!(agent.link().state, LinkState::Up);
}

#[test]
fn a_second_agent_for_the_same_name_is_refused() {
    needs_lab!();
    let seats = Seats::start(Login::Root);
    let first = seats.agent();
    first.until_up();
    let mut second = Agent::run(
        first.machine,
        &[
            &format!("root@{GATEWAY}"),
            "-R",
            "2223:localhost:22",
            "-i",
            "/tmp/key",
            "--name",
            "home-ubuntu",
        ],
    );
    assert_eq!(second.child.wait().unwrap().code(), Some(1));
    assert!(first.log().contains("an agent for `home-ubuntu` is running already"));
    assert!(first.is_up());
}
