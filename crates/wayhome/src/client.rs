//! The laptop's seat on the native road: a stream to a home, through whichever gateway answers first.
//!
//! Each gateway is tried by itself ([`attempt`]), a little after the one before it; the first at
//! whose end the home has proven its key wins, and the others are let go. Only then is the service
//! asked for, so that the home dials its target once. Which keys are pinned is for `pins`.

mod attempt;
mod dial;
mod goal;
mod laptop;
mod pass;
mod race;
pub mod refusal;
pub mod stdio;
mod trouble;

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWriteExt};
use tokio::time::timeout;
use wayhome_core::address::NativeAddress;
use wayhome_core::key::Key;
use wayhome_core::refusal::Speaker;

pub use goal::Goal;
pub use laptop::{Laptop, Way};
pub use pass::{Grant, pass};
pub use trouble::{Failed, Trouble};

use crate::wire::identity::Identity;
use crate::wire::messages::{Request, Response};
use crate::wire::{frame, inner};

/// How long after one gateway the next is tried, if that one has neither answered nor failed.
const STAGGER: Duration = Duration::from_millis(100);

/// From the dial to the home's proof, for each gateway (`docs/protocol.md`, "Time limits").
const PATIENCE: Duration = Duration::from_secs(15);

/// From the request to the home's answer. It gives the target 10 s.
const ANSWER: Duration = Duration::from_secs(15);

/// A gateway, and the key that is pinned for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Where it is.
    pub address: NativeAddress,
    /// Its key.
    pub key: Key,
}

/// What is wanted, and by which ways.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The home and its service.
    pub goal: Goal,
    /// The key that is pinned for the home.
    pub home_key: Key,
    /// The gateways, the preferred one first. There is at least one.
    pub gateways: Vec<Gateway>,
}

/// A stream to a home that has proven its key, and was asked for the service. What is written is for
/// the service, and may be written at once; what is read begins with the home's answer, which
/// [`granted`] takes.
pub struct Stream {
    /// The TLS with the home.
    pub tls: inner::Client,
    /// The gateway that it leads through.
    pub gateway: NativeAddress,
}

/// Opens a stream.
///
/// # Errors
/// If it cannot be had through any of the gateways: the most telling reason.
pub async fn open(identity: &Identity, wanted: &Wanted) -> Result<Stream, Failed> {
    let attempts = wanted.gateways.iter().cloned().map(|gateway| {
        let identity = identity.clone();
        let (home, home_key) = (wanted.goal.home.clone(), wanted.home_key);
        async move {
            let tried = attempt::attempt(&identity, &gateway, &home, home_key);
            let done = timeout(PATIENCE, tried).await.unwrap_or(Err(Trouble::Silent));
            let gateway = gateway.address;
            match done {
                Ok(tls) => Ok(Stream { tls, gateway }),
                Err(trouble) => {
                    tracing::debug!("{gateway}: {trouble}");
                    Err(Failed { gateway, trouble })
                }
            }
        }
    });
    let mut stream =
        race::first(attempts.collect::<Vec<_>>(), STAGGER).await.map_err(Failed::most_telling)?;
    let request = Request { service: wanted.goal.service.to_string() };
    match stream.tls.write_all(&frame::encode(&request)).await {
        Ok(()) => Ok(stream),
        Err(why) => Err(Failed { gateway: stream.gateway, trouble: Trouble::Lost(why) }),
    }
}

/// Reads the home's answer: whether the service is granted.
///
/// # Errors
/// If it is not, or the stream ends before.
pub async fn granted(from_home: &mut (impl AsyncRead + Unpin)) -> Result<(), Trouble> {
    let answer = timeout(ANSWER, frame::read::<Response>(from_home)).await;
    let answer = answer.map_err(|_| Trouble::HomeSilent)?.map_err(Trouble::Lost)?;
    match answer.refused {
        None => Ok(()),
        Some(refused) => Err(Trouble::Refused(Speaker::Home, refusal::read(&refused))),
    }
}
