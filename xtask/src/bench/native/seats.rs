//! The three seats with both roads between them: wayhome's native one, and stock `ssh -J` over
//! `ssh -N -R`, as people run it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use wayhome_core::status::Snapshot;
use wayhome_lab::keys::Key;
use wayhome_lab::net::GATEWAY;
use wayhome_lab::{Lab, Machine, Sshd, eventually, process};

use super::targets::{Target, Targets};
use crate::Result;
use crate::bench::Bench;
use crate::bench::resources::Cpu;
use crate::bench::seats::{Running, SOON};

/// The home's sshd, seen from the gateway by way of the stock forward.
const FORWARDED: u16 = 2222;

/// Whose way it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    Stock,
    Wayhome,
}

impl Who {
    /// Taking turns: who began the last run begins this one last.
    pub fn in_turn(run: u8) -> [Who; 2] {
        if run.is_multiple_of(2) { [Who::Stock, Who::Wayhome] } else { [Who::Wayhome, Who::Stock] }
    }
}

/// The seats. Dropping them ends all.
pub struct NativeSeats {
    // Programs end before their machines.
    agent: Running,
    gateway: Running,
    stock: Running,
    gateway_sshd: Sshd,
    _home_sshd: Sshd,
    pub targets: Targets,
    pub lab: Lab,
    wayhome: PathBuf,
    gateway_key: String,
    home_key: String,
}

impl NativeSeats {
    /// Starts them, and waits until both roads are there. The laptop's key may also be that many homes,
    /// `home-0` and so on. Logs begin with a name.
    pub fn start(bench: &Bench<'_>, homes: u32, log: &str) -> Result<NativeSeats> {
        let lab = Lab::three_seats()?;
        let (home, gateway, laptop) = (lab.home(), lab.gateway(), lab.laptop());
        let mut wayhome = PathBuf::new();
        for machine in [home, gateway, laptop] {
            wayhome = machine.bring(&bench.wayhome)?;
            machine.sh("mkdir -p -m 700 /var/lib/wayhome /etc/wayhome ~/.ssh")?;
            // What Debian has. Not in the whole network, where only what every user may choose can be set.
            machine.sh("ip -4 route change $(ip -4 route show default) congctl cubic")?;
        }
        let targets = Targets::start(home)?;
        let log = |what: &str| bench.log(&format!("{log}-{what}"));
        let key = |machine: &Machine| -> Result<String> {
            Ok(machine.sh(&format!("{} keys 2>/dev/null", wayhome.display()))?.trim().to_owned())
        };
        let (home_key, gateway_key, laptop_key) = (key(home)?, key(gateway)?, key(laptop)?);

        let homes: Vec<String> = (0..homes).map(|number| format!("\"home-{number}\"")).collect();
        let grants = format!(
            "[[grant]]\nkey = \"{home_key}\"\nname = \"home\"\nhomes = [\"home-ubuntu\"]\n\
             ports = {:?}\n\n\
             [[grant]]\nkey = \"{laptop_key}\"\nname = \"laptop\"\nreach = [\"home-ubuntu\"]\n\
             homes = [{}]\n",
            Target::ALL.map(Target::own_port),
            homes.join(", ")
        );
        write_private(gateway, "/etc/wayhome/grants.toml", &grants)?;
        let mut run = gateway.command(&wayhome);
        run.args(["gateway", "run"]).env("NO_COLOR", "1");
        let gateway_run = Running::start(run, &log("gateway"))?;
        write_private(
            home,
            "/etc/wayhome/grants.toml",
            &format!("[[grant]]\nkey = \"{laptop_key}\"\nname = \"laptop\"\n"),
        )?;
        write_private(home, "/etc/wayhome/agent.toml", &agent_toml(&gateway_key))?;
        let mut run = home.command(&wayhome);
        run.args(["agent", "run", "--config", "/etc/wayhome/agent.toml"]).env("NO_COLOR", "1");
        let agent = Running::start(run, &log("agent"))?;

        let key_at =
            |machine: &Machine, who| Key::make(machine, &bench.openssh, Path::new("/tmp/key"), who);
        let (home_ssh_key, laptop_ssh_key) = (key_at(home, "home")?, key_at(laptop, "laptop")?);
        gateway.add_user("amy", 3001, "/bin/sh")?;
        home.add_user("fan", 4001, "/bin/sh")?;
        let gateway_sshd = Sshd::builder(&bench.openssh)
            .port(22)
            .listen("0.0.0.0")
            .pam(true)
            .authorize("amy", home_ssh_key.public_line())
            .authorize("amy", laptop_ssh_key.public_line())
            .start(gateway)?;
        let home_sshd = Sshd::builder(&bench.openssh)
            .port(22)
            .pam(true)
            .authorize("fan", laptop_ssh_key.public_line())
            .start(home)?;
        let known = gateway_sshd.known_hosts_line(GATEWAY);
        fs::write(home.file("/tmp/known_hosts"), format!("{known}\n"))?;
        let stock_home = format!("home-stock {}", home_sshd.host_key_line());
        fs::write(laptop.file("/tmp/known_hosts"), format!("{known}\n{stock_home}\n"))?;

        let wayhome_shown = wayhome.display();
        laptop.sh(&format!(
            "{wayhome_shown} keys pin wayhome://{GATEWAY} '{gateway_key}' 2>&1
             {wayhome_shown} keys pin home-ubuntu '{home_key}' 2>&1
             {wayhome_shown} ssh-config --connect home-ubuntu --user fan --host-key '{}' 2>&1
             cat >> ~/.ssh/config <<'END'\n{LAPTOP_SSH}END",
            home_sshd.host_key_line()
        ))?;
        let stock = Running::start(stock_road(home), &log("stock"))?;
        let seats = NativeSeats {
            agent,
            gateway: gateway_run,
            stock,
            gateway_sshd,
            _home_sshd: home_sshd,
            targets,
            lab,
            wayhome,
            gateway_key,
            home_key,
        };
        seats.until_both_roads_are_there()?;
        Ok(seats)
    }

    fn until_both_roads_are_there(&self) -> Result<()> {
        let status = || -> Option<Snapshot> {
            let mut command = self.lab.home().command(&self.wayhome);
            let output = command.args(["status", "--json"]).stdin(Stdio::null()).output().ok()?;
            serde_json::from_slice(&output.stdout).ok()
        };
        if !eventually(SOON, || status().is_some_and(|status| status.all_up())) {
            return Err("the native road was not proven; see the agent's log".into());
        }
        self.until_listening(FORWARDED)
    }

    /// A program on the laptop that is joined with the home's sshd or one of its targets.
    pub fn stream(&self, who: Who, target: Option<Target>) -> Command {
        let laptop = self.lab.laptop();
        match who {
            Who::Stock => {
                let port = target.map_or(FORWARDED, Target::port);
                let mut ssh = laptop.command("ssh");
                ssh.args(["-W", &format!("127.0.0.1:{port}"), "gw"]);
                ssh
            }
            Who::Wayhome => {
                let service = target.map_or("ssh", Target::name);
                let mut connect = laptop.command(&self.wayhome);
                connect.args(["connect", &format!("home-ubuntu:{service}")]);
                connect
            }
        }
    }

    /// `ssh` from the laptop to home, with a command.
    pub fn ssh(&self, who: Who, command: &str) -> Command {
        let host = match who {
            Who::Stock => "home-stock",
            Who::Wayhome => "home-ubuntu",
        };
        let mut ssh = self.lab.laptop().command("ssh");
        ssh.args([host, command]);
        ssh
    }

    /// The CPU time, in seconds, of all that serves this way at the gateway and lives now.
    pub fn gateway_cpu(&self, who: Who) -> Result<f64> {
        let pids = match who {
            Who::Stock => process::descendants(self.gateway_sshd.pid()),
            Who::Wayhome => vec![self.gateway_pid()?],
        };
        let mut seconds = 0.0;
        for pid in pids {
            seconds += Cpu::of(pid)?.ms / 1000.0;
        }
        Ok(seconds)
    }

    /// The same at home: the agent, or the `ssh` that keeps the forwards.
    pub fn home_cpu(&self, who: Who) -> Result<f64> {
        let running = if who == Who::Stock { &self.stock } else { &self.agent };
        Ok(Cpu::of(running.pid()?)?.ms / 1000.0)
    }

    /// The home's key, which its clients have pinned.
    pub fn home_key(&self) -> &str {
        &self.home_key
    }

    /// The gateway's key, which its peers have pinned.
    pub fn gateway_key(&self) -> &str {
        &self.gateway_key
    }

    /// The gateway's process, as this machine numbers it.
    pub fn gateway_pid(&self) -> Result<u32> {
        self.gateway.pid()
    }

    /// Waits until somebody listens on this loopback port of the gateway.
    pub fn until_listening(&self, port: u16) -> Result<()> {
        let listens = || {
            let shown = self.lab.gateway().sh(&format!("ss -Hltn 'src 127.0.0.1:{port}'"));
            shown.is_ok_and(|shown| !shown.is_empty())
        };
        if eventually(SOON, listens) {
            return Ok(());
        }
        Err(format!("nobody listens on port {port} of the gateway; see the log of its ssh").into())
    }

    /// The same on any of its addresses.
    pub fn until_listening_anywhere(&self, port: u16) -> Result<()> {
        let shown = || self.lab.gateway().sh(&format!("ss -Hltn 'sport = :{port}'"));
        if eventually(SOON, || shown().is_ok_and(|shown| !shown.is_empty())) {
            return Ok(());
        }
        Err(format!("nobody listens on port {port} of the gateway").into())
    }

    /// The processes that serve sessions at the gateway's sshd.
    pub fn gateway_sessions(&self) -> Vec<u32> {
        process::descendants(self.gateway_sshd.pid())
    }
}

/// With what is in the laptop's home already, after what wayhome has put there.
const LAPTOP_SSH: &str = "
Host gw
  HostName 203.0.113.10
  User amy
Host home-stock
  HostName localhost
  Port 2222
  HostKeyAlias home-stock
  User fan
  ProxyJump gw
Host gw home-stock
  UserKnownHostsFile /tmp/known_hosts
Host *
  IdentityFile /tmp/key
  BatchMode yes
";

fn agent_toml(gateway_key: &str) -> String {
    let mut config = format!(
        "name = \"home-ubuntu\"\n\
         [[gateway]]\naddress = \"wayhome://{GATEWAY}\"\nkey = \"{gateway_key}\"\n\
         [[service]]\nname = \"ssh\"\ntarget = \"localhost:22\"\n"
    );
    for target in Target::ALL {
        let (name, port, own) = (target.name(), target.port(), target.own_port());
        config += &format!(
            "[[service]]\nname = \"{name}\"\ntarget = \"127.0.0.1:{port}\"\nproof = \"hold\"\n\
             port = {own}\n"
        );
    }
    config
}

/// `ssh -N -R` at home, as people run it, for its sshd and each target.
fn stock_road(home: &Machine) -> Command {
    let mut ssh = home.command("ssh");
    ssh.args(["-N", "-i", "/tmp/key", "-o", "BatchMode=yes"])
        .args(["-o", "ExitOnForwardFailure=yes", "-o", "UserKnownHostsFile=/tmp/known_hosts"])
        .args(["-R", &format!("{FORWARDED}:localhost:22")]);
    for port in Target::ALL.map(Target::port) {
        ssh.args(["-R", &format!("{port}:localhost:{port}")]);
    }
    ssh.arg(format!("amy@{GATEWAY}"));
    ssh
}

fn write_private(machine: &Machine, path: &str, text: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::write(machine.file(path), text)?;
    Ok(fs::set_permissions(machine.file(path), fs::Permissions::from_mode(0o600))?)
}
