//! A stream to the own home through the gateway, with the own key: how a service is proven.

use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use wayhome_core::health::Detail;
use wayhome_core::name::Name;
use wayhome_core::refusal::Reason;

use super::home::{self, Home};
use super::own::Own;
use super::refused;
use crate::agent::door::Door;
use crate::agent::proof::{NotOpened, Road};
use crate::wire::messages::{Hello, Open, Opened, Request, Response, Welcome, hello, welcome};
use crate::wire::{frame, inner};

/// The way around: out to the gateway, and back to a service of this home.
pub struct Round {
    /// Where the gateway is.
    pub door: Door,
    /// Our key there, and at home.
    pub own: Arc<Own>,
    /// The home.
    pub home: Arc<Home>,
    /// The service.
    pub service: Name,
}

impl Road for Round {
    type Stream = inner::Client;

    async fn open(&self) -> Result<inner::Client, NotOpened> {
        let mut tls = self.reach_home().await?;
        let request = Request { service: self.service.to_string() };
        tls.write_all(&frame::encode(&request)).await?;
        tls.flush().await?;
        let response: Response = frame::read(&mut tls).await?;
        match response.refused {
            None => Ok(tls),
            Some(why) => Err(match Reason::from_number(why.reason) {
                Reason::TargetRefused => NotOpened::Refused,
                Reason::TargetSilent => NotOpened::Silent,
                _ => NotOpened::NoStream(refused::said(&why)),
            }),
        }
    }
}

impl Round {
    async fn reach_home(&self) -> Result<inner::Client, NotOpened> {
        let no_stream =
            |why: &dyn std::fmt::Display| NotOpened::NoStream(Detail::new(&why.to_string()));
        let mut leg = self.own.dial_soon(&self.door).await.map_err(|cause| no_stream(&cause))?;
        let (handshake, client_hello) = inner::hello(Arc::clone(&self.own.round))?;
        let open = Open { home: self.home.name.to_string(), client_hello };
        let purpose = Some(hello::Purpose::Open(open));
        leg.last_words(Some(&Hello { software: home::software(), purpose })).await?;
        let welcome: Welcome = leg.read().await?;
        let server_flight = match welcome.answer {
            Some(welcome::Answer::Opened(Opened { server_flight })) => server_flight,
            Some(welcome::Answer::Refused(why)) => {
                return Err(NotOpened::NoStream(refused::said(&why)));
            }
            _ => return Err(no_stream(&"it answers something else")),
        };
        leg.ended().await?;
        // Another home's key here would be an error of the gateway's, and never a proof.
        handshake.go_on(server_flight, leg.unwrap()).await.map_err(|why| no_stream(&why))
    }
}
