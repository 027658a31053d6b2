//! An old tunnel in a unit of its own, and `wayhome import --take-over`.

use std::fs;
use std::process::Stdio;
use std::time::Instant;

use wayhome_lab::systemd::Image;
use wayhome_lab::{Lab, assert_eventually, needs_systemd};

use crate::road::{Road, SOON, UNIT};

/// As the usual guide has it, with ssh in place of autossh.
const OLD: &str = "\
[Unit]
Description=Reverse SSH tunnel
After=network-online.target
Wants=network-online.target

[Service]
User=fan
ExecStart=/usr/bin/ssh -N -i /home/fan/.ssh/wayhome \\
  -o StrictHostKeyChecking=accept-new -o \"ServerAliveInterval=30\" \\
  -o \"ExitOnForwardFailure=yes\" \\
  -R 127.0.0.1:2222:localhost:22 wayhome@203.0.113.10
Restart=always
RestartSec=1

[Install]
WantedBy=multi-user.target
";

const TAKE_OVER: &str = "sudo wayhome import --unit reverse-ssh --take-over --accept-new";

/// The three computers, with the old tunnel between them.
fn with_old_tunnel<'a>(image: &Image, lab: &'a Lab) -> Road<'a> {
    let road = Road::boot(image, lab);
    fs::write(road.home.file("/etc/systemd/system/reverse-ssh.service"), OLD).unwrap();
    road.home.sh("systemctl daemon-reload; systemctl enable --now reverse-ssh").unwrap();
    assert_eventually!(old_road_leads_home(&road), within = SOON, "the old tunnel");
    road
}

fn old_road_leads_home(road: &Road<'_>) -> bool {
    let look = "sudo wayhome status --ssh wayhome@203.0.113.10 -i /home/fan/.ssh/wayhome";
    let known = "mkdir -p /root/.ssh; cp /home/fan/.ssh/known_hosts /root/.ssh/known_hosts";
    road.home.sh(&format!("{known}; {look}")).is_ok()
}

/// What systemd says of a unit: whether it runs, and whether it starts with the machine.
fn state(road: &Road<'_>, unit: &str) -> String {
    let ask = format!("systemctl is-active {unit} || :; systemctl is-enabled {unit} || :");
    road.home.sh(&ask).unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn result(road: &Road<'_>) -> (Option<i32>, String) {
    let mut command = road.home.command("wayhome");
    let output = command.args(["import", "--result"]).stdin(Stdio::null()).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn wayhome_takes_the_place_of_the_old_tunnel() {
    let image = needs_systemd!();
    let lab = Lab::three_seats().unwrap();
    let road = with_old_tunnel(&image, &lab);
    let began = Instant::now();
    let output = road.home.login("fan", TAKE_OVER).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}\n{}", road.journal());
    println!("taken over after {:.1?}", began.elapsed());
    assert_eq!(state(&road, "reverse-ssh"), "inactive disabled", "{told}");
    assert_eq!(state(&road, UNIT), "active enabled", "{told}");
    assert!(road.status().unwrap().all_up(), "{told}");
    let (code, told) = result(&road);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("proven after") && told.contains("stopped and disabled"), "{told}");
    let told = road.as_fan("wayhome import --result 2>&1 || :");
    assert!(told.contains("run this with sudo"), "{told}");
}

#[test]
fn who_came_in_through_the_old_tunnel_is_cut_off_and_it_goes_on() {
    let image = needs_systemd!();
    let lab = Lab::three_seats().unwrap();
    let road = with_old_tunnel(&image, &lab);
    let jump = "ssh -o StrictHostKeyChecking=accept-new -o ServerAliveInterval=2 -W 127.0.0.1:2222 \
                wayhome@203.0.113.10";
    let mut ssh = road.laptop.command("ssh");
    ssh.args(["-o", "StrictHostKeyChecking=accept-new", "-o", &format!("ProxyCommand={jump}")]);
    ssh.args(["-o", "ServerAliveInterval=2", "-p", "2222", "fan@127.0.0.1", TAKE_OVER]);
    let output = ssh.stdin(Stdio::null()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "the way in is gone: {told}");
    assert!(told.contains("you are cut off now"), "{told}");
    assert_eventually!(result(&road).0 == Some(0), within = SOON, "{:?}", result(&road));
    assert_eq!(state(&road, "reverse-ssh"), "inactive disabled");
    assert!(road.status().unwrap().all_up());
}

#[test]
fn without_proof_the_old_tunnel_comes_back() {
    let image = needs_systemd!();
    let lab = Lab::three_seats().unwrap();
    let road = with_old_tunnel(&image, &lab);
    // Nothing answers at the end of the road, so that no proof can come.
    road.home.sh("systemctl stop ssh").unwrap();
    let output = road.home.login("fan", TAKE_OVER).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("no proof within 60 s"), "{told}");
    assert_eq!(state(&road, "reverse-ssh"), "active enabled", "{told}");
    assert_eq!(state(&road, UNIT), "inactive disabled", "{told}");
    assert_eq!(result(&road).0, Some(1));
    road.home.sh("systemctl start ssh").unwrap();
    assert_eventually!(old_road_leads_home(&road), within = SOON, "the old road");
}

#[test]
fn a_switch_that_is_killed_ends_with_the_old_tunnel() {
    let image = needs_systemd!();
    let lab = Lab::three_seats().unwrap();
    let road = with_old_tunnel(&image, &lab);
    road.home.sh("systemctl stop ssh").unwrap();
    let mut watching = road.home.login("fan", TAKE_OVER).stderr(Stdio::null()).spawn().unwrap();
    let old_is_stopped = || state(&road, "reverse-ssh") == "inactive enabled";
    assert_eventually!(old_is_stopped(), within = SOON, "the switch");
    road.home.sh("systemctl kill --kill-whom=main -s KILL wayhome-take-over").unwrap();
    assert_eq!(watching.wait().unwrap().code(), Some(1));
    assert_eq!(state(&road, "reverse-ssh"), "active enabled");
    assert_eq!(state(&road, UNIT), "inactive disabled");
    let (code, told) = result(&road);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("ended from outside"), "{told}");
}
