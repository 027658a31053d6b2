//! The way to the gateway: its name, the route, its port, the first packets.

use std::process::Stdio;
use std::time::Duration;

use wayhome_lab::net::GATEWAY;
use wayhome_lab::{Machine, assert_eventually, needs_lab};

use super::{LATER, Stage, kick, shown, until_halted, until_link, versions};
use crate::seats::{Agent, Running, SOON};

/// A name server that gives every question the same answer: a code of RFC 1035 (2: it failed,
/// 3: there is no such name), or none.
fn name_server(machine: &Machine, code: Option<u8>) -> Running {
    let answer = code.map_or("None".to_owned(), |code| code.to_string());
    let program = format!(
        "import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('127.0.0.1', 53))
open('/tmp/names', 'w')
while True:
    q, who = s.recvfrom(512)
    if {answer} is not None: s.sendto(q[:2] + bytes([0x81, 0x80 | {answer}]) + q[4:6] + bytes(6) + q[12:], who)"
    );
    machine
        .sh("rm -f /tmp/names /etc/resolv.conf; echo nameserver 127.0.0.1 > /etc/resolv.conf")
        .unwrap();
    machine.sh("echo 'hosts: files dns' > /etc/nsswitch.conf").unwrap();
    let mut python = machine.command("python3");
    let running = Running(python.args(["-c", &program]).stderr(Stdio::null()).spawn().unwrap());
    assert_eventually!(machine.file("/tmp/names").exists(), within = SOON, "a name server");
    running
}

#[test]
fn a_name_that_is_unknown_is_told_from_a_resolver_that_is_down() {
    needs_lab!();
    for openssh in versions() {
        let stage = Stage::of(&openssh);
        let home = stage.seats.lab.home();
        stage.pin(&format!("gone.example.org {}", stage.seats.gateway_key()));
        let agent = || stage.agent_at("root@gone.example.org", &[]);
        {
            let _server = name_server(home, Some(3));
            until_link(&agent(), "name-unknown");
        }
        {
            let _server = name_server(home, Some(2));
            until_link(&agent(), "resolver-down");
        }
        {
            let _server = name_server(home, None);
            until_link(&agent(), "resolver-down");
        }
        // Nothing listens there at all; and once the name is known, nobody's help is needed.
        let agent = agent();
        until_link(&agent, "resolver-down");
        home.sh(&format!("echo '{GATEWAY} gone.example.org' >> /etc/hosts")).unwrap();
        agent.until_up();
    }
}

#[test]
fn no_route_a_closed_port_and_silence() {
    needs_lab!();
    for openssh in versions() {
        let stage = Stage::of(&openssh);
        let home = stage.seats.lab.home();
        stage.pin(&format!("[{GATEWAY}]:2299 {}", stage.seats.gateway_key()));
        until_link(&stage.agent_at(&format!("root@{GATEWAY}:2299"), &[]), "connection-refused");

        let agent = stage.agent_at(&format!("root@{GATEWAY}:2299"), &[]);
        stage.seats.lab.cut().unwrap();
        until_link(&agent, "timed-out");
        stage.seats.lab.heal().unwrap();
        drop(agent);

        // The network is not reachable; then it is, and the host says that it is not.
        home.sh("ip route del default").unwrap();
        let agent = stage.agent_at(&format!("root@{GATEWAY}:2299"), &[]);
        until_link(&agent, "no-route");
        home.sh("ip route add default via 192.168.1.1").unwrap();
        until_link(&agent, "connection-refused");
        stage.seats.lab.internet().sh("ip address del 203.0.113.1/24 dev gateway").unwrap();
        until_link(&agent, "no-route");
    }
}

#[test]
fn a_route_that_is_prohibited_and_no_common_language() {
    needs_lab!();
    for openssh in versions() {
        let stage = Stage::of(&openssh);
        let home = stage.seats.lab.home();
        stage.pin(&format!("[{GATEWAY}]:2299 {}", stage.seats.gateway_key()));
        home.sh(&format!("ip route add prohibit {GATEWAY}")).unwrap();
        let agent = stage.agent_at(&format!("root@{GATEWAY}:2299"), &[]);
        until_link(&agent, "connect-failed");
        let finding = agent.link().cause.unwrap();
        assert!(finding.text.contains("Permission denied"), "{finding:?}");
        home.sh(&format!("ip route del prohibit {GATEWAY}")).unwrap();
        drop(agent);

        home.sh("mkdir -m 700 -p ~/.ssh; echo 'Ciphers aes128-ctr' > ~/.ssh/config").unwrap();
        let sshd = stage.open(|builder| builder.line("Ciphers aes256-ctr"));
        let agent = stage.agent(&sshd);
        until_halted(&agent, "no-common-algorithm");
        let finding = agent.link().cause.unwrap();
        assert!(finding.text.contains("cipher"), "{finding:?}");
        home.sh("rm ~/.ssh/config").unwrap();
        kick(agent.machine);
        agent.until_up();
    }
}

/// Gives a machine a rule for what passes there, and counts what it catches.
fn rule(machine: &Machine, hook: &str, rule: &str) {
    machine
        .sh(&format!(
            "nft add table inet scene\n\
             nft add chain inet scene in '{{ type filter hook {hook} priority -10; }}'\n\
             nft add rule inet scene in '{rule}'"
        ))
        .unwrap();
}

fn has_caught_something(machine: &Machine) -> bool {
    let rules = machine.sh("nft list table inet scene").unwrap();
    !rules.contains("counter packets 0 ")
}

#[test]
fn a_guard_that_resets_the_connection_after_the_greeting() {
    needs_lab!();
    for openssh in versions() {
        let stage = Stage::of(&openssh);
        let gateway = stage.seats.lab.gateway();
        let sshd = stage.open(|builder| builder);
        // Bare acknowledgements pass, and so do knocks; the first words do not.
        let reset =
            format!("tcp dport {} tcp flags psh counter reject with tcp reset", sshd.port());
        rule(gateway, "input", &reset);
        let agent = stage.agent(&sshd);
        until_link(&agent, "reset-in-key-exchange");
        assert!(has_caught_something(gateway));
        gateway.sh("nft delete table inet scene").unwrap();
        agent.until_up();
    }
}

#[test]
fn a_path_that_swallows_large_packets_is_told_from_a_slow_login() {
    needs_lab!();
    for openssh in versions() {
        let stage = Stage::of(&openssh);
        let lab = &stage.seats.lab;
        let sshd = stage.open(|builder| builder);
        rule(lab.internet(), "forward", "meta l4proto tcp meta length > 700 counter drop");
        let agent = stage.agent(&sshd);
        until_link(&agent, "key-exchange-hangs");
        assert!(has_caught_something(lab.internet()), "large packets are lost");
        let finding = agent.link().cause.unwrap();
        assert!(finding.remedy.contains("MTU"), "{finding:?}");
        lab.internet().sh("nft delete table inet scene").unwrap();
        back_within(&agent, LATER);
        drop(agent);

        // An sshd that has no time for anybody: it takes the connection, and does not greet.
        let stopped = format!("kill -STOP {}", sshd.pid());
        assert!(
            std::process::Command::new("sh").args(["-c", &stopped]).status().unwrap().success()
        );
        let agent = stage.agent(&sshd);
        until_link(&agent, "no-greeting");
        let going = format!("kill -CONT {}", sshd.pid());
        assert!(std::process::Command::new("sh").args(["-c", &going]).status().unwrap().success());
        back_within(&agent, LATER);
    }
}

fn back_within(agent: &Agent<'_>, within: Duration) {
    let up = || agent.is_up();
    assert_eventually!(up(), within = within, "{:?}: {}", shown(&agent.snapshot()), agent.log());
}
