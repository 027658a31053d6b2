//! One link's hands: does what `wayhome_core::link` decides, and tells it what came of it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex as StdMutex};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinSet;
use wayhome_core::health::Cause;
use wayhome_core::link::{Action, ConnId, Event, Link, Note, Plan, Session};
use wayhome_core::service::{Bind, Service, Target};
use wayhome_core::status::LinkStatus;
use wayhome_core::time::Time;

use super::sockets::Sockets;
use super::ssh::diagnose::{self, Said};
use super::ssh::hold::{self, Answer, Request};
use super::ssh::knock::Door;
use super::ssh::master::Master;
use super::ssh::mux::{End, Mux, MuxError};
use super::ssh::proof::Expected;
use super::ssh::socket::Connection;
use super::state::State;
use crate::config::{Config, Gateway};

/// Events wait here while the link decides. A full queue makes the senders wait, which are tasks of
/// this link alone.
const EVENTS: usize = 64;

/// What may be asked of a link from outside.
#[derive(Debug)]
pub enum Order {
    /// Its status.
    Status(oneshot::Sender<LinkStatus>),
    /// Addresses or routes changed.
    NetworkChanged,
    /// Try now.
    Kick,
    /// End.
    Stop,
}

/// The hands of one link.
pub struct Hands {
    gateway: Gateway,
    services: Vec<Service>,
    state: Arc<State>,
    sockets: Sockets,
    door: Option<Door>,
    expected: Vec<Arc<Mutex<Expected>>>,
    conns: HashMap<ConnId, Conn>,
    tasks: JoinSet<()>,
    events: mpsc::Sender<Event>,
    began: Instant,
    /// The old session that was reported last: it is ended once, for all the ports that it held.
    ended: Option<Session>,
}

struct Conn {
    socket: PathBuf,
    pid: Option<u32>,
    /// Dropped or sent to: ssh is ended.
    close: Option<oneshot::Sender<()>>,
    hold: Option<mpsc::Sender<Request>>,
    /// What its ssh has said.
    said: Arc<StdMutex<Said>>,
}

/// How long ssh may take to pass on why sshd refused a forward, which it writes just before it says
/// that it was refused.
const EXPLAINED: Duration = Duration::from_millis(50);

/// Runs a link until it is told to stop.
pub async fn run(
    config: &Config,
    gateway: Gateway,
    state: Arc<State>,
    sockets: Sockets,
    mut orders: mpsc::Receiver<Order>,
) {
    let began = Instant::now();
    let key = gateway.address.to_string();
    let door = Door::find(&gateway).await;
    let plan = Plan {
        gateway: key.clone(),
        services: config.services.clone(),
        knockable: door.is_some(),
        heartbeat: config.heartbeat,
        sessions: state.sessions(&key),
        seed: seed(),
    };
    let (sender, mut events) = mpsc::channel(EVENTS);
    let mut hands = Hands {
        expected: config.services.iter().map(|_| Arc::default()).collect(),
        services: config.services.clone(),
        gateway,
        state,
        sockets,
        door,
        conns: HashMap::new(),
        tasks: JoinSet::new(),
        events: sender,
        began,
        ended: None,
    };
    let mut link = Link::new(plan, hands.now());
    let mut event = Event::Timer;
    loop {
        if !matches!(event, Event::Timer) {
            tracing::trace!("{key}: {event:?}");
        }
        for action in link.handle(event, hands.now()) {
            tracing::trace!("{key}: {action:?}");
            if action == Action::Stopped {
                hands.tasks.shutdown().await;
                return;
            }
            hands.perform(action);
        }
        let timer = link.next_timer().map(|time| hands.instant(time));
        event = tokio::select! {
            biased;
            order = orders.recv() => match order {
                Some(Order::Status(reply)) => {
                    // Whoever asked may be gone.
                    let _ = reply.send(link.status(hands.now()));
                    Event::Timer
                }
                Some(Order::NetworkChanged) => Event::NetworkChanged(hands.conns_without_address()),
                Some(Order::Kick) => Event::Kick,
                Some(Order::Stop) | None => Event::Stop,
            },
            Some(event) = events.recv() => event,
            () = sleep_until(timer) => Event::Timer,
            // What a task had to say came as an event.
            Some(_) = hands.tasks.join_next() => Event::Timer,
        };
        if let Event::Ended(id, _) = &event {
            hands.conns.remove(id);
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// Differs between homes, and between starts of one.
fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}

impl Hands {
    fn now(&self) -> Time {
        Time::after_start(self.began.elapsed())
    }

    fn instant(&self, time: Time) -> Instant {
        self.began + time.since(Time::ZERO)
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Knock => self.knock(),
            Action::Dial(id) => self.dial(id),
            Action::Close(id) => {
                if let Some(conn) = self.conns.get_mut(&id) {
                    conn.close = None;
                    conn.hold = None;
                }
            }
            Action::Hold(id) => self.hold(id),
            Action::Ping(id, sequence) => self.ask(id, Request::Ping(sequence)),
            Action::Inspect(id) => self.inspect(id),
            Action::Forward(id, service) => self.forward(id, service),
            Action::Look(id, service) => {
                if let Some(port) = self.services.get(service).map(|service| service.port) {
                    self.ask(id, Request::Look(service, port));
                }
            }
            Action::Release(id, service, session) => {
                if let Some(port) = self.services.get(service).map(|service| service.port) {
                    self.ask(id, Request::Release(service, port, session));
                }
            }
            Action::Prove(id, service) => self.prove(id, service),
            Action::Remember(session) => {
                self.state.remember(&self.gateway.address.to_string(), session);
            }
            Action::Report(note) => self.report(&note),
            // Seen to by the loop.
            Action::Stopped => {}
        }
    }

    fn spawn(&mut self, work: impl Future<Output = Event> + Send + 'static) {
        let events = self.events.clone();
        self.tasks.spawn(async move {
            let event = work.await;
            // The link ends before its tasks do; then nobody wants to know.
            let _ = events.send(event).await;
        });
    }

    fn knock(&mut self) {
        if let Some(door) = self.door.clone() {
            self.spawn(async move { Event::Knocked(door.knock().await) });
        }
    }

    fn dial(&mut self, id: ConnId) {
        let socket = self.sockets.path(id);
        let (close, closed) = oneshot::channel();
        let family = self.door.as_ref().and_then(Door::family);
        let started = Master::start(&self.gateway, socket.clone(), family);
        let pid = started.as_ref().ok().and_then(Master::pid);
        let said = started.as_ref().map(Master::said).unwrap_or_default();
        self.conns.insert(id, Conn { socket, pid, close: Some(close), hold: None, said });
        let events = self.events.clone();
        self.spawn(async move {
            let cause = match started {
                Ok(master) => master.run(closed, id, &events).await,
                Err(cause) => cause,
            };
            Event::Ended(id, cause)
        });
    }

    fn hold(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        // Never more than a heartbeat and one request are under way.
        let (sender, requests) = mpsc::channel(4);
        conn.hold = Some(sender);
        let socket = conn.socket.clone();
        let said = Arc::clone(&conn.said);
        let ports: Vec<u16> = self.services.iter().map(|service| service.port).collect();
        let events = self.events.clone();
        self.spawn(async move {
            let why = match hold::open(&socket, &ports).await {
                Err(why) => {
                    let forced = said.lock().is_ok_and(|said| said.has_forced_command());
                    diagnose::no_hold(&why, forced)
                }
                Ok(held) => {
                    let _ = events.send(Event::Held(id, held.own.clone())).await;
                    let ended = held.serve(requests, &events, |answer| told(id, answer)).await;
                    Cause::HoldRefused { detail: ended }
                }
            };
            // When the connection ends its hold ends a moment before it; that is no refusal.
            tokio::time::sleep(Duration::from_millis(200)).await;
            Event::HoldRefused(id, why)
        });
    }

    fn ask(&mut self, id: ConnId, request: Request) {
        if let Some(hold) = self.conns.get(&id).and_then(|conn| conn.hold.as_ref()) {
            // A hold that takes no more is one that does not answer; the link finds that out.
            let _ = hold.try_send(request);
        }
    }

    fn inspect(&mut self, id: ConnId) {
        let connection = self.conns.get(&id).and_then(|conn| Connection::of_process(conn.pid?));
        let moving = connection.is_some_and(|connection| connection.is_moving());
        self.spawn(async move { Event::Inspected { conn: id, moving } });
    }

    fn conns_without_address(&self) -> Vec<ConnId> {
        let gone = |conn: &Conn| {
            let connection = conn.pid.and_then(Connection::of_process);
            connection.is_some_and(|connection| !connection.has_local_address())
        };
        self.conns.iter().filter(|(_, conn)| gone(conn)).map(|(id, _)| *id).collect()
    }

    fn forward(&mut self, id: ConnId, index: usize) {
        let (Some(conn), Some(service)) = (self.conns.get(&id), self.services.get(index)) else {
            return;
        };
        let (socket, service) = (conn.socket.clone(), service.clone());
        let (said, events) = (Arc::clone(&conn.said), self.events.clone());
        self.spawn(async move {
            let granted = ask_forward(&socket, &service).await;
            if !granted {
                tokio::time::sleep(EXPLAINED).await;
                let why = said.lock().ok().and_then(|mut said| said.take_explanation());
                if let Some(why) = why {
                    let _ = events.send(Event::Explained(id, why)).await;
                }
            }
            Event::Forwarded(id, index, granted)
        });
    }

    fn prove(&mut self, id: ConnId, index: usize) {
        let (Some(conn), Some(service), Some(expected)) =
            (self.conns.get(&id), self.services.get(index), self.expected.get(index))
        else {
            return;
        };
        let (socket, service) = (conn.socket.clone(), service.clone());
        let expected = Arc::clone(expected);
        self.spawn(async move {
            let (sighting, keys) = expected.lock().await.prove(&socket, &service).await;
            Event::Seen(id, index, sighting, keys)
        });
    }

    fn report(&mut self, note: &Note) {
        let name = |index: &usize| {
            self.services
                .get(*index)
                .map(|service| format!("{} (port {})", service.name, service.port))
        };
        let gateway = &self.gateway.address;
        let took = |after: &Option<Duration>| {
            after.map(|span| format!(", after {:.2} s", span.as_secs_f64())).unwrap_or_default()
        };
        match note {
            Note::LinkUp { after } => tracing::info!("{gateway}: connected{}", took(after)),
            Note::Suspect => tracing::warn!("{gateway}: no answer; looking for a fresh way"),
            Note::Recovered => tracing::info!("{gateway}: the old connection answers again"),
            Note::LinkDown(cause) => {
                tracing::warn!("{gateway}: down: {cause}; {}", cause.remedy());
            }
            Note::LinkHalted(cause) => {
                tracing::error!("{gateway}: halted: {cause}; {}", cause.remedy());
            }
            Note::NoHold(cause) => tracing::warn!(
                "{gateway}: no hold: {cause}; {}; ssh's own keepalives serve",
                cause.remedy()
            ),
            Note::ServiceUp { service, after } => {
                if let Some(name) = name(service) {
                    tracing::info!("{gateway}: {name} is up: proven{}", took(after));
                }
            }
            Note::ServiceTrouble { service, cause } => {
                if let Some(name) = name(service) {
                    tracing::warn!("{gateway}: {name} is not up: {cause}; {}", cause.remedy());
                }
            }
            Note::TookOver { service, session } => {
                if let Some(name) = name(service)
                    && self.ended.as_ref() != Some(session)
                {
                    let pid = session.pid;
                    tracing::info!("{gateway}: {name}: ended our old session (process {pid})");
                    self.ended = Some(session.clone());
                }
            }
        }
    }
}

/// What the hold answered, as the link takes it in.
fn told(id: ConnId, answer: Answer) -> Event {
    match answer {
        Answer::Pong(sequence) => Event::Pong(id, sequence),
        Answer::Looked(service, holder) => Event::Looked(id, service, holder),
        Answer::Released(service, result) => Event::Released(id, service, result),
    }
}

/// Asks for a service's port. On loopback, IPv4 decides, and IPv6 is a gift: a gateway may have
/// none, and `localhost` in one request would be granted if only one of the two could be had.
async fn ask_forward(socket: &std::path::Path, service: &Service) -> bool {
    let target = match &service.target {
        Target::Tcp(host, port) => End::Tcp(host, *port),
        Target::Unix(path) => End::Unix(path),
    };
    let open = async |address: &str| {
        let mux = Mux::connect(socket).await?;
        mux.open_forward(End::Tcp(address, service.port), target).await
    };
    let granted = match &service.bind {
        Bind::Public(address) => open(address).await,
        Bind::Loopback => {
            let granted = open("127.0.0.1").await;
            if granted.is_ok()
                && let Err(MuxError::Refused(why)) = open("::1").await
            {
                tracing::debug!("port {} is not open on [::1] at the gateway: {why}", service.port);
            }
            granted
        }
    };
    match granted {
        Ok(()) => true,
        Err(MuxError::Refused(_)) => false,
        Err(error) => {
            // The link's deadline for requests will end a connection that cannot be spoken to.
            tracing::debug!("the forward of port {} failed: {error}", service.port);
            std::future::pending().await
        }
    }
}
