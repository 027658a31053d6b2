//! Streams of one client, for `cargo xtask bench`.
//!
//! `streams rate IDENTITY GATEWAY KEY HOME_KEY COUNT` opens so many streams to `home-ubuntu:echo`, one after
//! the other, has a byte come back on each, and prints how long that took. `streams hold …` has them
//! all at once instead, prints that, and keeps them until its standard input ends.
#![allow(clippy::print_stdout, reason = "it is a program for a bench, which reads that")]

use std::error::Error;
use std::io;
use std::path::Path;
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wayhome::client::{self, Gateway, Stream, Wanted};
use wayhome::wire::identity::Identity;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, identity, gateway, key, home_key, count] = arguments.as_slice() else {
        return Err("streams rate|hold IDENTITY GATEWAY KEY HOME_KEY COUNT".into());
    };
    let identity = Identity::read(Path::new(identity)).map_err(|why| why.to_string())?;
    let gateway = Gateway { address: gateway.parse()?, key: key.parse()? };
    let goal = "home-ubuntu:echo".parse()?;
    let wanted = Wanted { goal, home_key: home_key.parse()?, gateways: vec![gateway] };
    let mut kept = Vec::new();
    let began = Instant::now();
    for _ in 0..count.parse::<u32>()? {
        let stream = echoed(&identity, &wanted).await?;
        match what.as_str() {
            "hold" => kept.push(stream),
            _ => drop(stream),
        }
    }
    println!("{:.6}", began.elapsed().as_secs_f64());
    if !kept.is_empty() {
        tokio::task::spawn_blocking(|| io::read_to_string(io::stdin())).await??;
    }
    Ok(())
}

/// A stream on which a byte has come back.
async fn echoed(identity: &Identity, wanted: &Wanted) -> Result<Stream, Box<dyn Error>> {
    let opened = client::open(identity, wanted).await;
    let mut stream = opened.map_err(|failed| failed.trouble.to_string())?;
    stream.tls.write_all(b"x").await?;
    stream.tls.flush().await?;
    client::granted(&mut stream.tls).await.map_err(|why| why.to_string())?;
    stream.tls.read_exact(&mut [0]).await?;
    Ok(stream)
}
