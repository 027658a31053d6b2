//! The control connection: on it the home is registered, and all that concerns the registration is
//! said.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use wayhome_core::health::{Cause, Detail};
use wayhome_core::link::{ConnId, Event, Stage};
use wayhome_core::name::Name;
use wayhome_core::refusal::Reason;

use super::home::{self, Home};
use super::own::Own;
use super::pool::Pool;
use super::refused;
use crate::agent::connection::Connection;
use crate::agent::door::Door;
use crate::wire::leg::Leg;
use crate::wire::messages::{
    Alarm, FromAgent, FromGateway, Goodbye, Hello, Offer, Offered, Ping, Pong, Proven, Register,
    Registered, Welcome, Withdraw, from_agent, from_gateway, hello, welcome,
};

/// Requests of the gateway for more data connections that wait for the pool; more of them would say
/// nothing new.
const WANTED: usize = 4;

/// What the link has to say on it.
#[derive(Debug)]
pub enum Command {
    /// A heartbeat.
    Ping(u64),
    /// Offers a service, with the port that it is to have there; 0 for none.
    Offer(usize, Name, u16),
    /// Withdraws a service.
    Withdraw(usize),
    /// Says that a service was proven just now.
    Proven(usize),
}

/// What stays the same from one control connection of a link to the next.
#[derive(Clone)]
pub struct Registration {
    /// Where the gateway is.
    pub door: Door,
    /// The home.
    pub home: Arc<Home>,
    /// How often the link sends a heartbeat.
    pub heartbeat: Duration,
    /// The highest generation that the home had at this gateway.
    pub generation: Arc<AtomicU64>,
    /// How many control connections were dialled.
    pub dials: Arc<AtomicU32>,
}

/// One control connection.
pub struct Control {
    /// Which.
    pub id: ConnId,
    /// What stays.
    pub registration: Registration,
    /// Our key.
    pub own: Arc<Own>,
    /// Where what comes of it is told.
    pub events: mpsc::Sender<Event>,
    /// Its number among those that were dialled.
    pub number: u32,
}

impl Control {
    /// Dials, registers, and then does as it is told until the connection ends. Why it did.
    pub async fn run(
        self,
        commands: mpsc::Receiver<Command>,
        reached: impl FnOnce(Connection),
    ) -> Cause {
        let registered = async {
            let mut leg = self.own.dial(&self.registration.door, reached).await?;
            // Whatever hangs from here on is the gateway's program, and not the way to it.
            self.tell(Event::Reached(self.id, Stage::Exchanged)).await;
            let registered = self.register(&mut leg).await?;
            Ok((leg, registered))
        };
        let (leg, registered) = match registered.await {
            Ok(registered) => registered,
            Err(cause) => return cause,
        };
        let most = Duration::from_millis(registered.retry_cap_ms.into());
        self.tell(Event::Capped(self.id, most)).await;
        self.tell(Event::Connected(self.id)).await;
        let (want, wanted) = mpsc::channel(WANTED);
        let pool = Pool {
            door: self.registration.door.clone(),
            own: Arc::clone(&self.own),
            home: Arc::clone(&self.registration.home),
            generation: registered.generation,
            seed: registered.generation ^ u64::from(std::process::id()),
        };
        let allowed = usize::try_from(registered.pool).unwrap_or(usize::MAX);
        let talk = Talk { control: &self, leg, want, numbers: 0, offered: HashMap::new() };
        tokio::select! {
            cause = talk.run(commands) => cause,
            () = pool.run(allowed, wanted) => refused::breach("the pool has ended"),
        }
    }

    async fn register(&self, leg: &mut Leg) -> Result<Registered, Cause> {
        let Registration { home, heartbeat, generation, .. } = &self.registration;
        let register = Register {
            home: home.name.to_string(),
            instance: home.instance.clone(),
            generation: generation.load(Ordering::Relaxed),
            heartbeat_ms: u32::try_from(heartbeat.as_millis()).unwrap_or(u32::MAX),
        };
        let purpose = Some(hello::Purpose::Register(register));
        let hello = Hello { software: home::software(), purpose };
        leg.write(&hello).await.map_err(|why| refused::speaking(&why))?;
        let welcome: Welcome = leg.read().await.map_err(|why| refused::speaking(&why))?;
        match welcome.answer {
            Some(welcome::Answer::Registered(registered)) => {
                generation.fetch_max(registered.generation, Ordering::Relaxed);
                Ok(registered)
            }
            Some(welcome::Answer::Refused(why)) => Err(refused::home(&why)),
            _ => Err(refused::breach("no answer to a registration")),
        }
    }

    async fn tell(&self, event: Event) {
        // The link ends before its tasks do; then nobody wants to know.
        let _ = self.events.send(event).await;
    }

    /// Whether we have dialled again since.
    fn has_a_successor(&self) -> bool {
        self.registration.dials.load(Ordering::Relaxed) > self.number
    }
}

/// What goes on over a connection that is registered.
struct Talk<'a> {
    control: &'a Control,
    leg: Leg,
    want: mpsc::Sender<u32>,
    /// The number of the last offer.
    numbers: u32,
    /// What was offered, by the numbers of the offers.
    offered: HashMap<u32, Offering>,
}

/// A service that was offered, and the port that was asked for.
#[derive(Clone, Copy, Debug)]
struct Offering {
    service: usize,
    port: u32,
}

impl Talk<'_> {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) -> Cause {
        loop {
            let done = tokio::select! {
                message = self.leg.read::<FromGateway>() => match message {
                    Ok(message) => self.hear(message).await,
                    Err(why) => Err(refused::speaking(&why)),
                },
                command = commands.recv() => match command {
                    Some(command) => self.say(command).await,
                    // The link closes it.
                    None => return std::future::pending().await,
                },
            };
            if let Err(cause) = done {
                return cause;
            }
        }
    }

    async fn say(&mut self, command: Command) -> Result<(), Cause> {
        let message = match command {
            Command::Ping(sequence) => from_agent::Message::Ping(Ping { sequence }),
            Command::Offer(service, name, port) => {
                self.numbers += 1;
                let port = u32::from(port);
                self.offered.insert(self.numbers, Offering { service, port });
                let offer = Offer { number: self.numbers, service: name.to_string(), port };
                from_agent::Message::Offer(offer)
            }
            Command::Withdraw(service) => {
                let Some(number) = self.number_of(service) else {
                    return self.tell(|id| Event::Withdrawn(id, service)).await;
                };
                from_agent::Message::Withdraw(Withdraw { number })
            }
            Command::Proven(service) => match self.number_of(service) {
                Some(number) => from_agent::Message::Proven(Proven { number }),
                None => return Ok(()),
            },
        };
        self.write(message).await
    }

    fn number_of(&self, service: usize) -> Option<u32> {
        let offered = self.offered.iter().find(|(_, there)| there.service == service);
        offered.map(|(number, _)| *number)
    }

    async fn hear(&mut self, message: FromGateway) -> Result<(), Cause> {
        use from_gateway::Message;
        match message.message {
            Some(Message::Ping(Ping { sequence })) => {
                self.write(from_agent::Message::Pong(Pong { sequence })).await
            }
            Some(Message::Pong(Pong { sequence })) => {
                self.tell(|id| Event::Pong(id, sequence)).await
            }
            Some(Message::Offered(offered)) => self.answered(offered).await,
            Some(Message::Withdrawn(withdrawn)) => {
                let offering = self.offered.remove(&withdrawn.number);
                let offering =
                    offering.ok_or_else(|| refused::breach("a withdrawal of nothing"))?;
                self.tell(|id| Event::Withdrawn(id, offering.service)).await
            }
            Some(Message::Wanted(wanted)) => {
                // With several of them waiting already, the pool is as large as it gets.
                let _ = self.want.try_send(wanted.connections);
                Ok(())
            }
            Some(Message::Alarm(Alarm { from, .. })) => {
                let cause = Cause::IdentityElsewhere { from: Detail::new(&from) };
                self.tell(|id| Event::Alarmed(id, cause)).await
            }
            Some(Message::Goodbye(Goodbye { why })) => {
                let why = why.unwrap_or_default();
                let is_replaced = why.reason == Reason::Replaced.number();
                if is_replaced && self.control.has_a_successor() {
                    // By ourselves: the link closes this one as soon as the other has its turn.
                    return std::future::pending().await;
                }
                Err(refused::home(&why))
            }
            // A later version's.
            None => Ok(()),
        }
    }

    async fn answered(&mut self, offered: Offered) -> Result<(), Cause> {
        let offering = self.offered.get(&offered.number).copied();
        let offering = offering.ok_or_else(|| refused::breach("an answer to no offer"))?;
        let why = match offered.refused {
            Some(why) if offered.port > 0 => Some(refused::port(&why)),
            Some(why) => Some(refused::service(&why)),
            // It took the service and passed over the port.
            None if offered.port != offering.port => Some(Cause::GatewayRefused {
                detail: Detail::new("its version of wayhome has no ports; upgrade it there"),
            }),
            None => None,
        };
        let granted = why.is_none();
        if let Some(why) = why {
            self.offered.remove(&offered.number);
            self.tell(|id| Event::Explained(id, why)).await?;
        }
        self.tell(|id| Event::Forwarded(id, offering.service, granted)).await
    }

    async fn write(&mut self, message: from_agent::Message) -> Result<(), Cause> {
        let message = FromAgent { message: Some(message) };
        self.leg.write(&message).await.map_err(|why| refused::speaking(&why))
    }

    async fn tell(&self, event: impl FnOnce(ConnId) -> Event) -> Result<(), Cause> {
        self.control.tell(event(self.control.id)).await;
        Ok(())
    }
}
