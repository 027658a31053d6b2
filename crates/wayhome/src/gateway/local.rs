//! Somebody who has come by a port of the gateway's loopback, and the stream that they get. It has no
//! key, and no TLS with the home: the gateway is an end of it, and the home knows that.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use wayhome_core::health::Detail;
use wayhome_core::refusal::Reason;
use wayhome_core::route::ConnId;

use super::Gateway;
use super::book::{self, Peer, Role};
use super::door::record;
use super::mailbox::Mailbox;
use super::ports::Owner;
use super::seek::{Ask, Met, Seeker};
use super::stream::Room;
use super::waiting::{Given, Presence};
use crate::relay::{self, Counts};
use crate::wire::messages::Local;

/// How long one waits until fewer others wait, and how often that is looked at.
const PATIENCE: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(20);

/// Serves one. Whatever is no end becomes a reset: TCP can say no more.
pub async fn serve(
    gateway: Arc<Gateway>,
    tcp: TcpStream,
    from: SocketAddr,
    port: u16,
    owner: Owner,
) {
    if relay::cut_by_reset(&tcp).is_err() {
        return;
    }
    let id = gateway.new_id();
    let software = Detail::new(&format!("port {port}"));
    let peer = Peer { id, key: owner.key, from, software };
    let home = owner.home;
    let _room = match Room::take(&gateway, None, &home) {
        Ok(room) => room,
        Err(refusal) => return record(&gateway, &peer, Some(&home), &refusal),
    };
    let _presence = Presence::new(&gateway, &peer);
    let mail = gateway.book().enter(peer.clone(), Role::Caller);
    let ask = Ask::Local(Local {
        stream: id.0,
        service: owner.service.to_string(),
        port: u32::from(port),
    });
    let seeker = Seeker { gateway: &gateway, id, home: &home, mail: &mail };
    // It may speak before it is answered, so that nothing tells whether it has hung up; it waits for
    // some seconds at the most.
    let since = Instant::now();
    let met = loop {
        match seeker.seek(&ask, std::future::pending).await {
            // A browser comes with many at once. They have no other way to be told to come again.
            Met::Refused(why) if why.reason == Reason::Full && since.elapsed() < PATIENCE => {
                tokio::time::sleep(AGAIN).await;
            }
            met => break met,
        }
    };
    match met {
        Met::Home { home: carrier, .. } => {
            let stream = book::Stream {
                home: home.clone(),
                port: Some(port),
                carrier: (carrier.peer.key, carrier.peer.from),
                counts: Arc::default(),
            };
            let counts = Arc::clone(&stream.counts);
            gateway.book().begin_stream(id, stream, Instant::now());
            if let Some(carrier) = join(id, tcp, *carrier, &mail, &counts).await {
                carrier.give_back(&gateway);
            }
        }
        Met::Refused(refusal) => record(&gateway, &peer, Some(&home), &refusal),
        Met::Nobody => {}
    }
}

/// Joins the two, until both have ended or it is to end. Gives the data connection back if it has carried
/// all of it.
async fn join(
    id: ConnId,
    mut tcp: TcpStream,
    mut carrier: Given,
    mail: &Mailbox,
    counts: &Counts,
) -> Option<Given> {
    let joined = async {
        relay::cut_by_reset(carrier.leg.tcp())?;
        relay::carry(&mut tcp, &mut carrier.leg, counts).await?;
        relay::has_ended(&tcp)?;
        relay::has_ended(carrier.leg.tcp())
    };
    tokio::select! {
        joined = joined => match joined {
            Ok(()) => return Some(carrier),
            Err(why) => tracing::debug!(stream = id.0, "a stream was cut: {why}"),
        },
        mail = mail.take() => {
            let reason = mail.ended.unwrap_or_default();
            tracing::debug!(stream = id.0, "a stream is cut: {reason}");
        }
    }
    None
}
