//! One stream: from the client's first flight, which the gateway hands over, to its end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;
use wayhome_core::key::Key;
use wayhome_core::name::Name;
use wayhome_core::refusal::Reason;
use wayhome_core::service::Service;

use super::home::Home;
use super::own::Own;
use super::streams::Place;
use super::target::Joined;
use super::{refused, stream, target};
use crate::wire::leg::Leg;
use crate::wire::messages::{Incoming, Local, Opened, Refused, Request, Response, Taken, taken};
use crate::wire::{MAX_FLIGHT, frame, inner};

/// How long a client may take to say what it wants, once we have answered it.
const REQUEST: Duration = Duration::from_secs(15);

/// How long whoever is refused has to read why.
const FAREWELL: Duration = Duration::from_secs(2);

/// What the gateway hands over.
pub struct Stream {
    /// The data connection.
    pub leg: Leg,
    /// What it asks for.
    pub asked: Asked,
    /// Our key at this gateway.
    pub own: Arc<Own>,
    /// The home.
    pub home: Arc<Home>,
    /// Where the data connection goes back to, once it has carried a stream and can carry another.
    pub pool: mpsc::Sender<Leg>,
}

/// What a gateway asks for.
pub enum Asked {
    /// A client's stream, with its first words.
    Incoming(Incoming),
    /// A stream of somebody at the gateway itself, who came by a service's port there.
    Local(Local),
}

impl Stream {
    /// There is no room for it.
    pub async fn turn_away(self) {
        refuse_early(self.leg, Reason::Full).await;
    }

    /// Serves it, whatever comes of that. It holds its place until then.
    pub async fn serve(self, mut place: Place) {
        let (number, from) = match &self.asked {
            Asked::Incoming(incoming) => {
                (incoming.stream, incoming.from.escape_debug().to_string())
            }
            Asked::Local(local) => (local.stream, format!("port {}", local.port)),
        };
        let Self { leg, asked, own, home, pool } = self;
        let served = match asked {
            Asked::Incoming(incoming) => {
                let client = Client { leg, own, home };
                client.try_serve(incoming.client_hello, &mut place).await
            }
            Asked::Local(local) => serve_local(leg, &local, &home, place, &pool).await,
        };
        if let Err(why) = served {
            // The gateway's clients are strangers here, and may come to nothing as often as they like.
            tracing::debug!("stream {number} from {from}: {why}");
        }
    }
}

/// Whether whoever is at the gateway itself gets to a service, and then the connection to it. It is the
/// service's `port` in our own configuration that lets them in, and nothing that the gateway says.
async fn admit_local(local: &Local, home: &Home) -> Result<(Service, Joined), Reason> {
    let named = local.service.parse::<Name>().ok().and_then(|name| home.service(&name));
    let has_port = |service: &Service| {
        service.name.as_str() == local.service
            && service.on_native_links().port.map(u32::from) == Some(local.port)
    };
    let Some(service) = named.filter(has_port) else {
        let (service, port) = (local.service.escape_debug(), local.port);
        tracing::debug!("no service of ours is `{service}` and has the port {port}");
        return Err(Reason::NotAllowed);
    };
    match target::dial(&service.target).await {
        Ok(target) => Ok((service, target)),
        Err((reason, why)) => {
            tracing::warn!("{} at {}: {why}", service.name, service.target);
            Err(reason)
        }
    }
}

/// Carries a stream of theirs to its end, and gives the data connection back.
async fn serve_local(
    mut leg: Leg,
    local: &Local,
    home: &Home,
    mut place: Place,
    pool: &mpsc::Sender<Leg>,
) -> io::Result<()> {
    let (service, target) = match admit_local(local, home).await {
        Ok(admitted) => admitted,
        Err(reason) => {
            refuse_early(leg, reason).await;
            return Ok(());
        }
    };
    let opened = taken::Answer::Opened(Opened { server_flight: Vec::new() });
    leg.write(&Taken { answer: Some(opened) }).await?;
    place.serves(&service.name);
    tracing::info!(
        event = "stream-opened",
        service = service.name.as_str(),
        "a stream to {} is open (by port {} at the gateway)",
        service.name,
        local.port
    );
    stream::carry(&mut leg, target).await?;
    drop(place);
    // If the pool has ended meanwhile, so does it.
    let _ = pool.try_send(leg);
    Ok(())
}

/// A client, whose stream no gateway can read.
struct Client {
    leg: Leg,
    own: Arc<Own>,
    home: Arc<Home>,
}

impl Client {
    async fn try_serve(mut self, hello: Vec<u8>, place: &mut Place) -> io::Result<()> {
        let answered = match hello.len() {
            ..=MAX_FLIGHT => inner::answer(Arc::clone(&self.own.answer), hello),
            _ => Err(frame::breach("a first flight that is too long")),
        };
        let (answer, server_flight) = match answered {
            Ok(answered) => answered,
            Err(why) => {
                refuse_early(self.leg, Reason::Malformed).await;
                return Err(why);
            }
        };
        let taken = Taken { answer: Some(taken::Answer::Opened(Opened { server_flight })) };
        let asked = async {
            self.leg.last_words(Some(&taken)).await?;
            self.leg.ended().await?;
            let (mut tls, key) = answer.go_on(self.leg.unwrap()).await?;
            let request: Request = frame::read(&mut tls).await?;
            io::Result::Ok((tls, key, request))
        };
        let (tls, key, request) = timeout(REQUEST, asked).await??;
        match admit(&self.home, &self.own.key, &key, &request).await {
            Ok((service, target)) => {
                place.serves(&service.name);
                let cut = self.home.withdrawn(self.own.key, key, service.name.clone());
                tracing::info!(
                    event = "stream-opened",
                    service = service.name.as_str(),
                    "a stream to {} is open ({key})",
                    service.name
                );
                tokio::select! {
                    joined = granted(tls, target) => joined,
                    () = cut => Ok(()),
                }
            }
            Err(why) => {
                let said = refused::said(&why);
                tracing::info!(
                    event = "stream-refused",
                    "a stream is refused: {said} ({key}, to `{}`)",
                    request.service.escape_debug()
                );
                refuse(tls, why).await
            }
        }
    }
}

/// Whether a client gets what it asks for, and then the connection to it. The target hears of nobody
/// who does not.
async fn admit(
    home: &Home,
    own: &Key,
    key: &Key,
    request: &Request,
) -> Result<(Service, Joined), Refused> {
    let Ok(name) = request.service.parse::<Name>() else {
        return Err(refused::because(Reason::Malformed, "this is no name of a service"));
    };
    let service = home.service(&name);
    // Grants speak of its name, however it was asked for.
    let name = service.as_ref().map_or(name, |service| service.name.clone());
    home.admit(own, key, &name)?;
    let service = service.ok_or_else(|| refused::because(Reason::NoSuchService, ""))?;
    let joined = target::dial(&service.target).await;
    let joined = joined.map_err(|(reason, why)| {
        // Where the target is, is the home's own affair.
        tracing::warn!("{} at {}: {why}", service.name, service.target);
        refused::because(reason, "")
    })?;
    // Its target may have taken ten seconds, and the grant been taken back meanwhile.
    home.admit(own, key, &name)?;
    Ok((service, joined))
}

async fn granted(mut tls: inner::Home, target: Joined) -> io::Result<()> {
    respond(&mut tls, None).await?;
    stream::join(tls, target).await
}

async fn respond(tls: &mut inner::Home, refused: Option<Refused>) -> io::Result<()> {
    tls.write_all(&frame::encode(&Response { refused })).await?;
    tls.flush().await
}

/// Says why not, and gives the client time to read it: a close with bytes unread would reset the
/// connection, and the words with it.
async fn refuse(mut tls: inner::Home, why: Refused) -> io::Result<()> {
    let farewell = async {
        respond(&mut tls, Some(why)).await?;
        tls.shutdown().await?;
        let mut rest = [0; 1024];
        while tls.read(&mut rest).await? > 0 {}
        Ok(())
    };
    timeout(FAREWELL, farewell).await?
}

/// Says why not while the gateway listens.
async fn refuse_early(leg: Leg, reason: Reason) {
    let answer = taken::Answer::Refused(refused::because(reason, ""));
    leg.refuse(&Taken { answer: Some(answer) }, FAREWELL).await;
}
