//! The agent: the daemon at home. It keeps a link to each gateway, and tells whoever may ask how
//! they are.

pub mod check;
mod connection;
pub mod control;
mod door;
mod hangup;
mod link;
mod links;
mod native;
mod network;
pub mod notify;
pub mod proof;
pub mod sockets;
pub mod ssh;
mod state;
mod story;
mod way;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use wayhome_core::status::{Configuration, Snapshot, millis};

use crate::config::{Config, changes};
use crate::error::{Failure, Outcome};
use crate::{paths, watch};
use control::Reloaded;
use hangup::{Hangup, Hangups};
use link::Order;
use links::Links;
use native::Home;
use notify::Manager;
use ssh::pin::FirstContact;
use state::State;

/// How often to see whether the control socket is still where people look for it.
const LOOK_AROUND: Duration = Duration::from_secs(60);

/// First contacts that failed and wait to be told of. When it is full, their links wait, which have
/// nothing else to do.
const FAILURES: usize = 8;

/// Runs an agent until it is told to end. `file` is where its configuration stands, if it is to be
/// read again when it changes.
pub async fn run(config: Config, file: Option<PathBuf>, first: FirstContact) -> Outcome {
    let state = Arc::new(State::open(&config.name)?);
    let runtime = paths::runtime_dir()?;
    paths::private_dir(&runtime)?;
    let sockets = sockets::Folder::make(&runtime)?;
    let mut control = control::Server::bind(&runtime, &config.name)?;
    let mut look = tokio::time::interval(LOOK_AROUND);

    let mut terminate = signals(SignalKind::terminate())?;
    let mut interrupt = signals(SignalKind::interrupt())?;
    let mut hangups = Hangups::listen()
        .map_err(|error| Failure::new("signals cannot be received").because(&error))?;
    let mut network = network::Changes::listen();
    if let Err(error) = &network {
        tracing::info!("changes of the network cannot be seen ({error}); heartbeats find them");
    }
    let mut edits = watch(file.as_deref());

    let (unpinned, mut failures) = mpsc::channel(FAILURES);
    let home = Arc::new(Home::of(&config)?);
    let mut links = Links::new(state, sockets, Arc::clone(&home), unpinned);
    links.follow(&config, first).await;
    let mut agent = Agent::new(config, file, first, links, Arc::clone(&home));
    tracing::info!(event = "started", "agent for `{}` runs", agent.config.name);
    agent.manager.ready();
    let mut keep_up = std::pin::pin!(home.keep_up());
    let mut outcome = Ok(());
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            hangup = hangups.next() => match hangup {
                Hangup::TerminalGone => break,
                Hangup::Reload => drop(agent.reload().await),
            },
            seen = next_edit(&mut edits) => {
                // The file may lie elsewhere now, behind another link.
                edits = seen.and_then(|()| watch(agent.file.as_deref()));
                agent.reload().await;
            }
            changed = next_change(&mut network) => match changed {
                Ok(()) => agent.links.tell_all(|| Order::NetworkChanged).await,
                Err(error) => network = Err(error),
            },
            () = &mut keep_up => {}
            request = control.accept() => agent.answer(request).await,
            Some(why) = failures.recv() => if let Err(why) = agent.not_pinned(why) {
                outcome = Err(why);
                break;
            },
            _ = look.tick() => if control.is_gone() {
                let renewed = paths::private_dir(&runtime)
                    .and_then(|()| control.renew(&runtime, &agent.config.name));
                if let Err(why) = renewed {
                    tracing::warn!("{why}");
                }
            },
            () = agent.manager.due() => agent.alive().await,
            () = agent.links.fallen() => {
                return Err(Failure::new("a link has fallen over, and the agent ends with it")
                    .hint("this is a bug: what stands above in the log tells more"));
            }
        }
    }
    if outcome.is_ok() {
        tracing::info!(event = "ending", "ending");
    }
    agent.manager.stopping();
    agent.links.tell_all(|| Order::Stop).await;
    tokio::select! {
        // Each link ends within seconds by itself; a second ^C is for who cannot wait.
        () = agent.links.ended() => {}
        _ = interrupt.recv() => {}
    }
    outcome
}

struct Agent {
    config: Config,
    file: Option<PathBuf>,
    first: FirstContact,
    links: Links,
    home: Arc<Home>,
    manager: Manager,
    began: Instant,
    loaded: Instant,
    /// Why what stands in the file now was not taken over.
    refused: Option<String>,
    /// How many gateways could not be pinned at the start.
    unpinned: usize,
}

impl Agent {
    fn new(
        config: Config,
        file: Option<PathBuf>,
        first: FirstContact,
        links: Links,
        home: Arc<Home>,
    ) -> Self {
        let now = Instant::now();
        let manager = Manager::of_environment();
        Self {
            config,
            file,
            first,
            links,
            home,
            manager,
            began: now,
            loaded: now,
            refused: None,
            unpinned: 0,
        }
    }

    /// Reads the configuration again. Only what changed in it is touched; one that is wrong changes
    /// nothing.
    async fn reload(&mut self) -> Reloaded {
        let Some(file) = self.file.clone() else {
            tracing::info!("there is no configuration file to read again");
            return Reloaded::NoFile;
        };
        self.manager.reloading();
        let reloaded = self.take_in(&file).await;
        self.manager.ready();
        reloaded
    }

    async fn take_in(&mut self, file: &Path) -> Reloaded {
        let read = Config::from_file(file)
            .and_then(|new| self.succeeds(new, file))
            .and_then(|new| self.home.follow(&new).map(|()| new));
        match read {
            Ok(new) => {
                let changes = changes::between(&self.config, &new);
                if new != self.config {
                    let first = match self.first {
                        FirstContact::Accept => FirstContact::Accept,
                        FirstContact::Ask | FirstContact::Known => FirstContact::Known,
                    };
                    self.first = first;
                    self.links.follow(&new, first).await;
                    self.config = new;
                    let what = changes.join("; ");
                    tracing::info!("the configuration was read again: {what}");
                } else if self.refused.is_some() {
                    tracing::info!("the configuration is as it was again");
                }
                self.refused = None;
                self.loaded = Instant::now();
                Reloaded::Taken(changes)
            }
            Err(why) => {
                let why = why.to_string();
                if self.refused.as_ref() != Some(&why) {
                    tracing::error!("the configuration was not taken over: {why}");
                }
                self.refused = Some(why.clone());
                Reloaded::Refused(why)
            }
        }
    }

    /// A gateway could not be pinned. It must not keep the others from being served; its link says
    /// then what is missing. An error if there is no other, and a person who started this and is to
    /// know; under a service manager the agent stays.
    fn not_pinned(&mut self, why: Failure) -> Outcome {
        self.unpinned += 1;
        if self.unpinned == self.config.gateways.len() && self.first != FirstContact::Known {
            return Err(why);
        }
        tracing::warn!("{why}");
        Ok(())
    }

    /// Whether a configuration can follow the one that runs.
    fn succeeds(&self, new: Config, file: &Path) -> Outcome<Config> {
        if new.name == self.config.name {
            return Ok(new);
        }
        let (old, new) = (&self.config.name, &new.name);
        let file = file.display();
        Err(Failure::usage(format!("{file}: `name` was `{old}`, and is `{new}` now"))
            .hint("a running agent keeps its name; start it again to give it another one"))
    }

    async fn snapshot(&self) -> Snapshot {
        let has_native = self.config.native_gateways().next().is_some();
        Snapshot {
            version: Snapshot::VERSION,
            name: self.config.name.clone(),
            pid: std::process::id(),
            running_ms: millis(self.began.elapsed()),
            configuration: self.file.as_ref().map(|file| Configuration {
                file: file.display().to_string(),
                loaded_ms: millis(self.loaded.elapsed()),
                error: self.refused.clone(),
            }),
            links: self.links.status().await,
            native: has_native.then(|| self.home.status()),
        }
    }

    /// Tells the service manager that the loop turns, and with it each link.
    async fn alive(&mut self) {
        let snapshot = self.snapshot().await;
        self.manager.alive(&snapshot, self.links.count());
    }

    async fn answer(&mut self, request: control::Request) {
        match request.asked {
            control::Asked::Status => request.reply(&self.snapshot().await),
            control::Asked::Kick => {
                self.links.tell_all(|| Order::Kick).await;
                request.reply(&self.snapshot().await);
            }
            control::Asked::Config => request.reply(&self.config),
            control::Asked::Reload => request.reply(&self.reload().await),
        }
    }
}

fn watch(file: Option<&Path>) -> std::io::Result<watch::Edits> {
    let Some(file) = file else { return Err(std::io::ErrorKind::NotFound.into()) };
    let edits = watch::Edits::of(file);
    if let Err(error) = &edits {
        tracing::info!(
            "edits of `{}` cannot be seen ({error}); `wayhome reload` tells of them",
            file.display()
        );
    }
    edits
}

async fn next_edit(edits: &mut std::io::Result<watch::Edits>) -> std::io::Result<()> {
    match edits {
        Ok(edits) => edits.next().await,
        Err(_) => std::future::pending().await,
    }
}

async fn next_change(changes: &mut std::io::Result<network::Changes>) -> std::io::Result<()> {
    match changes {
        Ok(changes) => changes.next().await,
        Err(_) => std::future::pending().await,
    }
}

fn signals(kind: SignalKind) -> Outcome<tokio::signal::unix::Signal> {
    signal(kind).map_err(|error| Failure::new("signals cannot be received").because(&error))
}
