//! The configuration changes while the agent runs: by an edit, by SIGHUP, by `wayhome reload`.

use std::fs;
use std::io::{BufRead, BufReader, Write};

use wayhome_core::status::{ServiceState, Snapshot};
use wayhome_lab::net::GATEWAY;
use wayhome_lab::{assert_eventually, needs_lab};

use crate::seats::{Agent, Login, PORT, Running, SOON, Seats, output, wayhome};

const FILE: &str = "/tmp/agent.toml";

fn gateway(address: &str) -> String {
    format!("[[gateway]]\naddress = \"ssh://{address}\"\nidentity = \"/tmp/key\"\n")
}

fn service(name: &str, port: u16, target: &str) -> String {
    format!("[[service]]\nname = \"{name}\"\ntarget = \"{target}\"\nport = {port}\n")
}

fn configuration(parts: &[String]) -> String {
    format!("name = \"home-ubuntu\"\nheartbeat = 1\n{}", parts.concat())
}

struct Home<'a> {
    seats: &'a Seats,
    agent: Agent<'a>,
}

impl<'a> Home<'a> {
    fn start(seats: &'a Seats, parts: &[String]) -> Self {
        fs::write(seats.lab.home().file(FILE), configuration(parts)).unwrap();
        let agent = Agent::run(seats.lab.home(), &["--config", FILE, "--accept-new"]);
        agent.until_up();
        Self { seats, agent }
    }

    /// Saves the file as editors do: written beside, and renamed.
    fn save(&self, text: &str) {
        let home = self.seats.lab.home();
        fs::write(home.file("/tmp/agent.toml.new"), text).unwrap();
        fs::rename(home.file("/tmp/agent.toml.new"), home.file(FILE)).unwrap();
    }

    fn services(&self) -> Vec<(String, ServiceState)> {
        let services = self.agent.link().services;
        services.into_iter().map(|s| (s.service.name.to_string(), s.state)).collect()
    }

    fn until_services(&self, names: &[&str]) {
        let wanted: Vec<_> =
            names.iter().map(|name| ((*name).to_owned(), ServiceState::Up)).collect();
        assert_eventually!(
            self.services() == wanted,
            within = SOON,
            "{names:?}; {:?}; the log: {}",
            self.services(),
            self.agent.log()
        );
    }

    fn refusal(&self) -> Option<String> {
        self.agent.snapshot().configuration.unwrap().error
    }
}

/// A stream through the first service's port, from the gateway to an echo at home.
struct Stream {
    child: Running,
    replies: BufReader<std::process::ChildStdout>,
}

impl Stream {
    fn open(seats: &Seats, port: u16) -> Self {
        let script = format!("exec 3<>/dev/tcp/127.0.0.1/{port}; cat <&3 & cat >&3");
        let mut command = seats.lab.gateway().command("bash");
        command.args(["-c", &script]).stdin(std::process::Stdio::piped());
        let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let replies = BufReader::new(child.stdout.take().unwrap());
        let mut stream = Self { child: Running(child), replies };
        stream.echo("hello");
        stream
    }

    /// Sends a line, and waits for it to come back.
    fn echo(&mut self, line: &str) {
        let stdin = self.child.0.stdin.as_mut().unwrap();
        writeln!(stdin, "{line}").unwrap();
        let mut reply = String::new();
        self.replies.read_line(&mut reply).unwrap();
        assert_eq!(reply.trim_end(), line);
    }
}

/// A server at home that says back what it hears.
fn echo_server(seats: &Seats, port: u16) -> Running {
    let script = format!(
        "import socketserver
class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile: self.wfile.write(line)
class Server(socketserver.ThreadingTCPServer): daemon_threads = True
print('ready', flush=True)
Server(('127.0.0.1', {port}), Echo).serve_forever()"
    );
    Running(seats.lab.home().command("python3").args(["-c", &script]).spawn().unwrap())
}

#[test]
fn services_come_and_go_and_no_stream_is_cut() {
    needs_lab!();
    let seats = Seats::start(Login::Plain);
    let _echo = echo_server(&seats, 7000);
    let to = gateway(&format!("amy@{GATEWAY}"));
    let ssh = service("ssh", PORT, "localhost:22");
    let echo = service("echo", 7000, "localhost:7000");
    let home = Home::start(&seats, &[to.clone(), ssh.clone(), echo.clone()]);
    let holder = seats.holder(PORT);
    let before = home.agent.pids();
    let mut kept = Stream::open(&seats, 7000);

    // One more: by an edit alone.
    let another = service("another", 2300, "localhost:22");
    home.save(&configuration(&[to.clone(), ssh.clone(), echo.clone(), another.clone()]));
    home.until_services(&["ssh", "echo", "another"]);
    kept.echo("one more");

    // One less, and a stream through it is not cut: only its port goes.
    home.save(&configuration(&[to.clone(), ssh.clone(), another]));
    home.until_services(&["ssh", "another"]);
    assert_eventually!(seats.holder(7000).is_empty(), within = SOON, "the port is given back");
    kept.echo("one less");

    // The same port leads elsewhere.
    home.save(&configuration(&[
        to.clone(),
        ssh.clone(),
        service("another", 2300, "localhost:7000"),
    ]));
    let kind = || home.agent.link().services[1].service.proof.to_string();
    assert_eventually!(kind() == "hold", within = SOON, "{}", home.agent.log());
    home.until_services(&["ssh", "another"]);
    let mut moved = Stream::open(&seats, 2300);
    moved.echo("moved");

    assert_eq!(seats.holder(PORT), holder, "the first service was never touched");
    assert_eq!(home.agent.pids(), before, "nor the connection");
    assert_eq!(home.agent.link().reconnects, 0);
    assert!(home.agent.link().hold, "{}", home.agent.log());
}

#[test]
fn a_port_that_was_added_later_is_taken_over_too() {
    needs_lab!();
    for login in [Login::Root, Login::Plain] {
        let seats = Seats::start(login);
        let to = gateway(&format!("{}@{GATEWAY}", login.user()));
        let ssh = service("ssh", PORT, "localhost:22");
        let home = Home::start(&seats, &[to.clone(), ssh.clone()]);
        let later = service("later", 2300, "localhost:22");
        home.save(&configuration(&[to, ssh, later]));
        home.until_services(&["ssh", "later"]);
        let old = seats.holder(2300);
        seats.household(0).new_address("192.168.1.77").unwrap();
        home.agent.until_back(0);
        assert_ne!(seats.holder(2300), old, "{login:?}");
    }
}

#[test]
fn gateways_come_and_go() {
    needs_lab!();
    let seats = Seats::start(Login::Plain);
    let ssh = service("ssh", PORT, "localhost:22");
    let first = gateway(&format!("amy@{GATEWAY}"));
    // The same machine under another name: here its port is taken already, and that is not the point.
    let second = gateway("amy@gateway.example.org");
    let home = Home::start(&seats, &[first.clone(), ssh.clone()]);
    let before = home.agent.pids();
    home.save(&configuration(&[first.clone(), second, ssh.clone()]));
    let links = || home.agent.snapshot().links;
    let connected = || links().len() == 2 && links()[1].reconnects == 0 && links()[1].hold;
    assert_eventually!(connected(), within = SOON, "{}", home.agent.log());
    assert_eq!(home.agent.pids().1[0], before.1[0], "the first link is the same");
    home.save(&configuration(&[first.clone(), ssh.clone()]));
    assert_eventually!(home.agent.pids() == before, within = SOON, "the second is gone");

    // Another key for the same gateway: a new link, after the old one has ended.
    seats.lab.home().sh("cp -p /tmp/key /tmp/key2").unwrap();
    let other = first.replace("/tmp/key", "/tmp/key2");
    home.save(&configuration(&[other, ssh]));
    let anew = || home.agent.pids().1.first() != before.1.first() && home.agent.is_up();
    assert_eventually!(anew(), within = SOON, "{}", home.agent.log());
    assert_eq!(links().len(), 1);
}

#[test]
fn a_broken_edit_changes_nothing_and_says_so() {
    needs_lab!();
    let seats = Seats::start(Login::Plain);
    let parts = [gateway(&format!("amy@{GATEWAY}")), service("ssh", PORT, "localhost:22")];
    let home = Home::start(&seats, &parts);
    let machine = seats.lab.home();
    let before = home.agent.pids();
    for (broken, part) in [
        ("name = \"home-ubuntu\"\nnonsense", "/tmp/agent.toml:2"),
        (&configuration(&[parts[0].clone()]), "no `[[service]]`"),
        (&configuration(&parts).replace("home-ubuntu", "other"), "keeps its name"),
        (&configuration(&parts).replace("/tmp/key", "/tmp/missing"), "/tmp/missing"),
    ] {
        home.save(broken);
        let told = || home.refusal().is_some_and(|error| error.contains(part));
        assert_eventually!(told(), within = SOON, "{part}: {:?}", home.refusal());
        let (code, table, _) = output(&mut wayhome(machine, &["status"]));
        assert_eq!(code, 1, "{table}");
        assert!(table.contains("was not taken over"), "{table}");
        let (code, out, error) = output(&mut wayhome(machine, &["reload"]));
        assert_eq!((code, out.as_str()), (2, ""), "{error}");
        assert!(error.contains(part), "{error}");
        let snapshot: Snapshot = home.agent.snapshot();
        assert_eq!(snapshot.links[0].services[0].state, ServiceState::Up, "it runs on");
    }
    fs::remove_file(machine.file(FILE)).unwrap();
    let told = || home.refusal().is_some_and(|error| error.contains("cannot be read"));
    assert_eventually!(told(), within = SOON, "{:?}", home.refusal());

    home.save(&configuration(&parts));
    assert_eventually!(home.agent.is_up(), within = SOON, "{:?}", home.refusal());
    assert_eq!(home.agent.pids(), before);
    let (code, _, said) = output(&mut wayhome(machine, &["reload"]));
    assert_eq!((code, said.trim()), (0, "nothing is different"));
}

#[test]
fn sighup_and_the_command_read_it_too() {
    needs_lab!();
    let seats = Seats::start(Login::Plain);
    let to = gateway(&format!("amy@{GATEWAY}"));
    let ssh = service("ssh", PORT, "localhost:22");
    let home = Home::start(&seats, &[to.clone(), ssh.clone()]);
    let machine = seats.lab.home();
    let (pid, _) = home.agent.pids();
    let later = service("later", 2300, "localhost:22");
    // Whether the edit itself or the command was first, the command waits for the answer.
    home.save(&configuration(&[to.clone(), ssh.clone(), later]));
    assert_eq!(output(&mut wayhome(machine, &["reload"])).0, 0);
    assert_eq!(home.services().len(), 2);
    machine.sh(&format!("kill -HUP {pid}")).unwrap();
    home.until_services(&["ssh", "later"]);
    assert_eq!(home.agent.pids().0, pid, "a hangup does not end it");
}

#[test]
fn without_a_file_there_is_nothing_to_read() {
    needs_lab!();
    let seats = Seats::start(Login::Plain);
    let agent = seats.agent();
    agent.until_up();
    let (code, _, error) = output(&mut wayhome(seats.lab.home(), &["reload"]));
    assert_eq!(code, 2);
    assert!(error.contains("without a configuration file"), "{error}");
    assert_eq!(output(&mut wayhome(seats.lab.gateway(), &["reload"])).0, 2, "no agent at all");
}
