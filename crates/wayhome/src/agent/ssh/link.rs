//! An ssh link's hands: does what `wayhome_core::link` decides with the system's `ssh`, and tells it
//! what came of it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex as StdMutex};
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, oneshot};
use wayhome_core::health::Cause;
use wayhome_core::link::{Action, ConnId, Event, Link, Sighting};
use wayhome_core::service::Service;

use super::diagnose::{self, Said};
use super::hold::{self, Answer, Request};
use super::master::{self, Master, Progress, STAGES};
use super::pin::{self, FirstContact};
use super::{forward, knock, proof, reach};
use crate::agent::connection::Connection;
use crate::agent::door::Door;
use crate::agent::link::{self, Beginning, Hands, Tasks};
use crate::agent::proof::Expected;
use crate::agent::sockets::Sockets;
use crate::agent::state::State;
use crate::config::SshGateway;
use crate::error::Failure;

/// What an ssh link begins with.
#[derive(Debug)]
pub struct Start {
    /// Where it leads.
    pub gateway: SshGateway,
    /// What is recorded of earlier agents.
    pub state: Arc<State>,
    /// Where ssh's control sockets go.
    pub sockets: Sockets,
    /// How a gateway without a pin is met.
    pub first: FirstContact,
    /// Told why it was not pinned.
    pub unpinned: mpsc::Sender<Failure>,
}

/// The hands of one link.
struct SshHands {
    gateway: SshGateway,
    state: Arc<State>,
    sockets: Sockets,
    door: Option<Door>,
    /// What is known of each service's target.
    expected: HashMap<usize, Arc<Mutex<Expected>>>,
    conns: HashMap<ConnId, Conn>,
    tasks: Tasks,
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
pub async fn run(start: Start, mut common: Beginning) {
    let key = start.gateway.address.to_string();
    let mut plan = common.plan(key.clone(), start.state.sessions(&key));
    let prelude = prelude(&start.gateway, start.first, start.unpinned, common.turn());
    let Some(door) = link::patiently(prelude, &mut plan, &mut common.orders).await else { return };
    let (tasks, events) = Tasks::new();
    let hands = SshHands {
        gateway: start.gateway,
        state: start.state,
        sockets: start.sockets,
        door,
        expected: HashMap::new(),
        conns: HashMap::new(),
        tasks,
    };
    link::run(hands, plan, events, common.orders).await;
}

/// What comes before the first dial: the end of the link before, the pin, and where to knock.
async fn prelude(
    gateway: &SshGateway,
    first: FirstContact,
    unpinned: mpsc::Sender<Failure>,
    turn: impl Future<Output = ()>,
) -> Option<Door> {
    turn.await;
    match pin::ensure(gateway, first).await {
        Ok(pinned) => pinned.report(gateway),
        // The link says so again when ssh refuses the gateway. An agent that ends does not listen.
        Err(why) => drop(unpinned.send(why).await),
    }
    knock::find(gateway).await
}

impl Hands for SshHands {
    fn door(&self) -> Option<&Door> {
        self.door.as_ref()
    }

    fn connections(&self) -> Vec<(ConnId, Connection)> {
        let known = |(id, conn): (&ConnId, &Conn)| Some((*id, conn.connection()?));
        self.conns.iter().filter_map(known).collect()
    }

    fn tasks(&mut self) -> &mut Tasks {
        &mut self.tasks
    }

    fn hear(&mut self, event: &Event) {
        match event {
            Event::Connected(id) => self.logged_in(*id),
            Event::Ended(id, _) => drop(self.conns.remove(id)),
            _ => {}
        }
    }

    fn perform(&mut self, action: Action, link: &Link) {
        match action {
            Action::Dial(id) => self.dial(id),
            Action::Close(id) => {
                if let Some(conn) = self.conns.get_mut(&id) {
                    conn.close = None;
                    conn.hold = None;
                }
            }
            Action::Hold(id) => {
                self.hold(id, link.services().filter_map(|(_, service)| service.port).collect());
            }
            Action::Ping(id, sequence) => self.ask(id, Request::Ping(sequence)),
            Action::Forward(id, number) => {
                if let Some(service) = link.service(number) {
                    self.forward(id, number, service.clone());
                }
            }
            Action::Survey(id, number) => {
                if let Some(port) = port(link, number) {
                    self.survey(id, number, port);
                }
            }
            Action::Look(id, number) => {
                if let Some(port) = port(link, number) {
                    self.ask(id, Request::Look(number, port));
                }
            }
            Action::Release(id, number, session) => {
                if let Some(port) = port(link, number) {
                    self.ask(id, Request::Release(number, port, session));
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
            // Seen to by the loop.
            Action::Knock | Action::Inspect(_) | Action::Report(_) | Action::Stopped => {}
        }
    }
}

impl SshHands {
    fn dial(&mut self, id: ConnId) {
        let socket = self.sockets.path(id);
        let (close, closed) = oneshot::channel();
        let family = self.door.as_ref().and_then(Door::family);
        let started = Master::start(&self.gateway, socket.clone(), family);
        let pid = started.as_ref().ok().and_then(Master::pid);
        let said = started.as_ref().map(Master::said).unwrap_or_default();
        let conn = Conn { socket, pid, logged_in: None, close: Some(close), hold: None, said };
        self.conns.insert(id, conn);
        let events = self.tasks.events();
        self.tasks.spawn(async move {
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
        let events = self.tasks.events();
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
                        None => return None,
                    }
                }
            };
            // When the connection ends its hold ends a moment before it; that is no refusal.
            tokio::time::sleep(Duration::from_millis(200)).await;
            Some(Event::HoldRefused(id, why))
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

    fn forward(&mut self, id: ConnId, number: usize, service: Service) {
        let Some(conn) = self.conns.get(&id) else { return };
        let socket = conn.socket.clone();
        let (said, events) = (Arc::clone(&conn.said), self.tasks.events());
        self.tasks.spawn(async move {
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
        self.tasks.spawn(async move {
            let reach = reach::survey(hold, &socket, port, gateway).await;
            Some(Event::Surveyed(id, number, reach))
        });
    }

    fn withdraw(&mut self, id: ConnId, number: usize, service: Service) {
        let Some(conn) = self.conns.get(&id) else { return };
        let socket = conn.socket.clone();
        self.tasks.spawn(async move {
            forward::close(&socket, &service).await?;
            Some(Event::Withdrawn(id, number))
        });
    }

    fn prove(&mut self, id: ConnId, number: usize, service: Service) {
        let Some(conn) = self.conns.get(&id) else { return };
        let socket = conn.socket.clone();
        let gateway = conn.connection().map(|connection| connection.gateway());
        let expected = Arc::clone(self.expected.entry(number).or_default());
        self.tasks.spawn(async move {
            let (sighting, keys) =
                proof::prove(&mut *expected.lock().await, &socket, &service, gateway).await;
            let proven = matches!(sighting, Sighting::Answer | Sighting::HostKey { .. });
            if !proven && !master::answers(&socket).await {
                return Some(Event::Deaf(id));
            }
            Some(Event::Seen(id, number, sighting, keys))
        });
    }
}

/// The port of a service. An ssh link has only such as have one.
fn port(link: &Link, number: usize) -> Option<u16> {
    link.service(number)?.port
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
