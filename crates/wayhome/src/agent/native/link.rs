//! The hands of one native link.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::{Mutex, mpsc, oneshot};
use wayhome_core::health::{Cause, Detail};
use wayhome_core::link::{Action, ConnId, Event, Link, Reach, Sighting};
use wayhome_core::name::Name;

use super::control::{Command, Control, Registration};
use super::home::Home;
use super::own::Own;
use super::round::Round;
use crate::agent::connection::Connection;
use crate::agent::door::Door;
use crate::agent::link::{self, Beginning, Hands, Tasks};
use crate::agent::proof::Expected;
use crate::config::NativeGateway;

/// Commands to a control connection: a heartbeat and one request at a time, and a few to spare. One
/// that takes no more does not answer; the link finds that out.
const COMMANDS: usize = 8;

/// Runs a link until it is told to stop.
pub async fn run(gateway: NativeGateway, home: Arc<Home>, mut common: Beginning) {
    let mut plan = common.plan(gateway.address.to_string(), Vec::new());
    let turn = common.turn();
    if link::patiently(turn, &mut plan, &mut common.orders).await.is_none() {
        return;
    }
    let (tasks, events) = Tasks::new();
    let registration = Registration {
        door: Door::new(gateway.address.host.clone(), gateway.address.port),
        home,
        heartbeat: plan.heartbeat,
        generation: Arc::default(),
        dials: Arc::default(),
    };
    let hands = NativeHands {
        gateway,
        registration,
        own: None,
        conns: HashMap::new(),
        expected: HashMap::new(),
        tasks,
    };
    link::run(hands, plan, events, common.orders).await;
}

struct NativeHands {
    gateway: NativeGateway,
    registration: Registration,
    /// Our key there, once it could be read.
    own: Option<Arc<Own>>,
    conns: HashMap<ConnId, Conn>,
    /// What is known of each service's target.
    expected: HashMap<usize, Arc<Mutex<Expected>>>,
    tasks: Tasks,
}

/// A control connection.
struct Conn {
    /// Known once TCP stands.
    connection: Arc<OnceLock<Connection>>,
    commands: mpsc::Sender<Command>,
    /// Dropped: it is closed.
    close: Option<oneshot::Sender<()>>,
}

impl Hands for NativeHands {
    fn door(&self) -> Option<&Door> {
        Some(&self.registration.door)
    }

    fn connections(&self) -> Vec<(ConnId, Connection)> {
        let known = |(id, conn): (&ConnId, &Conn)| Some((*id, *conn.connection.get()?));
        self.conns.iter().filter_map(known).collect()
    }

    fn tasks(&mut self) -> &mut Tasks {
        &mut self.tasks
    }

    fn hear(&mut self, event: &Event) {
        if let Event::Ended(id, _) = event {
            self.conns.remove(id);
        }
    }

    fn perform(&mut self, action: Action, link: &Link) {
        match action {
            Action::Dial(id) => self.dial(id),
            Action::Close(id) => {
                if let Some(conn) = self.conns.get_mut(&id) {
                    conn.close = None;
                }
            }
            // The control connection is the hold.
            Action::Hold(id) => self.answer(Event::Held(id, None)),
            Action::Ping(id, sequence) => self.command(id, Command::Ping(sequence)),
            Action::Forward(id, number) => {
                if let Some(service) = link.service(number) {
                    let port = service.port.unwrap_or(0);
                    self.command(id, Command::Offer(number, service.name.clone(), port));
                }
            }
            // A gateway has ports on its loopback, and no others.
            Action::Survey(id, number) => {
                self.answer(Event::Surveyed(id, number, Reach::Loopback));
            }
            Action::Prove(id, number) => self.prove(id, number, link),
            Action::Withdraw(id, number) => self.command(id, Command::Withdraw(number)),
            // A gateway says why it refuses an offer, and there are no sessions to look for.
            Action::Look(..) | Action::Release(..) | Action::Remember(_) => {}
            // Seen to by the loop.
            Action::Knock | Action::Inspect(_) | Action::Report(_) | Action::Stopped => {}
        }
    }
}

impl NativeHands {
    /// Our key, which is read when it is needed first, and again as long as that fails.
    fn own(&mut self) -> Result<Arc<Own>, Cause> {
        if let Some(own) = &self.own {
            return Ok(Arc::clone(own));
        }
        let own = Arc::new(Own::read(&self.gateway)?);
        self.own = Some(Arc::clone(&own));
        Ok(own)
    }

    fn dial(&mut self, id: ConnId) {
        let own = match self.own() {
            Ok(own) => own,
            Err(cause) => return self.answer(Event::Ended(id, cause)),
        };
        let (close, closed) = oneshot::channel();
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let connection = Arc::new(OnceLock::new());
        let conn = Conn { connection: Arc::clone(&connection), commands, close: Some(close) };
        self.conns.insert(id, conn);
        let control = Control {
            id,
            registration: self.registration.clone(),
            own,
            events: self.tasks.events(),
            number: next(&self.registration.dials),
        };
        self.tasks.spawn(async move {
            let cause = tokio::select! {
                biased;
                _ = closed => Cause::ConnectionLost { detail: Detail::new("closed here") },
                cause = control.run(receiver, |found| { let _ = connection.set(found); }) => cause,
            };
            Some(Event::Ended(id, cause))
        });
    }

    fn command(&self, id: ConnId, command: Command) {
        if let Some(conn) = self.conns.get(&id) {
            let _ = conn.commands.try_send(command);
        }
    }

    fn answer(&mut self, event: Event) {
        self.tasks.spawn(async move { Some(event) });
    }

    fn prove(&mut self, id: ConnId, number: usize, link: &Link) {
        self.expected.retain(|number, _| link.service(*number).is_some());
        let (Some(service), Some(own)) = (link.service(number).cloned(), self.own.clone()) else {
            return;
        };
        let round = Round {
            door: self.registration.door.clone(),
            own,
            home: Arc::clone(&self.registration.home),
            service: Name::clone(&service.name),
        };
        let expected = Arc::clone(self.expected.entry(number).or_default());
        let commands = self.conns.get(&id).map(|conn| conn.commands.clone());
        self.tasks.spawn(async move {
            let (sighting, keys) = expected.lock().await.prove(&round, &service).await;
            let is_proven = match &sighting {
                Sighting::Answer => true,
                Sighting::HostKey { key, .. } => keys.contains(key),
                _ => false,
            };
            if let (true, Some(commands)) = (is_proven, commands) {
                let _ = commands.try_send(Command::Proven(number));
            }
            Some(Event::Seen(id, number, sighting, keys))
        });
    }
}

fn next(dials: &AtomicU32) -> u32 {
    dials.fetch_add(1, Ordering::Relaxed) + 1
}
