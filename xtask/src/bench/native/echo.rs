//! An echo beside a stream that fills the line: home's line takes 20 Mbit/s, with the queue of a usual
//! router (50 ms), and a round trip from the laptop to home takes 20 ms in all. Three ways, taking turns:
//! without a tunnel, by stock OpenSSH, by wayhome.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use wayhome_lab::delay::Delay;
use wayhome_lab::net::LAPTOP;
use wayhome_lab::{Lab, eventually};

use super::seats::{NativeSeats, Who};
use super::targets::{CHUNK, Target};
use crate::Result;
use crate::bench::Bench;
use crate::bench::figures::{Row, quantile, tell};
use crate::bench::seats::{Running, SOON};

const LINE: &str = "20mbit";

/// From the laptop to home and back.
const ROUND_TRIP: Duration = Duration::from_millis(20);

/// How long the other stream flows first: the line is full by then, and so are all buffers.
const WARM_UP: Duration = Duration::from_secs(4);

const ECHOES: u32 = 200;
const EVERY: Duration = Duration::from_millis(50);
const SIZE: usize = 64;

/// The way of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    NoTunnel,
    Tunnel(Who),
}

const WAYS: [Way; 3] = [Way::NoTunnel, Way::Tunnel(Who::Stock), Way::Tunnel(Who::Wayhome)];

impl Way {
    fn name(self) -> &'static str {
        match self {
            Way::NoTunnel => "no tunnel",
            Way::Tunnel(Who::Stock) => "stock",
            Way::Tunnel(Who::Wayhome) => "wayhome",
        }
    }

    /// The same round trip for all: by way of the gateway, the internet is crossed twice each way.
    fn delay(self, lab: &Lab) -> Result<Delay<'_>> {
        let crossings = if self == Way::NoTunnel { 2 } else { 4 };
        Ok(Delay::of(lab, ROUND_TRIP / crossings)?)
    }
}

/// What came of one way, in milliseconds and in millions of bits each second.
#[derive(Clone, Copy, Debug)]
struct Echoes {
    p50: f64,
    p99: f64,
    goodput: f64,
}

/// Where the other stream goes.
const DIRECTIONS: [(&str, Target); 2] = [("to home", Target::Sink), ("from home", Target::Source)];

pub fn measure(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let seats = NativeSeats::start(bench, 0, "echo")?;
    seats.lab.rate(seats.lab.nat(), LINE)?;
    let mut at_rest =
        WAYS.map(|way| Row::new(format!("echo at rest, p50: {}", way.name()), "ms", None));
    let mut rows: Vec<Vec<Row>> = DIRECTIONS.iter().map(|(direction, _)| rows(direction)).collect();
    for run in 0..bench.args.runs {
        for (row, way) in at_rest.iter_mut().zip(WAYS) {
            let _delay = way.delay(&seats.lab)?;
            row.add(Some(quantile(&echoes(&seats, way, ECHOES / 10)?, 50)));
        }
        for ((direction, target), rows) in DIRECTIONS.iter().zip(&mut rows) {
            let mut turns: Vec<(usize, Way)> = WAYS.into_iter().enumerate().collect();
            turns.rotate_left(usize::from(run) % WAYS.len());
            let mut came = Vec::new();
            for (place, way) in turns {
                came.push((place, beside(&seats, way, *target)?));
            }
            came.sort_by_key(|(place, _)| *place);
            let [(_, none), (_, stock), (_, ours)] = came.as_slice() else { continue };
            tell(
                &format!("echo, {direction}"),
                run,
                format_args!("{none:.1?}\n    stock {stock:.1?}\n    wayhome {ours:.1?}"),
            );
            let values = [
                [none.p50, stock.p50, ours.p50, stock.p50 / none.p50, ours.p50 / none.p50],
                [none.p99, stock.p99, ours.p99, stock.p99 / none.p99, ours.p99 / none.p99],
                [
                    none.goodput,
                    stock.goodput,
                    ours.goodput,
                    stock.goodput / none.goodput,
                    ours.goodput / none.goodput,
                ],
            ];
            for (row, value) in rows.iter_mut().zip(values.concat()) {
                row.add(Some(value));
            }
        }
    }
    Ok(at_rest.into_iter().chain(rows.into_iter().flatten()).collect())
}

fn rows(direction: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    for (what, unit) in [("echo p50", "ms"), ("echo p99", "ms"), ("goodput", "Mbit/s")] {
        let of = |more: &str| format!("a stream {direction}, {what}: {more}");
        rows.extend(WAYS.map(|way| Row::new(of(way.name()), unit, None)));
        rows.push(Row::new(of("stock / no tunnel"), "x", None));
        let ours = Row::new(of("wayhome / no tunnel"), "x", Some(1.2));
        rows.push(if what == "goodput" { ours.at_least(0.95) } else { ours });
    }
    rows
}

/// The echoes' times beside a full line, and what the line brought.
fn beside(seats: &NativeSeats, way: Way, target: Target) -> Result<Echoes> {
    let _delay = way.delay(&seats.lab)?;
    let other = Ends::open(seats, way, target)?;
    let moved = AtomicU64::new(0);
    let count = || match target {
        Target::Source => moved.load(Ordering::Relaxed),
        // What has arrived, and not what waits in some buffer.
        Target::Sink | Target::Echo => seats.targets.swallowed(),
    };
    let Ends { mut to, mut from, running, shutdown } = other;
    let measured = thread::scope(|scope| {
        scope.spawn(|| {
            let mut bytes = vec![0; CHUNK];
            while let Ok(more @ 1..) = match target {
                Target::Source => from.read(&mut bytes),
                Target::Sink | Target::Echo => to.write(&bytes),
            } {
                moved.fetch_add(more as u64, Ordering::Relaxed);
            }
        });
        let had = count();
        let flows = eventually(SOON, || count() > had + (1 << 20));
        thread::sleep(WARM_UP);
        let (began, had) = (Instant::now(), count());
        let times = echoes(seats, way, ECHOES);
        let (took, has) = (began.elapsed(), count());
        drop(running);
        if let Some(stream) = shutdown {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        if !flows {
            return Err(format!("nothing flowed by way of {way:?}").into());
        }
        let times = times?;
        let goodput = (has - had) as f64 * 8.0 / 1e6 / took.as_secs_f64();
        Ok(Echoes { p50: quantile(&times, 50), p99: quantile(&times, 99), goodput })
    });
    // What is on its way still, has to be gone.
    thread::sleep(WARM_UP / 2);
    measured
}

/// The time of each echo in milliseconds, from the moment at which it was due.
fn echoes(seats: &NativeSeats, way: Way, count: u32) -> Result<Vec<f64>> {
    let Ends { mut to, mut from, running, shutdown: _ } = Ends::open(seats, way, Target::Echo)?;
    // The stream is there once one has come back.
    let mut bytes = [7; SIZE];
    to.write_all(&bytes)?;
    from.read_exact(&mut bytes)?;
    let began = Instant::now();
    let due = |number: u32| began + EVERY * number;
    let times = thread::scope(|scope| {
        let read = scope.spawn(move || {
            let mut times = Vec::new();
            for number in 0..count {
                if from.read_exact(&mut [0; SIZE]).is_err() {
                    break;
                }
                times.push(due(number).elapsed().as_secs_f64() * 1000.0);
            }
            times
        });
        for number in 0..count {
            thread::sleep(due(number).saturating_duration_since(Instant::now()));
            if to.write_all(&[7; SIZE]).is_err() {
                break;
            }
        }
        read.join()
    });
    drop(running);
    let times = times.map_err(|_| "the reader panicked")?;
    if times.len() < count as usize {
        return Err(format!("an echo by way of {way:?} did not come back").into());
    }
    Ok(times)
}

/// Both ends of a stream that the laptop has.
struct Ends {
    to: Box<dyn Write + Send>,
    from: Box<dyn Read + Send>,
    /// Ends the stream where a program holds it.
    running: Option<Running>,
    /// Ends it where this process does.
    shutdown: Option<TcpStream>,
}

impl Ends {
    fn open(seats: &NativeSeats, way: Way, target: Target) -> Result<Ends> {
        match way {
            // Home dials, since its router lets nobody in, and serves that as if it had been dialled.
            Way::NoTunnel => {
                let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
                let listener = seats.lab.laptop().listen(any)?;
                let at = SocketAddr::new(LAPTOP.parse()?, listener.local_addr()?.port());
                seats.targets.serve(target, seats.lab.home().connect(at, SOON)?);
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(SOON))?;
                Ok(Ends {
                    to: Box::new(stream.try_clone()?),
                    from: Box::new(stream.try_clone()?),
                    running: None,
                    shutdown: Some(stream),
                })
            }
            Way::Tunnel(who) => Ends::of(seats.stream(who, Some(target))),
        }
    }

    fn of(mut program: Command) -> Result<Ends> {
        program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = program.spawn()?;
        let (to, from) = (child.stdin.take(), child.stdout.take());
        let (Some(to), Some(from)) = (to, from) else { return Err("no pipes".into()) };
        let running = Some(Running::from(child));
        Ok(Ends { to: Box::new(to), from: Box::new(from), running, shutdown: None })
    }
}
