//! `wayhome uninstall`: what an agent really leaves behind on a machine, and what is beside it.

use std::fs;

use wayhome_lab::net::GATEWAY;
use wayhome_lab::{Machine, assert_eventually, needs_lab};

use crate::seats::{Agent, Login, PORT, Running, SOON, Seats, output, wayhome};

const CONFIG: &str = "name = \"home-ubuntu\"\n[[gateway]]\naddress = \"ssh://amy@203.0.113.10\"\n\
                      identity = \"/tmp/key\"\n[[service]]\ntarget = \"localhost:22\"\nport = 2222\n";

/// A home at which an agent ran, and a unit that looks like the service's.
fn lived_in() -> Seats {
    let seats = Seats::start(Login::Plain);
    let home = seats.lab.home();
    home.sh("mkdir -p /etc/wayhome /etc/systemd/system").unwrap();
    fs::write(home.file("/etc/wayhome/agent.toml"), CONFIG).unwrap();
    let mut agent = Agent::run(home, &["--config", "/etc/wayhome/agent.toml", "--accept-new"]);
    agent.until_up();
    agent.kill_9();
    let unit = format!("{}\n", wayhome::service::unit::MARK);
    fs::write(home.file("/etc/systemd/system/wayhome-agent.service"), unit).unwrap();
    drop(agent);
    seats
}

#[test]
fn it_is_shown_and_asked_for_before() {
    needs_lab!();
    let seats = lived_in();
    let home = seats.lab.home();
    let everything = "find /etc/wayhome /var/lib/wayhome /etc/systemd/system/wayhome-agent.service";
    let before = home.sh(everything).unwrap();
    let (code, text, told) = output(&mut wayhome(home, &["uninstall", "--dry-run"]));
    assert_eq!(code, 0, "{told}");
    for path in [
        "the service `/etc/systemd/system/wayhome-agent.service`",
        "`/etc/wayhome/agent.toml`",
        "`/var/lib/wayhome/known_hosts`",
        "`/var/lib/wayhome/sessions-home-ubuntu.json`",
        "`/var/lib/wayhome/agent-home-ubuntu.lock`",
        "`/run/wayhome/agent-home-ubuntu.sock`",
    ] {
        assert!(told.contains(path), "{path} in:\n{told}");
    }
    assert!(text.starts_with("ssh -N -T "), "{text}");
    // Nobody is there to be asked.
    let mut unasked = home.command("setsid");
    unasked.args(["--wait", env!("CARGO_BIN_EXE_wayhome"), "uninstall"]);
    let (code, _, told) = output(&mut unasked);
    assert_eq!(code, 2, "{told}");
    assert_eq!(home.sh(everything).unwrap(), before);
}

#[test]
fn all_of_it_goes_and_only_that_and_plain_openssh_works() {
    needs_lab!();
    let seats = lived_in();
    let home = seats.lab.home();
    home.sh("touch /etc/wayhome/mine /var/lib/wayhome/mine").unwrap();
    let (code, command, told) = output(&mut wayhome(home, &["uninstall", "--yes"]));
    assert_eq!(code, 0, "{told}");
    for path in ["/etc/wayhome/mine", "/var/lib/wayhome/mine"] {
        assert!(told.contains(&format!("`{path}` is left")), "{told}");
    }
    let left = home
        .sh("find /etc /run /var/lib /run/homes -name '*wayhome*' -o -path '*wayhome/*' | sort")
        .unwrap();
    // The lab keeps the machine's `/etc` there, and the programs that it brought.
    let of_the_lab =
        |path: &&str| path.starts_with("/run/etc") || path.starts_with("/run/programs");
    assert_eq!(
        left.lines().filter(|path| !of_the_lab(path)).collect::<Vec<_>>(),
        ["/etc/wayhome", "/etc/wayhome/mine", "/var/lib/wayhome", "/var/lib/wayhome/mine"]
    );
    let (_, _, told) = output(&mut wayhome(home, &["uninstall", "--yes"]));
    assert!(told.contains("is left"), "a second time it is no error: {told}");

    // The command that it prints does what the agent did.
    let known = format!("{GATEWAY} {}", seats.gateway_key());
    home.sh(&format!("mkdir -p ~/.ssh; echo '{known}' > ~/.ssh/known_hosts")).unwrap();
    let tunnel = home.command("sh").args(["-c", &format!("exec {command}")]).spawn().unwrap();
    let _tunnel = Running(tunnel);
    assert_eventually!(!seats.holder(PORT).is_empty(), within = SOON);
    let look = ["status", "--ssh", "amy@203.0.113.10", "-i", "/tmp/key"];
    let (code, text, _) = output(&mut wayhome(home, &look));
    assert_eq!(code, 0, "{text}");
}

#[test]
fn the_configuration_can_stay() {
    needs_lab!();
    let seats = lived_in();
    let home = seats.lab.home();
    let (code, _, told) = output(&mut wayhome(home, &["uninstall", "--yes", "--keep-config"]));
    assert_eq!(code, 0, "{told}");
    assert_eq!(home.sh("cat /etc/wayhome/agent.toml").unwrap(), CONFIG);
    assert_eq!(home.sh("ls -A /var/lib/wayhome 2>/dev/null || :").unwrap(), "");
}

#[test]
fn a_folder_that_somebody_named_keeps_what_is_not_of_wayhomes() {
    needs_lab!();
    let machine = Machine::start("home").unwrap();
    machine.add_user("fan", 4001, "/bin/sh").unwrap();
    let program = machine.bring(env!("CARGO_BIN_EXE_wayhome").as_ref()).unwrap();
    machine
        .sh("mkdir -p /tmp/shared/keys; cd /tmp/shared; touch known_hosts precious keys/key
            chown -R fan: .")
        .unwrap();
    let mut command = machine.command_as("fan", &program).unwrap();
    command.args(["service", "uninstall", "agent", "--user", "--purge"]);
    let (code, _, told) = output(command.env("STATE_DIRECTORY", "/tmp/shared"));
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("`/tmp/shared/precious` is left"), "{told}");
    assert_eq!(machine.sh("find /tmp/shared -type f").unwrap(), "/tmp/shared/precious\n");
}
