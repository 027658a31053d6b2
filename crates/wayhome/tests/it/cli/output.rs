//! What commands print when all is well, and when a road is not.

use wayhome::agent::control::Reloaded;
use wayhome_core::health::Cause;
use wayhome_core::service::Service;
use wayhome_core::status::{
    Configuration, Finding, LinkState, LinkStatus, ServiceState, ServiceStatus, Snapshot,
};
use wayhome_lab::{Here, OpenSsh, Sshd};

use super::sandbox::{Sandbox, assert_narrow, assert_seen, text};

fn link(gateway: &str, state: LinkState, services: Vec<ServiceStatus>) -> LinkStatus {
    let up = state == LinkState::Up;
    LinkStatus {
        gateway: gateway.to_owned(),
        state,
        since_ms: 3_723_000,
        cause: None,
        alarm: None,
        attempt: 0,
        retry_in_ms: None,
        round_trip_ms: up.then_some(20.4),
        reconnects: 2,
        no_hold: None,
        hold: up,
        services,
    }
}

fn service(forward: &str, state: ServiceState, cause: Option<Cause>) -> ServiceStatus {
    ServiceStatus {
        service: Service::from_forward(forward).unwrap(),
        state,
        since_ms: 3_722_000,
        cause: cause.as_ref().map(Finding::from),
        last_proof_ms: (state == ServiceState::Up).then_some(42_000),
        host_key: None,
    }
}

fn snapshot(name: &str, links: Vec<LinkStatus>) -> Snapshot {
    Snapshot {
        version: Snapshot::VERSION,
        name: name.parse().unwrap(),
        pid: 86,
        running_ms: 90_061_000,
        configuration: None,
        links,
        native: None,
    }
}

pub fn up() -> Snapshot {
    let services = vec![
        service("2222:localhost:22", ServiceState::Up, None),
        service("8080:home-ubuntu-2:80", ServiceState::Up, None),
    ];
    snapshot("home-ubuntu", vec![link("root@203.0.113.10", LinkState::Up, services)])
}

/// Each state of a link and of a service, at several gateways.
fn in_trouble() -> Snapshot {
    let forward = "2222:localhost:22";
    let mut down = link(
        "root@203.0.113.10",
        LinkState::Down,
        vec![service(forward, ServiceState::Down, None)],
    );
    down.cause = Some(Finding::from(&Cause::ResetInKeyExchange {
        detail: "kex_exchange_identification: Connection closed by remote host".into(),
    }));
    (down.attempt, down.retry_in_ms) = (7, Some(12_400));
    let mut halted = link(
        "wayhome@gw.example.org:2200",
        LinkState::Halted,
        vec![service(forward, ServiceState::Down, None)],
    );
    halted.cause = Some(Finding::from(&Cause::HostKeyChanged));
    (halted.attempt, halted.retry_in_ms) = (1, Some(419_000));
    let mut suspect = link(
        "root@198.51.100.7",
        LinkState::Suspect,
        vec![service(forward, ServiceState::Unproven, Some(Cause::TargetSilent))],
    );
    (suspect.since_ms, suspect.cause) = (900, Some(Finding::from(&Cause::HeartbeatLost)));
    let blocked = Cause::AnotherHome {
        fingerprint: "SHA256:m71ePlj1JHmwfpYXMv/5Wxom6BA/P1sxWfIBD7S6dwA".to_owned(),
    };
    let partly = link(
        "root@192.0.2.7",
        LinkState::Up,
        vec![
            service(forward, ServiceState::Halted, Some(blocked)),
            service("2223:home-ubuntu-2:22", ServiceState::Opening, None),
            service("8080:localhost:80", ServiceState::Blocked, Some(Cause::ForwardingForbidden)),
        ],
    );
    let dialling = link("gw", LinkState::Dialling, vec![]);
    let mut snapshot = snapshot("home-ubuntu", vec![down, halted, suspect, partly, dialling]);
    snapshot.configuration = Some(Configuration {
        file: "/etc/wayhome/agent.toml".to_owned(),
        loaded_ms: 7_200_000,
        error: Some("/etc/wayhome/agent.toml:12: `port` is a number from 1 to 65535".to_owned()),
    });
    snapshot
}

#[test]
fn the_status_of_a_road_that_is_up() {
    let sandbox = Sandbox::new();
    sandbox.answer("home-ubuntu", &up());
    assert_seen("status_up", &sandbox.seen(&["status"]));
    assert_seen("status_json", &sandbox.seen(&["status", "--json"]));
    assert_seen("kick", &sandbox.seen(&["agent", "kick"]));
}

#[test]
fn the_status_of_roads_in_trouble() {
    let sandbox = Sandbox::new();
    sandbox.answer("home-ubuntu", &in_trouble());
    let output = sandbox.wayhome(&["status"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_narrow(&output);
    assert_seen("status_trouble", &sandbox.seen(&["status"]));
}

#[test]
fn the_status_of_several_agents() {
    let sandbox = Sandbox::new();
    sandbox.answer("home-ubuntu", &up());
    sandbox.answer("van", &snapshot("van", vec![link("gw", LinkState::Up, vec![])]));
    assert_seen("status_several", &sandbox.seen(&["status"]));
    assert_seen("status_one_of_several", &sandbox.seen(&["status", "--name", "van"]));
    let which: &[&str] = &["agent", "kick"];
    assert_seen("kick_several", &sandbox.seen(which));
}

#[test]
fn what_a_reload_comes_to() {
    let sandbox = Sandbox::new();
    let reload = ["reload"];
    let mut seen = Vec::new();
    let changes = vec!["`web` (port 8080) is new".to_owned(), "`ssh` is gone".to_owned()];
    let wrong = "agent.toml:12: `port` is a number from 1 to 65535".to_owned();
    for answer in [
        Reloaded::Taken(changes),
        Reloaded::Taken(Vec::new()),
        Reloaded::Refused(wrong),
        Reloaded::NoFile,
    ] {
        sandbox.answer("home-ubuntu", &answer);
        seen.push(sandbox.seen(&reload));
    }
    assert_seen("reload", &seen.join("\n"));
}

#[test]
fn a_gate_and_the_lines_for_it() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "key.pub",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f fan@home\n",
    );
    let line = ["gate", "--authorize", "key.pub", "--port", "2222"];
    let laptop = [&line[..], &["--laptop"]].concat();
    assert_seen("gate", &[sandbox.seen(&line), sandbox.seen(&laptop)].join("\n"));
    // The script itself is in the tree, and needs no second copy.
    let script = sandbox.wayhome(&["gate"]).output().unwrap();
    assert!(script.status.success() && text(&script.stdout).starts_with("#!/bin/sh\n"));
}

#[test]
fn what_a_laptop_needs() {
    let sandbox = Sandbox::new();
    let home = Sshd::builder(&OpenSsh::system().unwrap()).start(&Here).unwrap();
    sandbox.write("agent.toml", &format!(
        "name = \"home-ubuntu\"\n[[gateway]]\naddress = \"ssh://root@203.0.113.10\"\nknown_hosts = \"pins\"\n\
         [[service]]\nname = \"ssh\"\ntarget = \"127.0.0.1:{}\"\nport = 2222\nproof = \"ssh\"\n",
        home.port(),
    ));
    sandbox.write("pins", &format!("203.0.113.10 {}\n", home.host_key_line()));
    let blob = home.host_key_line().split(' ').nth(1).unwrap().to_owned();
    let redacted = |seen: String| seen.replace(&blob, "AAAA(key)");
    let print = ["ssh-config", "--config", "agent.toml"];
    assert_seen("ssh_config", &redacted(sandbox.seen(&print)));
    let printed = sandbox.wayhome(&print).output().unwrap();
    sandbox.write("printed", &text(&printed.stdout));
    assert_seen(
        "ssh_config_dry_run",
        &redacted(sandbox.seen(&["ssh-config", "--write", "printed", "--dry-run"])),
    );
    let written = sandbox.wayhome(&["ssh-config", "--write", "printed"]).output().unwrap();
    assert!(written.status.success(), "{written:?}");
    assert_seen("ssh_config_again", &redacted(sandbox.seen(&["ssh-config", "--write", "printed"])));
    let remove = ["ssh-config", "--remove", "home-ubuntu"];
    assert_seen("ssh_config_remove", &sandbox.seen(&[&remove[..], &["--dry-run"]].concat()));
    let quiet = sandbox.wayhome(&[&["-q"], &remove[..]].concat()).output().unwrap();
    assert!(quiet.status.success() && quiet.stderr.is_empty(), "{quiet:?}");
}

#[test]
fn a_trial_tells_its_steps() {
    let sandbox = Sandbox::new();
    // Whom it logs in as is then the one who runs it.
    let output = sandbox.wayhome(&["try"]).env_remove("USER").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(output.stdout.is_empty(), "steps are no data");
    assert_narrow(&output);
    assert_seen("try", &timeless(&text(&output.stderr)));
}

/// Without what differs from run to run: times, ports, and the folder's name.
fn timeless(said: &str) -> String {
    let mut out = String::new();
    for line in said.lines() {
        let line = match line.split_at_checked(11) {
            Some((time, what)) if time.ends_with("s  ") => format!("     TIME  {what}"),
            _ => line.to_owned(),
        };
        let words = line.split(' ').map(|word| match word.strip_prefix("/tmp/wayhome-try-") {
            Some(_) => "/tmp/wayhome-try-FOLDER".to_owned(),
            None => numberless(word),
        });
        out += &words.collect::<Vec<_>>().join(" ");
        out.push('\n');
    }
    out
}

/// Ports are numbers from 1024 on; others mean something.
fn numberless(word: &str) -> String {
    let mut out = String::new();
    let mut digits = String::new();
    for c in word.chars().chain(['\0']) {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        if digits.len() > 3 {
            out.push_str("PORT");
        } else {
            out.push_str(&digits);
        }
        digits.clear();
        out.push(c);
    }
    out.trim_end_matches('\0').to_owned()
}
