//! A data connection: it waits, and is given to a client.

use std::sync::Arc;

use wayhome_core::name::Name;
use wayhome_core::refusal::Reason;
use wayhome_core::route::Instance;

use super::Gateway;
use super::book::{Peer, Role};
use super::door::{farewell, judge, no, record, refuse};
use crate::wire::leg::Leg;
use crate::wire::messages::{Ready, Taken};

/// A data connection that was given away.
#[derive(Debug)]
pub struct Given {
    /// The connection.
    pub leg: Leg,
    /// Whose it is.
    pub peer: Peer,
    /// The home.
    home: Name,
    /// The registration that it came for: its instance and generation.
    registration: (Instance, u64),
}

impl Given {
    /// It has carried a stream to its end, and waits for the next one.
    pub fn give_back(self, gateway: &Arc<Gateway>) {
        let Self { leg, peer, home, registration } = self;
        let peer = Peer { id: gateway.new_id(), ..peer };
        tokio::spawn(admit(Arc::clone(gateway), leg, peer, home, registration));
    }
}

/// A place in the book. Whoever drops it has left.
pub struct Presence {
    gateway: Arc<Gateway>,
    peer: Peer,
}

impl Presence {
    /// From now on.
    pub fn new(gateway: &Arc<Gateway>, peer: &Peer) -> Self {
        Self { gateway: Arc::clone(gateway), peer: peer.clone() }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.gateway.book().leave(self.peer.id, self.gateway.now());
    }
}

/// Serves one.
pub async fn serve(gateway: Arc<Gateway>, leg: Leg, peer: Peer, wish: Ready) {
    let home = wish.home.parse::<Name>();
    let instance = <[u8; 16]>::try_from(wish.instance.as_slice());
    let (Ok(home), Ok(instance)) = (home, instance) else {
        return refuse(&gateway, leg, &peer, None, Reason::Malformed.into()).await;
    };
    admit(gateway, leg, peer, home, (instance, wish.generation)).await;
}

/// Lets it wait, if its key may be this home.
async fn admit(
    gateway: Arc<Gateway>,
    leg: Leg,
    peer: Peer,
    home: Name,
    registration: (Instance, u64),
) {
    let from = peer.from.ip();
    let judged =
        judge(&gateway, &peer, |grants, now| grants.may_be(&peer.key, &home, from, now).map(drop));
    if let Err(refusal) = judged {
        return refuse(&gateway, leg, &peer, Some(&home), refusal).await;
    }
    wait(gateway, leg, peer, home, registration).await;
}

/// Waits, until a client takes it, or it is not wanted, or it is gone.
async fn wait(
    gateway: Arc<Gateway>,
    mut leg: Leg,
    peer: Peer,
    home: Name,
    registration: (Instance, u64),
) {
    loop {
        let presence = Presence::new(&gateway, &peer);
        let mail = {
            let mut book = gateway.book();
            let mail = book.enter(peer.clone(), Role::Waiting(home.clone()));
            book.ready(peer.id, (&home, &peer.key), registration, gateway.now());
            mail
        };
        let came = tokio::select! {
            mail = mail.take() => Some(mail),
            // It has nothing to say before it is asked.
            said = leg.read::<Taken>() => {
                if said.is_ok() {
                    record(&gateway, &peer, Some(&home), &Reason::Malformed.into());
                }
                None
            }
        };
        let Some(mail) = came else { return };
        drop(presence);
        if let Some(reason) = mail.ended {
            // Not recorded: that a registration ends is told of its control connection.
            return farewell(&gateway, leg, &no(&reason.into())).await;
        }
        let Some(give) = mail.give else { continue };
        let given = Given { leg, peer: peer.clone(), home: home.clone(), registration };
        match give.send(given) {
            Ok(()) => return,
            // The client has gone meanwhile: the next one may have it.
            Err(given) => leg = given.leg,
        }
    }
}
