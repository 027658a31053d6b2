//! Services of homes, as ports and sockets of this machine: each connection is a stream of its own,
//! which the gateway and the home judge anew.
//!
//! A caller here is told nothing but what TCP can say: that its stream was cut is a reset. Why, a
//! person reads in the log.

pub mod local;
pub mod pairs;
pub mod socks;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::client::{self, Failed, Goal, Laptop, Trouble};
use crate::error::{Failure, Outcome};
use crate::relay;
use crate::report;
use local::{Caller, Listener};

/// Streams at once: as many as a gateway lets a key have, unless it is told otherwise. More callers
/// wait in the kernel.
const MOST: usize = 256;

/// When nothing can be accepted: out of descriptors, say. They come back when others are closed.
const PAUSE: Duration = Duration::from_millis(50);

/// How long the same sentence is not said again. A browser asks often.
const ONCE: Duration = Duration::from_secs(10);

/// Where the callers of a listener are led.
#[derive(Clone, Debug)]
pub enum To {
    /// To one service.
    Service(Goal),
    /// Where each of them asks to be led, in the words of SOCKS 5.
    Asked,
}

/// Leads callers to homes.
pub struct Forward {
    laptop: Laptop,
    room: Arc<Semaphore>,
    said: Mutex<Option<(String, Instant)>>,
}

impl Forward {
    /// With this laptop's key and pins.
    pub fn new(laptop: Laptop) -> Self {
        Self { laptop, room: Arc::new(Semaphore::new(MOST)), said: Mutex::default() }
    }

    /// Leads all who come. Never ends.
    pub async fn keep(self: Arc<Self>, listener: Listener, to: To) {
        loop {
            let Ok(place) = Arc::clone(&self.room).acquire_owned().await else { return };
            let Ok(caller) = listener.accept().await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let (forward, to) = (Arc::clone(&self), to.clone());
            tokio::spawn(async move {
                let led = match caller {
                    Caller::Tcp(tcp) => forward.lead_tcp(tcp, &to).await,
                    Caller::Unix(unix) => forward.lead(unix, &to).await.map(drop),
                };
                if let Err(why) = led {
                    forward.tell(&why);
                }
                drop(place);
            });
        }
    }

    /// Tries whether a service can be had: what the first caller would come to.
    ///
    /// # Errors
    /// If it cannot.
    pub async fn probe(&self, goal: &Goal) -> Outcome<client::Stream> {
        let wanted = self.laptop.wanted(goal)?;
        let opened = client::open(&self.laptop.identity, &wanted).await;
        let mut stream = opened.map_err(|failed| failed.failure(goal))?;
        let granted = client::granted(&mut stream.tls).await;
        granted
            .map_err(|trouble| Failed { gateway: stream.gateway.clone(), trouble }.failure(goal))?;
        Ok(stream)
    }

    async fn lead_tcp(&self, tcp: TcpStream, to: &To) -> Outcome {
        if relay::tune(&tcp).and_then(|()| relay::cut_by_reset(&tcp)).is_err() {
            return Ok(());
        }
        if let Some(tcp) = self.lead(tcp, to).await? {
            let _ = sockopt::set_socket_linger(&tcp, None);
        }
        Ok(())
    }

    /// Leads one, and gives the connection back once both directions have ended. `None` if the caller
    /// has left before.
    async fn lead<S>(&self, caller: S, to: &To) -> Outcome<Option<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let To::Service(goal) = to else { return self.lead_asked(caller).await };
        let wanted = self.laptop.wanted(goal)?;
        let stream = client::open(&self.laptop.identity, &wanted).await;
        let stream = stream.map_err(|failed| failed.failure(goal))?;
        self.join(caller, stream, goal, client::Grant::Awaited).await
    }

    /// Asks the caller where to, and answers once it is there.
    async fn lead_asked<S>(&self, caller: S) -> Outcome<Option<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let asked = match socks::ask(caller).await {
            Ok(Ok(asked)) => asked,
            Ok(Err(unfit)) => return Err(unfit),
            Err(why) => {
                tracing::debug!("a caller does not speak SOCKS 5 as it should: {why}");
                return Ok(None);
            }
        };
        let goal = asked.goal.clone();
        let tried = async {
            let wanted = self.laptop.wanted(&goal).map_err(Err)?;
            let mut stream = client::open(&self.laptop.identity, &wanted).await.map_err(Ok)?;
            match client::granted(&mut stream.tls).await {
                Ok(()) => Ok(stream),
                Err(trouble) => Err(Ok(Failed { gateway: stream.gateway, trouble })),
            }
        };
        match tried.await {
            Ok(stream) => {
                let Ok(caller) = asked.led().await else { return Ok(None) };
                self.join(caller, stream, &goal, client::Grant::Given).await
            }
            Err(why) => {
                asked.refused(why.as_ref().ok()).await;
                Err(why.map_or_else(|why| why, |failed| failed.failure(&goal)))
            }
        }
    }

    async fn join<S>(
        &self,
        mut caller: S,
        stream: client::Stream,
        goal: &Goal,
        grant: client::Grant,
    ) -> Outcome<Option<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        tracing::debug!(%goal, gateway = %stream.gateway, "a stream is open");
        let gateway = stream.gateway;
        let (input, output) = tokio::io::split(&mut caller);
        match client::pass(stream.tls, grant, input, output).await {
            Ok(()) => Ok(Some(caller)),
            // Which is its own affair.
            Err(Trouble::Input(why) | Trouble::Output(why)) => {
                tracing::debug!(%goal, "a caller has left: {why}");
                Ok(None)
            }
            Err(trouble) => Err(Failed { gateway, trouble }.failure(goal)),
        }
    }

    /// Tells a person, and not again and again.
    fn tell(&self, why: &Failure) {
        let sentence = report::on_one_line(why);
        let Ok(mut said) = self.said.lock() else { return };
        let now = Instant::now();
        let is_news = said.as_ref().is_none_or(|(last, at)| {
            *last != sentence || now.saturating_duration_since(*at) > ONCE
        });
        if is_news {
            tracing::warn!(event = "stream-failed", "{sentence}");
            *said = Some((sentence, now));
        }
    }
}
