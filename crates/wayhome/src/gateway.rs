//! The gateway: where homes and clients meet. It lets in whom its grants know, finds a client's home,
//! and joins the two; what they say to each other it cannot read.
//!
//! All that is decided, it asks `core` (`admission`, `grant`, `route`). Who is here stands in one
//! [`book`], behind one lock that is held for no longer than a look into it. Each connection is a task
//! of its own, with a [`mailbox`] for what the book tells it.

mod book;
pub mod config;
mod door;
mod handover;
mod holder;
mod local;
mod mailbox;
mod ports;
mod refusals;
mod registered;
mod seek;
mod status;
mod store;
mod stream;
mod waiting;

use std::mem;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::ServerConfig;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use wayhome_core::grant::{Grants, Seat};
use wayhome_core::key::Key;
use wayhome_core::refusal::Reason;
use wayhome_core::route::ConnId;
use wayhome_core::time::Time;

use crate::agent::control::{Asked, Request, Server};
use crate::agent::notify::Manager;
use crate::error::{Failure, Outcome};
use crate::grants::{Followed, Standing};
use crate::paths;
use crate::wire::identity::Identity;
use crate::wire::tls;
use book::Book;
use config::{Config, Limits};
use handover::Parted;
use ports::LeftPorts;
use store::Store;

/// The control socket of a gateway, in the folder for sockets.
pub const SOCKET: &str = "gateway.sock";

/// Connections that were refused, and whose peers still read why.
const FAREWELLS: usize = 256;

/// How often the clock on the wall is looked at though nothing is due: it may have been set.
const LOOK: Duration = Duration::from_secs(30);

/// No two ticks are closer together.
const TICK: Duration = Duration::from_millis(10);

/// How long those who are told of the end may take.
const PARTING: Duration = Duration::from_secs(1);

/// How long those may take, before a restart, who can end soon and could not be handed over: a
/// handshake from far away, a request by a port.
const HURRY: Duration = Duration::from_secs(1);

/// How long after a restart a port waits for its home.
const LEFT: Duration = Duration::from_secs(30);

/// Descriptors that are no connection's: files, sockets that listen, the runtime's own.
const OURS: usize = 64;

/// How often it is measured whether the gateway comes to its work.
const STRIKE: Duration = Duration::from_millis(500);

/// How often somebody's leaving is looked for.
const GLANCE: Duration = Duration::from_millis(10);

/// Runs a gateway until it is told to end.
///
/// # Errors
/// If the configuration, the identity or the grants are wrong, or an address is taken.
pub async fn run(config: Config) -> Outcome {
    // First, before anything else has a descriptor.
    let (store, mut left) = Store::of_environment();
    let descriptors = raise_descriptors();
    let runtime = paths::runtime_dir()?;
    paths::private_dir(&runtime)?;
    if let Some(folder) = config.identity.parent() {
        paths::private_dir(folder)?;
    }
    let (identity, is_new) = Identity::read_or_make(&config.identity)?;
    if is_new {
        let file = config.identity.display();
        tracing::info!(event = "identity-made", "a new identity was made: `{file}`");
    }
    let grants = Followed::open(&config.grants, Seat::Gateway)?;
    let control = Server::bind_alone(&runtime.join(SOCKET))?;
    let is_restart = !left.is_empty();
    let listeners = door::listen(&config.listen, &store, &mut left)?;
    let tls = tls::server(&identity, &[tls::LEG, tls::JOIN])
        .map_err(|why| Failure::new("TLS cannot be set up").because(&why))?;
    let gateway = Gateway::new(config.limits, descriptors, tls, grants.standing(), store);
    let gateway = Arc::new(gateway);
    *gateway.left_ports() = LeftPorts::take(&mut left, &gateway.store);
    if is_restart {
        gateway.book().registry.awaits_homes(gateway.now());
    }
    handover::go_on(&gateway, &mut left);
    for name in left.names() {
        gateway.store.remove(name);
    }
    drop(left);

    let mut signals = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()]
        .map(|kind| signal(kind));
    let [Ok(terminate), Ok(interrupt), Ok(hangup)] = &mut signals else {
        return Err(Failure::new("signals cannot be received"));
    };
    let mut tasks = JoinSet::new();
    let listen: Vec<_> = listeners.iter().filter_map(|at| at.local_addr().ok()).collect();
    for listener in listeners {
        tasks.spawn(door::keep(Arc::clone(&gateway), listener));
    }
    tasks.spawn(keep_time(Arc::clone(&gateway)));
    tasks.spawn(notice_load(Arc::clone(&gateway)));
    tokio::spawn(give_up_ports(Arc::clone(&gateway)));
    let mut following = pin!(grants.follow());

    let addresses = listen.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", ");
    tracing::info!(
        event = "started",
        "the gateway listens on {addresses}; its key: {}",
        identity.key()
    );
    let mut manager = Manager::of_environment();
    manager.ready();
    loop {
        tokio::select! {
            () = manager.due() => manager.gateway_lives(gateway.book().sentence()),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => grants.read_again(),
            request = control.accept() => {
                let place = status::Place { config: &config, listen: &listen, key: identity.key(), grants: &grants };
                answer(&gateway, &place, request).await;
            }
            () = &mut following => {}
            Some(ended) = tasks.join_next() => {
                let why = ended.err().map(|why| why.to_string()).unwrap_or_default();
                return Err(Failure::new(format!("a part of the gateway has ended: {why}"))
                    .hint("this is a bug: what stands above in the log tells more"));
            }
        }
    }
    tracing::info!(event = "ending", "ending");
    manager.stopping();
    // Whoever comes from now on waits for the next process, where there will be one.
    gateway.store.close();
    tasks.shutdown().await;
    gateway.book().ports.stop();
    if gateway.store.is_there() {
        gateway.hurry().await;
    }
    let carried = gateway.book().carried();
    gateway.part().await;
    let parted = mem::take(&mut *gateway.parted.lock().unwrap_or_else(PoisonError::into_inner));
    if gateway.store.is_there() {
        match handover::leave(&gateway.store, &parted) {
            Ok(()) => tracing::info!(
                event = "handed-over",
                "{} streams are left for the next process; {carried} by ports are cut",
                parted.len()
            ),
            Err(why) => tracing::warn!(
                event = "handover-failed",
                "{} streams are cut, for they cannot be left for the next process: {why}",
                parted.len()
            ),
        }
    }
    Ok(())
}

/// Closes the ports of the process before that no home has asked for again.
async fn give_up_ports(gateway: Arc<Gateway>) {
    tokio::time::sleep(LEFT).await;
    let left = mem::take(&mut *gateway.left_ports());
    left.give_up(&gateway.store);
}

/// A connection is a descriptor. What a process has without asking (1,024 in most places) is less than
/// it may have, and root may have what the kernel allows at all (`fs.nr_open`, proc(5)). Gives how many
/// there are for connections.
pub fn raise_descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let most = std::fs::read_to_string("/proc/sys/fs/nr_open").ok();
    let most = most.and_then(|text| text.trim().parse::<u64>().ok()).filter(|most| {
        let all = Rlimit { current: Some(*most), maximum: Some(*most) };
        limit.maximum.is_some_and(|now| now < *most) && setrlimit(Resource::Nofile, all).is_ok()
    });
    let raised = Rlimit { current: limit.maximum, ..limit };
    if most.is_none()
        && let Err(why) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!("no more than {:?} connections fit: {why}", limit.current);
    }
    let now = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(now).unwrap_or(usize::MAX).saturating_sub(OURS)
}

/// Measures whether the gateway comes to its work in time, and says when it can take in nobody more.
async fn notice_load(gateway: Arc<Gateway>) {
    let (mut strain, mut said) = (None, None::<Instant>);
    let mut before = Duration::ZERO;
    loop {
        let began = Instant::now();
        tokio::time::sleep(STRIKE).await;
        let late = began.elapsed().saturating_sub(STRIKE);
        let now = {
            let mut book = gateway.book();
            // Twice in a row: a machine that slept, or stood still for a moment, is not overloaded.
            book.struck(late.min(before));
            book.load()
        };
        before = late;
        if now.strain() == strain {
            continue;
        }
        strain = now.strain();
        match strain {
            Some(strain) if said.is_none_or(|at| at.elapsed() > door::AGAIN) => {
                said = Some(Instant::now());
                tracing::warn!(
                    event = "full",
                    "no new stream is taken in: {strain} ({} of {} descriptors, {} ms late)",
                    now.descriptors,
                    now.most,
                    now.late.as_millis()
                );
            }
            Some(_) => {}
            None => tracing::info!(event = "relieved", "new streams are taken in again"),
        }
    }
}

async fn answer(gateway: &Arc<Gateway>, place: &status::Place<'_>, request: Request) {
    match request.asked {
        Asked::Status | Asked::Kick => {
            let (gateway, place) = (Arc::clone(gateway), place.told(gateway));
            // It takes a moment: rates are counted over one.
            tokio::spawn(async move { request.reply(&status::of(&gateway, place).await) });
        }
        Asked::Config => request.reply(place.config),
        Asked::Reload => {
            place.grants.read_again();
            request.reply(&crate::agent::control::Reloaded::Taken(Vec::new()));
        }
    }
}

/// What all connections share.
struct Gateway {
    limits: Limits,
    tls: Arc<ServerConfig>,
    standing: watch::Receiver<Arc<Standing>>,
    book: Mutex<Book>,
    /// Something is due earlier than it was.
    sooner: Arc<Notify>,
    farewells: Arc<Semaphore>,
    /// What the next process gets.
    store: Arc<Store>,
    /// Streams that are for it.
    parted: Mutex<Vec<Parted>>,
    /// Ports that are listened on, since before this process, for homes that are not back.
    left_ports: Mutex<LeftPorts>,
    began: Instant,
    next: AtomicU64,
}

impl Gateway {
    fn new(
        limits: Limits,
        descriptors: usize,
        tls: Arc<ServerConfig>,
        standing: watch::Receiver<Arc<Standing>>,
        store: Store,
    ) -> Self {
        let sooner = Arc::new(Notify::new());
        let mut book = Book::new(limits, descriptors, Arc::clone(&sooner));
        book.expect(standing.borrow().grants.iter().count());
        Self {
            limits,
            tls,
            standing,
            book: Mutex::new(book),
            sooner,
            farewells: Arc::new(Semaphore::new(FAREWELLS)),
            store: Arc::new(store),
            parted: Mutex::default(),
            left_ports: Mutex::default(),
            began: Instant::now(),
            next: AtomicU64::new(1),
        }
    }

    /// What no connection had before.
    fn new_id(&self) -> ConnId {
        ConnId(self.next.fetch_add(1, Ordering::Relaxed))
    }

    fn now(&self) -> Time {
        Time::after_start(self.began.elapsed())
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The grants, for somebody new.
    ///
    /// # Errors
    /// If they cannot be read at the moment.
    fn grants(&self) -> Result<Arc<Grants>, Reason> {
        let standing = self.standing.borrow();
        match standing.trouble {
            None => Ok(Arc::clone(&standing.grants)),
            Some(_) => Err(Reason::Unspecified),
        }
    }

    /// What a person calls this key.
    fn name_of(&self, key: &Key) -> Option<String> {
        let standing = self.standing.borrow();
        standing.grants.name_of(key).map(ToString::to_string)
    }

    fn left_ports(&self) -> MutexGuard<'_, LeftPorts> {
        self.left_ports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A stream is for the next process.
    fn keep(&self, stream: Parted) {
        self.parted.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
    }

    /// Gives those a moment to end who can not be handed over.
    async fn hurry(&self) {
        let all = async {
            while self.book().has_hurried() {
                tokio::time::sleep(GLANCE).await;
            }
        };
        let _ = tokio::time::timeout(HURRY, all).await;
    }

    /// Tells everybody that it ends, and gives them a moment to hear it.
    async fn part(&self) {
        self.book().dismiss_all(Reason::GoingAway, self.now());
        let gone = async {
            while self.book().has_homes_or_streams() {
                tokio::time::sleep(GLANCE).await;
            }
        };
        let _ = tokio::time::timeout(PARTING, gone).await;
    }
}

/// Does what is due, and judges everybody again when the grants change or one of them expires.
async fn keep_time(gateway: Arc<Gateway>) {
    let mut standing = gateway.standing.clone();
    let mut expiry = None;
    loop {
        let wall = wall_clock();
        let is_other = standing.has_changed().unwrap_or(false);
        if is_other || expiry.is_some_and(|end| end <= wall) {
            let grants = Arc::clone(&standing.borrow_and_update().grants);
            let mut book = gateway.book();
            book.expect(grants.iter().count());
            book.judge(&grants, wall, gateway.now());
        }
        expiry = standing.borrow().grants.next_expiry(wall);
        let due = {
            let mut book = gateway.book();
            book.tick(gateway.now());
            book.next_timer()
        };
        let due = due.map_or(LOOK, |due| due.since(gateway.now()));
        let end = expiry.map_or(LOOK, |end| Duration::from_secs(end - wall));
        tokio::select! {
            // What is due at almost the same time is done at once.
            () = tokio::time::sleep(due.min(end).clamp(TICK, LOOK)) => {}
            () = gateway.sooner.notified() => {}
            _ = standing.changed() => standing.mark_changed(),
        }
    }
}

/// Seconds since 1970, for `expires`.
fn wall_clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |span| span.as_secs())
}
