//! The three seats that all measurements begin with: a home with an sshd behind its router, a gateway
//! with an sshd, and at home the agent or stock autossh.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use wayhome_core::status::Snapshot;
use wayhome_lab::keys::Key;
use wayhome_lab::net::{GATEWAY, Household};
use wayhome_lab::sshd::Builder;
use wayhome_lab::{Lab, Machine, OpenSsh, Sshd, eventually, process};

use super::Bench;
use crate::Result;

/// The port of the service at the gateway.
pub const PORT: u16 = 2222;

/// Long enough for anything that is to happen by itself on a loaded machine.
pub const SOON: Duration = Duration::from_secs(30);

/// How a home logs in at the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Login {
    /// As root
    Root,
    /// As a plain user with a shell
    Plain,
    /// As a user whose key may only run the gate
    Gated,
    /// At a gateway that runs wayhome: the native link, with a port there
    Native,
}

impl Login {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Login::Root => "root",
            Login::Plain => "plain user",
            Login::Gated => "restricted key",
            Login::Native => "native link",
        }
    }

    fn user(self) -> &'static str {
        match self {
            Login::Root => "root",
            Login::Plain => "amy",
            Login::Gated => "wayhome",
            Login::Native => "nobody",
        }
    }
}

/// Where the gate is installed, as `wayhome gate` says in its head.
const GATE: &str = "/usr/local/libexec/wayhome-gate";

/// The seats. Dropping them ends all.
pub struct Seats {
    // The servers end before their machines.
    gateway: Mutex<Option<Sshd>>,
    /// Of the native link.
    native: Mutex<Option<Running>>,
    native_log: PathBuf,
    /// The home's own sshd, behind the port.
    pub home: Sshd,
    /// The machines.
    pub lab: Lab,
    login: Login,
    at_gateway: Builder,
    wayhome: PathBuf,
}

impl Seats {
    /// Starts the machines and their servers, with PAM, as Debian has it.
    pub fn start(bench: &Bench<'_>, login: Login) -> Result<Seats> {
        Seats::with(bench, login, &bench.openssh)
    }

    /// The same with servers of some version.
    pub fn with(bench: &Bench<'_>, login: Login, servers: &OpenSsh) -> Result<Seats> {
        let lab = Lab::three_seats()?;
        let key = Key::make(lab.home(), &bench.openssh, Path::new("/tmp/key"), "home")?;
        let gateway = lab.gateway();
        for (user, uid) in [("amy", 3001), ("wayhome", 3002)] {
            gateway.add_user(user, uid, "/bin/sh")?;
        }
        let authorized = match login {
            Login::Root | Login::Plain | Login::Native => key.public_line().to_owned(),
            Login::Gated => install_gate(bench, gateway, lab.home())?,
        };
        let host_key = Key::make(gateway, &bench.openssh, Path::new("/tmp/host_key"), "gateway")?;
        let at_gateway = Sshd::builder(servers)
            .port(22)
            .listen("0.0.0.0")
            .pam(true)
            .host_key(&fs::read_to_string(gateway.file(host_key.path()))?)
            .authorize(if login == Login::Native { "root" } else { login.user() }, &authorized);
        let sshd = at_gateway.start(gateway)?;
        let home = Sshd::builder(servers).port(22).pam(true).start(lab.home())?;
        let known = sshd.known_hosts_line(GATEWAY);
        fs::write(lab.home().file("/tmp/known_hosts"), known + "\n")?;
        let wayhome = lab.home().bring(&bench.wayhome)?;
        let (gateway, native) = (Mutex::new(Some(sshd)), Mutex::new(None));
        let native_log = bench.log("native-gateway");
        let seats = Seats { gateway, native, native_log, home, lab, login, at_gateway, wayhome };
        if login == Login::Native {
            seats.grant(bench)?;
            seats.start_gateway()?;
        }
        Ok(seats)
    }

    /// Lets the home in at the gateway of the native link.
    fn grant(&self, bench: &Bench<'_>) -> Result<()> {
        let (home, gateway) = (self.lab.home(), self.lab.gateway());
        gateway.bring(&bench.wayhome)?;
        for machine in [home, gateway] {
            machine.sh("mkdir -p -m 700 /var/lib/wayhome /etc/wayhome")?;
        }
        let grants = format!(
            "[[grant]]\nkey = \"{}\"\nname = \"home\"\nhomes = [\"home-ubuntu\"]\nports = [{PORT}]\n",
            self.key_of(home)?
        );
        // Made before the gateway starts, who would make another at the same moment.
        self.key_of(gateway)?;
        Ok(fs::write(gateway.file("/etc/wayhome/grants.toml"), grants)?)
    }

    fn key_of(&self, machine: &Machine) -> Result<String> {
        let shown = machine.sh(&format!("{} keys 2>/dev/null", self.wayhome.display()))?;
        Ok(shown.trim().to_owned())
    }

    /// Where the gateway is, as the agent's configuration has it.
    fn address(&self) -> Result<String> {
        if self.login == Login::Native {
            let key = self.key_of(self.lab.gateway())?;
            return Ok(format!("address = \"wayhome://{GATEWAY}\"\nkey = \"{key}\"\n"));
        }
        let user = self.login.user();
        Ok(format!(
            "address = \"ssh://{user}@{GATEWAY}\"\nidentity = \"/tmp/key\"\n\
             known_hosts = \"/tmp/known_hosts\"\n"
        ))
    }

    /// Whether it is the native link that is measured.
    pub fn is_native(&self) -> bool {
        self.login == Login::Native
    }

    /// Where the gateway takes the home's connection.
    pub fn door(&self) -> Result<SocketAddr> {
        let port = if self.is_native() { 7222 } else { 22 };
        Ok(SocketAddr::new(GATEWAY.parse::<IpAddr>()?, port))
    }

    /// The home and its router.
    pub fn household(&self) -> Result<&Household> {
        self.lab.households().next().ok_or_else(|| "the lab has no home".into())
    }

    /// Ends the gateway's sshd and its sessions, or the gateway of the native link (kill -9).
    pub fn stop_gateway(&self) {
        *self.native.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if self.is_native() {
            // It dies with what was spawned, a moment later.
            let _ = eventually(SOON, || self.holder(PORT).is_ok_and(|holder| holder.is_empty()));
            return;
        }
        *self.gateway.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Starts it again, the same as before.
    pub fn start_gateway(&self) -> Result<()> {
        if self.is_native() {
            let mut run = self.lab.gateway().command(&self.wayhome);
            run.args(["gateway", "run"]).env("NO_COLOR", "1");
            let running = Running::start(run, &self.native_log)?;
            *self.native.lock().unwrap_or_else(PoisonError::into_inner) = Some(running);
            return Ok(());
        }
        let sshd = self.at_gateway.start(self.lab.gateway())?;
        *self.gateway.lock().unwrap_or_else(PoisonError::into_inner) = Some(sshd);
        Ok(())
    }

    /// What the gateway's sshd has logged.
    pub fn gateway_log(&self) -> String {
        let gateway = self.gateway.lock().unwrap_or_else(PoisonError::into_inner);
        gateway.as_ref().map(Sshd::log).unwrap_or_default()
    }

    /// Who listens on a port at the gateway, as `ss` shows it there; empty if nobody does.
    pub fn holder(&self, port: u16) -> Result<String> {
        let shown = self.lab.gateway().sh(&format!("ss -Hltnp 'src 127.0.0.1:{port}'"))?;
        let users = shown.split_once("users:").map_or("", |(_, users)| users);
        Ok(users.trim().to_owned())
    }

    /// Runs the agent at home for one service, and waits until its road is proven. Its log goes to a
    /// file of this machine.
    pub fn agent(&self, service: &str, log: &Path, verbose: bool) -> Result<Agent<'_>> {
        let config = format!(
            "name = \"home-ubuntu\"\n[[gateway]]\n{}[[service]]\nport = {PORT}\n{service}\n",
            self.address()?
        );
        let home = self.lab.home();
        fs::write(home.file("/tmp/agent.toml"), config)?;
        let mut command = home.command(&self.wayhome);
        command.args(verbose.then_some("-vv")).args(["agent", "run", "--config"]);
        let child = command
            .arg("/tmp/agent.toml")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(log)?)
            .spawn()?;
        let agent = Agent { running: Running(child), seats: self };
        if !eventually(SOON, || agent.status().is_some_and(|status| status.all_up())) {
            return Err(format!("the road was not proven; see `{}`", log.display()).into());
        }
        Ok(agent)
    }

    /// Runs autossh at home as the write-ups have it, restarted as by systemd, and waits for the port.
    pub fn stock(&self, log: &Path) -> Result<Running> {
        let script = format!(
            "while :; do autossh -M 0 -N -i /tmp/key -o BatchMode=yes \
             -o ServerAliveInterval=30 -o ServerAliveCountMax=3 -o ExitOnForwardFailure=yes \
             -o UserKnownHostsFile=/tmp/known_hosts -R {PORT}:localhost:22 {}@{GATEWAY}; \
             sleep 5; done",
            self.login.user()
        );
        let mut shell = self.lab.home().command("sh");
        shell.args(["-c", &script]).env("AUTOSSH_GATETIME", "0");
        self.until_listening(shell, PORT, log)
    }

    /// Runs plain `ssh -N -R` at home for a port of the gateway, and waits for it.
    pub fn plain_forward(&self, port: u16, target: &str, log: &Path) -> Result<Running> {
        let mut ssh = self.lab.home().command("ssh");
        ssh.args(["-N", "-i", "/tmp/key", "-o", "BatchMode=yes"])
            .args(["-o", "ExitOnForwardFailure=yes", "-o", "UserKnownHostsFile=/tmp/known_hosts"])
            .args(["-R", &format!("127.0.0.1:{port}:{target}")])
            .arg(format!("{}@{GATEWAY}", self.login.user()));
        self.until_listening(ssh, port, log)
    }

    fn until_listening(&self, command: Command, port: u16, log: &Path) -> Result<Running> {
        let running = Running::start(command, log)?;
        if eventually(SOON, || self.holder(port).is_ok_and(|holder| !holder.is_empty())) {
            return Ok(running);
        }
        Err(format!("nobody listens on port {port} at the gateway").into())
    }
}

/// A program in a machine; it ends with its handle.
pub struct Running(Child);

impl Running {
    /// Starts it, without a terminal; what it complains of goes to a file of this machine.
    pub fn start(mut command: Command, log: &Path) -> Result<Running> {
        let log = fs::File::create(log)?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Ok(Running(command.spawn()?))
    }

    /// The program's process, as this machine numbers it: what was spawned is the way into the machine.
    pub fn pid(&self) -> Result<u32> {
        let children = process::children(self.0.id());
        children.first().copied().ok_or_else(|| "a program has ended".into())
    }
}

impl From<Child> for Running {
    fn from(child: Child) -> Running {
        Running(child)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The agent at home.
pub struct Agent<'a> {
    running: Running,
    seats: &'a Seats,
}

impl Agent<'_> {
    /// Its process, as this machine numbers it.
    pub fn pid(&self) -> Result<u32> {
        self.running.pid()
    }

    /// Its own status, if it answers.
    pub fn status(&self) -> Option<Snapshot> {
        let mut command = self.seats.lab.home().command(&self.seats.wayhome);
        let output = command.args(["status", "--json"]).stdin(Stdio::null()).output().ok()?;
        serde_json::from_slice(&output.stdout).ok()
    }
}

/// Installs the gate as its own text says, and gives the line that lets the home's key in.
fn install_gate(bench: &Bench<'_>, gateway: &Machine, home: &Machine) -> Result<String> {
    let printed = |args: &[&std::ffi::OsStr]| -> Result<Vec<u8>> {
        let output = Command::new(&bench.wayhome).arg("gate").args(args).output()?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(String::from_utf8_lossy(&output.stderr).into_owned().into())
    };
    gateway.own_folder("/usr/local/libexec")?;
    fs::write(gateway.file(GATE), printed(&[])?)?;
    gateway.sh(&format!("chmod 755 {GATE}"))?;
    let key = home.file("/tmp/key.pub");
    let port = PORT.to_string();
    let line =
        printed(&["--authorize".as_ref(), key.as_os_str(), "--port".as_ref(), port.as_ref()])?;
    Ok(String::from_utf8(line)?)
}
