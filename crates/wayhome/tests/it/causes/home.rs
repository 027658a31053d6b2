//! Causes at home: its ssh, its disk, and the targets.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use wayhome_core::status::LinkState;
use wayhome_lab::net::GATEWAY;
use wayhome_lab::{Machine, assert_eventually, needs_lab};

use super::{Stage, redial, until_halted, until_link, until_service, versions};
use crate::seats::{Running, SOON, output, wayhome};

/// A folder with the programs that the agent runs, which can be taken away one by one.
fn programs(stage: &Stage, home: &Machine) -> String {
    let openssh = &stage.openssh;
    home.sh("mkdir -p /run/only").unwrap();
    for program in [openssh.ssh(), openssh.ssh_keygen(), openssh.ssh_keyscan()] {
        home.sh(&format!("ln -s {} /run/only/", program.display())).unwrap();
    }
    home.sh("ln -s /bin/date /bin/sh /run/only/").unwrap();
    "/run/only".to_owned()
}

#[test]
fn an_ssh_that_is_missing_too_old_or_has_a_bad_configuration() {
    needs_lab!();
    for openssh in versions() {
        let mut stage = Stage::of(&openssh);
        stage.path = programs(&stage, stage.seats.lab.home());
        let home = stage.seats.lab.home();
        let sshd = stage.open(|builder| builder);
        let agent = stage.agent(&sshd);
        agent.until_up();
        home.sh("mv /run/only/ssh /run/only/ssh.away").unwrap();
        redial(&agent);
        until_halted(&agent, "ssh-missing");

        // One that does not know an option of ours: here one that no ssh has.
        let old =
            format!("#!/bin/sh\nexec {} -o OfALaterSsh=yes \"$@\"\n", openssh.ssh().display());
        fs::write(home.file("/run/only/ssh"), old).unwrap();
        fs::set_permissions(home.file("/run/only/ssh"), fs::Permissions::from_mode(0o755)).unwrap();
        kick(home);
        until_halted(&agent, "ssh-too-old");
        home.sh("mv /run/only/ssh.away /run/only/ssh; mkdir -p ~/.ssh; echo 'Port many' > ~/.ssh/config")
            .unwrap();
        home.sh("echo 'Colour blue' > ~/.ssh/config").unwrap();
        kick(home);
        until_halted(&agent, "ssh-misconfigured");
        let text = agent.link().cause.unwrap().text;
        assert!(text.contains(".ssh/config: line 1: Bad configuration option: colour"), "{text}");
        home.sh("rm ~/.ssh/config").unwrap();
        kick(home);
        agent.until_up();
    }
}

fn kick(home: &Machine) {
    let (code, _, error) = output(&mut wayhome(home, &["agent", "kick"]));
    assert_eq!(code, 0, "{error}");
}

#[test]
fn a_disk_that_is_full_and_a_folder_that_is_gone() {
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
        home.sh("n=0; while : > /run/wayhome/full$n; do n=$((n+1)); done 2>/dev/null || true")
            .unwrap();
        let (_, error) = refused(home, "touch /run/wayhome/more");
        assert!(error.contains("No space left on device"), "it is full: {error}");
        redial(&agent);
        until_link(&agent, "disk-full");
        assert_eq!(agent.link().state, LinkState::Down, "nobody has to be waited for");
        home.sh("rm /run/wayhome/full*").unwrap();
        agent.until_up();

        home.sh("rm -r /run/wayhome/ssh-*").unwrap();
        redial(&agent);
        until_link(&agent, "control-socket-failed");
    }
}

fn refused(home: &Machine, script: &str) -> (i32, String) {
    let (code, _, error) = output(home.command("sh").args(["-c", script]));
    assert_ne!(code, 0, "`{script}` is refused");
    (code, error)
}

#[test]
fn targets_that_refuse_are_silent_are_something_else_or_another_host() {
    needs_lab!();
    for openssh in versions() {
        let stage = Stage::of(&openssh);
        let (home, gateway) = (stage.seats.lab.home(), stage.seats.lab.gateway());
        let serve = "import socket,time
mute = socket.create_server(('127.0.0.1', 7001)); open('/tmp/ready', 'w')
while True: kept = [mute.accept()] + (kept if 'kept' in dir() else [])";
        let mut python = home.command("python3");
        let _mute = Running(python.args(["-c", serve]).spawn().unwrap());
        let web = "cd /run/only 2>/dev/null || cd /tmp; exec python3 -m http.server --bind 127.0.0.1 7002";
        let mut server = home.command("sh");
        let quiet = server.args(["-c", web]).stderr(std::process::Stdio::null());
        let _web = Running(quiet.stdout(std::process::Stdio::null()).spawn().unwrap());
        assert_eventually!(home.file("/tmp/ready").exists(), within = SOON);
        let listens = || home.sh("ss -Hltn 'sport = :7002'").unwrap().contains("7002");
        assert_eventually!(listens(), within = SOON);
        // At the gateway somebody leads what goes to one of the ports to another host.
        gateway
            .sh("nft add table ip scene\n\
                 nft add chain ip scene out '{ type nat hook output priority -100; }'\n\
                 nft add rule ip scene out ip daddr 127.0.0.1 tcp dport 2404 redirect to :22")
            .unwrap();
        let sshd = stage.open(|builder| builder);
        let address = format!("root@{GATEWAY}:{}", sshd.port());
        let forwards = [
            ["-R", "2401:localhost:9"],
            ["-R", "2402:localhost:7001"],
            ["-R", "2403:localhost:7002"],
            ["-R", "2404:localhost:22"],
            ["-R", "2405:localhost:22"],
        ];
        let agent = stage.agent_at(&address, &forwards.concat());
        // What is not port 22 has to ask for a proof of its own; `ssh` is asked of all here.
        let _ = &agent;
        until_service(&agent, 0, "target-refused");
        until_service(&agent, 3, "taken-by-another-host");
        agent.until_service(4, wayhome_core::status::ServiceState::Up);
        let http = format!(
            "[[gateway]]\naddress = \"ssh://root@{GATEWAY}:{}\"\nidentity = \"key\"\n\
             [[service]]\nname = \"mute\"\ntarget = \"localhost:7001\"\nport = 2402\nproof = \"http\"\n\
             [[service]]\nname = \"web\"\ntarget = \"localhost:7002\"\nport = 2403\nproof = \"tls\"\n",
            sshd.port()
        );
        drop(agent);
        fs::write(home.file("/tmp/agent.toml"), http).unwrap();
        let arguments = ["--config", "/tmp/agent.toml", "--name", "home-ubuntu"];
        let agent = crate::seats::Agent::run(home, &arguments);
        until_service(&agent, 0, "target-silent");
        until_service(&agent, 1, "target-unproven");
    }
}
