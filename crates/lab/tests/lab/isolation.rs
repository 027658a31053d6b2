//! A machine's users, processes, names and files are its own, and nothing outlives it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use wayhome_lab::{Host, Machine, assert_eventually, needs_lab};

const SOON: Duration = Duration::from_secs(5);

#[test]
fn a_machine_has_its_own_processes_name_and_users() {
    needs_lab!();
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let hostname = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();

    let machine = Machine::start("attic").unwrap();
    let fan = machine.add_user("fan", 4001, "/bin/sh").unwrap();

    assert_eq!(machine.sh("cat /proc/sys/kernel/hostname").unwrap(), "attic\n");
    let numbers = machine.sh("ls /proc | grep -c '^[0-9]'").unwrap();
    assert!(numbers.trim().parse::<u32>().unwrap() < 10, "sees {numbers} processes");
    assert!(machine.sh("ip -br link").unwrap().lines().count() == 1, "has more than `lo`");

    let id = fan.command("sh").args(["-c", "id -un; pwd; echo $HOME $USER $LOGNAME"]).output();
    let home = fan.home().display();
    assert_eq!(
        String::from_utf8(id.unwrap().stdout).unwrap(),
        format!("fan\n{home}\n{home} fan fan\n")
    );
    let root = machine.sh("id -u; echo ~; echo $HOME").unwrap();
    assert_eq!(root, "0\n/run/homes/root\n/run/homes/root\n");

    assert_eq!(fs::read_to_string("/etc/passwd").unwrap(), passwd);
    assert_eq!(fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), hostname);
    assert!(!Path::new("/run/homes").exists());
}

#[test]
fn what_a_machine_writes_stays_in_it() {
    needs_lab!();
    let machine = Machine::start("attic").unwrap();
    for path in ["/etc/of-the-lab", "/tmp/of-the-lab", "/var/lib/of-the-lab", "/run/of-the-lab"] {
        machine.sh(&format!("echo here > {path}")).unwrap();
        assert!(!Path::new(path).exists(), "`{path}` reached the real machine");
        assert_eq!(fs::read_to_string(machine.file(path)).unwrap(), "here\n");
    }
    machine.own_folder("/usr/local").unwrap();
    assert_eq!(machine.sh("ls /usr/local").unwrap(), "");
    let user = machine.add_user("fan", 4001, "/bin/sh").unwrap();
    let there = machine.bring(Path::new("/bin/true")).unwrap();
    assert!(user.command(there).status().unwrap().success());
}

#[test]
fn a_killed_child_is_killed_inside() {
    needs_lab!();
    let machine = Machine::start("attic").unwrap();
    let fan = machine.add_user("fan", 4001, "/bin/sh").unwrap();
    let hosts: [&dyn Host; 2] = [&machine, &fan];
    for host in hosts {
        let mut child = host.command("sleep".as_ref()).arg("4711").spawn().unwrap();
        let running = || machine.sh("grep -l 4[7]11 /proc/[0-9]*/cmdline || true").unwrap();
        assert_eventually!(running().lines().count() == 1, within = SOON, "{}", running());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eventually!(running().is_empty(), within = SOON, "still there: {}", running());
    }
}

#[test]
fn a_dropped_machine_leaves_no_process() {
    needs_lab!();
    let machine = Machine::start("attic").unwrap();
    // Away from all parents, as a daemon is.
    machine.sh("setsid -f sleep 4712 > /dev/null 2>&1").unwrap();
    let namespace = fs::read_link(format!("/proc/{}/ns/net", machine.pid())).unwrap();
    assert!(processes_in(&namespace) >= 2);
    drop(machine);
    assert_eventually!(processes_in(&namespace) == 0, within = SOON);
}

#[test]
fn orphans_are_reaped() {
    needs_lab!();
    let machine = Machine::start("attic").unwrap();
    machine.sh("setsid -f true").unwrap();
    let zombies = || machine.sh("grep -l '^State:.Z' /proc/[0-9]*/status || true").unwrap();
    assert_eventually!(zombies().is_empty(), within = SOON, "left: {}", zombies());
}

/// The test program starts itself once more with this set, and that copy is killed.
const TO_BE_KILLED: &str = "WAYHOME_LAB_TO_BE_KILLED";

#[test]
fn a_killed_test_leaves_nothing() {
    needs_lab!();
    let interfaces = || fs::read_dir("/sys/class/net").unwrap().count();
    let before = interfaces();
    let mut test = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "isolation::the_copy_that_is_killed", "--nocapture"])
        .env(TO_BE_KILLED, "yes")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(test.stdout.take().unwrap()).lines();
    // libtest writes its own words before ours, on the same line.
    let pids = said
        .find_map(|line| Some(line.unwrap().split_once("machines: ")?.1.to_owned()))
        .expect("the copy starts its lab");
    let namespaces: Vec<_> = pids
        .split_whitespace()
        .map(|pid| fs::read_link(format!("/proc/{pid}/ns/net")).unwrap())
        .collect();
    assert_eq!(namespaces.len(), 5);
    assert_eq!(interfaces(), before, "the lab made an interface on the real machine");

    test.kill().unwrap();
    test.wait().unwrap();
    for namespace in &namespaces {
        assert_eventually!(processes_in(namespace) == 0, within = SOON);
    }
    assert_eq!(interfaces(), before);
}

#[test]
fn the_copy_that_is_killed() {
    if std::env::var_os(TO_BE_KILLED).is_none() {
        return;
    }
    let lab = wayhome_lab::Lab::three_seats().unwrap();
    let machines = [lab.home(), lab.nat(), lab.internet(), lab.gateway(), lab.laptop()];
    let pids: Vec<String> = machines.iter().map(|machine| machine.pid().to_string()).collect();
    println!("machines: {}", pids.join(" "));
    loop {
        std::thread::park();
    }
}

fn processes_in(namespace: &Path) -> usize {
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter(|entry| {
            fs::read_link(entry.path().join("ns/net")).is_ok_and(|found| found == namespace)
        })
        .count()
}
