//! Whoever waits for a home: until one of its data connections was given, and has answered.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use wayhome_core::health::Detail;
use wayhome_core::name::Name;
use wayhome_core::refusal::{Reason, Refusal};
use wayhome_core::route::ConnId;

use super::Gateway;
use super::door::record;
use super::mailbox::Mailbox;
use super::waiting::Given;
use crate::wire::MAX_FLIGHT;
use crate::wire::messages::taken::Answer as TakenAnswer;
use crate::wire::messages::welcome::Answer;
use crate::wire::messages::{Incoming, Local, Taken, Welcome};

/// How long a home may take to answer on a data connection, before the next one is tried.
const TAKE: Duration = Duration::from_secs(5);

/// How many data connections are tried.
const TRIES: usize = 2;

/// One who seeks a home.
pub struct Seeker<'a> {
    /// The gateway.
    pub gateway: &'a Arc<Gateway>,
    /// Its place in the book.
    pub id: ConnId,
    /// The home.
    pub home: &'a Name,
    /// Where it finds its mail.
    pub mail: &'a Mailbox,
}

/// What it asks the home.
pub enum Ask {
    /// To take a client's stream, which is blind: the leg's TLS ends with the answer.
    Incoming(Incoming),
    /// To take a stream that the leg carries itself.
    Local(Local),
}

/// What it met.
pub enum Met {
    /// The home, which answered with its first flight.
    Home { flight: Vec<u8>, home: Box<Given> },
    /// A refusal.
    Refused(Refusal),
    /// It has gone away itself.
    Nobody,
}

impl Seeker<'_> {
    /// Seeks, as long as `gone` does not end.
    pub async fn seek<F>(&self, ask: &Ask, gone: impl Fn() -> F) -> Met
    where
        F: Future<Output = ()>,
    {
        for _ in 0..TRIES {
            self.gateway.book().take(self.id, self.home, self.gateway.now());
            let mut home = match self.wait(gone()).await {
                Ok(Some(home)) => home,
                // It died in that moment.
                Ok(None) => continue,
                Err(met) => return met,
            };
            let asked = tokio::select! {
                asked = timeout(TAKE, put(ask, &mut home)) => asked,
                mail = self.mail.take() => return Met::Refused(mail.ended.unwrap_or_default().into()),
                () = gone() => return Met::Nobody,
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
    async fn wait(&self, gone: impl Future<Output = ()>) -> Result<Option<Given>, Met> {
        let mail = tokio::select! {
            mail = self.mail.take() => mail,
            () = gone => return Err(Met::Nobody),
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
}

/// Asks the home to take the stream.
async fn put(ask: &Ask, home: &mut Given) -> io::Result<TakenAnswer> {
    let leg = &mut home.leg;
    let taken: Taken = match ask {
        Ask::Incoming(incoming) => {
            let answer = Answer::Incoming(incoming.clone());
            leg.last_words(Some(&Welcome { answer: Some(answer) })).await?;
            let taken = leg.read().await?;
            leg.ended().await?;
            taken
        }
        Ask::Local(local) => {
            leg.write(&Welcome { answer: Some(Answer::Local(local.clone())) }).await?;
            leg.read().await?
        }
    };
    taken.answer.ok_or_else(|| io::ErrorKind::InvalidData.into())
}
