//! Row 6 of the seats: `ssh -R` at home and `ssh -J` on the laptop, by the sshd of a machine that runs
//! `wayhome gateway` beside it; and what that one's `wayhome status` says of it.

use std::fs;
use std::process::{Child, Stdio};

use wayhome_core::status::gateway::{Behind, GatewaySnapshot, StockStatus};
use wayhome_lab::net::GATEWAY;
use wayhome_lab::{Machine, assert_eventually, needs_lab};

use crate::seats::{Login, Running, SOON, Seats, output, wayhome};

fn start_gateway(machine: &Machine) -> Running {
    machine
        .sh("mkdir -p -m 700 /var/lib/wayhome /etc/wayhome; touch /etc/wayhome/grants.toml")
        .unwrap();
    let log = fs::File::create(machine.file("/tmp/gateway.log")).unwrap();
    let gateway = Running(wayhome(machine, &["gateway", "run"]).stderr(log).spawn().unwrap());
    assert_eventually!(status(machine).is_some(), within = SOON);
    gateway
}

fn status(machine: &Machine) -> Option<GatewaySnapshot> {
    let json = output(&mut wayhome(machine, &["status", "--json"])).1;
    let shown: serde_json::Value = serde_json::from_str(&json).ok()?;
    let shown = shown.get(0).cloned().unwrap_or(shown);
    serde_json::from_value(shown).ok()
}

fn stock(machine: &Machine) -> Vec<StockStatus> {
    // What was seen a moment ago, another test of ours would see again.
    let _ = fs::remove_file(machine.file("/run/wayhome/stock.json"));
    status(machine).unwrap().stock
}

/// `ssh -R`, as people run it.
fn tunnel(seats: &Seats, user: &str, forwards: &[&str]) -> Child {
    let home = seats.lab.home();
    let known = format!("{GATEWAY} {}", seats.gateway_key());
    home.sh(&format!("mkdir -p -m 700 ~/.ssh; echo '{known}' > ~/.ssh/known_hosts")).unwrap();
    let mut ssh = home.command(seats.openssh.ssh());
    ssh.args(["-N", "-i", "/tmp/key", "-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes"]);
    for forward in forwards {
        ssh.args(["-R", forward]);
    }
    let child = ssh.arg(format!("{user}@{GATEWAY}")).stdin(Stdio::null()).spawn().unwrap();
    for forward in forwards {
        let port = forward.trim_start_matches("*:").split(':').next().unwrap().parse().unwrap();
        assert_eventually!(!seats.holder(port).is_empty(), within = SOON);
    }
    child
}

#[test]
fn a_stock_listener_is_shown_and_led_through() {
    needs_lab!();
    for login in [Login::Root, Login::Plain] {
        let seats = Seats::start(login);
        let gateway = seats.lab.gateway();
        let _gateway = start_gateway(gateway);
        assert_eq!(stock(gateway), [], "sshd itself is none");
        let forwards = ["2222:localhost:22", "*:8080:localhost:80", "9999:localhost:9"];
        let web = "import http.server as h; h.HTTPServer(('127.0.0.1', 80), h.SimpleHTTPRequestHandler).serve_forever()";
        let _web = Running(
            seats
                .lab
                .home()
                .command("python3")
                .args(["-c", web])
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        );
        assert_eventually!(
            seats.lab.home().sh("ss -Hltn 'sport = :80'").unwrap().contains(":80"),
            within = SOON
        );
        let _tunnel = Running(tunnel(&seats, login.user(), &forwards));

        let seen = stock(gateway);
        let ports: Vec<_> = seen.iter().map(|it| (it.port, it.is_public)).collect();
        assert_eq!(ports, [(2222, false), (8080, true), (9999, false)], "{seen:#?}");
        for listener in &seen {
            assert_eq!(listener.account.as_str(), login.user(), "{listener:?}");
            assert!(listener.pid.is_some(), "{listener:?}");
            if login == Login::Root {
                assert_eq!(listener.from.as_deref(), Some("192.0.2.2"), "{listener:?}");
            }
        }
        let Behind::Host { key, fingerprint } = &seen[0].behind else { panic!("{seen:#?}") };
        assert!(seats.homes[0].host_key_line().contains(key.as_str()), "{key}");
        assert!(fingerprint.starts_with("SHA256:"), "{fingerprint}");
        assert_eq!([&seen[1].behind, &seen[2].behind], [&Behind::Other, &Behind::Nothing]);

        let (_, text, _) = output(&mut wayhome(gateway, &["status"]));
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in [
            "stock listeners (ssh -R, at this machine's own sshd) 127.0.0.1:2222",
            &format!("a session of {} (process ", login.user()),
            &format!("a host answers, {fingerprint}"),
            "0.0.0.0:8080",
            "(public)",
            "something answers, and is no SSH",
            "nothing listens at its target",
        ] {
            assert!(text.contains(part), "`{part}` in:\n{text}");
        }

        // And the laptop goes home by it, with nothing of wayhome's.
        let laptop = seats.lab.laptop();
        let (gateway_key, home_key) = (seats.gateway_key(), seats.homes[0].host_key_line());
        let known = format!("{GATEWAY} {gateway_key}\n[127.0.0.1]:2222 {home_key}");
        laptop.sh(&format!("mkdir -p -m 700 ~/.ssh; echo '{known}' > ~/.ssh/known_hosts")).unwrap();
        laptop
            .sh("printf 'Host *\\n IdentityFile /tmp/key\\n BatchMode yes\\n' > ~/.ssh/config")
            .unwrap();
        let jump = format!("ssh -J way@{GATEWAY} -p 2222 fan@127.0.0.1 id -un");
        assert_eq!(laptop.sh(&jump).unwrap(), "fan\n");
    }
}

#[test]
fn a_home_that_does_not_answer_is_said_and_is_not_asked_again_and_again() {
    needs_lab!();
    let seats = Seats::start(Login::Root);
    let gateway = seats.lab.gateway();
    let _gateway = start_gateway(gateway);
    let tunnel = Running(tunnel(&seats, "root", &["2222:localhost:22"]));
    let was = &stock(gateway)[0];
    assert!(matches!(was.behind, Behind::Host { .. }), "{was:?}");
    // From now on it is remembered, whatever becomes of it.
    let ssh = rustix::process::Pid::from_raw(seats_child(&tunnel)).unwrap();
    rustix::process::kill_process(ssh, rustix::process::Signal::STOP).unwrap();
    let again = &status(gateway).unwrap().stock[0];
    assert!(matches!(again.behind, Behind::Host { .. }) && again.seen_ms.is_some(), "{again:?}");
    assert_eq!(stock(gateway)[0].behind, Behind::Silent);
    let (_, text, _) = output(&mut wayhome(gateway, &["status"]));
    assert!(text.contains("nobody answers"), "{text}");
    rustix::process::kill_process(ssh, rustix::process::Signal::CONT).unwrap();
    drop(tunnel);
    assert_eventually!(stock(gateway).is_empty(), within = SOON);
}

/// The ssh itself: what we started enters the machine's namespaces first.
fn seats_child(running: &Running) -> i32 {
    let pid = running.0.id();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children.split_whitespace().next().map_or(pid as i32, |child| child.parse().unwrap())
}

/// A gateway's own user, who is not root, sees whose a listener is, and says what it does not see.
#[test]
fn who_is_not_root_is_told_what_can_be_seen() {
    needs_lab!();
    let seats = Seats::start(Login::Plain);
    let gateway = seats.lab.gateway();
    gateway.add_user("keeper", 3009, "/bin/sh").unwrap();
    let program = gateway.bring(env!("CARGO_BIN_EXE_wayhome").as_ref()).unwrap();
    gateway
        .sh("mkdir -p -m 700 /tmp/k; touch /tmp/k/grants.toml
            printf 'identity = \"id\"\\n' > /tmp/k/gateway.toml; chown -R keeper: /tmp/k")
        .unwrap();
    let as_keeper = |arguments: &[&str]| {
        let mut command = gateway.command_as("keeper", &program).unwrap();
        command.args(arguments).env("STATE_DIRECTORY", "/tmp/k").env("RUNTIME_DIRECTORY", "/tmp/k");
        command
    };
    let run = ["gateway", "run", "--config", "/tmp/k/gateway.toml"];
    let _gateway = Running(as_keeper(&run).stderr(Stdio::null()).spawn().unwrap());
    let _tunnel = Running(tunnel(&seats, "amy", &["2222:localhost:22"]));
    let shown = || output(&mut as_keeper(&["status"])).1;
    assert_eventually!(shown().contains("stock listeners"), within = SOON, "{}", shown());
    let text = shown().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("a session of amy, as it seems: only root sees which"), "{text}");
    assert!(text.contains("a host answers, SHA256:"), "{text}");
}
