//! The service as the service manager sees it: what it is told, what it reloads, whose it is, and
//! what is left when it is gone.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::Instant;

use wayhome_lab::{Lab, assert_eventually, needs_systemd};

use crate::road::{AGENT_TOML, PORT, Road, SOON, UNIT};

#[test]
fn systemd_and_the_journal_know_how_the_roads_are() {
    let image = needs_systemd!();
    let lab = Lab::three_seats().unwrap();
    let road = Road::open(&image, &lab);
    let told = || road.property("StatusText");
    let up = "home-ubuntu: 1 of 1 gateway up, 1 service proven";
    assert_eventually!(told() == up, within = SOON, "{}", told());
    assert_eq!(road.home.sh("systemctl is-system-running").unwrap(), "running\n");
    let agent = road.property("MainPID");
    assert_eq!(road.home.sh(&format!("ps -o user= -p {agent}")).unwrap(), "wayhome\n");

    let find = format!("journalctl --unit {UNIT} --output=cat PORT={PORT} EVENT=proven");
    let line = "wayhome@203.0.113.10: ssh (port 2222) is up: proven";
    let found = road.home.sh(&find).unwrap();
    assert!(found.contains(line), "{found}\n{}", road.journal());
}

#[test]
fn a_reload_keeps_what_it_does_not_change() {
    let image = needs_systemd!();
    let lab = Lab::three_seats().unwrap();
    let road = Road::open(&image, &lab);
    let (before, link) = (road.arrive().unwrap(), road.link());
    let mut session = road.laptop.command("ssh");
    session.args(["home-ubuntu", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut session = session.spawn().unwrap();
    let mut there = session.stdin.take().unwrap();
    let mut back = BufReader::new(session.stdout.take().unwrap());
    let mut echo = |line: &str| {
        there.write_all(line.as_bytes()).unwrap();
        let mut echoed = String::new();
        back.read_line(&mut echoed).unwrap();
        assert_eq!(echoed, line);
    };
    echo("before\n");

    let config = road.home.file("/etc/wayhome/agent.toml");
    let text = fs::read_to_string(&config).unwrap();
    let second = "[[service]]\nname = \"second\"\ntarget = \"localhost:22\"\nport = 2223\n";
    fs::write(&config, format!("{text}\n{second}")).unwrap();
    road.home.sh(&format!("systemctl reload {UNIT}")).unwrap();
    let services = || road.status().map_or(0, |status| status.links[0].services.len());
    assert_eventually!(services() == 2, within = SOON, "{}", road.journal());
    road.until_up();
    echo("with another service\n");

    fs::write(&config, format!("{text}\nnonsense")).unwrap();
    assert!(road.home.sh(&format!("systemctl reload {UNIT}")).is_err(), "it is refused");
    assert_eq!(road.home.sh(&format!("systemctl is-active {UNIT}")).unwrap(), "active\n");
    assert_eq!(services(), 2, "the configuration before runs on");
    echo("with a broken configuration\n");
    assert_eq!((road.arrive().unwrap(), road.link()), (before, link));
    drop(there);
    assert!(session.wait().unwrap().success(), "it ended when it was told to");
}

#[test]
fn a_service_of_a_persons_own_runs_from_boot_on() {
    let image = needs_systemd!();
    let lab = Lab::three_seats().unwrap();
    let mut road = Road::boot(&image, &lab);
    road.write_config();
    road.home.sh("loginctl enable-linger fan").unwrap();
    road.as_fan("wayhome service install agent --user --config agent.toml --accept-new");
    road.bring_configuration(&road.as_fan("wayhome ssh-config"));
    let before = road.arrive().expect("ssh home-ubuntu");
    let began = Instant::now();
    road.home.reboot().unwrap();
    let sessions = road.home.sh("loginctl list-sessions --no-legend").unwrap();
    assert_eq!(sessions, "", "nobody has logged in");
    road.until("home rebooted, with a user service", began, |now| now.boot != before.boot);
}

#[test]
fn an_uninstalled_service_leaves_nothing() {
    let image = needs_systemd!();
    let lab = Lab::three_seats().unwrap();
    let road = Road::boot(&image, &lab);
    road.write_config();
    let before = files(&road);
    road.install();
    road.until_up();
    road.bring_configuration(&road.home.sh("wayhome ssh-config --user fan").unwrap());
    road.arrive().expect("ssh home-ubuntu");
    assert!(files(&road).len() > before.len() + 4, "it is installed");

    road.as_fan("sudo wayhome service uninstall agent --purge");
    let after = files(&road);
    let changed: Vec<_> = after.symmetric_difference(&before).collect();
    assert!(changed.is_empty(), "left, or lost: {changed:?}");
    assert!(road.home.sh("id wayhome").is_err(), "the user is gone");
    assert!(road.home.sh("pgrep -x wayhome").is_err(), "the agent is gone");
    assert_eq!(road.property("LoadState"), "not-found");
    assert!(road.arrive().is_err(), "the road is closed");
    assert_eq!(fs::read_to_string(road.home.file("/home/fan/agent.toml")).unwrap(), AGENT_TOML);

    let began = Instant::now();
    road.install();
    road.until("installed again", began, |_| true);
}

/// All files of home, but for those that come and go by themselves.
fn files(road: &Road<'_>) -> BTreeSet<String> {
    let all = "find / -xdev -path /tmp -prune -o -path /var/tmp -prune -o -path /var/log -prune \
               -o -path /var/lib/systemd -prune -o -print";
    road.home.sh(all).unwrap().lines().map(str::to_owned).collect()
}
