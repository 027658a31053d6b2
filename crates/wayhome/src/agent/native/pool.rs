//! The data connections of one registration: a few wait, authenticated, for the streams to come.
//!
//! One that is taken for a stream is replaced at once, and lives on by itself; if its stream was one that
//! it can outlive, it comes back and waits again. The pool ends with the control connection that it belongs
//! to.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use wayhome_core::backoff::Backoff;
use wayhome_core::health::Cause;
use wayhome_core::refusal::Reason;

use super::home::{self, Home};
use super::own::Own;
use super::refused;
use super::serve::{Asked, Stream};
use crate::agent::door::Door;
use crate::wire::leg::Leg;
use crate::wire::messages::{Hello, Ready, Welcome, hello, welcome};

/// How many wait when nothing is asked for. Two clients at once find one each; for more, the gateway
/// asks, which costs them a round trip.
const WAITING: usize = 2;

/// How many the gateway can have at once by asking for them.
const MOST: usize = 64;

/// Between attempts when none comes to stand: at first, and at most.
const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(30);

/// What a data connection needs to know.
#[derive(Clone)]
pub struct Pool {
    /// Where the gateway is.
    pub door: Door,
    /// Our key there.
    pub own: Arc<Own>,
    /// The home.
    pub home: Arc<Home>,
    /// The registration that they belong to.
    pub generation: u64,
    /// Differs between homes.
    pub seed: u64,
}

/// How a data connection ended.
enum Ended {
    /// A stream has it.
    Taken,
    /// The gateway had enough of them.
    Surplus,
    /// The same of one that had come back from a stream.
    Spare,
    /// It never stood, or was lost.
    Lost(Cause),
}

impl Pool {
    /// Keeps connections waiting. `allowed` is how many the gateway lets wait, and `wanted` how many
    /// more it asks for. Never ends.
    pub async fn run(self, allowed: usize, mut wanted: mpsc::Receiver<u32>) {
        let usual = WAITING.min(allowed.max(1));
        let mut backoff = Backoff::new(FIRST, self.seed);
        let mut waiting = JoinSet::new();
        let mut extra = 0_usize;
        let mut not_before = Instant::now();
        let (back, mut returned) = mpsc::channel(MOST);
        loop {
            let now = Instant::now();
            while now >= not_before && waiting.len() < (usual + extra).min(MOST) {
                waiting.spawn(self.clone().wait(None, back.clone()));
            }
            tokio::select! {
                Some(leg) = returned.recv() => {
                    waiting.spawn(self.clone().wait(Some(leg), back.clone()));
                }
                Some(more) = wanted.recv() => {
                    extra = extra.saturating_add(usize::try_from(more).unwrap_or(MOST)).min(MOST);
                }
                Some(ended) = waiting.join_next() => match ended {
                    Ok(Ended::Taken) => {
                        extra = extra.saturating_sub(1);
                        backoff.reset();
                        not_before = now;
                    }
                    Ok(Ended::Spare) => {}
                    Ok(Ended::Surplus) if extra > 0 => extra -= 1,
                    Ok(Ended::Surplus) => not_before = Instant::now() + LONGEST,
                    ended => {
                        extra = extra.saturating_sub(1);
                        if let Ok(Ended::Lost(cause)) = ended {
                            tracing::debug!("a data connection was lost: {cause}");
                        }
                        not_before = Instant::now() + backoff.next(LONGEST);
                    }
                },
                () = sleep_until(not_before), if now < not_before => {}
            }
        }
    }

    /// One connection, until a stream has it: a new one, or one that has come back.
    async fn wait(self, returned: Option<Leg>, back: mpsc::Sender<Leg>) -> Ended {
        let surplus = if returned.is_some() { Ended::Spare } else { Ended::Surplus };
        let leg = match returned {
            Some(leg) => Ok(leg),
            None => self.dial().await,
        };
        let asked = async { self.until_asked(leg?, back).await };
        match asked.await {
            Ok(true) => Ended::Taken,
            Ok(false) => surplus,
            Err(cause) => Ended::Lost(cause),
        }
    }

    async fn dial(&self) -> Result<Leg, Cause> {
        let mut leg = self.own.dial_soon(&self.door).await?;
        let ready = Ready {
            home: self.home.name.to_string(),
            instance: self.home.instance.clone(),
            generation: self.generation,
        };
        let purpose = Some(hello::Purpose::Ready(ready));
        let hello = Hello { software: home::software(), purpose };
        leg.write(&hello).await.map_err(|why| refused::speaking(&why))?;
        Ok(leg)
    }

    /// Waits for what the gateway asks of it; `false` if it had enough of them.
    async fn until_asked(&self, mut leg: Leg, pool: mpsc::Sender<Leg>) -> Result<bool, Cause> {
        let welcome: Welcome = leg.read().await.map_err(|why| refused::speaking(&why))?;
        let asked = match welcome.answer {
            Some(welcome::Answer::Incoming(incoming)) => Asked::Incoming(incoming),
            Some(welcome::Answer::Local(local)) => Asked::Local(local),
            Some(welcome::Answer::Refused(why)) if why.reason == Reason::Full.number() => {
                return Ok(false);
            }
            Some(welcome::Answer::Refused(why)) => return Err(refused::home(&why)),
            _ => return Err(refused::breach("no stream where one was to come")),
        };
        let home = Arc::clone(&self.home);
        let own = Arc::clone(&self.own);
        let stream = Stream { leg, asked, own, home: Arc::clone(&home), pool };
        match home.streams.place() {
            Some(place) => home.streams.spawn(stream.serve(place)),
            None => stream.turn_away().await,
        }
        Ok(true)
    }
}
