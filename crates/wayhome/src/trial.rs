//! The whole road on one machine: a gateway, a home, an agent, and `ssh home-ubuntu`.
//!
//! The native road is there always: wayhome in all seats. Where this machine has an sshd, the stock
//! road is beside it, one agent keeps both, and ssh goes home by each; where it has none, a small page
//! is what home offers.
//!
//! Real programs, throwaway keys, one throwaway folder with all of it. Whoever drops the trial, or
//! the work on it, cleans up. When this process is killed (kill -9) its servers end with it, and the
//! folder with their keys is left, which open nothing any more; the next trial removes it. What is
//! shown of it is for the caller to say.

mod daemon;
mod folder;
mod native;
mod page;
mod stock;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde::Serialize;
use tempfile::TempDir;
use tokio::time::sleep;
use wayhome_core::status::{LinkState, LinkStatus, ServiceState, Snapshot};
use wayhome_lab::{OpenSsh, process};

use crate::agent::control::{self, Asked};
use crate::error::{Failure, Outcome};
use crate::{paths, report, supervise};
use daemon::Daemon;
use native::Native;
use page::Page;
use stock::Stock;

/// How long any step may take on a loaded machine. Each takes well under a second on an idle one.
const PATIENCE: Duration = Duration::from_secs(30);

const HOME: &str = "home-ubuntu";

/// A heartbeat each second, so that nobody waits long for the frozen link to be found out.
const HEARTBEAT: u32 = 1;

/// A way home.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Road {
    /// Through a port of the gateway's sshd; the laptop has nothing but ssh.
    Stock,
    /// Through the gateway's wayhome; the laptop has wayhome, too.
    Native,
}

impl Road {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stock => "the stock road",
            Self::Native => "the native road",
        }
    }

    /// The laptop's configuration for ssh, by which it goes home.
    fn config(self, laptop: &Path) -> PathBuf {
        match self {
            Self::Stock => laptop.join("stock.config"),
            Self::Native => laptop.join("native.config"),
        }
    }

    /// Whether a link of the agent is its link.
    fn has(self, link: &LinkStatus) -> bool {
        link.gateway.starts_with("wayhome://") == (self == Self::Native)
    }
}

/// Something that was done, and how long it took.
#[derive(Clone, Debug)]
pub struct Step {
    /// What was done.
    pub what: String,
    /// On which road, if it was on one.
    pub road: Option<Road>,
    /// How long it took.
    pub took: Duration,
    /// What is worth showing of it.
    pub detail: String,
}

impl Step {
    /// A step.
    pub fn new(what: &str, road: impl Into<Option<Road>>, took: Duration, detail: &str) -> Self {
        Self { what: what.to_owned(), road: road.into(), took, detail: detail.to_owned() }
    }
}

/// A way to cut a road.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The link's ssh is killed (kill -9).
    Killed,
    /// The link's ssh is frozen: nothing is said any more, and the old session keeps the port. What a
    /// network that swallows packets looks like from the gateway.
    Frozen,
    /// The gateway's wayhome is killed (kill -9), and another one started.
    Restarted,
}

impl Cut {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Killed => "the link's ssh was killed (kill -9)",
            Self::Frozen => "the link fell silent, and its old session still held the port",
            Self::Restarted => "the gateway's wayhome was killed (kill -9) and started again",
        }
    }

    /// Which road it cuts.
    pub fn road(self) -> Road {
        match self {
            Self::Killed | Self::Frozen => Road::Stock,
            Self::Restarted => Road::Native,
        }
    }
}

/// The roads, running.
pub struct Trial {
    agent: Daemon,
    stock: Option<Stock>,
    native: Native,
    /// What home offers where there is no sshd.
    page: Option<Page>,
    /// The last, so that all that writes into it has ended before it is removed.
    folder: TempDir,
}

impl Trial {
    /// Starts all of it, and waits until each road is proven.
    pub async fn start(show: &mut dyn FnMut(Step)) -> Outcome<Self> {
        for left in folder::clear() {
            report::note(format!(
                "removed `{}`, which a trial that was killed had left",
                left.display()
            ));
        }
        let openssh = OpenSsh::system().inspect_err(|why| {
            report::note(format!(
                "without an OpenSSH server only the native road is shown, with a small page at \
                 home: {why}"
            ));
        });
        let began = Instant::now();
        let folder = folder::make()?;
        let dir = folder.path();
        let ssh_keys = openssh.ok().map(|openssh| stock::Keys::make(openssh, dir)).transpose()?;
        let native_keys = native::Keys::make(dir).await?;
        show(Step::new("throwaway keys", None, began.elapsed(), &dir.display().to_string()));
        breathe().await;

        let (mut stock, mut page) = (None, None);
        let target = if let Some(keys) = ssh_keys {
            let servers = Stock::start(keys, dir, show).await?;
            let target = format!("name = \"ssh\"\nproof = \"ssh\"\n{}", servers.service());
            stock = Some(servers);
            target
        } else {
            let began = Instant::now();
            let served = Page::serve()?;
            let (at, took) = (served.address().to_string(), began.elapsed());
            show(Step::new("a page at home", None, took, &at));
            page = Some(served);
            format!("name = \"web\"\nproof = \"http\"\ntarget = \"{at}\"\n")
        };
        let began = Instant::now();
        let service = if stock.is_some() { "ssh" } else { "web" };
        let native = Native::start(native_keys, dir, service).await?;
        let what = "the gateway's wayhome";
        show(Step::new(what, Road::Native, began.elapsed(), &native.at()));
        breathe().await;

        let began = Instant::now();
        let gateways = stock.as_ref().map(Stock::gateway).unwrap_or_default() + &native.gateway();
        let config = format!(
            "name = \"{HOME}\"\nheartbeat = {HEARTBEAT}\n{gateways}\n[[service]]\n{target}"
        );
        write(&dir.join("agent.toml"), &config)?;
        write(&dir.join("grants.toml"), &native.grant_at_home(service))?;
        let agent = Daemon::start(dir, &["-v", "agent", "run"], "agent.toml", "the agent")?;
        let mut trial = Self { agent, stock, native, page, folder };
        trial.prove(began, show).await?;

        let began = Instant::now();
        trial.write_laptop().await?;
        let what = match trial.stock {
            Some(_) => "wayhome ssh-config, wayhome keys pin",
            None => "wayhome keys pin",
        };
        show(Step::new("the laptop's configuration", None, began.elapsed(), what));
        Ok(trial)
    }

    /// The roads that are shown.
    pub fn roads(&self) -> &'static [Road] {
        if self.stock.is_some() { &[Road::Stock, Road::Native] } else { &[Road::Native] }
    }

    /// The ways to cut them.
    pub fn cuts(&self) -> &'static [Cut] {
        let all = &[Cut::Killed, Cut::Frozen, Cut::Restarted];
        if self.stock.is_some() { all } else { &[Cut::Restarted] }
    }

    /// What a person goes home for.
    pub fn goal(&self) -> String {
        if self.stock.is_some() { format!("ssh {HOME}") } else { format!("{HOME}'s page") }
    }

    /// Goes home as a person does: with the real ssh, if home has an sshd. Says how long it took.
    pub async fn go_home(
        &self,
        road: Road,
        when: &str,
        show: &mut dyn FnMut(Step),
    ) -> Outcome<Duration> {
        let began = Instant::now();
        let detail = match &self.stock {
            Some(stock) => {
                let (config, state) = (road.config(&self.laptop()), self.laptop().join("state"));
                format!("in: {}", stock.log_in(&config, &state).await?)
            }
            None => page::visit(&self.laptop()).await?,
        };
        let took = began.elapsed();
        let what = format!("{} by {}, {when}", self.goal(), road.name());
        show(Step::new(&what, road, took, &detail));
        Ok(took)
    }

    /// Cuts a road, waits until it is proven again, and says how long it was down.
    pub async fn cut(&mut self, cut: Cut, show: &mut dyn FnMut(Step)) -> Outcome<Duration> {
        let road = cut.road();
        let came_back = |snapshot: &Snapshot| {
            let links = snapshot.links.iter().filter(|link| road.has(link));
            links.map(|link| link.reconnects).sum::<u64>()
        };
        let before = came_back(&self.snapshot().await?);
        let began;
        match cut {
            Cut::Killed | Cut::Frozen => {
                let ssh = self.ssh_of_the_link()?;
                began = Instant::now();
                process::signal(ssh, if cut == Cut::Killed { Signal::KILL } else { Signal::STOP });
            }
            Cut::Restarted => {
                began = Instant::now();
                self.native.restart(self.folder.path()).await?;
            }
        }
        self.wait_until("the road did not come back", |snapshot| {
            came_back(snapshot) > before && is_proven(snapshot, road)
        })
        .await?;
        let down = began.elapsed();
        show(Step::new("cut, and proven again", road, down, cut.name()));
        Ok(down)
    }

    /// The commands that go home, to be pasted.
    pub fn command_lines(&self) -> Vec<String> {
        let laptop = self.laptop();
        if self.stock.is_none() {
            return vec![page::command_line(&laptop)];
        }
        let state = |road| (road == Road::Native).then(|| laptop.join("state"));
        let roads = self.roads().iter();
        roads.map(|road| stock::command_line(&road.config(&laptop), state(*road))).collect()
    }

    /// The commands that show the agent and the gateway, to be pasted.
    pub fn status_lines(&self) -> [String; 2] {
        // It need not be installed yet.
        let program = std::env::current_exe().unwrap_or_else(|_| "wayhome".into());
        let line = |run: PathBuf| {
            format!("RUNTIME_DIRECTORY={} {} status", run.display(), program.display())
        };
        [
            line(self.folder.path().join("run")),
            line(native::gateway_seat(self.folder.path()).join("run")),
        ]
    }

    /// Ends all of it and removes the folder.
    pub fn end(self) -> Outcome {
        drop((self.agent, self.native, self.stock, self.page));
        self.folder
            .close()
            .map_err(|error| Failure::new("the throwaway folder cannot be removed").because(&error))
    }

    /// Waits until each road is proven, and shows how long each took.
    async fn prove(&mut self, began: Instant, show: &mut dyn FnMut(Step)) -> Outcome {
        let roads = self.roads();
        let mut took = vec![None; roads.len()];
        let of_stock = self.stock.as_ref().map(Stock::way).unwrap_or_default();
        let of_native = format!("{} at the gateway → home, which proved its key", self.native.at());
        self.wait_until("the road was not proven", |snapshot| {
            for (road, took) in roads.iter().zip(&mut took) {
                if took.is_none() && is_proven(snapshot, *road) {
                    *took = Some(began.elapsed());
                }
            }
            took.iter().all(Option::is_some)
        })
        .await?;
        for (road, took) in roads.iter().zip(took) {
            let what = format!("{} is proven", road.name());
            let way = if *road == Road::Stock { &of_stock } else { &of_native };
            show(Step::new(&what, *road, took.unwrap_or_default(), way));
        }
        Ok(())
    }

    fn laptop(&self) -> PathBuf {
        self.folder.path().join("laptop")
    }

    async fn write_laptop(&self) -> Outcome {
        let laptop = self.laptop();
        if let Some(stock) = &self.stock {
            let dir = self.folder.path();
            let key = stock.laptop_key().to_string_lossy();
            let printed = run(dir, "ssh-config", &["--identity", &key]).await?;
            stock.write_laptop(&Road::Stock.config(&laptop), &printed)?;
            let printed = self.native.ssh_config(stock)?;
            stock.write_laptop(&Road::Native.config(&laptop), &printed)?;
        }
        self.native.pin(&laptop).await
    }

    fn ssh_of_the_link(&self) -> Outcome<u32> {
        let ssh = process::children(self.agent.id()).into_iter().find(|pid| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == "ssh")
        });
        ssh.ok_or_else(|| Failure::new("the agent has no ssh to be cut"))
    }

    async fn snapshot(&self) -> Outcome<Snapshot> {
        let name = HOME.parse().map_err(|_| Failure::new("the home has no name"))?;
        let socket = control::socket_path(&self.folder.path().join("run"), &name);
        control::ask(&socket, Asked::Status)
            .await
            .map_err(|error| Failure::new("the agent does not answer").because(&error))
    }

    async fn wait_until(
        &mut self,
        or: &str,
        mut reached: impl FnMut(&Snapshot) -> bool,
    ) -> Outcome {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Asked first, so that the log of an agent that has ended is whole.
            let ended = self.agent.has_ended();
            let snapshot = self.snapshot().await;
            if snapshot.as_ref().is_ok_and(&mut reached) {
                return Ok(());
            }
            // That waits for a person, and the other link would keep the agent going.
            let halted = |link: &LinkStatus| link.state == LinkState::Halted;
            let halted = snapshot.is_ok_and(|snapshot| snapshot.links.iter().any(halted));
            if ended || halted || Instant::now() > deadline {
                let why = match (ended, halted) {
                    (true, _) => format!("the agent ended, so {or}"),
                    (_, true) => format!("a link was halted, so {or}"),
                    _ => format!("{or} within {} s", PATIENCE.as_secs()),
                };
                return Err(self.agent.failure(why));
            }
            sleep(Duration::from_millis(5)).await;
        }
    }
}

fn is_proven(snapshot: &Snapshot, road: Road) -> bool {
    snapshot.links.iter().filter(|link| road.has(link)).all(|link| {
        link.state == LinkState::Up && link.services.iter().all(|s| s.state == ServiceState::Up)
    })
}

/// Lets a signal in, between two steps that take a moment and cannot be broken off.
async fn breathe() {
    sleep(Duration::from_millis(1)).await;
}

fn program() -> Outcome<PathBuf> {
    std::env::current_exe()
        .map_err(|error| Failure::new("this program cannot find itself").because(&error))
}

/// Runs `wayhome` in the seat whose folder this is, and gives what it printed.
async fn run(seat: &Path, command: &str, args: &[&str]) -> Outcome<String> {
    let printed = supervise::command(&program()?)
        .arg(command)
        .args(args)
        .env("STATE_DIRECTORY", seat.join("state"))
        .env("RUNTIME_DIRECTORY", seat.join("run"))
        .output()
        .await;
    let failed = || Failure::new(format!("`wayhome {command}` failed"));
    let printed = printed.map_err(|error| failed().because(&error))?;
    if printed.status.success() {
        return Ok(String::from_utf8_lossy(&printed.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&printed.stderr).trim().to_owned();
    Err(failed().because(&std::io::Error::other(said)))
}

/// A port that is free now. Whoever is to listen there would say if somebody took it in between.
fn free_port() -> Outcome<u16> {
    TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| Failure::new("no port is free on loopback").because(&error))
}

fn write(path: &Path, text: &str) -> Outcome {
    paths::write_private(path, text.as_bytes()).map_err(|error| {
        Failure::new(format!("`{}` cannot be written", path.display())).because(&error)
    })
}
