//! What the hostile gateway does.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use wayhome::wire::identity::Identity;
use wayhome::wire::leg::Leg;
use wayhome::wire::messages::hello::Purpose;
use wayhome::wire::messages::taken::Answer as TakenAnswer;
use wayhome::wire::messages::welcome::Answer;
use wayhome::wire::messages::{
    FromAgent, FromGateway, Goodbye, Hello, Incoming, Local, Offered, Open, Opened, Pong, Refused,
    Registered, Taken, Welcome, from_agent, from_gateway,
};
use wayhome::wire::{frame, inner, tls};
use wayhome_core::key::Key;
use wayhome_core::refusal::Reason;

/// What a terminal would obey, and more of it than any bound.
const ESCAPES: &str = "\u{1b}]0;owned\u{7}\r\n\u{1b}[31mgoodbye-of-a-stranger\u{202e}";

/// What it does with the next stream. The numbers count the bytes between client and home, from where
/// both legs are unwrapped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Trick {
    None,
    /// Plays the home, with its own key.
    AnswersItself,
    /// Leads to another home's agent.
    AnswersAsAnother,
    /// Gives the home the first flight of an earlier client.
    OldHello,
    /// Says to the home all that an earlier client said.
    OldStream,
    FlipThere(usize),
    FlipBack(usize),
    DropThere(usize),
    DropBack(usize),
    RepeatThere(usize),
    RepeatBack(usize),
    EndThere(usize),
    EndBack(usize),
    RefusesWithEscapes,
}

impl Trick {
    /// Whether it falls on what goes to the home.
    pub fn is_there(self) -> bool {
        matches!(
            self,
            Self::FlipThere(_) | Self::DropThere(_) | Self::RepeatThere(_) | Self::EndThere(_)
        )
    }
}

/// The gateway.
pub struct Hostile {
    pub address: SocketAddr,
    pub key: Key,
    seat: Arc<Seat>,
}

struct Seat {
    identity: Identity,
    another: Identity,
    trick: Mutex<Trick>,
    waiting: Mutex<HashMap<String, Vec<Leg>>>,
    no_proofs_of: Mutex<Option<Key>>,
    /// The first flight of the first client, and what that said after it.
    hello: Mutex<Option<Vec<u8>>>,
    said: Mutex<Vec<u8>>,
    /// What it could read of a client.
    read: Mutex<Vec<u8>>,
    goodbye: watch::Sender<bool>,
}

impl Hostile {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let identity = |name| Identity::read_or_make(&folder.path().join(name)).unwrap().0;
        let seat = Arc::new(Seat {
            identity: identity("gateway"),
            another: identity("another"),
            trick: Mutex::new(Trick::None),
            waiting: Mutex::default(),
            no_proofs_of: Mutex::default(),
            hello: Mutex::default(),
            said: Mutex::default(),
            read: Mutex::default(),
            goodbye: watch::channel(false).0,
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let theirs = Arc::clone(&seat);
        tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let seat = Arc::clone(&theirs);
                tokio::spawn(async move { drop(seat.serve(tcp).await) });
            }
        });
        Self { address, key: seat.identity.key(), seat }
    }

    pub fn plays(&self, trick: Trick) {
        *self.seat.trick.lock().unwrap() = trick;
    }

    /// Refuses what the agent asks for itself, so that only clients reach a target.
    pub fn let_no_proofs_of(&self, key: Key) {
        *self.seat.no_proofs_of.lock().unwrap() = Some(key);
    }

    pub fn waiting(&self, home: &str) -> usize {
        self.seat.waiting.lock().unwrap().get(home).map_or(0, Vec::len)
    }

    pub fn has_read(&self, bytes: &[u8]) -> bool {
        self.seat.read.lock().unwrap().windows(bytes.len()).any(|part| part == bytes)
    }

    pub fn says_goodbye_with_escapes(&self) {
        self.seat.goodbye.send_replace(true);
    }

    /// Asks a home for a service by a port, as if somebody had come by it here: what it answers.
    pub async fn asks_by_port(&self, home: &str, service: &str, port: u32) -> TakenAnswer {
        self.asks_on(&mut self.data_of(home).await, service, port).await
    }

    /// The same on this data connection.
    pub async fn asks_on(&self, leg: &mut Leg, service: &str, port: u32) -> TakenAnswer {
        let local = Local { stream: 1, service: service.into(), port };
        leg.write(&welcome(Answer::Local(local))).await.unwrap();
        let taken: Taken = leg.read().await.unwrap();
        taken.answer.unwrap()
    }

    /// A data connection of a home.
    pub async fn data_of(&self, home: &str) -> Leg {
        self.seat.waiting_leg(home).await
    }

    /// A stream of its own to a home.
    pub async fn opens_itself(&self, home: &str, key: Key) -> inner::Client {
        let config = tls::client(&self.seat.identity, key, tls::STREAM).unwrap();
        let (hello, flight) = inner::hello(config).unwrap();
        let (flight, tcp) = self.seat.lead(home, flight).await.unwrap();
        hello.go_on(flight, tcp.into()).await.unwrap()
    }
}

fn welcome(answer: Answer) -> Welcome {
    Welcome { answer: Some(answer) }
}

impl Seat {
    async fn serve(&self, tcp: TcpStream) -> io::Result<()> {
        let mut leg = Leg::accept(tcp, tls::server(&self.identity, &[tls::LEG]).unwrap()).await?;
        let hello: Hello = leg.read().await?;
        match hello.purpose.unwrap() {
            Purpose::Register(_) => self.keep(leg).await,
            Purpose::Ready(ready) => {
                self.waiting.lock().unwrap().entry(ready.home).or_default().push(leg);
                Ok(())
            }
            Purpose::Open(open) => self.open(leg, open).await,
        }
    }

    async fn keep(&self, mut leg: Leg) -> io::Result<()> {
        let registered = Registered { generation: 1, retry_cap_ms: 1000, pool: 2 };
        leg.write(&welcome(Answer::Registered(registered))).await?;
        let mut goodbye = self.goodbye.subscribe();
        loop {
            let said: FromAgent = tokio::select! {
                said = leg.read() => said?,
                _ = goodbye.changed() => {
                    let why = Some(escapes());
                    let message = from_gateway::Message::Goodbye(Goodbye { why });
                    return leg.write(&FromGateway { message: Some(message) }).await;
                }
            };
            let answer = match said.message {
                Some(from_agent::Message::Ping(ping)) => {
                    from_gateway::Message::Pong(Pong { sequence: ping.sequence })
                }
                Some(from_agent::Message::Offer(offer)) => {
                    let number = offer.number;
                    from_gateway::Message::Offered(Offered { number, refused: None, port: 0 })
                }
                _ => continue,
            };
            leg.write(&FromGateway { message: Some(answer) }).await?;
        }
    }

    /// A data connection of a home.
    async fn waiting_leg(&self, home: &str) -> Leg {
        loop {
            let waiting = self.waiting.lock().unwrap().get_mut(home).and_then(Vec::pop);
            match waiting {
                Some(leg) => return leg,
                None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    /// Leads a first flight to a home: its answer, and the bare way there.
    async fn lead(&self, home: &str, client_hello: Vec<u8>) -> io::Result<(Vec<u8>, TcpStream)> {
        let mut leg = self.waiting_leg(home).await;
        let incoming = Incoming { stream: 1, client_hello, from: "nowhere".into() };
        leg.last_words(Some(&welcome(Answer::Incoming(incoming)))).await?;
        let taken: Taken = leg.read().await?;
        leg.ended().await?;
        match taken.answer.unwrap() {
            TakenAnswer::Opened(opened) => Ok((opened.server_flight, leg.unwrap().tcp)),
            TakenAnswer::Refused(refused) => panic!("{refused:?}"),
        }
    }

    async fn open(&self, mut leg: Leg, open: Open) -> io::Result<()> {
        if *self.no_proofs_of.lock().unwrap() == Some(leg.peer()) {
            let refused = Refused { reason: Reason::Offline.number(), ..Refused::default() };
            leg.refuse(&welcome(Answer::Refused(refused)), Duration::from_secs(1)).await;
            return Ok(());
        }
        leg.ended().await?;
        let trick = *self.trick.lock().unwrap();
        let hello = match trick {
            Trick::RefusesWithEscapes => {
                leg.refuse(&welcome(Answer::Refused(escapes())), Duration::from_secs(1)).await;
                return Ok(());
            }
            Trick::AnswersItself => return self.play_home(leg, &self.identity, open).await,
            Trick::AnswersAsAnother => return self.play_home(leg, &self.another, open).await,
            Trick::OldHello | Trick::OldStream => self.hello.lock().unwrap().clone().unwrap(),
            _ => open.client_hello,
        };
        self.hello.lock().unwrap().get_or_insert(hello.clone());
        let (server_flight, home) = self.lead(&open.home, hello).await?;
        leg.last_words(Some(&welcome(Answer::Opened(Opened { server_flight })))).await?;
        let client = leg.unwrap().tcp;
        if trick == Trick::OldStream {
            let said = self.said.lock().unwrap().clone();
            let mut home = home;
            home.write_all(&said).await?;
            let mut rest = Vec::new();
            let _ = home.read_to_end(&mut rest).await;
            return Ok(());
        }
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_home, mut to_home) = home.into_split();
        let there = pass(&mut from_client, &mut to_home, there(trick), Some(&self.said));
        let back = pass(&mut from_home, &mut to_client, back(trick), None);
        let _ = tokio::join!(there, back);
        Ok(())
    }

    async fn play_home(&self, mut leg: Leg, identity: &Identity, open: Open) -> io::Result<()> {
        let config = tls::server(identity, &[tls::STREAM]).unwrap();
        let (answer, server_flight) = inner::answer(config, open.client_hello)?;
        leg.last_words(Some(&welcome(Answer::Opened(Opened { server_flight })))).await?;
        let (mut tls, _) = answer.go_on(leg.unwrap()).await?;
        let accepted = wayhome::wire::messages::Response { refused: None };
        tls.write_all(&frame::encode(&accepted)).await?;
        tls.write_all(b"unproven").await?;
        let mut read = Vec::new();
        let _ = tls.read_to_end(&mut read).await;
        self.read.lock().unwrap().extend(read);
        Ok(())
    }
}

fn escapes() -> Refused {
    let detail = format!("{ESCAPES}{}", "x".repeat(9000));
    Refused { reason: Reason::Full.number(), detail, last_seen_ms: None }
}

/// What is done at which byte.
#[derive(Clone, Copy)]
enum Deed {
    Flip,
    Drop,
    Repeat,
    End,
}

fn there(trick: Trick) -> Option<(usize, Deed)> {
    match trick {
        Trick::FlipThere(at) => Some((at, Deed::Flip)),
        Trick::DropThere(at) => Some((at, Deed::Drop)),
        Trick::RepeatThere(at) => Some((at, Deed::Repeat)),
        Trick::EndThere(at) => Some((at, Deed::End)),
        _ => None,
    }
}

fn back(trick: Trick) -> Option<(usize, Deed)> {
    match trick {
        Trick::FlipBack(at) => Some((at, Deed::Flip)),
        Trick::DropBack(at) => Some((at, Deed::Drop)),
        Trick::RepeatBack(at) => Some((at, Deed::Repeat)),
        Trick::EndBack(at) => Some((at, Deed::End)),
        _ => None,
    }
}

/// Passes bytes on, and does its deed when it is there.
async fn pass(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    deed: Option<(usize, Deed)>,
    keep: Option<&Mutex<Vec<u8>>>,
) -> io::Result<()> {
    let mut passed = 0;
    let mut chunk = vec![0; 16384];
    loop {
        let read = match deed {
            Some((0, Deed::End)) => 0,
            _ => from.read(&mut chunk).await?,
        };
        if read == 0 {
            return to.shutdown().await;
        }
        let bytes = &mut chunk[..read];
        if let Some(keep) = keep {
            keep.lock().unwrap().extend(&*bytes);
        }
        let place = deed.and_then(|(at, deed)| Some((at.checked_sub(passed)?, deed)));
        passed += bytes.len();
        match place.filter(|(at, _)| *at < bytes.len()) {
            None => to.write_all(bytes).await?,
            Some((at, Deed::Flip)) => {
                bytes[at] ^= 1;
                to.write_all(bytes).await?;
            }
            Some((at, Deed::Drop)) => {
                to.write_all(&bytes[..at]).await?;
                to.write_all(&bytes[at + 1..]).await?;
            }
            Some((at, Deed::Repeat)) => {
                to.write_all(&bytes[..=at]).await?;
                to.write_all(&bytes[at..]).await?;
            }
            Some((at, Deed::End)) => {
                to.write_all(&bytes[..at]).await?;
                return to.shutdown().await;
            }
        }
    }
}
