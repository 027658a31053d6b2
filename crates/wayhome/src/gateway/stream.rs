//! A client, and the stream that it gets.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout;
use wayhome_core::health::Detail;
use wayhome_core::key::Key;
use wayhome_core::name::Name;
use wayhome_core::refusal::{Reason, Refusal};

use super::book::{self, Peer, Role};
use super::door::{judge, record, refuse};
use super::handover::Parted;
use super::mailbox::Mailbox;
use super::seek::{Ask, Met, Seeker};
use super::waiting::{Given, Presence};
use super::{Gateway, wall_clock};
use crate::relay::{self, Counts, Joint};
use crate::wire::MAX_FLIGHT;
use crate::wire::leg::Leg;
use crate::wire::messages::welcome::Answer;
use crate::wire::messages::{Incoming, Open, Opened, Welcome};

/// How long a client may take to end its side of TLS: it does so in the write with its `Open`.
const END: Duration = Duration::from_secs(10);

/// How long a client may take to take in the answer.
const ANSWER: Duration = Duration::from_secs(10);

/// Room for one stream. Whoever drops it gives it back.
pub struct Room {
    gateway: Arc<Gateway>,
    key: Option<Key>,
    home: Name,
}

impl Room {
    /// Takes it, if there is any: for a client with this key, or for one of the gateway's own, who
    /// has none.
    ///
    /// # Errors
    /// If there are as many streams as there may be, or the gateway could not carry another.
    pub fn take(gateway: &Arc<Gateway>, key: Option<Key>, home: &Name) -> Result<Self, Refusal> {
        // New work goes first, so that what there is goes on.
        if let Some(strain) = gateway.book().load().strain() {
            let detail = Detail::new(&format!("the gateway is {strain}"));
            return Err(Refusal { detail, ..Reason::Full.into() });
        }
        Self::keep(gateway, key, home)
    }

    /// The same for a stream that lives already.
    fn keep(gateway: &Arc<Gateway>, key: Option<Key>, home: &Name) -> Result<Self, Refusal> {
        gateway.book().reserve(key, home)?;
        Ok(Self { gateway: Arc::clone(gateway), key, home: home.clone() })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.gateway.book().release(self.key, &self.home);
    }
}

/// Serves one.
pub async fn serve(gateway: Arc<Gateway>, mut leg: Leg, peer: Peer, wish: Open) {
    let hello = wish.client_hello;
    let home = match wish.home.parse::<Name>() {
        Ok(home) if (1..=MAX_FLIGHT).contains(&hello.len()) => home,
        _ => return refuse(&gateway, leg, &peer, None, Reason::Malformed.into()).await,
    };
    let from = peer.from.ip();
    let judged = judge(&gateway, &peer, |grants, now| {
        grants.may_reach(&peer.key, &home, from, now).map(drop)
    });
    if let Err(refusal) = judged {
        return refuse(&gateway, leg, &peer, Some(&home), refusal).await;
    }
    match timeout(END, leg.ended()).await {
        Ok(Ok(())) => {}
        Ok(Err(why)) if why.kind() == io::ErrorKind::InvalidData => {
            return refuse(&gateway, leg, &peer, Some(&home), Reason::Malformed.into()).await;
        }
        Ok(Err(_)) | Err(_) => return,
    }
    let room = match Room::take(&gateway, Some(peer.key), &home) {
        Ok(room) => room,
        Err(refusal) => return refuse(&gateway, leg, &peer, Some(&home), refusal).await,
    };
    let presence = Presence::new(&gateway, &peer);
    let mail = gateway.book().enter(peer.clone(), Role::Client(home.clone()));
    let ask = Ask::Incoming(Incoming {
        stream: peer.id.0,
        client_hello: hello,
        from: peer.from.to_string(),
    });
    let seeker = Seeker { gateway: &gateway, id: peer.id, home: &home, mail: &mail };
    match seeker.seek(&ask, || hung_up(&leg)).await {
        Met::Home { flight, home: carrier } => {
            let client = Client { gateway: &gateway, peer: &peer, home: &home, mail: &mail };
            client.join(leg, flight, *carrier).await;
        }
        Met::Refused(refusal) => {
            drop((presence, room));
            refuse(&gateway, leg, &peer, Some(&home), refusal).await;
        }
        Met::Nobody => {}
    }
}

/// A client that has met its home.
struct Client<'a> {
    gateway: &'a Arc<Gateway>,
    peer: &'a Peer,
    home: &'a Name,
    mail: &'a Mailbox,
}

impl Client<'_> {
    /// Joins the two, until both have ended or it is to end.
    async fn join(&self, mut leg: Leg, server_flight: Vec<u8>, carrier: Given) {
        let counts = Arc::new(Counts::default());
        let stream = book::Stream {
            home: self.home.clone(),
            port: None,
            carrier: (carrier.peer.key, carrier.peer.from),
            counts: Arc::clone(&counts),
        };
        let (carried_by, since) = (stream.carrier, Instant::now());
        self.gateway.book().begin_stream(self.peer.id, stream, since);
        let opened = Welcome { answer: Some(Answer::Opened(Opened { server_flight })) };
        let answered = timeout(ANSWER, leg.last_words(Some(&opened))).await;
        let home = carrier.leg.unwrap();
        let client = leg.unwrap();
        if !matches!(answered, Ok(Ok(()))) {
            // Both are cut, and not ended.
            drop((relay::cut_by_reset(&home.tcp), relay::cut_by_reset(&client.tcp)));
            return;
        }
        if let Ok(joint) = Joint::new(client, home, counts) {
            self.relay(joint, carried_by, since).await;
        }
    }

    async fn relay(&self, mut joint: Joint, carrier: (Key, SocketAddr), since: Instant) {
        tokio::select! {
            joined = joint.run() => if let Err(why) = joined {
                tracing::debug!(stream = self.peer.id.0, "a stream was cut: {why}");
            },
            mail = self.mail.take() => match mail.ended.unwrap_or_default() {
                Reason::GoingAway if self.gateway.store.is_there() => {
                    let (peer, home) = (self.peer.clone(), self.home.clone());
                    self.gateway.keep(Parted { peer, home, carrier, since, joint });
                }
                Reason::GoingAway => {}
                reason => record(self.gateway, self.peer, Some(self.home), &reason.into()),
            }
        }
    }
}

/// Goes on with a stream of the process before, if it may live still.
pub async fn go_on(gateway: Arc<Gateway>, parted: Parted) {
    let Parted { peer, home, carrier, since, joint } = parted;
    let peer = Peer { id: gateway.new_id(), ..peer };
    let _room = match Room::keep(&gateway, Some(peer.key), &home) {
        Ok(room) => room,
        Err(refusal) => return record(&gateway, &peer, Some(&home), &refusal),
    };
    let _presence = Presence::new(&gateway, &peer);
    let mail = gateway.book().enter(peer.clone(), Role::Client(home.clone()));
    let stream =
        book::Stream { home: home.clone(), port: None, carrier, counts: Arc::clone(&joint.counts) };
    gateway.book().begin_stream(peer.id, stream, since);
    // What was revoked meanwhile ends here: nobody has judged it by these grants.
    let grants = Arc::clone(&gateway.standing.borrow().grants);
    gateway.book().judge_one(peer.id, &grants, wall_clock(), gateway.now());
    Client { gateway: &gateway, peer: &peer, home: &home, mail: &mail }
        .relay(joint, carrier, since)
        .await;
}

/// Waits until a client is gone, or says something though it is not its turn. It has ended its side of
/// TLS, and what comes now would belong to the stream.
async fn hung_up(leg: &Leg) {
    if !leg.has_early() {
        let _ = leg.tcp().peek(&mut [0]).await;
    }
}
