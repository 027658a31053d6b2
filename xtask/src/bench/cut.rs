//! A silent cut of 20 s. The router keeps its mapping, so the old connection could go on.

use std::thread;
use std::time::{Duration, Instant};

use super::Bench;
use super::figures::Row;
use super::outage::{self, Checks};
use super::seats::Seats;
use crate::Result;

const CUT: Duration = Duration::from_secs(20);

pub fn measure(bench: &Bench<'_>) -> Result<Vec<Row>> {
    outage::measure(bench, "cut", "back after a silent cut of 20 s", 1.5, &impair)
}

fn impair(seats: &Seats, checks: &Checks) -> Result<Instant> {
    let began = Instant::now();
    seats.lab.cut()?;
    checks.home_meets_silence(seats)?;
    // The last look ends half a second before the cut does.
    let last_look = CUT.saturating_sub(Duration::from_secs(1));
    thread::sleep(last_look.saturating_sub(began.elapsed()));
    checks.old_session_holds_the_port(seats)?;
    thread::sleep(CUT.saturating_sub(began.elapsed()));
    // From before the command that ends it, so that its own time counts against us.
    let ended = Instant::now();
    seats.lab.heal()?;
    Ok(ended)
}
