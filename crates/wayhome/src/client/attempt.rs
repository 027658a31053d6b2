//! One attempt: a stream to a home through one gateway, up to the home's proof.

use std::io;

use wayhome_core::key::Key;
use wayhome_core::name::Name;
use wayhome_core::refusal::Speaker;

use super::dial::dial;
use super::refusal;
use super::{Gateway, Trouble};
use crate::wire::frame::breach;
use crate::wire::identity::Identity;
use crate::wire::leg::{Leg, Unwrapped};
use crate::wire::messages::hello::Purpose;
use crate::wire::messages::welcome::Answer;
use crate::wire::messages::{Hello, Open, Opened, Welcome};
use crate::wire::tls::{self, WrongKey};
use crate::wire::{MAX_FLIGHT, inner};

/// What we call ourselves, for the gateway's `status`.
const SOFTWARE: &str = concat!("wayhome ", env!("CARGO_PKG_VERSION"));

/// Dials the gateway and has it join us to the home. Each attempt has a TLS of its own with the home,
/// since each gateway gets its first flight.
pub async fn attempt(
    identity: &Identity,
    gateway: &Gateway,
    home: &Name,
    home_key: Key,
) -> Result<inner::Client, Trouble> {
    let tcp = dial(&gateway.address).await.map_err(Trouble::Unreachable)?;
    let config = tls::client(identity, gateway.key, tls::LEG).map_err(io::Error::other);
    let leg = Leg::dial(tcp, config.map_err(Trouble::Gateway)?).await.map_err(|why| {
        let wrong = WrongKey::of(&why).map(|wrong| Trouble::WrongGatewayKey(wrong.shown));
        wrong.unwrap_or(Trouble::Gateway(why))
    })?;
    let config = tls::client(identity, home_key, tls::STREAM).map_err(io::Error::other);
    let (hello, client_hello) = config.and_then(inner::hello).map_err(Trouble::Home)?;
    let (flight, leg) = open(leg, Open { home: home.to_string(), client_hello }).await?;
    hello.go_on(flight, leg).await.map_err(|why| {
        let wrong = WrongKey::of(&why).map(|wrong| Trouble::WrongHomeKey(wrong.shown));
        wrong.unwrap_or(Trouble::Home(why))
    })
}

/// Asks the gateway for the home. Gives the home's first flight, and the socket that leads there.
async fn open(mut leg: Leg, open: Open) -> Result<(Vec<u8>, Unwrapped), Trouble> {
    let hello = Hello { software: SOFTWARE.into(), purpose: Some(Purpose::Open(open)) };
    leg.last_words(Some(&hello)).await.map_err(Trouble::Gateway)?;
    let welcome: Welcome = leg.read().await.map_err(Trouble::Gateway)?;
    let Opened { server_flight } = match welcome.answer {
        Some(Answer::Opened(opened)) => opened,
        Some(Answer::Refused(refused)) => {
            return Err(Trouble::Refused(Speaker::Gateway, refusal::read(&refused)));
        }
        _ => return Err(Trouble::Gateway(breach("an answer to what was not asked"))),
    };
    if server_flight.len() > MAX_FLIGHT {
        return Err(Trouble::Gateway(breach("a first flight that is too long")));
    }
    leg.ended().await.map_err(Trouble::Gateway)?;
    Ok((server_flight, leg.unwrap()))
}
