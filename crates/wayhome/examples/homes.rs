//! Many homes at one gateway, for `cargo xtask bench`: each with its control connection, its
//! heartbeats, and a pool of data connections that wait.
//!
//! `homes IDENTITY GATEWAY KEY COUNT` registers `home-0`, `home-1` and so on, prints how long that took,
//! and keeps them until its standard input ends.
#![allow(clippy::print_stdout, reason = "it is a program for a bench, which reads that")]

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use wayhome::wire::identity::Identity;
use wayhome::wire::leg::Leg;
use wayhome::wire::messages::hello::Purpose;
use wayhome::wire::messages::welcome::Answer;
use wayhome::wire::messages::{
    FromAgent, FromGateway, Hello, Ping, Ready, Register, Welcome, from_agent,
};
use wayhome::wire::tls;

/// As agents have it: a heartbeat each five seconds, and two connections that wait.
const HEARTBEAT: Duration = Duration::from_secs(5);
const POOL: usize = 2;

/// Handshakes at once: more would only wait for the processor.
const AT_ONCE: usize = 64;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [identity, gateway, key, count] = arguments.as_slice() else {
        return Err("homes IDENTITY GATEWAY KEY COUNT".into());
    };
    let (identity, _) = Identity::read_or_make(Path::new(identity))?;
    let config = tls::client(&identity, key.parse()?, tls::LEG)?;
    let gateway: SocketAddr = gateway.parse()?;
    let began = Instant::now();
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut starting = JoinSet::new();
    for number in 0..count.parse::<u32>()? {
        let (config, places) = (Arc::clone(&config), Arc::clone(&places));
        starting.spawn(async move {
            let _place = places.acquire().await;
            let home = format!("home-{number}");
            home_of(gateway, config, home).await
        });
    }
    let mut homes = JoinSet::new();
    while let Some(started) = starting.join_next().await {
        homes.spawn(started??.live());
    }
    println!("{:.3}", began.elapsed().as_secs_f64());
    tokio::select! {
        _ = tokio::task::spawn_blocking(|| io::read_to_string(io::stdin())) => Ok(()),
        Some(ended) = homes.join_next() => Err(format!("a home has ended: {ended:?}").into()),
    }
}

/// A home that is registered.
struct Home {
    control: Leg,
    waiting: Vec<Leg>,
}

async fn home_of(gateway: SocketAddr, config: Arc<ClientConfig>, home: String) -> io::Result<Home> {
    let instance = vec![1; 16];
    let say = async |purpose| {
        let tcp = TcpStream::connect(gateway).await?;
        tcp.set_nodelay(true)?;
        let mut leg = Leg::dial(tcp, Arc::clone(&config)).await?;
        leg.write(&Hello { software: "bench".into(), purpose: Some(purpose) }).await?;
        io::Result::Ok(leg)
    };
    let mut control = say(Purpose::Register(Register {
        home: home.clone(),
        instance: instance.clone(),
        generation: 0,
        heartbeat_ms: HEARTBEAT.as_millis() as u32,
    }))
    .await?;
    let welcome: Welcome = control.read().await?;
    let Some(Answer::Registered(registered)) = welcome.answer else {
        return Err(io::Error::other(format!("{welcome:?}")));
    };
    let mut waiting = Vec::new();
    for _ in 0..POOL {
        let (home, instance) = (home.clone(), instance.clone());
        let generation = registered.generation;
        waiting.push(say(Purpose::Ready(Ready { home, instance, generation })).await?);
    }
    Ok(Home { control, waiting })
}

impl Home {
    /// Keeps it. Ends only with an error.
    async fn live(mut self) -> io::Result<()> {
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        let mut sequence = 0;
        loop {
            tokio::select! {
                _ = heartbeat.tick() => {
                    sequence += 1;
                    let ping = from_agent::Message::Ping(Ping { sequence });
                    self.control.write(&FromAgent { message: Some(ping) }).await?;
                }
                heard = self.control.read::<FromGateway>() => drop(heard?),
            }
            debug_assert_eq!(self.waiting.len(), POOL);
        }
    }
}
