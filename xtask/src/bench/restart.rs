//! The gateway's sshd is killed with its sessions, and starts again a minute later.

use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use super::Bench;
use super::figures::Row;
use super::outage::{self, Checks};
use super::seats::{SOON, Seats};
use crate::Result;

pub fn measure(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let down = bench.args.down;
    let what = format!("back after the gateway was down for {} s", down.as_secs());
    let impair = |seats: &Seats, checks: &Checks| impair(seats, checks, down);
    outage::measure(bench, "restart", &what, 1.5, &impair)
}

fn impair(seats: &Seats, checks: &Checks, down: Duration) -> Result<Instant> {
    let began = Instant::now();
    seats.stop_gateway();
    checks.gateway_is_gone(seats)?;
    thread::sleep(down.saturating_sub(began.elapsed()));
    let at = seats.door()?;
    let listens = || {
        let deadline = Instant::now() + SOON;
        while Instant::now() < deadline {
            if TcpStream::connect(at).is_ok() {
                return Some(Instant::now());
            }
            thread::sleep(Duration::from_millis(2));
        }
        None
    };
    let (started, listens) = thread::scope(|scope| {
        let listens = scope.spawn(|| seats.lab.gateway().in_network(listens));
        let started = seats.start_gateway();
        (started.map_err(|why| why.to_string()), listens.join())
    });
    started?;
    listens.map_err(|_| "the listener panicked")??.ok_or_else(|| "sshd does not listen".into())
}
