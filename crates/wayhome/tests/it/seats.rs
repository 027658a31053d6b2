//! Three seats with an agent at home: what the tests of the agent begin with.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use wayhome_core::status::{LinkStatus, ServiceState, ServiceStatus, Snapshot};
use wayhome_lab::keys::Key;
use wayhome_lab::net::{GATEWAY, Household};
use wayhome_lab::sshd::Builder;
use wayhome_lab::{Lab, Machine, OpenSsh, Sshd, assert_eventually};

/// Long enough for anything that is to happen by itself on a loaded machine.
pub const SOON: Duration = Duration::from_secs(20);

/// The gateway's port of the first service.
pub const PORT: u16 = 2222;

/// How a home logs in at the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login {
    /// As root.
    Root,
    /// As a plain user with a shell.
    Plain,
    /// As a dedicated user whose key may only run the gate, for port 2222.
    Gated,
    /// As a dedicated user whose key may forward, and run nothing.
    Bare,
}

impl Login {
    pub const HOLDING: [Self; 3] = [Self::Root, Self::Plain, Self::Gated];

    pub fn user(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Plain => "amy",
            Self::Gated | Self::Bare => "way",
        }
    }

    fn authorized(self, key: &str) -> String {
        match self {
            Self::Root | Self::Plain => key.to_owned(),
            Self::Gated => format!(
                "restrict,port-forwarding,permitlisten=\"127.0.0.1:2222\",\
                 permitlisten=\"localhost:2222\",permitopen=\"127.0.0.1:2222\",\
                 command=\"/tmp/wayhome-gate 2222\" {key}"
            ),
            Self::Bare => format!("restrict,port-forwarding,command=\"/bin/false\" {key}"),
        }
    }
}

/// The seats, with an sshd at the gateway and one in each home.
pub struct Seats {
    pub lab: Lab,
    pub openssh: OpenSsh,
    /// The gateway's sshd; `None` while it is down.
    gateway: RefCell<Option<Sshd>>,
    at_gateway: Builder,
    pub homes: Vec<Sshd>,
    login: Login,
}

impl Seats {
    pub fn start(login: Login) -> Self {
        Self::with(login, 1, &OpenSsh::system().unwrap(), |builder| builder)
    }

    /// Seats with several homes, a gateway's sshd of some version, and of some kind.
    pub fn with(
        login: Login,
        homes: u8,
        at_gateway: &OpenSsh,
        kind: impl FnOnce(Builder) -> Builder,
    ) -> Self {
        let openssh = OpenSsh::system().unwrap();
        let lab = Lab::with_homes(homes).unwrap();
        for (user, uid) in [("amy", 3001), ("bob", 3002), ("way", 3003)] {
            lab.gateway().add_user(user, uid, "/bin/sh").unwrap();
        }
        write_gate(lab.gateway());
        let laptop_key = make_key(&openssh, lab.laptop());
        let mut gateway = Sshd::builder(at_gateway).port(22).listen("0.0.0.0");
        gateway = gateway.authorize("way", laptop_key.public_line());
        for household in lab.households() {
            let key = make_key(&openssh, &household.home);
            gateway = gateway.authorize(login.user(), &login.authorized(key.public_line()));
        }
        lab.gateway().sh("ssh-keygen -q -t ed25519 -N '' -f /tmp/host_key").unwrap();
        let host_key = fs::read_to_string(lab.gateway().file("/tmp/host_key")).unwrap();
        // After what the test asks for, since sshd heeds the first.
        let at_gateway = kind(gateway).line("GatewayPorts clientspecified").host_key(&host_key);
        let gateway = RefCell::new(Some(at_gateway.start(lab.gateway()).unwrap()));
        let homes = lab.households().map(|household| {
            household.home.add_user("fan", 4001, "/bin/sh").unwrap();
            Sshd::builder(&openssh)
                .port(22)
                .line("Subsystem sftp internal-sftp")
                .authorize("fan", laptop_key.public_line())
                .start(&household.home)
                .unwrap()
        });
        let homes = homes.collect();
        Self { homes, lab, openssh, gateway, at_gateway, login }
    }

    /// Ends the gateway's sshd and all its sessions; starts it again, the same as before.
    pub fn stop_gateway(&self) {
        self.gateway.replace(None);
    }

    pub fn start_gateway(&self) {
        self.gateway.replace(Some(self.at_gateway.start(self.lab.gateway()).unwrap()));
    }

    pub fn gateway_log(&self) -> String {
        self.gateway.borrow().as_ref().unwrap().log()
    }

    pub fn gateway_key(&self) -> String {
        self.gateway.borrow().as_ref().unwrap().host_key_line()
    }

    pub fn household(&self, index: usize) -> &Household {
        self.lab.households().nth(index).unwrap()
    }

    /// The agent of the first home, with its road to port 2222.
    pub fn agent(&self) -> Agent<'_> {
        self.agent_with(&["-R", "2222:localhost:22"])
    }

    pub fn agent_with(&self, forwards: &[&str]) -> Agent<'_> {
        self.agent_of(0, forwards)
    }

    pub fn agent_of(&self, home: usize, forwards: &[&str]) -> Agent<'_> {
        let address = format!("{}@{GATEWAY}", self.login.user());
        let mut arguments = vec![address.as_str(), "-i", "/tmp/key", "--name", "home-ubuntu"];
        arguments.push("--accept-new");
        arguments.extend(forwards);
        Agent::run(&self.household(home).home, &arguments)
    }

    /// Touches the port at the gateway twice a second, as people and monitors do, until dropped.
    pub fn touch_the_port(&self) -> Running {
        let script = "while :; do (exec 3<>/dev/tcp/127.0.0.1/2222) 2>/dev/null & sleep 0.5; done";
        Running(self.lab.gateway().command("bash").args(["-c", script]).spawn().unwrap())
    }

    /// The process at the gateway that listens on a port, as `ss` shows it there.
    pub fn holder(&self, port: u16) -> String {
        self.lab.gateway().sh(&format!("ss -Hltnp 'sport = :{port}'")).unwrap()
    }
}

/// A process that ends with its handle.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn make_key(openssh: &OpenSsh, machine: &Machine) -> Key {
    Key::make(machine, openssh, Path::new("/tmp/key"), machine.name()).unwrap()
}

fn write_gate(gateway: &Machine) {
    let gate = Command::new(env!("CARGO_BIN_EXE_wayhome")).arg("gate").output().unwrap();
    assert!(gate.status.success(), "{}", String::from_utf8_lossy(&gate.stderr));
    fs::write(gateway.file("/tmp/wayhome-gate"), gate.stdout).unwrap();
    gateway.sh("chmod 755 /tmp/wayhome-gate").unwrap();
}

/// A command of wayhome's in a machine.
pub fn wayhome(machine: &Machine, arguments: &[&str]) -> Command {
    let mut command = machine.command(env!("CARGO_BIN_EXE_wayhome"));
    command.args(arguments).env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

pub fn output(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// A running agent, ended when it is dropped.
pub struct Agent<'a> {
    pub machine: &'a Machine,
    pub child: Child,
    log: PathBuf,
}

impl<'a> Agent<'a> {
    pub fn run(machine: &'a Machine, arguments: &[&str]) -> Self {
        let program = machine.command(env!("CARGO_BIN_EXE_wayhome"));
        Self::start(machine, program, arguments, |_| {})
    }

    /// The same, with what else its process shall be given.
    pub fn run_with(
        machine: &'a Machine,
        arguments: &[&str],
        given: impl FnOnce(&mut Command),
    ) -> Self {
        let program = machine.command(env!("CARGO_BIN_EXE_wayhome"));
        Self::start(machine, program, arguments, given)
    }

    /// Runs it where nobody can be asked, also if the tests themselves run in a terminal.
    pub fn without_terminal(machine: &'a Machine, arguments: &[&str]) -> Self {
        let mut command = machine.command("setsid");
        command.arg("--wait").arg(env!("CARGO_BIN_EXE_wayhome"));
        Self::start(machine, command, arguments, |_| {})
    }

    fn start(
        machine: &'a Machine,
        mut command: Command,
        arguments: &[&str],
        given: impl FnOnce(&mut Command),
    ) -> Self {
        let log = machine.file("/tmp/agent.log");
        let stderr = fs::File::options().create(true).append(true).open(&log).unwrap();
        command.args(["-v", "agent", "run"]).args(arguments).env("NO_COLOR", "1");
        given(command.stdin(Stdio::null()));
        let child = command.stdout(Stdio::null()).stderr(stderr).spawn().unwrap();
        Self { machine, child, log }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// The status, if the agent answers.
    pub fn status(&self) -> Option<Snapshot> {
        let (_, json, _) = output(&mut wayhome(self.machine, &["status", "--json"]));
        serde_json::from_str(&json).ok()
    }

    /// The status, once the agent answers.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = None;
        assert_eventually!(
            {
                snapshot = self.status();
                snapshot.is_some()
            },
            within = SOON,
            "an answer; the log: {}",
            self.log()
        );
        snapshot.unwrap()
    }

    pub fn link(&self) -> LinkStatus {
        self.snapshot().links.remove(0)
    }

    pub fn service(&self, index: usize) -> ServiceStatus {
        self.link().services.remove(index)
    }

    /// The kind of the cause that a service shows.
    pub fn cause(&self, index: usize) -> Option<&'static str> {
        self.service(index).cause.map(|finding| finding.cause.kind())
    }

    pub fn is_up(&self) -> bool {
        self.status().is_some_and(|snapshot| snapshot.all_up())
    }

    pub fn until_up(&self) {
        assert_eventually!(self.is_up(), within = SOON, "up; the log: {}", self.log());
    }

    /// Waits until the link has come back more often than this, and all is proven.
    pub fn until_back(&self, reconnects: u64) {
        let back = || self.is_up() && self.link().reconnects > reconnects;
        assert_eventually!(back(), within = SOON, "back; the log: {}", self.log());
    }

    pub fn until_service(&self, index: usize, state: ServiceState) {
        let reached = || self.service(index).state == state;
        assert_eventually!(reached(), within = SOON, "{state:?}; the log: {}", self.log());
    }

    /// The agent's own process in its machine, and its ssh's.
    pub fn pids(&self) -> (u32, Vec<u32>) {
        let agent = self.snapshot().pid;
        let text = self.machine.sh(&format!("cat /proc/{agent}/task/*/children")).unwrap();
        let children = text.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
        (agent, children)
    }

    /// `kill -9`: it gets to do nothing more.
    pub fn kill_9(&mut self) {
        let (pid, _) = self.pids();
        self.machine.sh(&format!("kill -9 {pid}")).unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
