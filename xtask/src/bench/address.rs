//! A new address: the home's old one stops working without a word, and 8 s later it has another.

use std::thread;
use std::time::{Duration, Instant};

use super::Bench;
use super::figures::Row;
use super::outage::{self, Checks};
use super::seats::Seats;
use crate::Result;

/// How long the old address is silent before the new one comes.
const SILENCE: Duration = Duration::from_secs(8);

const NEW: &str = "192.168.1.77";

pub fn measure(bench: &Bench<'_>) -> Result<Vec<Row>> {
    outage::measure(bench, "address", "back after a new address", 2.0, &impair)
}

fn impair(seats: &Seats, checks: &Checks) -> Result<Instant> {
    let household = seats.household()?;
    let began = Instant::now();
    seats.lab.cut()?;
    checks.home_meets_silence(seats)?;
    thread::sleep(SILENCE.saturating_sub(began.elapsed()));
    checks.old_session_holds_the_port(seats)?;
    household.remove_addresses()?;
    seats.lab.heal()?;
    let old_is_gone = household.home.sh("ip -4 -brief address show dev eth0")?;
    if old_is_gone.contains("192.168.1.") {
        return Err(format!("the old address is still there: {old_is_gone}").into());
    }
    // From before the command that adds it, so that its own time counts against us.
    let ended = Instant::now();
    household.add_address(NEW)?;
    Ok(ended)
}
