//! A link's life: the loop between `wayhome_core::link`, which decides, and the hands that do it. A
//! gateway that is an sshd has other hands than one that runs wayhome.

use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use wayhome_core::link::{Action, ConnId, Event, Link, Note, Plan, Session};
use wayhome_core::service::Service;
use wayhome_core::status::LinkStatus;
use wayhome_core::time::Time;

use super::connection::Connection;
use super::door::Door;
use super::story;
use super::way::Way;

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

/// What a link begins with, whatever its hands are.
#[derive(Debug)]
pub struct Beginning {
    /// What is offered.
    pub services: Vec<Service>,
    /// The pace of the heartbeats.
    pub heartbeat: Duration,
    /// What it is told meanwhile.
    pub orders: mpsc::Receiver<Order>,
    /// The link before this one to the same gateway, which has to end first.
    pub after: Option<oneshot::Receiver<()>>,
}

impl Beginning {
    /// The plan for a gateway of this name.
    pub fn plan(&self, gateway: String, sessions: Vec<Session>) -> Plan {
        Plan {
            gateway,
            services: self.services.clone(),
            knockable: false,
            heartbeat: self.heartbeat,
            sessions,
            seed: seed(),
        }
    }

    /// Waits for the link before this one.
    pub fn turn(&mut self) -> impl Future<Output = ()> + use<> {
        let after = self.after.take();
        async move {
            if let Some(after) = after {
                // It ends within seconds, and its sender with it.
                let _ = after.await;
            }
        }
    }
}

/// What does a link's work.
pub trait Hands {
    /// Where the gateway can be knocked at.
    fn door(&self) -> Option<&Door>;

    /// The TCP connections to the gateway, as far as they are known.
    fn connections(&self) -> Vec<(ConnId, Connection)>;

    /// Where tasks of the link run.
    fn tasks(&mut self) -> &mut Tasks;

    /// Begins what an action asks for.
    fn perform(&mut self, action: Action, link: &Link);

    /// Hears of an event, before the link does.
    fn hear(&mut self, event: &Event);
}

/// The tasks of one link. What they find out are events.
#[derive(Debug)]
pub struct Tasks {
    set: JoinSet<()>,
    events: mpsc::Sender<Event>,
}

impl Tasks {
    /// None yet, and where their events come out.
    pub fn new() -> (Self, mpsc::Receiver<Event>) {
        let (events, receiver) = mpsc::channel(EVENTS);
        (Self { set: JoinSet::new(), events }, receiver)
    }

    /// Does something beside the link, and tells it what came of it, if anything did.
    pub fn spawn(&mut self, work: impl Future<Output = Option<Event>> + Send + 'static) {
        let events = self.events.clone();
        self.set.spawn(async move {
            if let Some(event) = work.await {
                // The link ends before its tasks do; then nobody wants to know.
                let _ = events.send(event).await;
            }
        });
    }

    /// Where a task tells more than one thing.
    pub fn events(&self) -> mpsc::Sender<Event> {
        self.events.clone()
    }
}

/// Runs a link until it is told to stop.
pub async fn run(
    mut hands: impl Hands,
    mut plan: Plan,
    mut events: mpsc::Receiver<Event>,
    mut orders: mpsc::Receiver<Order>,
) {
    let clock = Clock(Instant::now());
    let gateway = plan.gateway.clone();
    plan.knockable = hands.door().is_some();
    let mut link = Link::new(plan, clock.now());
    let mut way = Way::to(hands.door());
    let mut teller = Teller::default();
    let mut event = Event::Timer;
    loop {
        if !matches!(event, Event::Timer) {
            tracing::trace!("{gateway}: {event:?}");
        }
        for action in link.handle(event, clock.now()) {
            tracing::trace!("{gateway}: {action:?}");
            match action {
                Action::Stopped => {
                    hands.tasks().set.shutdown().await;
                    return;
                }
                Action::Knock => knock(&mut hands),
                Action::Inspect(id) => inspect(&mut hands, id),
                Action::Report(note) => teller.tell(&gateway, &note, &link),
                action => hands.perform(action, &link),
            }
        }
        let timer = link.next_timer().map(|time| clock.instant(time));
        event = tokio::select! {
            biased;
            order = orders.recv() => match order {
                Some(Order::Status(reply)) => {
                    // Whoever asked may be gone.
                    let _ = reply.send(link.status(clock.now()));
                    Event::Timer
                }
                Some(Order::NetworkChanged) => look_at_network(&hands, &mut way),
                Some(Order::Kick) => Event::Kick,
                Some(Order::Replan(services, heartbeat)) => Event::Replanned(services, heartbeat),
                Some(Order::Stop) | None => Event::Stop,
            },
            Some(event) = events.recv() => event,
            () = sleep_until(timer) => Event::Timer,
            // What a task had to say came as an event.
            Some(_) = hands.tasks().set.join_next() => Event::Timer,
        };
        hands.hear(&event);
    }
}

/// Waits for what comes before the first dial, which may take long, and keeps answering meanwhile.
/// `None` if the link is told to stop.
pub async fn patiently<T>(
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

fn knock(hands: &mut impl Hands) {
    if let Some(door) = hands.door().cloned() {
        hands.tasks().spawn(async move { Some(Event::Knocked(door.knock().await)) });
    }
}

fn inspect(hands: &mut impl Hands, id: ConnId) {
    let found = hands.connections().into_iter().find(|(conn, _)| *conn == id);
    hands.tasks().spawn(async move {
        let moving = match found {
            Some((_, connection)) => connection.is_moving().await,
            None => false,
        };
        Some(Event::Inspected { conn: id, moving })
    });
}

/// Something about this machine's network changed: whether it concerns the way to the gateway.
fn look_at_network(hands: &impl Hands, way: &mut Way) -> Event {
    let connections = hands.connections().into_iter();
    let lost: Vec<ConnId> = connections
        .filter(|(_, connection)| !connection.has_local_address())
        .map(|(id, _)| id)
        .collect();
    let now = Way::to(hands.door());
    if lost.is_empty() && now == *way {
        // A container came or went, or a router said again what it had said before.
        return Event::Timer;
    }
    *way = now;
    Event::NetworkChanged(lost)
}

/// Tells the log.
#[derive(Debug, Default)]
struct Teller {
    /// The old session that was reported last: it is ended once, for all the ports that it held.
    ended: Option<Session>,
}

impl Teller {
    fn tell(&mut self, gateway: &str, note: &Note, link: &Link) {
        if let Note::TookOver { session, .. } = note {
            // Told once, for all the ports that it held.
            if self.ended.replace(session.clone()).as_ref() == Some(session) {
                return;
            }
        }
        story::tell(gateway, |number| link.service(number), note);
    }
}

/// Core's time, and the system's.
#[derive(Clone, Copy, Debug)]
struct Clock(Instant);

impl Clock {
    fn now(self) -> Time {
        Time::after_start(self.0.elapsed())
    }

    fn instant(self, time: Time) -> Instant {
        self.0 + time.since(Time::ZERO)
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
