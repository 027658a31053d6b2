//! A new connection through the port: from the connect at the gateway to the echo of a line at home,
//! against plain `ssh -N -R` beside it, taking turns.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::Bench;
use super::figures::{Row, tell};
use super::seats::{Login, PORT, SOON, Seats};
use crate::Result;

/// How many connections for each.
const COUNT: usize = 200;

/// The port of the plain `ssh -R`.
const PLAIN: u16 = 2223;

/// Between two connections, so that the end of one is not in the way of the next.
const PAUSE: Duration = Duration::from_millis(10);

pub fn measure(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let what =
        |who: &str, which: &str| format!("new connection and echo, {which} of {COUNT}: {who}");
    let mut rows = [
        Row::new(what("wayhome", "median"), "ms", Some(3.0)),
        Row::new(what("wayhome", "p99"), "ms", None),
        Row::new(what("ssh -N -R", "median"), "ms", None),
        Row::new(what("ssh -N -R", "p99"), "ms", None),
    ];
    for run in 0..bench.args.runs {
        let seats = Seats::start(bench, Login::Root)?;
        let (ours, plain) = once(bench, &seats, run)?;
        let values =
            [quantile(&ours, 50), quantile(&ours, 99), quantile(&plain, 50), quantile(&plain, 99)];
        let [median, _, plain_median, _] = values;
        tell("new connection", run, format_args!("{median:.2} ms, plain {plain_median:.2} ms"));
        for (row, value) in rows.iter_mut().zip(values) {
            row.add(Some(value));
        }
    }
    Ok(rows.to_vec())
}

fn once(bench: &Bench<'_>, seats: &Seats, run: u8) -> Result<(Vec<f64>, Vec<f64>)> {
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
) -> Result<(Vec<f64>, Vec<f64>)> {
    let service = format!("name = \"echo\"\ntarget = \"{target}\"\nproof = \"hold\"");
    let _agent = seats.agent(&service, &bench.log(&format!("port-{}", run + 1)), true)?;
    let log = bench.log(&format!("port-plain-{}", run + 1));
    let _plain = seats.plain_forward(PLAIN, &target.to_string(), &log)?;
    let measured = seats.lab.gateway().in_network(|| {
        let (mut ours, mut plain) = (Vec::new(), Vec::new());
        // The first of each is not counted.
        for number in 0..=COUNT {
            for (port, values) in [(PORT, &mut ours), (PLAIN, &mut plain)] {
                let took = connect_and_echo(port)?;
                if number > 0 {
                    values.push(took.as_secs_f64() * 1000.0);
                }
                thread::sleep(PAUSE);
            }
        }
        Ok::<_, std::io::Error>((ours, plain))
    })??;
    Ok(measured)
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

/// The value below which so many percent of all lie; upwards where it falls between two.
fn quantile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles() {
        let values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!((quantile(&values, 50), quantile(&values, 99)), (100.0, 198.0));
        assert_eq!(quantile(&[7.0], 99), 7.0);
        assert!(quantile(&[], 50).is_nan());
    }
}
