//! A new connection through the port: from the connect at the gateway to the echo of a line at home,
//! against plain `ssh -N -R` beside it, taking turns.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::Bench;
use super::figures::{Row, quantile, tell};
use super::seats::{Login, PORT, SOON, Seats};
use crate::Result;

/// How many connections for each, one right after the other; and how many with a rest before each.
/// What plain `ssh -R` loses, it loses while the last connection's end is not acknowledged (Nagle, and
/// TCP's delayed acknowledgement), so a rest hides it.
const COUNT: usize = 200;
const RESTED: usize = 50;

/// Longer than any acknowledgement is delayed.
const REST: Duration = Duration::from_millis(100);

/// The port of the plain `ssh -R`.
const PLAIN: u16 = 2223;

/// What came of each connection, in milliseconds.
#[derive(Default)]
struct Samples {
    ours: Vec<f64>,
    plain: Vec<f64>,
}

pub fn measure(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let what = |who: &str, which: &str| format!("new connection and echo, {which}: {who}");
    let (ours, plain) = ("wayhome", "ssh -N -R");
    let mut rows = [
        Row::new(what(ours, "median of 200"), "ms", Some(3.0)),
        Row::new(what(ours, "p90"), "ms", None),
        Row::new(what(ours, "p99"), "ms", None),
        Row::new(what(plain, "median of 200"), "ms", None),
        Row::new(what(plain, "p90"), "ms", None),
        Row::new(what(plain, "p99"), "ms", None),
        Row::new(what(ours, "median of 50 after a rest"), "ms", None),
        Row::new(what(plain, "median of 50 after a rest"), "ms", None),
    ];
    for run in 0..bench.args.runs {
        let seats = Seats::start(bench, Login::Root)?;
        let (busy, rested) = once(bench, &seats, run)?;
        let of = |values: &[f64]| [50, 90, 99].map(|percent| quantile(values, percent));
        let medians = [&rested.ours, &rested.plain].map(|values| quantile(values, 50));
        let values = [&of(&busy.ours)[..], &of(&busy.plain), &medians].concat();
        let (ours, plain) = (quantile(&busy.ours, 50), quantile(&busy.plain, 50));
        tell("new connection", run, format_args!("{ours:.2} ms, plain {plain:.2} ms"));
        for (row, value) in rows.iter_mut().zip(values) {
            row.add(Some(value));
        }
    }
    Ok(rows.to_vec())
}

fn once(bench: &Bench<'_>, seats: &Seats, run: u8) -> Result<(Samples, Samples)> {
    let listener = seats.lab.home().listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let target = listener.local_addr()?;
    let end = AtomicBool::new(false);
    let measured = thread::scope(|scope| {
        scope.spawn(|| echo(&listener, &end));
        let measured = against_plain(bench, seats, run, target);
        end.store(true, Ordering::Relaxed);
        // Wakes the one who accepts.
        let _ = seats.lab.home().connect(target, SOON);
        measured.map_err(|why| why.to_string())
    });
    Ok(measured?)
}

fn against_plain(
    bench: &Bench<'_>,
    seats: &Seats,
    run: u8,
    target: SocketAddr,
) -> Result<(Samples, Samples)> {
    let service = format!("name = \"echo\"\ntarget = \"{target}\"\nproof = \"hold\"");
    let _agent = seats.agent(&service, &bench.log(&format!("port-{}", run + 1)), true)?;
    let log = bench.log(&format!("port-plain-{}", run + 1));
    let _plain = seats.plain_forward(PLAIN, &target.to_string(), &log)?;
    let measured = seats.lab.gateway().in_network(|| {
        let busy = take_turns(COUNT, Duration::ZERO)?;
        Ok::<_, std::io::Error>((busy, take_turns(RESTED, REST)?))
    })??;
    Ok(measured)
}

fn take_turns(count: usize, rest: Duration) -> std::io::Result<Samples> {
    let mut samples = Samples::default();
    // The first of each is not counted.
    for number in 0..=count {
        for (port, values) in [(PORT, &mut samples.ours), (PLAIN, &mut samples.plain)] {
            thread::sleep(rest);
            let took = connect_and_echo(port)?;
            if number > 0 {
                values.push(took.as_secs_f64() * 1000.0);
            }
        }
    }
    Ok(samples)
}

fn connect_and_echo(port: u16) -> std::io::Result<Duration> {
    let began = Instant::now();
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&at, SOON)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SOON))?;
    stream.write_all(b"hello\n")?;
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line)?;
    let took = began.elapsed();
    if line == "hello\n" {
        return Ok(took);
    }
    Err(std::io::Error::other(format!("port {port} answered `{}`", line.escape_debug())))
}

/// Sends each line back, for each connection in a thread.
fn echo(listener: &TcpListener, end: &AtomicBool) {
    thread::scope(|scope| {
        for stream in listener.incoming().flatten() {
            if end.load(Ordering::Relaxed) {
                return;
            }
            scope.spawn(move || {
                let _ = stream.set_nodelay(true);
                let mut line = String::new();
                let mut reader = BufReader::new(&stream);
                while reader.read_line(&mut line).is_ok_and(|read| read > 0) {
                    if (&stream).write_all(line.as_bytes()).is_err() {
                        return;
                    }
                    line.clear();
                }
            });
        }
    });
}
