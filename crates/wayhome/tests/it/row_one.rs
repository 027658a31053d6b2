//! Row 1 of the seats: `ssh -R`, sshd and `ssh -J`, and what `wayhome status --ssh` says of them.

use serde_json::Value;
use wayhome_lab::net::GATEWAY;
use wayhome_lab::{Machine, OpenSsh, Sshd, assert_eventually, needs_lab};

use crate::seats::{Login, PORT, Running, SOON, Seats, output, wayhome};

/// The person's ssh knows the gateway, as it does after the first login by hand.
fn know_the_gateway(seats: &Seats, machine: &Machine) {
    let known = format!("{GATEWAY} {}", seats.gateway_key());
    machine.sh(&format!("mkdir -p -m 700 ~/.ssh; echo '{known}' >> ~/.ssh/known_hosts")).unwrap();
}

/// `ssh -R`, as people run it.
fn tunnel(seats: &Seats, login: Login, forward: &str) -> Running {
    let home = seats.lab.home();
    know_the_gateway(seats, home);
    let mut ssh = home.command(seats.openssh.ssh());
    ssh.args(["-N", "-i", "/tmp/key", "-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes"]);
    let tunnel = ssh.args(["-R", forward, &format!("{}@{GATEWAY}", login.user())]).spawn().unwrap();
    let tunnel = Running(tunnel);
    assert_eventually!(!seats.holder(PORT).is_empty(), within = SOON);
    tunnel
}

fn look(machine: &Machine, login: Login, options: &[&str]) -> (i32, String, String) {
    let address = format!("{}@{GATEWAY}", login.user());
    let mut arguments = vec!["status", "--ssh", &address];
    if !options.contains(&"-i") {
        arguments.extend(["-i", "/tmp/key"]);
    }
    output(&mut wayhome(machine, &[&arguments, options].concat()))
}

fn look_for_json(machine: &Machine, login: Login, options: &[&str]) -> (i32, Value) {
    let (code, json, error) = look(machine, login, &[&["--json"], options].concat());
    (code, serde_json::from_str(&json).unwrap_or_else(|_| panic!("{code}: {json}{error}")))
}

fn versions() -> Vec<OpenSsh> {
    let newer = std::env::var_os("WAYHOME_OPENSSH_10");
    let newer = newer.map(|folder| OpenSsh::backports(folder.as_ref()).unwrap());
    std::iter::once(OpenSsh::system().unwrap()).chain(newer).collect()
}

#[test]
fn a_stock_road_is_up() {
    needs_lab!();
    for openssh in versions() {
        for login in [Login::Root, Login::Plain, Login::Gated, Login::Bare] {
            let seats = Seats::with(login, 1, &openssh, |builder| builder);
            let _tunnel = tunnel(&seats, login, "127.0.0.1:2222:localhost:22");
            let home = seats.lab.home();
            let (code, seen) = look_for_json(home, login, &["--port", "2222"]);
            assert_eq!(code, 0, "{login:?}: {seen:#}");
            assert_eq!(seen["verdict"], "proven", "{login:?}: {seen:#}");
            assert_eq!(seen["behind"]["whose"], "target", "{login:?}: {seen:#}");
            if login == Login::Bare {
                assert_eq!(seen["holder"]["is"], "unknown", "{seen:#}");
            } else {
                assert_eq!(seen["holder"]["is"], "session", "{login:?}: {seen:#}");
                assert_eq!(seen["listens"][0], "127.0.0.1", "{login:?}: {seen:#}");
            }
            if matches!(login, Login::Root | Login::Plain) {
                assert!(
                    seen["holder"]["title"].as_str().unwrap().contains(login.user()),
                    "{seen:#}"
                );
                assert!(seen["holder"]["since"].as_u64().unwrap() < 600, "{seen:#}");
            }
            if login == Login::Root {
                assert!(seen["holder"]["from"].as_str().unwrap().starts_with("192.0.2.2:"));
                assert_eq!(seen["sshd"]["client_alive_interval"], 0, "{seen:#}");
                assert_eq!(seen["sshd"]["gateway_ports"], "clientspecified", "{seen:#}");
            }
            // Nothing of ours stays behind, and the tunnel is as it was.
            let sessions = seats.lab.gateway().sh("ps -eo args | grep -c '[w]ayhome-hold' || :");
            assert_eventually!(sessions.as_deref().unwrap().trim() == "0", within = SOON);
        }
    }
}

#[test]
fn a_person_reads_what_was_seen() {
    needs_lab!();
    let seats = Seats::start(Login::Root);
    let _tunnel = tunnel(&seats, Login::Root, "*:2222:localhost:22");
    let (code, text, error) = look(seats.lab.home(), Login::Root, &[]);
    assert_eq!((code, error.as_str()), (0, ""), "{text}");
    for part in [
        "root@203.0.113.10 port 2222  up\n",
        "login      accepted",
        "an ssh session (process ",
        " from 192.0.2.2:",
        "the very key of localhost:22 here",
        "ClientAlive 0 s",
        "open beyond the gateway's loopback",
        "ClientAliveInterval 15",
    ] {
        assert!(text.contains(part), "`{part}` in:\n{text}");
    }
}

#[test]
fn from_anywhere_it_is_up_only_if_it_is_known_who_is_there() {
    needs_lab!();
    let seats = Seats::start(Login::Plain);
    let _tunnel = tunnel(&seats, Login::Plain, "2222:localhost:22");
    let laptop = seats.lab.laptop();
    know_the_gateway(&seats, laptop);
    let whose = |options: &[&str]| {
        let (code, seen) = look_for_json(laptop, Login::Gated, options);
        (code, seen["behind"]["whose"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(whose(&[]), (2, "nobodys".into()), "there is an sshd, and nobody knows whose");
    let key = seats.homes[0].host_key_line();
    let shown = laptop.sh(&format!("echo '{key}' | ssh-keygen -lf -")).unwrap();
    assert_eq!(whose(&["--expect", shown.trim()]), (0, "expected".into()));
    let other = format!("SHA256:{}", "A".repeat(43));
    assert_eq!(whose(&["--expect", &other]), (1, "another".into()));
    // As `ssh -J` wrote it at the first login; hashed, as Debian's does.
    laptop.sh(&format!("echo '[127.0.0.1]:2222 {key}' >> ~/.ssh/known_hosts")).unwrap();
    laptop.sh("ssh-keygen -Hf ~/.ssh/known_hosts").unwrap();
    assert_eq!(whose(&[]), (0, "known".into()));
    let other = seats.gateway_key();
    laptop.sh(&format!("ssh-keygen -R '[127.0.0.1]:2222'; echo '[127.0.0.1]:2222 {other}' >> ~/.ssh/known_hosts")).unwrap();
    assert_eq!(whose(&[]), (1, "another".into()));
}

#[test]
fn nothing_listens() {
    needs_lab!();
    for login in [Login::Root, Login::Plain, Login::Gated] {
        let seats = Seats::start(login);
        know_the_gateway(&seats, seats.lab.home());
        let (code, seen) = look_for_json(seats.lab.home(), login, &[]);
        assert_eq!((code, &seen["holder"]["is"]), (1, &"nobody".into()), "{login:?}: {seen:#}");
        assert!(seen["remarks"][0]["text"].as_str().unwrap().contains("tunnel is down"));
    }
    // A key that may run nothing cannot tell this from a gateway that forbids it.
    let seats = Seats::start(Login::Bare);
    know_the_gateway(&seats, seats.lab.home());
    assert_eq!(look_for_json(seats.lab.home(), Login::Bare, &[]).0, 2);
}

#[test]
fn a_dead_session_is_named_with_the_process_to_end() {
    needs_lab!();
    for openssh in versions() {
        for login in [Login::Root, Login::Plain] {
            let seats = Seats::with(login, 1, &openssh, |builder| builder);
            let tunnel = tunnel(&seats, login, "2222:localhost:22");
            let ssh = wayhome_lab::process::children(tunnel.0.id())[0];
            stop(ssh);
            let (code, seen) = look_for_json(seats.lab.home(), login, &[]);
            assert_eq!((code, &seen["behind"]["is"]), (1, &"silent".into()), "{login:?}: {seen:#}");
            let remedy = seen["remarks"][0]["remedy"].as_str().unwrap();
            let pid = &seen["holder"]["pid"];
            assert!(remedy.contains(&format!("`kill {pid}`")), "{login:?}: {seen:#}");
            // What it says helps.
            seats.lab.gateway().sh(&format!("kill {pid}")).unwrap();
            assert_eventually!(seats.holder(PORT).is_empty(), within = SOON);
        }
    }
}

fn stop(pid: u32) {
    wayhome_lab::process::signal(pid, rustix::process::Signal::STOP);
}

#[test]
fn home_s_own_sshd_is_down() {
    needs_lab!();
    let mut seats = Seats::start(Login::Plain);
    seats.homes.clear();
    let _tunnel = tunnel(&seats, Login::Plain, "2222:localhost:22");
    let (code, seen) = look_for_json(seats.lab.home(), Login::Plain, &[]);
    assert_eq!((code, &seen["behind"]["is"]), (1, &"closed".into()), "{seen:#}");
}

#[test]
fn a_strangers_sshd_has_the_port() {
    needs_lab!();
    let seats = Seats::start(Login::Plain);
    let home = seats.lab.home();
    know_the_gateway(&seats, home);
    let bob = seats.lab.gateway().user("bob").unwrap();
    let stranger = Sshd::builder(&seats.openssh).port(PORT).start(&bob).unwrap();
    let (code, seen) = look_for_json(home, Login::Plain, &["--target", "localhost:22"]);
    assert_eq!((code, &seen["behind"]["whose"]), (1, &"another".into()), "{seen:#}");
    assert_eq!(seen["holder"]["uid"], 3002, "{seen:#}");
    // Who does not say that this is home cannot be told that it is not.
    assert_eq!(look_for_json(home, Login::Plain, &[]).0, 2);
    stranger.stop();
    let amy = seats.lab.gateway().user("amy").unwrap();
    let _own = Sshd::builder(&seats.openssh).port(PORT).start(&amy).unwrap();
    let (code, seen) = look_for_json(home, Login::Plain, &[]);
    assert_eq!((code, &seen["holder"]["is"]), (1, &"program".into()), "{seen:#}");
}

#[test]
fn a_login_that_is_refused_tells_nothing_and_changes_nothing() {
    needs_lab!();
    let seats = Seats::start(Login::Plain);
    let home = seats.lab.home();
    let kind = |options: &[&str]| {
        let (code, seen) = look_for_json(home, Login::Plain, options);
        (code, seen["refused"]["kind"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(kind(&[]), (2, "host-key-unknown".into()));
    assert_eq!(home.sh("ls -A ~/.ssh 2>/dev/null || :").unwrap(), "", "it is not learned");
    know_the_gateway(&seats, home);
    home.sh("ssh-keygen -q -t ed25519 -N '' -f /tmp/other").unwrap();
    assert_eq!(kind(&["-i", "/tmp/other"]), (2, "key-refused".into()));
    seats.stop_gateway();
    assert_eq!(kind(&[]), (2, "connection-refused".into()));
    home.sh("sed -i 's/AAAA[^ ]*$/AAAAC3NzaC1lZDI1NTE5AAAAIKurtUwOsd\\/SR5\\/pBFuwoXrsDbAiBVQUW7oSOlMEPUcL/' ~/.ssh/known_hosts").unwrap();
    seats.start_gateway();
    assert_eq!(kind(&[]), (2, "host-key-changed".into()));
}

#[test]
fn a_port_on_the_other_loopback_alone() {
    needs_lab!();
    let seats = Seats::start(Login::Plain);
    let _tunnel = tunnel(&seats, Login::Plain, "[::1]:2222:localhost:22");
    let (code, seen) = look_for_json(seats.lab.home(), Login::Plain, &[]);
    assert_eq!((code, &seen["behind"]["at"]), (0, &"::1".into()), "{seen:#}");
    assert!(seen["remarks"][0]["text"].as_str().unwrap().contains("`::1` alone"), "{seen:#}");
}

#[test]
fn what_is_wrong_on_the_command_line() {
    for (arguments, part) in [
        (&["status", "--port", "2222"][..], "--ssh"),
        (&["status", "--ssh", "gw", "--port", "0"], "0 is not in"),
        (&["status", "--ssh=-x"], "has no host"),
        (&["status", "--ssh", "gw", "--expect", "MD5:x"], "43 characters"),
        (&["status", "--ssh", "gw", "--expect", "SHA256:xyz"], "43 characters"),
        (&["status", "--ssh", "gw", "--name", "home"], "--name"),
    ] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_wayhome"));
        let (code, _, error) = output(command.args(arguments));
        assert_eq!(code, 2, "{arguments:?}");
        assert!(error.contains(part), "{arguments:?}: {error}");
    }
}
