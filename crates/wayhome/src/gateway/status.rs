//! The gateway's snapshot.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use wayhome_core::key::Key;
use wayhome_core::route::{ConnId, Home};
use wayhome_core::status::gateway::{
    GatewaySnapshot, GrantsStatus, HomeStatus, LoadStatus, OfferedStatus, OnlineStatus,
    RefusalStatus, StrangersStatus, StreamStatus,
};
use wayhome_core::status::millis;

use super::Gateway;
use super::book::{Book, Entry, Role};
use super::config::Config;
use crate::grants::Followed;
use crate::relay::Counts;

/// Over this long rates are counted.
const MOMENT: Duration = Duration::from_millis(500);

/// What of it stands outside of the book.
pub struct Place<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// Where it listens.
    pub listen: &'a [SocketAddr],
    /// The gateway's key.
    pub key: Key,
    /// The file of grants.
    pub grants: &'a Followed,
}

/// The same, as it is told.
pub struct Told {
    listen: Vec<String>,
    key: Key,
    grants: GrantsStatus,
}

impl Place<'_> {
    /// As it is now.
    pub fn told(&self, gateway: &Gateway) -> Told {
        let standing = gateway.standing.borrow();
        Told {
            listen: self.listen.iter().map(SocketAddr::to_string).collect(),
            key: self.key,
            grants: GrantsStatus {
                file: self.grants.path().display().to_string(),
                read_ms: millis(standing.read.elapsed()),
                count: standing.grants.iter().count(),
                passed_over: standing.passed_over.clone(),
                error: standing.trouble.clone(),
            },
        }
    }
}

/// The snapshot. It takes a moment if there are streams: their rates are counted over it.
pub async fn of(gateway: &Arc<Gateway>, told: Told) -> GatewaySnapshot {
    let before = moved(&gateway.book());
    let began = Instant::now();
    if !before.is_empty() {
        tokio::time::sleep(MOMENT).await;
    }
    let rate = Rate { before, over: began.elapsed() };
    let book = gateway.book();
    let mut streams: Vec<StreamStatus> =
        book.entries().filter_map(|(id, entry)| stream(gateway, id, entry, &rate)).collect();
    streams.sort_by_key(|stream| stream.stream);
    let homes = book.registry.homes().map(|(name, home)| {
        let last_seen = book.registry.last_seen(name, gateway.now()).unwrap_or_default();
        HomeStatus {
            name: name.clone(),
            online: online(gateway, &book, home),
            last_seen_ms: millis(last_seen),
            generation: home.generation(),
            streams: book.streams_of(name),
        }
    });
    let refusals = book.refusals.last().map(|refused| RefusalStatus {
        ago_ms: millis(refused.at.elapsed()),
        reason: refused.reason,
        grant: gateway.name_of(&refused.key),
        key: refused.key,
        from: refused.from.to_string(),
        home: refused.home.clone(),
        detail: refused.detail.clone(),
    });
    let strangers = book.refusals.strangers;
    GatewaySnapshot {
        version: GatewaySnapshot::VERSION,
        pid: std::process::id(),
        running_ms: millis(gateway.began.elapsed()),
        listen: told.listen,
        key: told.key,
        grants: told.grants,
        homes: homes.collect(),
        streams,
        refusals: refusals.collect(),
        refused: book.refusals.counts().collect(),
        load: LoadStatus::of(book.load()),
        // Whoever asks looks themselves.
        stock: Vec::new(),
        strangers: StrangersStatus {
            half_open: book.half_open(),
            slow: strangers.slow,
            evicted: strangers.evicted,
            shed: strangers.shed,
            gone: strangers.gone,
            malformed: strangers.malformed,
        },
    }
}

/// How much has gone over each stream, there and back.
type Moved = HashMap<ConnId, (u64, u64)>;

struct Rate {
    before: Moved,
    over: Duration,
}

impl Rate {
    fn of(&self, id: ConnId, (there, back): (u64, u64)) -> (u64, u64) {
        let (there_before, back_before) = self.before.get(&id).copied().unwrap_or_default();
        let a_second = |bytes: u64| (bytes as f64 / self.over.as_secs_f64().max(0.001)) as u64;
        (a_second(there.saturating_sub(there_before)), a_second(back.saturating_sub(back_before)))
    }
}

fn counted(counts: &Counts) -> (u64, u64) {
    (counts.there.load(Ordering::Relaxed), counts.back.load(Ordering::Relaxed))
}

fn moved(book: &Book) -> Moved {
    let counts = |(id, entry): (ConnId, &Entry)| match &entry.role {
        Role::Stream(stream) => Some((id, counted(&stream.counts))),
        Role::Home(_) | Role::Waiting(_) | Role::Client(_) | Role::Caller => None,
    };
    book.entries().filter_map(counts).collect()
}

fn stream(gateway: &Gateway, id: ConnId, entry: &Entry, rate: &Rate) -> Option<StreamStatus> {
    let Role::Stream(stream) = &entry.role else { return None };
    let (there, back) = counted(&stream.counts);
    let (there_rate, back_rate) = rate.of(id, (there, back));
    Some(StreamStatus {
        stream: id.0,
        home: stream.home.clone(),
        port: stream.port,
        grant: gateway.name_of(&entry.peer.key),
        key: entry.peer.key,
        from: entry.peer.from.to_string(),
        age_ms: millis(entry.since.elapsed()),
        there,
        back,
        there_rate,
        back_rate,
    })
}

fn online(gateway: &Gateway, book: &Book, home: &Home) -> Option<OnlineStatus> {
    let live = home.live()?;
    let entry = book.entry(live.claim().conn)?;
    let services = live.services().map(|(_, service)| OfferedStatus {
        name: service.clone(),
        port: book.ports.of(live.claim().conn, service),
        proven_ms: entry.proofs.get(service).map(|at| millis(at.elapsed())),
    });
    Some(OnlineStatus {
        since_ms: millis(entry.since.elapsed()),
        from: entry.peer.from.to_string(),
        grant: gateway.name_of(&entry.peer.key),
        software: entry.peer.software.clone(),
        waiting: live.waiting(),
        clients: live.clients(),
        services: services.collect(),
    })
}
