//! A service's port at the gateway's loopback: new connections, throughput one by one and eight at once,
//! and the CPU at both ends for it; beside stock `ssh -R`, and other tunnels where they are there. Then
//! streams of wayhome's own client, end to end, and the gateway's memory for a hundred of them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use wayhome_lab::eventually;
use wayhome_lab::net::GATEWAY;

use super::peers::{self, Peer};
use super::seats::{NativeSeats, Who};
use super::targets::{CHUNK, Target};
use crate::bench::Bench;
use crate::bench::figures::{Row, quantile, tell};
use crate::bench::resources::Memory;
use crate::bench::seats::{Running, SOON};
use crate::{Result, cargo, finish, target};

/// How long connections are made one after the other.
const SUSTAINED: Duration = Duration::from_secs(3);

/// As many connections find one waiting that home has opened before, each time after this rest.
const POOL: usize = 2;
const REST: Duration = Duration::from_millis(100);
const BURSTS: usize = 40;

const WARM_UP: Duration = Duration::from_secs(1);
const WINDOW: Duration = Duration::from_secs(3);

const STREAMS: [usize; 2] = [1, 8];

/// Streams of our own client: one after the other, and at once.
const RATED: u32 = 2000;
const HELD: u32 = 100;

/// What brings a port.
#[derive(Clone, Copy)]
enum Tunnel<'a> {
    Ours(Who),
    Peer(&'a Peer),
}

impl Tunnel<'_> {
    fn name(self) -> &'static str {
        match self {
            Tunnel::Ours(Who::Stock) => "ssh -R",
            Tunnel::Ours(Who::Wayhome) => "wayhome",
            Tunnel::Peer(peer) => peer.name,
        }
    }

    fn port(self, target: Target) -> u16 {
        match self {
            Tunnel::Ours(Who::Stock) => target.port(),
            Tunnel::Ours(Who::Wayhome) => target.own_port(),
            Tunnel::Peer(peer) => peer.port(target),
        }
    }

    /// CPU seconds at the gateway and at home.
    fn cpu(self, seats: &NativeSeats) -> Result<(f64, f64)> {
        match self {
            Tunnel::Ours(who) => Ok((seats.gateway_cpu(who)?, seats.home_cpu(who)?)),
            Tunnel::Peer(peer) => peer.cpu(),
        }
    }
}

pub fn measure(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let example = ["build", "--quiet", "--release", "-p", "wayhome", "--example", "streams"];
    finish(cargo().args(example))?;
    let seats = NativeSeats::start(bench, 0, "ports")?;
    for own in Target::ALL.map(Target::own_port) {
        seats.until_listening(own)?;
    }
    let peers = peers::start(bench, &seats)?;
    let mut tunnels = vec![Tunnel::Ours(Who::Stock), Tunnel::Ours(Who::Wayhome)];
    tunnels.extend(peers.iter().map(Tunnel::Peer));
    let mut rows: Vec<Vec<Row>> = tunnels.iter().map(|tunnel| rows_of(*tunnel)).collect();
    let mut compared = [
        Row::new("port, bulk from home x1: CPU at both ends, wayhome / ssh -R", "x", Some(0.4)),
        Row::new("port, bulk to home x1: CPU at both ends, wayhome / ssh -R", "x", None),
    ];
    let mut own = [
        Row::new("end to end, streams one after the other: wayhome", "1/s", None).at_least(900.0),
        Row::new("each of 100 live streams: gateway's anonymous memory", "KB", None),
    ];
    for run in 0..bench.args.runs {
        let mut costs = Vec::new();
        let turns = tunnels.len();
        for turn in 0..turns {
            let place = (turn + usize::from(run)) % turns;
            let (Some(tunnel), Some(rows)) = (tunnels.get(place), rows.get_mut(place)) else {
                continue;
            };
            let (connections, bulk) = once(&seats, *tunnel)?;
            tell(tunnel.name(), run, format_args!("{connections:.0?} {bulk:.2?}"));
            let [[(_, from), _], [(_, to), _]] = bulk;
            costs.push((place, [from, to].map(|(gateway, home)| gateway + home)));
            let bulk = bulk.into_iter().flatten();
            let bulk = bulk.flat_map(|(rate, (gateway, home))| [rate, gateway, home]);
            for (row, value) in rows.iter_mut().zip(connections.into_iter().chain(bulk)) {
                row.add(Some(value));
            }
        }
        costs.sort_by_key(|(place, _)| *place);
        if let [(_, stock), (_, ours), ..] = costs.as_slice() {
            for ((row, ours), stock) in compared.iter_mut().zip(ours).zip(stock) {
                row.add(Some(ours / stock));
            }
        }
        let [rate, memory] = streams(&seats)?;
        tell("end to end", run, format_args!("{rate:.0}/s, {memory:.1} KB"));
        for (row, value) in own.iter_mut().zip([rate, memory]) {
            row.add(Some(value));
        }
    }
    Ok(rows.into_iter().flatten().chain(compared).chain(own).collect())
}

fn rows_of(tunnel: Tunnel<'_>) -> Vec<Row> {
    let name = tunnel.name();
    let is_ours = matches!(tunnel, Tunnel::Ours(Who::Wayhome));
    let least = |row: Row, least: f64| if is_ours { row.at_least(least) } else { row };
    let new = |how: &str| Row::new(format!("port, new connections {how}: {name}"), "1/s", None);
    // What has carried one connection waits for the next, so that the pool is warm all the time, and there
    // is no other bar than that of a warm one. After a rest it is the machine that has to wake up.
    let mut rows = vec![new("after a rest"), least(new("one after the other"), 3000.0)];
    for direction in ["from", "to"] {
        for count in STREAMS {
            let what = format!("port, bulk {direction} home x{count}");
            rows.extend([
                Row::new(format!("{what}: {name}"), "MB/s", None),
                Row::new(format!("{what}, gateway's CPU: {name}"), "s/GB", None),
                Row::new(format!("{what}, home's CPU: {name}"), "s/GB", None),
            ]);
        }
    }
    rows
}

/// MB/s, and CPU seconds for each 10⁹ bytes at the gateway and at home.
type Flow = (f64, (f64, f64));

/// Connections per second after a rest and one after the other; and for each direction what flowed in one
/// stream and in several.
fn once(seats: &NativeSeats, tunnel: Tunnel<'_>) -> Result<([f64; 2], [[Flow; 2]; 2])> {
    let echo = tunnel.port(Target::Echo);
    let connections = seats.lab.gateway().in_network(|| {
        Ok::<_, std::io::Error>([after_a_rest(echo)?, one_after_the_other(echo)?])
    })??;
    let both = |target| {
        let [one, several] = STREAMS;
        Ok::<_, Box<dyn std::error::Error>>([
            bulk(seats, tunnel, target, one)?,
            bulk(seats, tunnel, target, several)?,
        ])
    };
    Ok((connections, [both(Target::Source)?, both(Target::Sink)?]))
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn connect_and_echo(port: u16) -> std::io::Result<Duration> {
    let began = Instant::now();
    let mut stream = TcpStream::connect_timeout(&at(port), SOON)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SOON))?;
    stream.write_all(b"x")?;
    stream.read_exact(&mut [0])?;
    Ok(began.elapsed())
}

/// Of short bursts, each after a rest: connections per second, were it always so.
fn after_a_rest(port: u16) -> std::io::Result<f64> {
    let mut took = Vec::new();
    for _ in 0..BURSTS {
        thread::sleep(REST);
        for _ in 0..POOL {
            took.push(connect_and_echo(port)?.as_secs_f64());
        }
    }
    Ok(1.0 / quantile(&took, 50))
}

fn one_after_the_other(port: u16) -> std::io::Result<f64> {
    let (began, mut count) = (Instant::now(), 0.0);
    while began.elapsed() < SUSTAINED {
        connect_and_echo(port)?;
        count += 1.0;
    }
    Ok(count / began.elapsed().as_secs_f64())
}

fn bulk(seats: &NativeSeats, tunnel: Tunnel<'_>, target: Target, count: usize) -> Result<Flow> {
    // What was on its way in the last one ends at its own pace.
    thread::sleep(WARM_UP / 2);
    let port = tunnel.port(target);
    let connect = || TcpStream::connect_timeout(&at(port), SOON);
    let streams = seats
        .lab
        .gateway()
        .in_network(|| (0..count).map(|_| connect()).collect::<std::io::Result<Vec<_>>>())??;
    let (moved, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let moved_now = || match target {
        Target::Sink => seats.targets.swallowed(),
        Target::Source | Target::Echo => moved.load(Ordering::Relaxed),
    };
    thread::scope(|scope| {
        for mut stream in &streams {
            let (moved, over) = (&moved, &over);
            scope.spawn(move || {
                let mut bytes = vec![0; CHUNK];
                while !over.load(Ordering::Relaxed) {
                    match if target == Target::Sink {
                        stream.write(&bytes)
                    } else {
                        stream.read(&mut bytes)
                    } {
                        Ok(0) | Err(_) => return,
                        Ok(more) => moved.fetch_add(more as u64, Ordering::Relaxed),
                    };
                }
            });
        }
        let began = moved_now();
        let flows = eventually(SOON, || moved_now() - began > 16 << 20);
        thread::sleep(WARM_UP);
        let look = || -> Result<_> { Ok((Instant::now(), moved_now(), tunnel.cpu(seats)?)) };
        let before = look();
        thread::sleep(WINDOW);
        let after = look();
        over.store(true, Ordering::Relaxed);
        for stream in &streams {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        let ((began, had, spent), (ended, has, more)) = (before?, after?);
        if !flows || has == had {
            return Err(format!("nothing flowed by way of {}", tunnel.name()).into());
        }
        let gigabytes = (has - had) as f64 / 1e9;
        let rate = gigabytes * 1000.0 / (ended - began).as_secs_f64();
        Ok((rate, ((more.0 - spent.0) / gigabytes, (more.1 - spent.1) / gigabytes)))
    })
}

/// Our own client, end to end: streams per second, one after the other; and what each of many that live
/// takes at the gateway.
fn streams(seats: &NativeSeats) -> Result<[f64; 2]> {
    let run = |what: &str, count: u32| -> Result<(Running, f64)> {
        let mut command = seats.lab.laptop().command(target().join("release/examples/streams"));
        let address = format!("wayhome://{GATEWAY}");
        command.args([what, "/var/lib/wayhome/identity", &address, seats.gateway_key()]);
        command.args([seats.home_key(), &count.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let from = child.stdout.take().ok_or("no pipe")?;
        let running = Running::from(child);
        let mut line = String::new();
        BufReader::new(from).read_line(&mut line)?;
        let took =
            line.trim().parse().map_err(|_| "the streams did not come; see the agent's log")?;
        Ok((running, took))
    };
    let (_, took) = run("rate", RATED)?;
    thread::sleep(WARM_UP);
    let anonymous =
        || Ok::<_, Box<dyn std::error::Error>>(Memory::of(seats.gateway_pid()?)?.anonymous);
    let before = anonymous()?;
    let (_held, _) = run("hold", HELD)?;
    thread::sleep(WARM_UP);
    let each = (anonymous()? - before) * 1024.0 / f64::from(HELD);
    Ok([f64::from(RATED) / took, each])
}
