//! Row 1 of the table of seats: `ssh -R` at home, `sshd` at the gateway, `ssh -J` at the laptop.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use wayhome_lab::keys::Key;
use wayhome_lab::net::GATEWAY;
use wayhome_lab::{Lab, Machine, OpenSsh, Sshd, assert_eventually, needs_lab};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn stock_programs_in_all_three_seats() {
    needs_lab!();
    let openssh = OpenSsh::system().unwrap();
    let lab = Lab::three_seats().unwrap();
    let root = |machine: &Machine| {
        let key = Key::make(machine, &openssh, Path::new("/tmp/key"), machine.name());
        key.unwrap().public_line().to_owned()
    };
    let (home_key, laptop_key) = (root(lab.home()), root(lab.laptop()));
    lab.home().add_user("fan", 4001, "/bin/bash").unwrap();
    lab.gateway().add_user("way", 4002, "/bin/sh").unwrap();

    let gateway = Sshd::builder(&openssh)
        .port(22)
        .listen("0.0.0.0")
        .pam(true)
        .authorize("way", &home_key)
        .authorize("way", &laptop_key)
        .start(lab.gateway())
        .unwrap();
    let home = Sshd::builder(&openssh)
        .port(22)
        .pam(true)
        .authorize("fan", &laptop_key)
        .start(lab.home())
        .unwrap();

    let known = gateway.known_hosts_line(GATEWAY);
    lab.home().sh(&format!("mkdir ~/.ssh; echo '{known}' > ~/.ssh/known_hosts")).unwrap();
    let config = "Host *\n IdentityFile /tmp/key\n\
                  Host gateway\n HostName 203.0.113.10\n User way\n\
                  Host home\n HostName 127.0.0.1\n Port 2222\n User fan\n HostKeyAlias home\n";
    let home_known = format!("home {}", home.host_key_line());
    lab.laptop()
        .sh(&format!(
            "mkdir ~/.ssh; echo '{known}\n{home_known}' > ~/.ssh/known_hosts\n\
             echo '{config}' > ~/.ssh/config"
        ))
        .unwrap();

    let mut tunnel = dial_out(lab.home(), &openssh);
    let listens = || lab.gateway().sh("ss -Hltn 'sport = :2222'").unwrap();
    assert_eventually!(!listens().is_empty(), within = SOON, "{}", gateway.log());
    assert!(!listens().contains("0.0.0.0:2222"), "the port is open to the world: {}", listens());

    let jump = |command: &str| {
        lab.laptop()
            .command(openssh.ssh())
            .args(["-o", "BatchMode=yes", "-J", "gateway", "home", command])
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    let output = jump("id -un; cat /proc/sys/kernel/hostname; echo $SSH_CONNECTION");
    let said = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(said.starts_with("fan\nhome\n"), "{said}{error}\n{}\n{}", gateway.log(), home.log());

    tunnel.kill().unwrap();
    tunnel.wait().unwrap();
    assert_eventually!(listens().is_empty(), within = SOON, "{}", listens());
    let error = String::from_utf8(jump("true").stderr).unwrap();
    assert!(error.contains("Connection refused"), "{error}");
}

/// `ssh -R` as the write-ups have it.
fn dial_out(home: &Machine, openssh: &OpenSsh) -> Child {
    home.command(openssh.ssh())
        .args(["-N", "-i", "/tmp/key", "-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes"])
        .args(["-R", "2222:localhost:22", &format!("way@{GATEWAY}")])
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}
