//! The whole road on one machine: a gateway's sshd, a home's sshd, an agent, and `ssh home-ubuntu`.
//!
//! Real programs, throwaway keys, one throwaway folder with all of it. Whoever drops the trial, or
//! the work on it, cleans up. When this process is killed (kill -9) its servers end with it, and the
//! folder with their keys is left, which open nothing any more; the next trial removes it. What is
//! shown of it is for the caller to say.

mod folder;

use std::ffi::OsStr;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::time::sleep;
use wayhome_core::status::Snapshot;
use wayhome_lab::keys::Key;
use wayhome_lab::{Here, Host, OpenSsh, Sshd, process};

use crate::agent::control::{self, Asked};
use crate::error::{Failure, Outcome};
use crate::{paths, report, supervise};
use folder::InFolder;

/// How long any step may take on a loaded machine. Each takes well under a second on an idle one.
const PATIENCE: Duration = Duration::from_secs(30);

const HOME: &str = "home-ubuntu";

/// A heartbeat each second, so that nobody waits long for the frozen link to be found out.
const HEARTBEAT: u32 = 1;

/// Something that was done, and how long it took.
#[derive(Clone, Debug)]
pub struct Step {
    /// What was done.
    pub what: String,
    /// How long it took.
    pub took: Duration,
    /// What is worth showing of it.
    pub detail: String,
}

impl Step {
    /// A step.
    pub fn new(what: &str, took: Duration, detail: &str) -> Self {
        Self { what: what.to_owned(), took, detail: detail.to_owned() }
    }
}

/// A way to cut the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Its ssh is killed (kill -9).
    Killed,
    /// Its ssh is frozen: nothing is said any more, and the old session keeps the port. What a
    /// network that swallows packets looks like from the gateway.
    Frozen,
}

impl Cut {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Killed => "the link's ssh was killed (kill -9)",
            Self::Frozen => "the link fell silent, and its old session still held the port",
        }
    }

    fn signal(self) -> Signal {
        match self {
            Self::Killed => Signal::KILL,
            Self::Frozen => Signal::STOP,
        }
    }
}

/// The road, running.
pub struct Trial {
    ssh: PathBuf,
    agent: Agent,
    home: Sshd,
    gateway: Sshd,
    /// The last, so that all that writes into it has ended before it is removed.
    folder: TempDir,
}

/// The agent's process; ended in order when it is dropped.
struct Agent {
    child: Child,
    socket: PathBuf,
}

impl Drop for Agent {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            process::signal(self.child.id(), Signal::TERM);
            let deadline = Instant::now() + Duration::from_secs(5);
            while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Trial {
    /// Starts all of it, and waits until the road is proven.
    pub async fn start(show: &mut dyn FnMut(Step)) -> Outcome<Self> {
        let openssh = OpenSsh::system().map_err(|error| missing(&error))?;
        for left in folder::clear() {
            report::note(format!(
                "removed `{}`, which a trial that was killed had left",
                left.display()
            ));
        }
        let began = Instant::now();
        let folder = folder::make()?;
        let dir = folder.path();
        let key = |name: &str| {
            let comment = format!("wayhome try: {name}");
            Key::make(&Here, &openssh, &dir.join(name), &comment).map_err(|error| missing(&error))
        };
        let (home_key, laptop_key) = (key("home-key")?, key("laptop-key")?);
        show(Step::new("throwaway keys", began.elapsed(), &dir.display().to_string()));
        breathe().await;

        let began = Instant::now();
        let user = whoami()?;
        let start = |keys: &[&Key]| {
            let mut builder = Sshd::builder(&openssh).pam(needs_pam());
            for key in keys {
                builder = builder.authorize(&user, key.public_line());
            }
            builder.start(&InFolder(dir)).map_err(|error| missing(&error))
        };
        let gateway = start(&[&home_key, &laptop_key])?;
        show(Step::new("the gateway's sshd", began.elapsed(), &at(&gateway)));
        breathe().await;
        let began = Instant::now();
        let home = start(&[&laptop_key])?;
        show(Step::new("the home's sshd", began.elapsed(), &at(&home)));
        breathe().await;

        let began = Instant::now();
        let port = free_port()?;
        write(&dir.join("agent.toml"), &agent_toml(&user, &gateway, &home, port))?;
        let pin = format!("[127.0.0.1]:{} {}\n", gateway.port(), gateway.host_key_line());
        write(&dir.join("known_hosts"), &pin)?;
        let agent = start_agent(dir)?;
        let ssh = openssh.ssh().to_owned();
        let mut trial = Self { ssh, agent, home, gateway, folder };
        trial.wait_until("the road was not proven", |snapshot| snapshot.all_up()).await?;
        let what = format!("127.0.0.1:{port} at the gateway → the home's sshd, host key and all");
        show(Step::new("the agent's road is proven", began.elapsed(), &what));

        let began = Instant::now();
        trial.write_laptop(laptop_key.path()).await?;
        show(Step::new("the laptop's configuration", began.elapsed(), "wayhome ssh-config"));
        Ok(trial)
    }

    /// Goes home as a person does, with the real ssh.
    pub async fn go_home(&self, what: &str, show: &mut dyn FnMut(Step)) -> Outcome {
        let began = Instant::now();
        let output = supervise::command(&self.ssh)
            .arg("-F")
            .arg(self.laptop_config())
            .args(["-o", "BatchMode=yes", "-o", "ConnectTimeout=20", HOME])
            .arg("echo \"$SSH_CONNECTION\"")
            .output()
            .await
            .map_err(|error| Failure::new("`ssh` cannot be run").because(&error))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(Failure::new(format!("`ssh {HOME}` failed"))
                .because(&std::io::Error::other(said))
                .hint("this account may not have a login shell (`getent passwd` shows it)"));
        }
        let connection = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        show(Step::new(what, began.elapsed(), &format!("in: {connection}")));
        Ok(())
    }

    /// Cuts the link, waits until the road is proven again, and says how long it was down.
    pub async fn cut(&mut self, cut: Cut, show: &mut dyn FnMut(Step)) -> Outcome<Duration> {
        let before = self.snapshot().await?;
        let reconnects = count_reconnects(&before);
        let ssh = process::children(self.agent.child.id());
        let ssh = ssh.into_iter().find(|pid| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == "ssh")
        });
        let Some(ssh) = ssh else {
            return Err(Failure::new("the agent has no ssh to be cut"));
        };
        let began = Instant::now();
        process::signal(ssh, cut.signal());
        self.wait_until("the road did not come back", |snapshot| {
            count_reconnects(snapshot) > reconnects && snapshot.all_up()
        })
        .await?;
        let down = began.elapsed();
        show(Step::new("cut, and proven again", down, cut.name()));
        Ok(down)
    }

    /// The command that goes home, to be pasted.
    pub fn command_line(&self) -> String {
        format!("ssh -F {} {HOME}", self.laptop_config().display())
    }

    /// The command that shows the agent, to be pasted.
    pub fn status_line(&self) -> String {
        let run = self.folder.path().join("run");
        // It need not be installed yet.
        let program = std::env::current_exe().unwrap_or_else(|_| "wayhome".into());
        format!("RUNTIME_DIRECTORY={} {} status", run.display(), program.display())
    }

    /// Ends all of it and removes the folder.
    pub fn end(self) -> Outcome {
        drop((self.agent, self.home, self.gateway));
        self.folder
            .close()
            .map_err(|error| Failure::new("the throwaway folder cannot be removed").because(&error))
    }

    fn laptop_config(&self) -> PathBuf {
        self.folder.path().join("laptop.config")
    }

    /// What `wayhome ssh-config` prints at home, as a person would paste it, but into files of ours.
    async fn write_laptop(&self, key: &Path) -> Outcome {
        let dir = self.folder.path();
        let printed = supervise::command(&program()?)
            .args(["ssh-config", "--identity"])
            .arg(key)
            .env("STATE_DIRECTORY", dir.join("state"))
            .env("RUNTIME_DIRECTORY", dir.join("run"))
            .output()
            .await
            .map_err(|error| Failure::new("`wayhome ssh-config` cannot be run").because(&error))?;
        if !printed.status.success() {
            let said = String::from_utf8_lossy(&printed.stderr).trim().to_owned();
            return Err(
                Failure::new("`wayhome ssh-config` failed").because(&std::io::Error::other(said))
            );
        }
        let text = String::from_utf8_lossy(&printed.stdout);
        let known_hosts = dir.join("laptop.known_hosts");
        let (config, keys) =
            text.split_once("# --- wayhome: end config ---").unwrap_or((&text, ""));
        let pins: String = keys
            .lines()
            .filter(|line| !line.starts_with('#'))
            .fold(String::new(), |pins, line| pins + line + "\n");
        write(&known_hosts, &pins)?;
        let ours = format!(
            "\nHost *\n  UserKnownHostsFile {}\n  IdentityFile {}\n",
            known_hosts.display(),
            key.display()
        );
        write(&self.laptop_config(), &format!("{config}{ours}"))
    }

    async fn snapshot(&self) -> Outcome<Snapshot> {
        control::ask(&self.agent.socket, Asked::Status)
            .await
            .map_err(|error| Failure::new("the agent does not answer").because(&error))
    }

    async fn wait_until(&mut self, or: &str, reached: impl Fn(&Snapshot) -> bool) -> Outcome {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Asked first, so that the log of an agent that has ended is whole.
            let ended = self.agent.child.try_wait().is_ok_and(|status| status.is_some());
            if self.snapshot().await.as_ref().is_ok_and(&reached) {
                return Ok(());
            }
            let why = match ended {
                true => "the agent ended, so ".to_owned() + or,
                false if Instant::now() > deadline => {
                    format!("{or} within {} s", PATIENCE.as_secs())
                }
                false => {
                    sleep(Duration::from_millis(5)).await;
                    continue;
                }
            };
            let log = fs::read_to_string(self.folder.path().join("agent.log")).unwrap_or_default();
            report::note(format!("the agent's log ends:\n  {}", last_words(&log)));
            return Err(Failure::new(why).hint("what the agent said above tells what to mend"));
        }
    }
}

/// The end of an agent's log: its error, if it ended with one.
fn last_words(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let error = lines.iter().rposition(|line| line.starts_with("error: "));
    let from = error.unwrap_or(lines.len().saturating_sub(5));
    lines.into_iter().skip(from).collect::<Vec<_>>().join("\n  ")
}

/// Lets a signal in, between two steps that take a moment and cannot be broken off.
async fn breathe() {
    sleep(Duration::from_millis(1)).await;
}

fn count_reconnects(snapshot: &Snapshot) -> u64 {
    snapshot.links.iter().map(|link| link.reconnects).sum()
}

fn start_agent(dir: &Path) -> Outcome<Agent> {
    let failed =
        |error: &std::io::Error| Failure::new("the agent cannot be started").because(error);
    let log = fs::File::create(dir.join("agent.log")).map_err(|e| failed(&e))?;
    let (state, run) = (dir.join("state"), dir.join("run"));
    paths::private_dir(&run)?;
    let child = Here
        .command(OsStr::new(&program()?))
        .args(["-v", "agent", "run", "--config"])
        .arg(dir.join("agent.toml"))
        .env("STATE_DIRECTORY", state)
        .env("RUNTIME_DIRECTORY", &run)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(|e| failed(&e))?;
    let name = HOME.parse().map_err(|_| Failure::new("the home has no name"))?;
    Ok(Agent { child, socket: control::socket_path(&run, &name) })
}

fn program() -> Outcome<PathBuf> {
    std::env::current_exe()
        .map_err(|error| Failure::new("this program cannot find itself").because(&error))
}

fn agent_toml(user: &str, gateway: &Sshd, home: &Sshd, port: u16) -> String {
    format!(
        r#"name = "{HOME}"
heartbeat = {HEARTBEAT}

[[gateway]]
address = "ssh://{user}@127.0.0.1:{gateway}"
identity = "home-key"
known_hosts = "known_hosts"

[[service]]
name = "ssh"
target = "127.0.0.1:{home}"
port = {port}
proof = "ssh"
"#,
        gateway = gateway.port(),
        home = home.port(),
    )
}

fn at(sshd: &Sshd) -> String {
    format!("127.0.0.1:{}", sshd.port())
}

fn missing(error: &wayhome_lab::Error) -> Failure {
    Failure::new("an OpenSSH server cannot be run here")
        .because(error)
        .hint("install OpenSSH (Debian: `openssh-server`), or run `cargo xtask try`, which does")
}

/// This account's name, as sshd knows it.
fn whoami() -> Outcome<String> {
    let output = Command::new("id").arg("-un").output();
    let output = output.map_err(|error| Failure::new("`id` cannot be run").because(&error))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// As root, an account that is locked (Ubuntu locks root) lets sshd in only through PAM.
fn needs_pam() -> bool {
    rustix::process::geteuid().is_root() && Path::new("/etc/pam.d/sshd").exists()
}

/// A port that is free now. The agent would say if somebody took it in between.
fn free_port() -> Outcome<u16> {
    TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| Failure::new("no port is free on loopback").because(&error))
}

fn write(path: &Path, text: &str) -> Outcome {
    fs::write(path, text).map_err(|error| {
        Failure::new(format!("`{}` cannot be written", path.display())).because(&error)
    })
}
