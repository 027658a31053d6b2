//! The three seats with the native road between them: machines in a network, and real programs.

use std::cell::RefCell;
use std::fs;
use std::process::{Child, Command, Stdio};

use wayhome_core::key::Key;
use wayhome_core::status::gateway::GatewaySnapshot;
use wayhome_lab::net::GATEWAY;
use wayhome_lab::{Lab, Machine, OpenSsh, Sshd, assert_eventually};

use crate::seats::{Agent, Running, SOON, make_key, output, wayhome};

/// A home behind NAT with an sshd, a gateway, and a laptop that has pinned both.
pub struct NativeSeats {
    process: RefCell<Option<Running>>,
    pub home_sshd: Sshd,
    pub lab: Lab,
}

/// This machine's own key, which is made by looking at it.
fn own_key(machine: &Machine) -> Key {
    let (code, line, error) = output(&mut wayhome(machine, &["keys"]));
    assert_eq!(code, 0, "{error}");
    line.parse().unwrap()
}

fn pin(machine: &Machine, whose: &str, key: Key) {
    let pinned = output(&mut wayhome(machine, &["keys", "pin", whose, &key.to_string()]));
    assert_eq!(pinned.0, 0, "{pinned:?}");
}

impl NativeSeats {
    /// With an agent's configuration at home (`/tmp/agent.toml`) that has this link, and these lines
    /// besides.
    pub fn start(more: &str) -> Self {
        let openssh = OpenSsh::system().unwrap();
        let lab = Lab::three_seats().unwrap();
        let (home, gateway, laptop) = (lab.home(), lab.gateway(), lab.laptop());
        for machine in [home, gateway, laptop] {
            machine.sh("mkdir -p -m 700 /var/lib/wayhome /etc/wayhome ~/.ssh").unwrap();
        }
        let [home_key, gateway_key, laptop_key] = [home, gateway, laptop].map(own_key);
        let grants = format!(
            "[[grant]]\nkey = \"{home_key}\"\nname = \"home\"\nhomes = [\"home-ubuntu\"]\n\
             ports = [2222, 9000]\n\n\
             [[grant]]\nkey = \"{laptop_key}\"\nname = \"laptop\"\nreach = [\"home-ubuntu\"]\n"
        );
        fs::write(gateway.file("/etc/wayhome/grants.toml"), grants).unwrap();
        let grants = format!("[[grant]]\nkey = \"{laptop_key}\"\nname = \"laptop\"\n");
        fs::write(home.file("/tmp/grants.toml"), grants).unwrap();
        let config = format!(
            "name = \"home-ubuntu\"\nheartbeat = 1\n\
             [[gateway]]\naddress = \"wayhome://{GATEWAY}\"\nkey = \"{gateway_key}\"\n\
             [[service]]\nname = \"ssh\"\ntarget = \"localhost:22\"\nport = 2222\n{more}\n"
        );
        fs::write(home.file("/tmp/agent.toml"), config).unwrap();

        let ssh_key = make_key(&openssh, laptop);
        home.add_user("fan", 4001, "/bin/sh").unwrap();
        let home_sshd = Sshd::builder(&openssh)
            .port(22)
            .line("Subsystem sftp internal-sftp")
            .authorize("fan", ssh_key.public_line())
            .start(home)
            .unwrap();
        pin(laptop, &format!("wayhome://{GATEWAY}"), gateway_key);
        pin(laptop, "home-ubuntu", home_key);
        let host_key = home_sshd.host_key_line();
        let install =
            ["ssh-config", "--connect", "home-ubuntu", "--user", "fan", "--host-key", &host_key];
        let installed = output(&mut wayhome(laptop, &install));
        assert_eq!(installed.0, 0, "{installed:?}");
        let usual = "\nHost *\n  IdentityFile /tmp/key\n  BatchMode yes\n";
        laptop.sh(&format!("printf '{usual}' >> ~/.ssh/config")).unwrap();
        let seats = Self { process: RefCell::new(None), home_sshd, lab };
        seats.start_gateway();
        seats
    }

    pub fn start_gateway(&self) {
        let gateway = self.lab.gateway();
        let path = gateway.file("/tmp/gateway.log");
        let log = fs::File::options().create(true).append(true).open(path).unwrap();
        let mut run = wayhome(gateway, &["gateway", "run"]);
        self.process.replace(Some(Running(run.stderr(log).spawn().unwrap())));
        assert_eventually!(self.gateway().is_some(), within = SOON, "{}", self.gateway_log());
    }

    /// `kill -9`.
    pub fn kill_gateway(&self) {
        self.process.replace(None);
        assert_eventually!(self.gateway().is_none(), within = SOON, "it still answers");
    }

    pub fn gateway(&self) -> Option<GatewaySnapshot> {
        let (_, json, _) = output(&mut wayhome(self.lab.gateway(), &["status", "--json"]));
        serde_json::from_str(&json).ok()
    }

    pub fn gateway_log(&self) -> String {
        fs::read_to_string(self.lab.gateway().file("/tmp/gateway.log")).unwrap()
    }

    pub fn agent(&self) -> Agent<'_> {
        Agent::run(self.lab.home(), &["--config", "/tmp/agent.toml"])
    }

    /// A script on the laptop, as root; gives what it wrote.
    pub fn on_the_laptop(&self, script: &str) -> String {
        let laptop = self.lab.laptop();
        laptop.sh(script).unwrap_or_else(|why| {
            panic!("{why}\n--- gateway\n{}", self.gateway_log());
        })
    }

    /// A stream to a service of home's, on pipes.
    pub fn connect(&self, service: &str) -> Child {
        let mut connect = wayhome(self.lab.laptop(), &["connect", service]);
        connect.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        connect.spawn().unwrap()
    }

    /// `ssh home-ubuntu` with a command.
    pub fn ssh(&self, command: &str) -> Command {
        let mut ssh = self.lab.laptop().command("ssh");
        ssh.args(["home-ubuntu", command]).stdin(Stdio::null());
        ssh
    }
}
