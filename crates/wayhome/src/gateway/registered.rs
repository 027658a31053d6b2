//! A control connection: a home, for as long as it lasts.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use wayhome_core::name::Name;
use wayhome_core::refusal::{Reason, Refusal};
use wayhome_core::route::Claim;

use super::book::{Peer, Role};
use super::door::{farewell, judge, record, refuse, refused};
use super::mailbox::{Mail, Mailbox};
use super::waiting::Presence;
use super::{Gateway, ports, wall_clock};
use crate::wire::leg::Leg;
use crate::wire::messages::from_agent::Message as FromHome;
use crate::wire::messages::from_gateway::Message as ToHome;
use crate::wire::messages::welcome::Answer;
use crate::wire::messages::{
    Alarm, FromAgent, FromGateway, Goodbye, Offer, Offered, Ping, Pong, Register, Registered,
    Wanted, Welcome, Withdrawn,
};

/// How long a home that is registered may take to take in what it is told.
const WRITE: Duration = Duration::from_secs(10);

/// How long to wait at most before trying again, for fewer than a thousand homes; one second more
/// for each thousand.
const RETRY_CAP: Duration = Duration::from_secs(1);

/// Serves one.
pub async fn serve(gateway: Arc<Gateway>, mut leg: Leg, peer: Peer, wish: Register) {
    let home = wish.home.parse::<Name>();
    let instance = <[u8; 16]>::try_from(wish.instance.as_slice());
    let (Ok(home), Ok(instance)) = (home, instance) else {
        return refuse(&gateway, leg, &peer, None, Reason::Malformed.into()).await;
    };
    let from = peer.from.ip();
    let judged =
        judge(&gateway, &peer, |grants, now| grants.may_be(&peer.key, &home, from, now).map(drop));
    if let Err(refusal) = judged {
        return refuse(&gateway, leg, &peer, Some(&home), refusal).await;
    }
    let presence = Presence::new(&gateway, &peer);
    let mail = {
        let mut book = gateway.book();
        let mail = book.enter(peer.clone(), Role::Home(home.clone()));
        let claim = Claim {
            conn: peer.id,
            home: home.clone(),
            key: peer.key,
            instance,
            brought: wish.generation,
            heartbeat: Duration::from_millis(wish.heartbeat_ms.into()),
            from: peer.from,
        };
        book.register(claim, gateway.now());
        mail
    };
    let answered = tokio::select! {
        mail = mail.take() => mail,
        // It has nothing to say before it is registered.
        said = leg.read::<FromAgent>() => {
            drop(presence);
            if said.is_ok() {
                refuse(&gateway, leg, &peer, Some(&home), Reason::Malformed.into()).await;
            }
            return;
        }
    };
    let Some(generation) = answered.accepted.filter(|_| answered.ended.is_none()) else {
        drop(presence);
        let reason = answered.ended.unwrap_or_default();
        return refuse(&gateway, leg, &peer, Some(&home), reason.into()).await;
    };
    let mut home = Home { gateway, leg, peer, home, offers: BTreeMap::new(), pings: 0 };
    let ended = home.live(&mail, answered, generation).await;
    drop(presence);
    home.end(ended).await;
}

/// A home that is registered.
struct Home {
    gateway: Arc<Gateway>,
    leg: Leg,
    peer: Peer,
    home: Name,
    /// What it offers, by its own numbers.
    offers: BTreeMap<u32, Name>,
    pings: u64,
}

/// How a registration ended.
enum Ended {
    /// The connection is no more.
    Gone(io::Error),
    /// The gateway ends it.
    Dismissed(Reason),
}

impl From<io::Error> for Ended {
    fn from(why: io::Error) -> Self {
        match why.kind() {
            io::ErrorKind::InvalidData => Self::Dismissed(Reason::Malformed),
            _ => Self::Gone(why),
        }
    }
}

impl Home {
    async fn live(&mut self, mail: &Mailbox, first: Mail, generation: u64) -> Ended {
        let (home, from) = (self.home.as_str(), self.peer.from);
        tracing::info!(event = "home-online", home, %from, "{home} is online, from {from}");
        let answer = Answer::Registered(Registered {
            generation,
            retry_cap_ms: wayhome_core::status::millis(self.retry_cap()) as u32,
            pool: self.gateway.limits.pool as u32,
        });
        match timeout(WRITE, self.leg.write(&Welcome { answer: Some(answer) })).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => return why.into(),
            Err(_) => return Ended::Gone(io::ErrorKind::TimedOut.into()),
        }
        if let Err(ended) = self.deliver(first).await {
            return ended;
        }
        loop {
            let done = tokio::select! {
                mail = mail.take() => self.deliver(mail).await,
                said = self.leg.read::<FromAgent>() => match said {
                    Ok(said) => self.hear(said).await,
                    Err(why) => Err(why.into()),
                },
            };
            if let Err(ended) = done {
                return ended;
            }
        }
    }

    /// Tells the home what the book says.
    async fn deliver(&mut self, mail: Mail) -> Result<(), Ended> {
        if let Some(reason) = mail.ended {
            return Err(Ended::Dismissed(reason));
        }
        if mail.ping {
            self.pings += 1;
            self.tell(ToHome::Ping(Ping { sequence: self.pings })).await?;
        }
        if mail.wanted > 0 {
            self.tell(ToHome::Wanted(Wanted { connections: mail.wanted })).await?;
        }
        if let Some((instance, from)) = mail.alarm {
            let home = self.home.as_str();
            tracing::warn!(
                event = "duplicate",
                home,
                %from,
                "another agent, at {from}, wanted to be {home}, which is alive"
            );
            let alarm = Alarm { instance: instance.to_vec(), from: from.to_string() };
            self.tell(ToHome::Alarm(alarm)).await?;
        }
        Ok(())
    }

    async fn hear(&mut self, said: FromAgent) -> Result<(), Ended> {
        self.gateway.book().heard(self.peer.id, self.gateway.now());
        match said.message {
            Some(FromHome::Ping(ping)) => {
                self.tell(ToHome::Pong(Pong { sequence: ping.sequence })).await
            }
            Some(FromHome::Offer(offer)) => self.offer(offer).await,
            Some(FromHome::Withdraw(withdraw)) => {
                let number = withdraw.number;
                let service = self.offers.remove(&number);
                self.gateway.book().withdraw(self.peer.id, number, service.as_ref());
                self.tell(ToHome::Withdrawn(Withdrawn { number })).await
            }
            Some(FromHome::Proven(proven)) => {
                if let Some(service) = self.offers.get(&proven.number) {
                    self.gateway.book().proven(self.peer.id, service);
                }
                Ok(())
            }
            // What a later version says is passed over.
            Some(FromHome::Pong(_)) | None => Ok(()),
        }
    }

    async fn offer(&mut self, offer: Offer) -> Result<(), Ended> {
        let Ok(service) = offer.service.parse::<Name>() else {
            return Err(Ended::Dismissed(Reason::Malformed));
        };
        let Ok(port) = u16::try_from(offer.port) else {
            return Err(Ended::Dismissed(Reason::Malformed));
        };
        let (key, from) = (&self.peer.key, self.peer.from.ip());
        let judged = self.gateway.grants().and_then(|grants| {
            grants.may_offer(key, &self.home, &service, from, wall_clock()).map(drop)?;
            self.gateway.book().registry.offer(self.peer.id, offer.number, service.clone())
        });
        let mut refusal = judged.err().map(Refusal::from);
        // What a refusal speaks of: the port, if there is one in the answer.
        let mut about = 0;
        if refusal.is_none() && port > 0 {
            about = offer.port;
            let opened = ports::open(&self.gateway, &self.peer, &self.home, &service, port);
            refusal = opened.err();
            if refusal.is_some() {
                self.gateway.book().registry.withdraw(self.peer.id, offer.number);
            }
        }
        match &refusal {
            Some(refusal) if refusal.reason == Reason::Malformed => {
                return Err(Ended::Dismissed(Reason::Malformed));
            }
            Some(refusal) => record(&self.gateway, &self.peer, Some(&self.home), refusal),
            None => drop(self.offers.insert(offer.number, service)),
        }
        let refused = refusal.as_ref().map(refused);
        self.tell(ToHome::Offered(Offered { number: offer.number, refused, port: about })).await
    }

    async fn tell(&mut self, message: ToHome) -> Result<(), Ended> {
        let message = FromGateway { message: Some(message) };
        match timeout(WRITE, self.leg.write(&message)).await {
            Ok(written) => Ok(written?),
            Err(_) => Err(Ended::Gone(io::ErrorKind::TimedOut.into())),
        }
    }

    async fn end(self, ended: Ended) {
        let home = self.home.as_str();
        match ended {
            Ended::Gone(why) => {
                tracing::info!(event = "home-offline", home, "{home} is offline: {why}");
            }
            Ended::Dismissed(reason) => {
                tracing::info!(event = "home-offline", home, "{home} is let go: {reason}");
                if reason != Reason::Replaced && reason != Reason::GoingAway {
                    record(&self.gateway, &self.peer, Some(&self.home), &reason.into());
                }
                let why = Some(refused(&reason.into()));
                let goodbye = FromGateway { message: Some(ToHome::Goodbye(Goodbye { why })) };
                farewell(&self.gateway, self.leg, &goodbye).await;
            }
        }
    }

    fn retry_cap(&self) -> Duration {
        let homes = self.gateway.book().registry.homes().count() as u32;
        RETRY_CAP * (homes / 1000).max(1)
    }
}
