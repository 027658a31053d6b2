//! A client, and the stream that it gets.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;
use wayhome_core::health::Detail;
use wayhome_core::name::Name;
use wayhome_core::refusal::{Reason, Refusal};

use super::Gateway;
use super::book::{self, Peer, Role};
use super::door::{judge, record, refuse};
use super::mailbox::Mailbox;
use super::waiting::{Given, Presence};
use crate::relay::{self, Counts};
use crate::wire::MAX_FLIGHT;
use crate::wire::leg::Leg;
use crate::wire::messages::taken::Answer as TakenAnswer;
use crate::wire::messages::welcome::Answer;
use crate::wire::messages::{Incoming, Open, Opened, Taken, Welcome};

/// How long a client may take to end its side of TLS: it does so in the write with its `Open`.
const END: Duration = Duration::from_secs(10);

/// How long a home may take to answer on a data connection, before the next one is tried.
const TAKE: Duration = Duration::from_secs(5);

/// How many data connections are tried.
const TRIES: usize = 2;

/// How long a client may take to take in the answer.
const ANSWER: Duration = Duration::from_secs(10);

/// Room for one stream. Whoever drops it gives it back.
struct Room {
    gateway: Arc<Gateway>,
    peer: Peer,
    home: Name,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.gateway.book().release(self.peer.key, &self.home);
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
    // Apart from its guard, since the lock must not be held over the refusal.
    let reserved = gateway.book().reserve(peer.key, &home);
    if let Err(reason) = reserved {
        return refuse(&gateway, leg, &peer, Some(&home), reason.into()).await;
    }
    let room = Room { gateway: Arc::clone(&gateway), peer: peer.clone(), home: home.clone() };
    let presence = Presence::new(&gateway, &peer);
    let mail = gateway.book().enter(peer.clone(), Role::Client(home.clone()));
    let client = Client { gateway: &gateway, peer: &peer, home: &home, mail: &mail };
    match client.meet(&leg, &hello).await {
        Met::Home { flight, home: carrier } => {
            client.join(leg, flight, *carrier).await;
        }
        Met::Refused(refusal) => {
            drop((presence, room));
            refuse(&gateway, leg, &peer, Some(&home), refusal).await;
        }
        Met::Nobody => {}
    }
}

/// A client that waits for its home.
struct Client<'a> {
    gateway: &'a Arc<Gateway>,
    peer: &'a Peer,
    home: &'a Name,
    mail: &'a Mailbox,
}

/// What a client met.
enum Met {
    /// Its home, which answered with its first flight.
    Home { flight: Vec<u8>, home: Box<Given> },
    /// A refusal.
    Refused(Refusal),
    /// It has gone away itself.
    Nobody,
}

impl Client<'_> {
    async fn meet(&self, leg: &Leg, hello: &[u8]) -> Met {
        for _ in 0..TRIES {
            self.gateway.book().take(self.peer.id, self.home, self.gateway.now());
            let mut home = match self.wait(leg).await {
                Ok(Some(home)) => home,
                // It died in that moment.
                Ok(None) => continue,
                Err(met) => return met,
            };
            let asked = tokio::select! {
                asked = timeout(TAKE, self.ask(&mut home, hello)) => asked,
                mail = self.mail.take() => return Met::Refused(mail.ended.unwrap_or_default().into()),
                () = hung_up(leg) => return Met::Nobody,
            };
            match asked {
                Ok(Ok(TakenAnswer::Opened(opened))) if opened.server_flight.len() <= MAX_FLIGHT => {
                    return Met::Home { flight: opened.server_flight, home: home.into() };
                }
                Ok(Ok(TakenAnswer::Opened(_))) => {
                    record(self.gateway, &home.peer, Some(self.home), &Reason::Malformed.into());
                }
                Ok(Ok(TakenAnswer::Refused(refused))) => {
                    return Met::Refused(Refusal {
                        reason: Reason::from_number(refused.reason),
                        detail: Detail::new(&refused.detail),
                        last_seen: None,
                    });
                }
                Ok(Err(why)) => tracing::debug!("a data connection of {} failed: {why}", self.home),
                Err(_) => tracing::debug!("a data connection of {} does not answer", self.home),
            }
        }
        Met::Refused(Reason::HomeSilent.into())
    }

    /// Waits for a data connection.
    async fn wait(&self, leg: &Leg) -> Result<Option<Given>, Met> {
        let mail = tokio::select! {
            mail = self.mail.take() => mail,
            () = hung_up(leg) => return Err(Met::Nobody),
        };
        if let Some(reason) = mail.ended {
            let last_seen = match reason {
                Reason::Offline => {
                    self.gateway.book().registry.last_seen(self.home, self.gateway.now())
                }
                _ => None,
            };
            return Err(Met::Refused(Refusal { last_seen, ..reason.into() }));
        }
        match mail.given {
            Some(given) => Ok(given.await.ok()),
            None => Ok(None),
        }
    }

    /// Asks the home to take the stream.
    async fn ask(&self, home: &mut Given, hello: &[u8]) -> io::Result<TakenAnswer> {
        let incoming = Incoming {
            stream: self.peer.id.0,
            client_hello: hello.to_owned(),
            from: self.peer.from.to_string(),
        };
        let leg = &mut home.leg;
        leg.last_words(Some(&Welcome { answer: Some(Answer::Incoming(incoming)) })).await?;
        let taken: Taken = leg.read().await?;
        leg.ended().await?;
        taken.answer.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Joins the two, until both have ended or it is to end.
    async fn join(&self, mut leg: Leg, server_flight: Vec<u8>, carrier: Given) {
        let counts = Arc::new(Counts::default());
        let stream = book::Stream {
            home: self.home.clone(),
            carrier: (carrier.peer.key, carrier.peer.from),
            counts: Arc::clone(&counts),
        };
        self.gateway.book().begin_stream(self.peer.id, stream);
        let opened = Welcome { answer: Some(Answer::Opened(Opened { server_flight })) };
        let answered = timeout(ANSWER, leg.last_words(Some(&opened))).await;
        let home = carrier.leg.unwrap();
        let client: TcpStream = leg.unwrap();
        if !matches!(answered, Ok(Ok(()))) {
            // Both are cut, and not ended.
            drop((relay::prepare(&home), relay::prepare(&client)));
            return;
        }
        tokio::select! {
            joined = relay::join(client, home, &counts) => if let Err(why) = joined {
                tracing::debug!(stream = self.peer.id.0, "a stream was cut: {why}");
            },
            mail = self.mail.take() => {
                let reason = mail.ended.unwrap_or_default();
                if reason != Reason::GoingAway {
                    record(self.gateway, self.peer, Some(self.home), &reason.into());
                }
            }
        }
    }
}

/// Waits until a client is gone, or says something though it is not its turn. It has ended its side of
/// TLS, and what comes now would belong to the stream.
async fn hung_up(leg: &Leg) {
    let _ = leg.tcp().peek(&mut [0]).await;
}
