//! The agent: the daemon at home. It keeps a link to each gateway, and tells whoever may ask how
//! they are.

pub mod check;
pub mod control;
mod link;
mod network;
pub mod notify;
mod sockets;
pub mod ssh;
mod state;

use std::sync::Arc;
use std::time::Instant;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use wayhome_core::status::{Snapshot, millis};

use crate::config::Config;
use crate::error::{Failure, Outcome};
use crate::paths;
use link::Order;
use notify::Manager;
use ssh::pin::{self, FirstContact, Pinned};
use state::State;

/// Orders to a link are few, and each is answered at once; a full queue makes the giver wait.
const ORDERS: usize = 16;

/// Runs an agent until it is told to end.
pub async fn run(config: Config, first: FirstContact) -> Outcome {
    let state = Arc::new(State::open(&config.name)?);
    let runtime = paths::runtime_dir()?;
    paths::private_dir(&runtime)?;
    pin_all(&config, first).await?;
    let sockets = sockets::Folder::make(&runtime)?;
    let control = control::Server::bind(&runtime, &config.name)?;

    let began = Instant::now();
    let mut links = JoinSet::new();
    let mut orders = Vec::new();
    for (index, gateway) in config.gateways.iter().cloned().enumerate() {
        let (sender, receiver) = mpsc::channel(ORDERS);
        orders.push(sender);
        let sockets = sockets.of_link(index);
        let (config, state) = (config.clone(), Arc::clone(&state));
        links.spawn(async move { link::run(&config, gateway, state, sockets, receiver).await });
    }
    let agent = Agent { config, began, orders };
    tracing::info!("agent for `{}` runs", agent.config.name);

    let mut terminate = signals(SignalKind::terminate())?;
    let mut interrupt = signals(SignalKind::interrupt())?;
    let mut changes = network::Changes::listen();
    if let Err(error) = &changes {
        tracing::info!("changes of the network cannot be seen ({error}); heartbeats find them");
    }
    let mut manager = Manager::of_environment();
    manager.ready();
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            changed = next_change(&mut changes) => match changed {
                Ok(()) => agent.tell_all(|| Order::NetworkChanged).await,
                Err(error) => changes = Err(error),
            },
            request = control.accept() => agent.answer(request).await,
            () = manager.due() => manager.alive(&agent.snapshot().await, agent.orders.len()),
        }
    }
    tracing::info!("ending");
    manager.stopping();
    agent.tell_all(|| Order::Stop).await;
    let ended = async { while links.join_next().await.is_some() {} };
    tokio::select! {
        // Each link ends within seconds by itself; a second ^C is for who cannot wait.
        () = ended => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Sees to the pins of all gateways. One that is down must not keep the others from being served;
/// its link says then what is missing.
async fn pin_all(config: &Config, first: FirstContact) -> Outcome {
    let mut missing = Vec::new();
    for gateway in &config.gateways {
        match pin::ensure(gateway, first).await? {
            Pinned::Before => {}
            Pinned::Now(fingerprint, why) => {
                tracing::info!("{}: pinned its host key {fingerprint}: {why}", gateway.address);
            }
            Pinned::NotYet(why) => missing.push(why),
        }
    }
    // Under a service manager the agent stays, and its links say what is missing.
    if missing.len() < config.gateways.len() || first == FirstContact::Known {
        for why in missing {
            tracing::warn!("{why}");
        }
        return Ok(());
    }
    missing.into_iter().next().map_or(Ok(()), Err)
}

struct Agent {
    config: Config,
    began: Instant,
    orders: Vec<mpsc::Sender<Order>>,
}

impl Agent {
    async fn tell_all(&self, order: impl Fn() -> Order) {
        for link in &self.orders {
            // A link that has ended hears nothing, and need not.
            let _ = link.send(order()).await;
        }
    }

    async fn snapshot(&self) -> Snapshot {
        let mut links = Vec::new();
        for link in &self.orders {
            let (reply, status) = oneshot::channel();
            let _ = link.send(Order::Status(reply)).await;
            links.extend(status.await);
        }
        Snapshot {
            version: Snapshot::VERSION,
            name: self.config.name.clone(),
            pid: std::process::id(),
            running_ms: millis(self.began.elapsed()),
            links,
        }
    }

    async fn answer(&self, request: control::Request) {
        match request.asked {
            control::Asked::Status => request.reply(&self.snapshot().await),
            control::Asked::Kick => {
                self.tell_all(|| Order::Kick).await;
                request.reply(&self.snapshot().await);
            }
            control::Asked::Config => request.reply(&self.config),
        }
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
