//! Causes at home: its ssh, its disk, and the targets.

use std::fs;

use wayhome_core::status::{LinkState, ServiceState};
use wayhome_lab::net::GATEWAY;
use wayhome_lab::{Machine, OpenSsh, assert_eventually, needs_lab};

use super::{Stage, kick, redial, until_halted, until_link, until_service, versions};
use crate::seats::{Agent, Running, SOON, output};

/// Puts a file in the place of each ssh of a machine, which it sees alone; `None` takes it away again.
fn ssh_is(home: &Machine, openssh: &OpenSsh, what: Option<&str>) {
    let mut places = vec![openssh.ssh().display().to_string()];
    if places[0] != "/usr/bin/ssh" {
        places.push("/usr/bin/ssh".to_owned());
    }
    for place in places {
        match what {
            Some(what) => home.sh(&format!("mount --bind {what} {place}")).unwrap(),
            None => home.sh(&format!("umount {place}")).unwrap(),
        };
    }
}

#[test]
fn an_ssh_that_is_missing_too_old_or_has_a_bad_configuration() {
    needs_lab!();
    for openssh in versions() {
        let stage = Stage::of(&openssh);
        let home = stage.seats.lab.home();
        let sshd = stage.open(|builder| builder);
        let agent = stage.agent(&sshd);
        agent.until_up();
        ssh_is(home, &openssh, Some("/dev/null"));
        redial(&agent);
        until_halted(&agent, "ssh-missing");
        ssh_is(home, &openssh, None);

        // One that does not know an option: here one that no ssh knows.
        let real = openssh.ssh().display();
        home.sh(&format!("cp {real} /run/ssh")).unwrap();
        let old = "#!/bin/sh\nexec /run/ssh -o OfALaterSsh=yes \"$@\"\n";
        fs::write(home.file("/run/old"), old).unwrap();
        home.sh("chmod 755 /run/old").unwrap();
        ssh_is(home, &openssh, Some("/run/old"));
        kick(home);
        until_halted(&agent, "ssh-too-old");
        ssh_is(home, &openssh, None);

        home.sh("mkdir -p ~/.ssh; echo 'Colour blue' > ~/.ssh/config").unwrap();
        kick(home);
        until_halted(&agent, "ssh-misconfigured");
        let text = agent.link().cause.unwrap().text;
        assert!(text.contains(".ssh/config: line 1: Bad configuration option: colour"), "{text}");
        home.sh("rm ~/.ssh/config").unwrap();
        kick(home);
        agent.until_up();
    }
}

#[test]
fn a_disk_that_is_full_and_one_that_may_only_be_read() {
    needs_lab!();
    for openssh in versions() {
        let stage = Stage::of(&openssh);
        let home = stage.seats.lab.home();
        home.sh(
            "mkdir -p /run/wayhome; mount -t tmpfs -o mode=700,nr_inodes=16 tmpfs /run/wayhome",
        )
        .unwrap();
        let sshd = stage.open(|builder| builder);
        let agent = stage.agent(&sshd);
        agent.until_up();
        home.sh("n=0; while touch /run/wayhome/full$n 2>/dev/null; do n=$((n+1)); done").unwrap();
        let (_, error) = refused(home, "touch /run/wayhome/more");
        assert!(error.contains("No space left on device"), "it is full: {error}");
        redial(&agent);
        until_link(&agent, "disk-full");
        assert_ne!(agent.link().state, LinkState::Halted, "nobody has to be waited for");
        home.sh("rm /run/wayhome/full*").unwrap();
        agent.until_up();

        home.sh("mount -o remount,ro /run/wayhome").unwrap();
        redial(&agent);
        until_link(&agent, "control-socket-failed");
        home.sh("mount -o remount,rw /run/wayhome").unwrap();
        agent.until_up();
    }
}

fn refused(home: &Machine, script: &str) -> (i32, String) {
    let (code, _, error) = output(home.command("sh").args(["-c", script]));
    assert_ne!(code, 0, "`{script}` is refused");
    (code, error)
}

/// What listens at home: one that takes a connection and says nothing, and one that says too much.
const TARGETS: &str = "import socket, threading
mute = socket.create_server(('127.0.0.1', 7001)); wrong = socket.create_server(('127.0.0.1', 7002))
def talk():
    while True: c = wrong.accept()[0]; c.recv(64); c.sendall(b'hello'); c.close()
threading.Thread(target=talk, daemon=True).start(); open('/tmp/ready', 'w'); kept = []
while True: kept.append(mute.accept())";

#[test]
fn targets_that_refuse_are_silent_are_something_else_or_another_host() {
    needs_lab!();
    for openssh in versions() {
        let stage = Stage::of(&openssh);
        let (home, gateway) = (stage.seats.lab.home(), stage.seats.lab.gateway());
        let mut python = home.command("python3");
        let _targets = Running(python.args(["-c", TARGETS]).spawn().unwrap());
        assert_eventually!(home.file("/tmp/ready").exists(), within = SOON);
        // At the gateway, somebody leads what goes to one of the ports to another host.
        gateway
            .sh("nft add table ip scene\n\
                 nft add chain ip scene out '{ type nat hook output priority -100; }'\n\
                 nft add rule ip scene out ip daddr 127.0.0.1 tcp dport 2404 redirect to :22")
            .unwrap();
        let sshd = stage.open(|builder| builder);
        let services = [
            ("refuses", 9, 2401, "http"),
            ("mute", 7001, 2402, "http"),
            ("wrong", 7002, 2403, "http"),
            ("elsewhere", 22, 2404, "ssh"),
            ("ssh", 22, 2405, "ssh"),
        ];
        let services = services.map(|(name, target, port, proof)| {
            format!(
                "[[service]]\nname = \"{name}\"\ntarget = \"localhost:{target}\"\n\
                 port = {port}\nproof = \"{proof}\"\n"
            )
        });
        let gateway = format!(
            "[[gateway]]\naddress = \"ssh://root@{GATEWAY}:{}\"\nidentity = \"key\"\n",
            sshd.port()
        );
        fs::write(home.file("/tmp/agent.toml"), gateway + &services.concat()).unwrap();
        let agent = Agent::run(home, &["--config", "/tmp/agent.toml"]);
        until_service(&agent, 0, "target-refused");
        until_service(&agent, 1, "target-silent");
        until_service(&agent, 2, "target-unproven");
        until_service(&agent, 3, "taken-by-another-host");
        agent.until_service(4, ServiceState::Up);
    }
}
