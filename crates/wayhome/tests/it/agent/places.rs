//! Where the agent's files lie: its socket, also after it died.

use wayhome_lab::needs_lab;
use wayhome_lab::net::GATEWAY;

use crate::seats::{Agent, Login, Seats, output, wayhome};

#[test]
fn a_dead_agents_socket_is_in_nobodys_way() {
    needs_lab!();
    let seats = Seats::start(Login::Root);
    let home = seats.lab.home();
    let agent = seats.agent();
    agent.until_up();
    let address = format!("root@{GATEWAY}");
    let other = ["-i", "/tmp/key", "--name", "other", "--accept-new", "-R", "2229:localhost:22"];
    let mut other = Agent::run(home, &[&[address.as_str()][..], &other].concat());
    let socket = home.file("/run/wayhome/agent-other.sock");
    wayhome_lab::assert_eventually!(socket.exists(), within = crate::seats::SOON);
    let (code, _, error) = output(&mut wayhome(home, &["agent", "kick"]));
    assert_eq!(code, 2);
    assert!(error.contains("several agents run"), "two live ones are two: {error}");
    let pid = home.sh("pgrep -f -- '[-]-name other'").unwrap();
    home.sh(&format!("kill -9 {pid}")).unwrap();
    other.child.wait().unwrap();
    assert!(socket.exists(), "it was left behind");

    let (code, _, error) = output(&mut wayhome(home, &["agent", "kick"]));
    assert_eq!(code, 0, "{error}");
    assert!(error.contains("`other` has ended without a word"), "{error}");
    assert!(!socket.exists(), "it was removed");
    let (code, table, error) = output(&mut wayhome(home, &["status"]));
    assert_eq!((code, error.as_str()), (0, ""), "{table}");
}

#[test]
fn a_socket_stays_while_its_agents_lock_is_held() {
    needs_lab!();
    let seats = Seats::start(Login::Root);
    let home = seats.lab.home();
    let mut agent = seats.agent();
    agent.until_up();
    agent.kill_9();
    // Somebody holds the lock as an agent does between making its socket and listening at it.
    let mut holder = home.command("flock");
    holder.args(["/var/lib/wayhome/agent-home-ubuntu.lock", "sh", "-c", "echo held; cat"]);
    holder.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut holder = crate::seats::Running(holder.spawn().unwrap());
    let mut line = String::new();
    let stdout = holder.0.stdout.as_mut().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).unwrap();
    assert_eq!(line, "held\n");
    let (code, _, error) = output(&mut wayhome(home, &["status"]));
    assert_eq!(code, 2);
    assert!(error.contains("does not answer"), "{error}");
    assert!(home.file("/run/wayhome/agent-home-ubuntu.sock").exists());
}
