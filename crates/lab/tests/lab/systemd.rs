//! Booted computers have a systemd that works, a network of the lab, and nothing of the real machine;
//! and nothing outlives them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use wayhome_lab::net::GATEWAY;
use wayhome_lab::systemd::{Booted, Image};
use wayhome_lab::{Lab, Machine, assert_eventually, needs_systemd};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn a_computer_boots_a_systemd_of_its_own() {
    let image = needs_systemd!();
    let hostname = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let machine = Machine::start("attic").unwrap();
    let attic = Booted::start(&image, &machine).unwrap();

    assert_eq!(attic.state(), "running", "{}", attic.sh("systemctl --failed").unwrap());
    assert_eq!(
        attic.sh("cat /proc/1/comm; hostname; id -un; pwd").unwrap(),
        "systemd\nattic\nroot\n/root\n"
    );
    assert_eq!(attic.sh("cat /etc/machine-id").unwrap().trim().len(), 32);
    assert_eq!(fs::read_to_string(attic.file("/etc/hostname")).unwrap(), "attic\n");
    assert_eq!(fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), hostname);
    assert!(!image.folder().join("etc/ssh/ssh_host_ed25519_key").exists(), "every computer's own");

    attic.sh("systemd-run --unit=greeting --wait echo hello").unwrap();
    assert!(attic.journal("greeting").unwrap().contains("hello\n"));
    assert!(attic.console().contains("Reached target"), "{}", attic.console());

    drop(attic);
    assert!(!machine.file("/run/booted").exists(), "something is left of it");
    let mounts = fs::read_to_string(format!("/proc/{}/mounts", machine.pid())).unwrap();
    assert!(!mounts.contains("booted"), "{mounts}");
    Booted::start(&image, &machine).unwrap();
}

#[test]
fn a_login_has_its_own_systemd() {
    let image = needs_systemd!();
    let machine = Machine::start("attic").unwrap();
    let attic = Booted::start(&image, &machine).unwrap();
    attic.sh("useradd --create-home --shell /bin/bash fan").unwrap();
    let script = "id -un; pwd; echo $XDG_RUNTIME_DIR; systemctl --user is-system-running --wait";
    let output = attic.login("fan", script).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said, "fan\n/home/fan\n/run/user/1000\nrunning\n");
}

#[test]
fn a_reboot_keeps_the_disk_and_the_network_alone() {
    let image = needs_systemd!();
    let lab = Lab::three_seats().unwrap();
    let mut home = Booted::start(&image, lab.home()).unwrap();
    let boot = |home: &Booted<'_>| home.sh("cat /proc/sys/kernel/random/boot_id").unwrap();
    let host_key = home.sh("cat /etc/ssh/ssh_host_ed25519_key.pub").unwrap();
    let addresses = home.sh("ip -brief address; ip route").unwrap();
    home.sh("touch /var/lib/kept /run/lost; systemd-run --unit=stays sleep infinity").unwrap();

    for orderly in [true, false] {
        let before = boot(&home);
        if orderly {
            home.reboot().unwrap();
        } else {
            home.pull_the_plug();
            assert!(home.sh("true").is_err(), "it is switched off");
            assert!(home.file("/var/lib/kept").exists(), "its disk can be read all the same");
            home.switch_on().unwrap();
        }
        assert_ne!(boot(&home), before);
        let found =
            home.sh("ls /var/lib/kept; ls /run/lost || true; systemctl is-active stays || true");
        assert_eq!(found.unwrap(), "/var/lib/kept\ninactive\n");
        assert_eq!(home.sh("cat /etc/ssh/ssh_host_ed25519_key.pub").unwrap(), host_key);
        assert_eq!(home.sh("ip -brief address; ip route").unwrap(), addresses);
    }
    let boots = home.sh("journalctl --list-boots | grep -c '^ *-*[0-9]'").unwrap();
    assert_eq!(boots, "3\n", "the journal outlives reboots");
    home.power_off().unwrap();
    assert!(home.sh("true").is_err());
    assert!(home.reboot().is_err(), "one that is switched off cannot be rebooted");
    home.switch_on().unwrap();
    assert_eq!(home.sh("cat /proc/1/comm").unwrap(), "systemd\n");
}

#[test]
fn computers_meet_in_the_network_of_the_lab() {
    let image = needs_systemd!();
    let lab = Lab::three_seats().unwrap();
    let machines = [lab.home(), lab.gateway(), lab.laptop()];
    let booted = machines.map(|machine| Booted::start(&image, machine).unwrap());
    let [home, gateway, laptop] = &booted;
    for computer in [home, laptop] {
        let greeting = "exec 3<>/dev/tcp/gateway.example.org/22; head -c 8 <&3";
        let output = computer.command("bash").args(["-c", greeting]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "SSH-2.0-", "from {}", computer.name());
    }
    let keys = booted.each_ref().map(|each| each.sh("cat /etc/ssh/ssh_host_*.pub").unwrap());
    assert!(keys[0] != keys[1] && keys[1] != keys[2], "the host keys are the same: {keys:?}");

    lab.cut().unwrap();
    let ssh: SocketAddr = format!("{GATEWAY}:22").parse().unwrap();
    assert!(lab.home().connect(ssh, Duration::from_millis(300)).is_err(), "the line is cut");
    gateway.sh("true").unwrap();
}

#[test]
fn a_frozen_computer_stands_still_until_it_is_thawed() {
    let image = needs_systemd!();
    let machine = Machine::start("attic").unwrap();
    let attic = Booted::start(&image, &machine).unwrap();
    attic.sh("systemd-run sh -c 'while :; do date +%s%N > /run/clock; sleep 0.01; done'").unwrap();
    let clock = attic.file("/run/clock");
    let read = || fs::read_to_string(&clock).unwrap_or_default();
    let moves = |within| {
        let before = read();
        wayhome_lab::eventually(within, || !read().is_empty() && read() != before)
    };
    assert!(moves(SOON));
    attic.freeze().unwrap();
    // The kernel freezes each process when it next comes by.
    assert_eventually!(!moves(Duration::from_millis(200)), within = SOON);
    attic.thaw().unwrap();
    assert!(moves(SOON));
    attic.freeze().unwrap();
    // Dropped while it is frozen, it ends nevertheless.
}

/// The test program starts itself once more with this set, and that copy is killed.
const TO_BE_KILLED: &str = "WAYHOME_LAB_BOOTED_TO_BE_KILLED";

#[test]
fn a_killed_test_leaves_no_computer() {
    let _image = needs_systemd!();
    let mut test = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "systemd::the_copy_that_is_killed", "--nocapture"])
        .env(TO_BE_KILLED, "yes")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(test.stdout.take().unwrap()).lines();
    let pid = said
        .find_map(|line| Some(line.unwrap().split_once("machine: ")?.1.to_owned()))
        .expect("the copy boots a computer");
    let network = fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    let copy = test.id();
    let groups = || groups_of(copy);
    assert!(processes_in(&network) > 3);
    assert!(!groups().is_empty());

    test.kill().unwrap();
    test.wait().unwrap();
    assert_eventually!(processes_in(&network) == 0, within = SOON);
    assert_eventually!(groups().is_empty(), within = SOON, "{:?}", groups());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains("/run/booted"), "{mounts}");
}

#[test]
fn the_copy_that_is_killed() {
    if std::env::var_os(TO_BE_KILLED).is_none() {
        return;
    }
    let machine = Machine::start("attic").unwrap();
    let _attic = Booted::start(&Image::find().unwrap(), &machine).unwrap();
    println!("machine: {}", machine.pid());
    loop {
        std::thread::park();
    }
}

/// The control groups that a process made.
fn groups_of(pid: u32) -> Vec<PathBuf> {
    let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"];
    let name = format!("wayhome-lab-{pid}-");
    let folders = roots.iter().filter_map(|root| fs::read_dir(root).ok()).flatten().flatten();
    folders
        .filter(|folder| folder.file_name().to_string_lossy().starts_with(&name))
        .map(|folder| folder.path())
        .collect()
}

fn processes_in(network: &Path) -> usize {
    let all = fs::read_dir("/proc").unwrap().flatten();
    all.filter(|each| fs::read_link(each.path().join("ns/net")).is_ok_and(|found| found == network))
        .count()
}
