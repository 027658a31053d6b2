//! Where the agent's files lie: its socket, also after it died, and the files of its configuration.

use std::fs;

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

#[test]
fn relative_paths_mean_the_same_to_everybody() {
    needs_lab!();
    let seats = Seats::start(Login::Root);
    let home = seats.lab.home();
    home.sh("mkdir ~/conf; cp /tmp/key ~/conf/key").unwrap();
    let root = home.home_of("root").unwrap();
    fs::write(
        home.file(root.join("conf/agent.toml")),
        format!(
            "name = \"home-ubuntu\"\n\
             [[gateway]]\naddress = \"root@{GATEWAY}\"\nidentity = \"key\"\nknown_hosts = \"pins\"\n\
             [[service]]\ntarget = \"localhost:22\"\nport = 2222\n"
        ),
    )
    .unwrap();
    let address = format!("root@{GATEWAY}");
    let line = ["-R", "2222:localhost:22", "-i", "conf/key", "--known-hosts", "conf/line-pins"];
    let line = [&[address.as_str(), "--name", "home-ubuntu"][..], &line].concat();
    for (arguments, file) in
        [(vec!["--config", "conf/agent.toml"], "conf/pins"), (line, "conf/line-pins")]
    {
        // It stands in root's home, and everybody else somewhere else.
        let agent = Agent::run(home, &[&arguments[..], &["--accept-new"]].concat());
        agent.until_up();
        assert!(home.file(root.join(file)).exists(), "{file}");
        let elsewhere = format!("cd / && exec {} \"$@\"", env!("CARGO_BIN_EXE_wayhome"));
        let mut command = home.command("sh");
        command.args(["-c", &elsewhere, "sh", "ssh-config", "--user", "fan"]);
        let (code, printed, error) = output(&mut command);
        assert_eq!(code, 0, "{file}: {error}");
        assert!(printed.contains(&seats.gateway_key()), "{file}: {printed}");
    }
}
