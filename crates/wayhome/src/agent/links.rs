//! The links of an agent: one for each gateway, begun and ended as the configuration asks.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use wayhome_core::status::LinkStatus;

use super::link::{Beginning, Order};
use super::native::{self, Home};
use super::ssh::pin::FirstContact;
use super::state::State;
use super::{sockets, ssh};
use crate::config::{Config, Gateway};
use crate::error::Failure;

/// Orders to a link are few, and each is answered at once; a full queue makes the giver wait.
const ORDERS: usize = 16;

/// The links, in the configuration's order.
pub struct Links {
    state: Arc<State>,
    sockets: sockets::Folder,
    /// What native links share.
    home: Arc<Home>,
    running: Vec<Running>,
    /// Each gives its number when it ends.
    tasks: JoinSet<usize>,
    /// How many were begun: each has a number of its own, and paths of its own with it.
    begun: usize,
    /// Told of each first contact that failed.
    unpinned: mpsc::Sender<Failure>,
}

struct Running {
    number: usize,
    gateway: Gateway,
    heartbeat: Duration,
    orders: mpsc::Sender<Order>,
    /// Comes when it has ended.
    ended: oneshot::Receiver<()>,
}

impl Running {
    /// Whether this link can do what the configuration asks for now.
    fn goes_on(&self, gateway: &Gateway, heartbeat: Duration) -> bool {
        // Another pace is told to an sshd with a new hold, and to a wayhome gateway when registering.
        let same_pace = matches!(gateway, Gateway::Ssh(_)) || self.heartbeat == heartbeat;
        self.gateway == *gateway && same_pace
    }
}

impl Links {
    /// No links yet. `unpinned` is told why a gateway was not pinned; if nobody listens, the link
    /// waits.
    pub fn new(
        state: Arc<State>,
        sockets: sockets::Folder,
        home: Arc<Home>,
        unpinned: mpsc::Sender<Failure>,
    ) -> Self {
        let (running, tasks) = (Vec::new(), JoinSet::new());
        Self { state, sockets, home, running, tasks, begun: 0, unpinned }
    }

    /// Makes the links be what the configuration asks for: ends those to gateways that are gone,
    /// begins those to new ones, and tells the others of the services. A gateway of which anything
    /// is changed gets a new link, once the old one has ended.
    pub async fn follow(&mut self, config: &Config, first: FirstContact) {
        let mut before = std::mem::take(&mut self.running);
        for gateway in &config.gateways {
            let found = before.iter().position(|link| link.gateway.name() == gateway.name());
            let old = found.map(|index| before.remove(index));
            let link = match old {
                Some(link) if link.goes_on(gateway, config.heartbeat) => {
                    let services = gateway.offers(&config.services, &config.gateways);
                    let plan = Order::Replan(services, config.heartbeat);
                    // A link that has ended hears nothing, and need not.
                    let _ = link.orders.send(plan).await;
                    link
                }
                Some(link) => {
                    let _ = link.orders.send(Order::Stop).await;
                    self.begin(gateway, config, first, Some(link.ended))
                }
                None => self.begin(gateway, config, first, None),
            };
            self.running.push(link);
        }
        for link in before {
            let _ = link.orders.send(Order::Stop).await;
        }
    }

    fn begin(
        &mut self,
        gateway: &Gateway,
        config: &Config,
        first: FirstContact,
        after: Option<oneshot::Receiver<()>>,
    ) -> Running {
        let (orders, receiver) = mpsc::channel(ORDERS);
        let (over, ended) = oneshot::channel();
        let beginning = Beginning {
            services: gateway.offers(&config.services, &config.gateways),
            heartbeat: config.heartbeat,
            orders: receiver,
            after,
        };
        let number = self.begun;
        self.begun += 1;
        match gateway {
            Gateway::Ssh(gateway) => {
                let start = ssh::link::Start {
                    gateway: gateway.clone(),
                    state: Arc::clone(&self.state),
                    sockets: self.sockets.of_link(number),
                    first,
                    unpinned: self.unpinned.clone(),
                };
                self.spawn(number, over, ssh::link::run(start, beginning));
            }
            Gateway::Native(gateway) => {
                let run = native::run(gateway.clone(), Arc::clone(&self.home), beginning);
                self.spawn(number, over, run);
            }
        }
        Running { number, gateway: gateway.clone(), heartbeat: config.heartbeat, orders, ended }
    }

    fn spawn(
        &mut self,
        number: usize,
        over: oneshot::Sender<()>,
        link: impl Future<Output = ()> + Send + 'static,
    ) {
        self.tasks.spawn(async move {
            link.await;
            drop(over);
            number
        });
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.running.len()
    }

    /// Gives an order to all of them.
    pub async fn tell_all(&self, order: impl Fn() -> Order) {
        for link in &self.running {
            let _ = link.orders.send(order()).await;
        }
    }

    /// How each of them is.
    pub async fn status(&self) -> Vec<LinkStatus> {
        let mut links = Vec::new();
        for link in &self.running {
            let (reply, status) = oneshot::channel();
            let _ = link.orders.send(Order::Status(reply)).await;
            links.extend(status.await);
        }
        links
    }

    /// Waits until one has ended that was not told to: it fell over. An agent must not live on
    /// without it as if nothing had happened.
    pub async fn fallen(&mut self) {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(number)) if !self.running.iter().any(|link| link.number == number) => {}
                Some(_) => return,
                None => std::future::pending().await,
            }
        }
    }

    /// Waits until all have ended, which they do within seconds of being told to stop.
    pub async fn ended(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}
