//! One link's hands: does what `wayhome_core::link` decides, and tells it what came of it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex as StdMutex};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinSet;
use wayhome_core::health::Cause;
use wayhome_core::link::{Action, ConnId, Event, Link, Note, Plan, Session, Sighting};
use wayhome_core::service::Service;
use wayhome_core::status::LinkStatus;
use wayhome_core::time::Time;

use super::sockets::Sockets;
use super::ssh::diagnose::{self, Said};
use super::ssh::forward;
use super::ssh::hold::{self, Answer, Request};
use super::ssh::knock::Door;
use super::ssh::master::{self, Master, Progress, STAGES};
use super::ssh::pin::{self, FirstContact};
use super::ssh::proof::Expected;
use super::ssh::reach;
use super::ssh::socket::Connection;
use super::state::State;
use super::story;
use super::way::Way;
use crate::config::Gateway;
use crate::error::Failure;

/// Events wait here while the link decides. A full queue makes the senders wait, which are tasks of
/// this link alone.
const EVENTS: usize = 64;

/// What may be asked of a link from outside.
#[derive(Debug)]
pub enum Order {
    /// Its status.
    Status(oneshot::Sender<LinkStatus>),
    /// The services, and the pace of the heartbeats, from now on.
    Replan(Vec<Service>, Duration),
    /// Addresses or routes changed.
    NetworkChanged,
    /// Try now.
    Kick,
    /// End.
    Stop,
}

/// What a link begins with.
#[derive(Debug)]
pub struct Beginning {
    /// Where it leads.
    pub gateway: Gateway,
    /// What is offered there.
    pub services: Vec<Service>,
    /// The pace of the heartbeats.
    pub heartbeat: Duration,
    /// What is recorded of earlier agents.
    pub state: Arc<State>,
    /// Where ssh's control sockets go.
    pub sockets: Sockets,
    /// How a gateway without a pin is met.
    pub first: FirstContact,
    /// Told why it was not pinned.
    pub unpinned: mpsc::Sender<Failure>,
    /// The link before this one to the same gateway, which has to end first.
    pub after: Option<oneshot::Receiver<()>>,
}

/// The hands of one link.
struct Hands {
    gateway: Gateway,
    state: Arc<State>,
    sockets: Sockets,
    door: Option<Door>,
    /// The way to the gateway when the network was last looked at.
    way: Way,
    /// What is known of each service's target.
    expected: HashMap<usize, Arc<Mutex<Expected>>>,
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
    /// What is known of ssh's own connection, once it has logged in.
    logged_in: Option<Option<Connection>>,
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
pub async fn run(begin: Beginning, mut orders: mpsc::Receiver<Order>) {
    let began = Instant::now();
    let key = begin.gateway.address.to_string();
    let mut plan = Plan {
        gateway: key.clone(),
        services: begin.services,
        knockable: false,
        heartbeat: begin.heartbeat,
        sessions: begin.state.sessions(&key),
        seed: seed(),
    };
    let prelude = prelude(&begin.gateway, begin.first, begin.unpinned, begin.after);
    let Some(door) = patiently(prelude, &mut plan, &mut orders).await else { return };
    plan.knockable = door.is_some();
    let (sender, mut events) = mpsc::channel(EVENTS);
    let mut hands = Hands {
        gateway: begin.gateway,
        state: begin.state,
        sockets: begin.sockets,
        way: Way::to(door.as_ref()),
        door,
        expected: HashMap::new(),
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
            hands.perform(action, &link);
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
                Some(Order::NetworkChanged) => hands.look_at_network(),
                Some(Order::Kick) => Event::Kick,
                Some(Order::Replan(services, heartbeat)) => Event::Replanned(services, heartbeat),
                Some(Order::Stop) | None => Event::Stop,
            },
            Some(event) = events.recv() => event,
            () = sleep_until(timer) => Event::Timer,
            // What a task had to say came as an event.
            Some(_) = hands.tasks.join_next() => Event::Timer,
        };
        match &event {
            Event::Connected(id) => hands.logged_in(*id),
            Event::Ended(id, _) => drop(hands.conns.remove(id)),
            _ => {}
        }
    }
}

/// What comes before the first dial: the end of the link before, the pin, and where to knock.
async fn prelude(
    gateway: &Gateway,
    first: FirstContact,
    unpinned: mpsc::Sender<Failure>,
    after: Option<oneshot::Receiver<()>>,
) -> Option<Door> {
    if let Some(after) = after {
        // It ends within seconds, and its sender with it.
        let _ = after.await;
    }
    match pin::ensure(gateway, first).await {
        Ok(pinned) => pinned.report(gateway),
        // The link says so again when ssh refuses the gateway. An agent that ends does not listen.
        Err(why) => drop(unpinned.send(why).await),
    }
    Door::find(gateway).await
}

/// Waits for the prelude, which may take long, and keeps answering meanwhile. `None` if the link is
/// told to stop.
async fn patiently<T>(
    prelude: impl Future<Output = T>,
    plan: &mut Plan,
    orders: &mut mpsc::Receiver<Order>,
) -> Option<T> {
    let mut prelude = std::pin::pin!(prelude);
    loop {
        tokio::select! {
            done = &mut prelude => return Some(done),
            order = orders.recv() => match order? {
                Order::Status(reply) => {
                    // Whoever asked may be gone.
                    let _ = reply.send(Link::new(plan.clone(), Time::ZERO).status(Time::ZERO));
                }
                Order::Replan(services, heartbeat) => {
                    (plan.services, plan.heartbeat) = (services, heartbeat);
                }
                Order::Stop => return None,
                Order::NetworkChanged | Order::Kick => {}
            },
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

    fn perform(&mut self, action: Action, link: &Link) {
        match action {
            Action::Knock => self.knock(),
            Action::Dial(id) => self.dial(id),
            Action::Close(id) => {
                if let Some(conn) = self.conns.get_mut(&id) {
                    conn.close = None;
                    conn.hold = None;
                }
            }
            Action::Hold(id) => {
                self.hold(id, link.services().map(|(_, service)| service.port).collect());
            }
            Action::Ping(id, sequence) => self.ask(id, Request::Ping(sequence)),
            Action::Inspect(id) => self.inspect(id),
            Action::Forward(id, number) => {
                if let Some(service) = link.service(number) {
                    self.forward(id, number, service.clone());
                }
            }
            Action::Survey(id, number) => {
                if let Some(service) = link.service(number) {
                    self.survey(id, number, service.port);
                }
            }
            Action::Look(id, number) => {
                if let Some(service) = link.service(number) {
                    self.ask(id, Request::Look(number, service.port));
                }
            }
            Action::Release(id, number, session) => {
                if let Some(service) = link.service(number) {
                    self.ask(id, Request::Release(number, service.port, session));
                }
            }
            Action::Prove(id, number) => {
                self.expected.retain(|number, _| link.service(*number).is_some());
                if let Some(service) = link.service(number) {
                    self.prove(id, number, service.clone());
                }
            }
            Action::Withdraw(id, number) => {
                if let Some(service) = link.service(number) {
                    self.withdraw(id, number, service.clone());
                }
            }
            Action::Remember(session) => {
                self.state.remember(&self.gateway.address.to_string(), session);
            }
            Action::Report(note) => self.report(&note, link),
            // Seen to by the loop.
            Action::Stopped => {}
        }
    }

    /// Does something beside the link, and tells it what came of it, if anything did.
    fn spawn(&mut self, work: impl Future<Output = Option<Event>> + Send + 'static) {
        let events = self.events.clone();
        self.tasks.spawn(async move {
            if let Some(event) = work.await {
                // The link ends before its tasks do; then nobody wants to know.
                let _ = events.send(event).await;
            }
        });
    }

    fn knock(&mut self) {
        if let Some(door) = self.door.clone() {
            self.spawn(async move { Some(Event::Knocked(door.knock().await)) });
        }
    }

    fn dial(&mut self, id: ConnId) {
        let socket = self.sockets.path(id);
        let (close, closed) = oneshot::channel();
        let family = self.door.as_ref().and_then(Door::family);
        let started = Master::start(&self.gateway, socket.clone(), family);
        let pid = started.as_ref().ok().and_then(Master::pid);
        let said = started.as_ref().map(Master::said).unwrap_or_default();
        let conn = Conn { socket, pid, logged_in: None, close: Some(close), hold: None, said };
        self.conns.insert(id, conn);
        let events = self.events.clone();
        self.spawn(async move {
            let cause = match started {
                Ok(master) => {
                    let (teller, mut told) = mpsc::channel(STAGES);
                    let pass_on = async {
                        while let Some(progress) = told.recv().await {
                            let event = match progress {
                                Progress::Reached(stage) => Event::Reached(id, stage),
                                Progress::LoggedIn => Event::Connected(id),
                            };
                            let _ = events.send(event).await;
                        }
                    };
                    tokio::join!(master.run_and_tell(closed, teller), pass_on).0
                }
                Err(cause) => cause,
            };
            Some(Event::Ended(id, cause))
        });
    }

    /// Opens the hold; one that was open is closed, and says nothing more.
    fn hold(&mut self, id: ConnId, ports: Vec<u16>) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        // Never more than a heartbeat and one request are under way.
        let (sender, requests) = mpsc::channel(4);
        conn.hold = Some(sender);
        let socket = conn.socket.clone();
        let said = Arc::clone(&conn.said);
        let events = self.events.clone();
        self.tasks.spawn(async move {
            let why = match hold::open(&socket, &ports).await {
                Err(why) => {
                    let forced = said.lock().is_ok_and(|said| said.has_forced_command());
                    diagnose::no_hold(&why, forced)
                }
                Ok(held) => {
                    let _ = events.send(Event::Held(id, held.own.clone())).await;
                    match held.serve(requests, &events, |answer| told(id, answer)).await {
                        Some(detail) => Cause::HoldRefused { detail },
                        None => return,
                    }
                }
            };
            // When the connection ends its hold ends a moment before it; that is no refusal.
            tokio::time::sleep(Duration::from_millis(200)).await;
            let _ = events.send(Event::HoldRefused(id, why)).await;
        });
    }

    fn ask(&mut self, id: ConnId, request: Request) {
        if let Some(hold) = self.conns.get(&id).and_then(|conn| conn.hold.as_ref()) {
            // A hold that takes no more is one that does not answer; the link finds that out.
            let _ = hold.try_send(request);
        }
    }

    /// Learns which connection is ssh's own, before any stream has one too.
    fn logged_in(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.logged_in = Some(conn.connection());
        }
    }

    fn inspect(&mut self, id: ConnId) {
        let connection = self.conns.get(&id).and_then(Conn::connection);
        self.spawn(async move {
            let moving = match connection {
                Some(connection) => connection.is_moving().await,
                None => false,
            };
            Some(Event::Inspected { conn: id, moving })
        });
    }

    /// Something about this machine's network changed: whether it concerns the way to the gateway.
    fn look_at_network(&mut self) -> Event {
        let lost = self.conns_without_address();
        let way = Way::to(self.door.as_ref());
        if lost.is_empty() && way == self.way {
            // A container came or went, or a router said again what it had said before.
            return Event::Timer;
        }
        self.way = way;
        Event::NetworkChanged(lost)
    }

    fn conns_without_address(&self) -> Vec<ConnId> {
        let gone = |conn: &Conn| {
            conn.connection().is_some_and(|connection| !connection.has_local_address())
        };
        self.conns.iter().filter(|(_, conn)| gone(conn)).map(|(id, _)| *id).collect()
    }

    fn forward(&mut self, id: ConnId, number: usize, service: Service) {
        let Some(conn) = self.conns.get(&id) else { return };
        let socket = conn.socket.clone();
        let (said, events) = (Arc::clone(&conn.said), self.events.clone());
        self.spawn(async move {
            let granted = forward::open(&socket, &service).await?;
            if !granted {
                tokio::time::sleep(EXPLAINED).await;
                let why = said.lock().ok().and_then(|mut said| said.take_explanation());
                if let Some(why) = why {
                    let _ = events.send(Event::Explained(id, why)).await;
                }
            }
            Some(Event::Forwarded(id, number, granted))
        });
    }

    fn survey(&mut self, id: ConnId, number: usize, port: u16) {
        let Some(conn) = self.conns.get(&id) else { return };
        let (hold, socket) = (conn.hold.clone(), conn.socket.clone());
        let gateway = conn.connection().map(|connection| connection.gateway());
        self.spawn(async move {
            let reach = reach::survey(hold, &socket, port, gateway).await;
            Some(Event::Surveyed(id, number, reach))
        });
    }

    fn withdraw(&mut self, id: ConnId, number: usize, service: Service) {
        let Some(conn) = self.conns.get(&id) else { return };
        let socket = conn.socket.clone();
        self.spawn(async move {
            forward::close(&socket, &service).await?;
            Some(Event::Withdrawn(id, number))
        });
    }

    fn prove(&mut self, id: ConnId, number: usize, service: Service) {
        let Some(conn) = self.conns.get(&id) else { return };
        let socket = conn.socket.clone();
        let gateway = conn.connection().map(|connection| connection.gateway());
        let expected = Arc::clone(self.expected.entry(number).or_default());
        self.spawn(async move {
            let (sighting, keys) = expected.lock().await.prove(&socket, &service, gateway).await;
            let proven = matches!(sighting, Sighting::Answer | Sighting::HostKey { .. });
            if !proven && !master::answers(&socket).await {
                return Some(Event::Deaf(id));
            }
            Some(Event::Seen(id, number, sighting, keys))
        });
    }

    fn report(&mut self, note: &Note, link: &Link) {
        if let Note::TookOver { session, .. } = note {
            // Told once, for all the ports that it held.
            if self.ended.replace(session.clone()).as_ref() == Some(session) {
                return;
            }
        }
        story::tell(&self.gateway.address, |number| link.service(number), note);
    }
}

impl Conn {
    /// ssh's own connection to the gateway; none if it goes through a jump host.
    fn connection(&self) -> Option<Connection> {
        self.logged_in.unwrap_or_else(|| self.pid.and_then(Connection::of_process))
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
