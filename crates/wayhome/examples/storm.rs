//! Ten thousand homes at one gateway, for `cargo xtask bench --only storm`: each with a key of its own,
//! its control connection and heartbeats, nine of ten with a data connection that waits; and each comes
//! back by itself when the gateway is gone, as an agent does.
//!
//! `storm grants COUNT FOLDER` makes the keys and prints a gateway's grants for them.
//! `storm run COUNT FOLDER GATEWAY KEY ADDRESS...` registers `home-0` and so on from those addresses in
//! turn. It prints `here SECONDS` once all are registered with what they hold, and then for each loss
//! `lost` and `back SECONDS REGISTERED-SECONDS REFUSED`. It ends with its standard input.
#![allow(clippy::print_stdout, reason = "it is a program for a bench, which reads that")]

use std::error::Error;
use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;
use wayhome::wire::identity::Identity;
use wayhome::wire::leg::Leg;
use wayhome::wire::messages::hello::Purpose;
use wayhome::wire::messages::welcome::Answer;
use wayhome::wire::messages::{
    FromAgent, FromGateway, Hello, Ping, Ready, Register, Welcome, from_agent, from_gateway,
};
use wayhome::wire::tls;
use wayhome_core::backoff::Backoff;

/// As agents have it: a heartbeat each five seconds.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Agents let two connections wait. A process may have 20,000 descriptors in some containers, root's
/// too: so that ten thousand homes fit there, nine of ten let one wait.
fn pool(number: usize) -> usize {
    usize::from(number % 10 < 9)
}

/// Handshakes at once when all come for the first time: more would only wait for the processor.
const AT_ONCE: usize = 256;

/// Before the gateway says how long to wait at most.
const CAP: Duration = Duration::from_secs(1);

/// A connect that is not answered is no connect. An agent has as much patience.
const CONNECT: Duration = Duration::from_secs(10);

/// How the crowd is.
#[derive(Default)]
struct Crowd {
    /// Homes that are registered, and data connections that wait.
    registered: AtomicUsize,
    waiting: AtomicUsize,
    refused: AtomicUsize,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["grants", count, folder] => {
            print!("{}", grants(count.parse()?, folder.as_ref())?);
            Ok(())
        }
        ["run", count, folder, gateway, key, from @ ..] if !from.is_empty() => {
            let from = from.iter().map(|ip| ip.parse()).collect::<Result<Vec<IpAddr>, _>>()?;
            run(count.parse()?, folder.as_ref(), gateway.parse()?, key, &from).await
        }
        _ => {
            Err("storm grants COUNT FOLDER, or storm run COUNT FOLDER GATEWAY KEY ADDRESS..."
                .into())
        }
    }
}

fn identity(folder: &Path, number: usize) -> Result<Identity, Box<dyn Error>> {
    Ok(Identity::read_or_make(&folder.join(number.to_string()))?.0)
}

fn grants(count: usize, folder: &Path) -> Result<String, Box<dyn Error>> {
    let mut text = String::new();
    for number in 0..count {
        let key = identity(folder, number)?.key();
        let home = format!("home-{number}");
        let _ =
            writeln!(text, "[[grant]]\nkey = \"{key}\"\nname = \"{home}\"\nhomes = [\"{home}\"]");
    }
    Ok(text)
}

async fn run(
    count: usize,
    folder: &Path,
    gateway: SocketAddr,
    key: &str,
    from: &[IpAddr],
) -> Result<(), Box<dyn Error>> {
    wayhome::gateway::raise_descriptors();
    let crowd = Arc::new(Crowd::default());
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut homes = JoinSet::new();
    let began = Instant::now();
    for number in 0..count {
        let home = Home {
            name: format!("home-{number}"),
            pool: pool(number),
            config: tls::client(&identity(folder, number)?, key.parse()?, tls::LEG)?,
            gateway,
            from: from.get(number % from.len()).copied().ok_or("no address")?,
            crowd: Arc::clone(&crowd),
        };
        homes.spawn(home.live(number as u64, Arc::clone(&places)));
    }
    tokio::select! {
        _ = tokio::task::spawn_blocking(|| io::read_to_string(io::stdin())) => Ok(()),
        () = tell(&crowd, count, began) => Ok(()),
        ended = homes.join_next() => Err(format!("a home has ended: {ended:?}").into()),
    }
}

/// Says when all are here, lost, and back.
async fn tell(crowd: &Crowd, count: usize, began: Instant) {
    let registered = || crowd.registered.load(Ordering::Relaxed);
    let waiting = || crowd.waiting.load(Ordering::Relaxed);
    let all = async || {
        while registered() < count {
            sleep(Duration::from_millis(10)).await;
        }
        let registered_at = Instant::now();
        while waiting() < (0..count).map(pool).sum() {
            sleep(Duration::from_millis(10)).await;
        }
        registered_at
    };
    all().await;
    println!("here {:.3}", began.elapsed().as_secs_f64());
    loop {
        while registered() == count {
            sleep(Duration::from_millis(10)).await;
        }
        let (lost, refused) = (Instant::now(), crowd.refused.load(Ordering::Relaxed));
        println!("lost");
        let registered_at = all().await;
        println!(
            "back {:.3} {:.3} {}",
            lost.elapsed().as_secs_f64(),
            registered_at.duration_since(lost).as_secs_f64(),
            crowd.refused.load(Ordering::Relaxed) - refused
        );
    }
}

struct Home {
    name: String,
    pool: usize,
    config: Arc<ClientConfig>,
    gateway: SocketAddr,
    from: IpAddr,
    crowd: Arc<Crowd>,
}

impl Home {
    /// Never ends.
    async fn live(self, seed: u64, places: Arc<Semaphore>) {
        let mut backoff = Backoff::new(Duration::from_millis(250), seed);
        let mut cap = CAP;
        let mut place = places.acquire().await.ok();
        loop {
            let came = self.come().await;
            let wait = match came {
                Ok((control, waiting, asked)) => {
                    cap = asked.max(CAP);
                    place = None;
                    backoff.reset();
                    let _ended = self.stay(control, waiting).await;
                    // All of them may have lost it at this moment.
                    backoff.spread(cap)
                }
                Err(_) => backoff.next(cap),
            };
            drop(place.take());
            sleep(wait).await;
        }
    }

    /// Registers, and lets connections wait.
    async fn come(&self) -> io::Result<(Registered, Vec<Waiting>, Duration)> {
        let register = Register {
            home: self.name.clone(),
            instance: vec![1; 16],
            generation: 0,
            heartbeat_ms: HEARTBEAT.as_millis() as u32,
        };
        let mut leg = self.say(Purpose::Register(register)).await?;
        let welcome: Welcome = leg.read().await?;
        let Some(Answer::Registered(registered)) = welcome.answer else {
            self.crowd.refused.fetch_add(1, Ordering::Relaxed);
            return Err(io::Error::other(format!("{welcome:?}")));
        };
        let registration = Registered { leg, _crowd: Counted::new(&self.crowd, |c| &c.registered) };
        let mut waiting = Vec::new();
        for _ in 0..self.pool {
            let ready = Ready {
                home: self.name.clone(),
                instance: vec![1; 16],
                generation: registered.generation,
            };
            let leg = self.say(Purpose::Ready(ready)).await?;
            waiting.push(Waiting { leg, _crowd: Counted::new(&self.crowd, |c| &c.waiting) });
        }
        Ok((registration, waiting, Duration::from_millis(registered.retry_cap_ms.into())))
    }

    /// Boxed: what a handshake needs is not kept by one that waits.
    fn say(
        &self,
        purpose: Purpose,
    ) -> std::pin::Pin<Box<dyn Future<Output = io::Result<Leg>> + Send + '_>> {
        Box::pin(async move {
            let socket =
                if self.from.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            socket.set_reuseaddr(true)?;
            socket.bind((self.from, 0).into())?;
            let tcp: TcpStream =
                tokio::time::timeout(CONNECT, socket.connect(self.gateway)).await??;
            tcp.set_nodelay(true)?;
            let mut leg = Leg::dial(tcp, Arc::clone(&self.config)).await?;
            leg.write(&Hello { software: "bench".into(), purpose: Some(purpose) }).await?;
            Ok(leg)
        })
    }

    /// Ends when the control connection does.
    async fn stay(&self, mut control: Registered, mut waiting: Vec<Waiting>) -> io::Result<()> {
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        let mut sequence = 0;
        loop {
            let next_waiting = async {
                match waiting.first_mut() {
                    Some(first) => first.leg.read::<Welcome>().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // Nothing is to come but the end of all, or a refusal.
                said = next_waiting => {
                    if said.is_ok() {
                        self.crowd.refused.fetch_add(1, Ordering::Relaxed);
                    }
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
                _ = heartbeat.tick() => {
                    sequence += 1;
                    let ping = from_agent::Message::Ping(Ping { sequence });
                    control.leg.write(&FromAgent { message: Some(ping) }).await?;
                }
                heard = control.leg.read::<FromGateway>() => {
                    if let Some(from_gateway::Message::Goodbye(_)) = heard?.message {
                        self.crowd.refused.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        }
    }
}

struct Registered {
    leg: Leg,
    _crowd: Counted,
}

struct Waiting {
    leg: Leg,
    _crowd: Counted,
}

/// Counts as long as it is kept.
struct Counted(Arc<Crowd>, fn(&Crowd) -> &AtomicUsize);

impl Counted {
    fn new(crowd: &Arc<Crowd>, which: fn(&Crowd) -> &AtomicUsize) -> Self {
        which(crowd).fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(crowd), which)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.1)(&self.0).fetch_sub(1, Ordering::Relaxed);
    }
}
