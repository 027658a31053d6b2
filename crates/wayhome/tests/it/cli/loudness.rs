//! What the log says: nothing but what a person must mend, the road's story, ssh's words, all.

use std::fs;
use std::process::{Child, Stdio};

use serde_json::Value;
use wayhome_lab::net::GATEWAY;
use wayhome_lab::{Machine, assert_eventually, needs_lab};

use crate::seats::{Login, PORT, SOON, Seats, output, wayhome};

/// Runs an agent with these flags through a life: connected, cut, connected again, ended. Gives its
/// log.
fn life(seats: &Seats, flags: &[&str]) -> String {
    let home = seats.lab.home();
    let log = home.file("/tmp/life.log");
    let mut agent = start(home, flags, &log);
    let up = |reconnects: u64| {
        let (code, json, _) = output(&mut wayhome(home, &["status", "--json"]));
        code == 0 && json.contains(&format!("\"reconnects\": {reconnects}"))
    };
    let said = || fs::read_to_string(&log).unwrap();
    assert_eventually!(up(0), within = SOON, "{}", said());
    let pid: Value =
        serde_json::from_str(&output(&mut wayhome(home, &["status", "--json"])).1).unwrap();
    let pid = pid["pid"].as_u64().unwrap();
    home.sh(&format!("kill -9 $(cat /proc/{pid}/task/*/children)")).unwrap();
    assert_eventually!(up(1), within = SOON, "{}", said());
    home.sh(&format!("kill -TERM {pid}")).unwrap();
    assert_eq!(agent.wait().unwrap().code(), Some(0), "{}", said());
    assert_eventually!(seats.holder(PORT).is_empty(), within = SOON, "the port is free");
    said()
}

fn start(home: &Machine, flags: &[&str], log: &std::path::Path) -> Child {
    let gateway = format!("root@{GATEWAY}");
    let run = ["agent", "run", &gateway, "-i", "/tmp/key", "--accept-new"];
    let arguments = [flags, &run, &["-R", "2222:localhost:22", "--name", "home-ubuntu"]].concat();
    let mut command = wayhome(home, &arguments);
    command.stdout(Stdio::null()).stderr(fs::File::create(log).unwrap()).spawn().unwrap()
}

fn with_a_banner() -> Seats {
    let openssh = wayhome_lab::OpenSsh::system().unwrap();
    let seats = Seats::with(Login::Root, 1, &openssh, |sshd| sshd.line("Banner /tmp/banner"));
    fs::write(seats.lab.gateway().file("/tmp/banner"), "A banner of the gateway\n").unwrap();
    seats
}

#[test]
fn each_loudness_says_its_part() {
    needs_lab!();
    let seats = with_a_banner();
    let story = [
        "agent for `home-ubuntu` runs",
        ": connected\n",
        "ssh (port 2222) is up: proven",
        "WARN root@203.0.113.10: down: ",
        "connected again after ",
        ", at attempt 1; until then ",
        ", round trip ",
        "ending",
    ];
    let words = "ssh: A banner of the gateway";
    let events = "Dial(ConnId(";

    let quiet = life(&seats, &["-q"]);
    assert_eq!(quiet, "", "there was nothing for a person to mend");
    let usual = life(&seats, &[]);
    let verbose = life(&seats, &["-v"]);
    let everything = life(&seats, &["-vv"]);
    for log in [&usual, &verbose, &everything] {
        for part in story {
            assert!(log.contains(part), "no `{part}` in:\n{log}");
        }
    }
    assert!(!usual.contains(words) && verbose.contains(words) && everything.contains(words));
    assert!(!verbose.contains(events) && everything.contains(events), "{everything}");
    let again: Vec<&str> = usual.lines().filter(|line| line.contains("connected again")).collect();
    assert_eq!(again.len(), 1, "a reconnect is one line: {again:?}");
}

#[test]
fn json_has_the_facts_as_fields() {
    needs_lab!();
    let seats = Seats::start(Login::Root);
    let log = life(&seats, &["--log-format", "json"]);
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for line in &lines {
        assert!(line["timestamp"].is_string() && line["message"].is_string(), "{line}");
    }
    let events: Vec<&str> = lines.iter().filter_map(|line| line["event"].as_str()).collect();
    // Only the first agent of a home pins its gateway.
    let story: Vec<&str> = events.into_iter().filter(|event| *event != "pinned").collect();
    assert_eq!(story, ["started", "connected", "proven", "down", "connected", "proven", "ending"]);
    let last = |event: &str| lines.iter().rfind(|line| line["event"] == event).unwrap();
    let gateway = format!("root@{GATEWAY}");
    for event in ["connected", "proven", "down"] {
        assert_eq!(last(event)["gateway"], gateway);
    }
    let connected = last("connected");
    assert_eq!(connected["cause.kind"], "connection-lost");
    assert_eq!(connected["fault"], "network");
    assert_eq!(connected["attempt"], 1);
    assert!(connected["after_ms"].as_u64().unwrap() < 20_000);
    let proven = last("proven");
    assert_eq!((&proven["service"], &proven["port"]), (&Value::from("ssh"), &Value::from(2222)));
    assert!(proven["round_trip_ms"].as_f64().unwrap() > 0.0, "{proven}");
    assert!(!log.contains('\u{1b}'));
}

#[test]
fn what_a_person_must_mend_is_heard_quietly_too() {
    needs_lab!();
    let seats = Seats::start(Login::Root);
    let home = seats.lab.home();
    home.sh("rm /tmp/key; ssh-keygen -q -t ed25519 -N '' -f /tmp/key").unwrap();
    let log = home.file("/tmp/quiet.log");
    let agent = start(home, &["-q"], &log);
    let _agent = crate::seats::Running(agent);
    let said = || fs::read_to_string(&log).unwrap();
    assert_eventually!(said().contains("halted: "), within = SOON, "{}", said());
    assert!(said().contains("ERROR") && said().contains("authorized_keys"), "{}", said());
    assert_eq!(said().lines().count(), 1, "{}", said());
}

/// Whoever read the log may go away; the road stays.
#[test]
fn an_agent_outlives_the_reader_of_its_log() {
    needs_lab!();
    let seats = Seats::start(Login::Root);
    let home = seats.lab.home();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let gateway = format!("root@{GATEWAY}");
    let mut command = wayhome(home, &["-vv", "agent", "run", &gateway, "-i", "/tmp/key"]);
    command.args(["--accept-new", "-R", "2222:localhost:22"]).stderr(writer);
    let _agent = crate::seats::Running(command.stdout(Stdio::null()).spawn().unwrap());
    drop(command);
    let up = || output(&mut wayhome(home, &["status"])).0 == 0;
    assert_eventually!(up(), within = SOON, "it is up, with nobody to tell");
}
