//! How long it takes until the inner ssh has its first byte, and for a whole `ssh home true`.

use std::collections::BTreeMap;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use wayhome_lab::delay::Delay;

use super::seats::{NativeSeats, Who};
use crate::Result;
use crate::bench::Bench;
use crate::bench::figures::{Row, quantile, tell};
use crate::bench::seats::Running;

/// The round trips between two neighbours, in milliseconds: laptop and gateway, gateway and home.
const ROUND_TRIPS: [u64; 3] = [0, 20, 100];

/// How often each is tried in a run; the median counts.
const TRIES: u8 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Banner,
    Whole,
}

pub fn measure(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let seats = NativeSeats::start(bench, 0, "first")?;
    let mut rows = Vec::new();
    for what in [What::Banner, What::Whole] {
        for who in [Who::Stock, Who::Wayhome] {
            let of = |more: &str| match what {
                What::Banner => {
                    format!("first byte of the inner ssh, {who:?}{more}").to_lowercase()
                }
                What::Whole => format!("a whole ssh, {who:?}{more}").to_lowercase(),
            };
            let claimed = (what, who) == (What::Banner, Who::Wayhome);
            // TCP, TLS, `Open`, and the request, to the gateway; the last two go on to home and its
            // target. The first byte of ours may leave one sooner: after three.
            let bar = claimed.then_some(6.5);
            let mut these: Vec<Row> = ROUND_TRIPS
                .iter()
                .map(|trip| Row::new(of(&format!(", at {trip} ms")), "ms", None))
                .collect();
            for trip in ROUND_TRIPS.iter().skip(1) {
                let note = "(time - time at 0 ms) / round trip";
                these.push(Row::new(of(&format!(", at {trip} ms")), "trips", bar).note(note));
            }
            rows.push(((what, who), these));
        }
    }
    for run in 0..bench.args.runs {
        let mut took = Vec::new();
        for trip in ROUND_TRIPS {
            let one_way = Duration::from_millis(trip) / 2;
            let _delay = (trip > 0).then(|| Delay::of(&seats.lab, one_way)).transpose()?;
            took.push(at(&seats, run)?);
        }
        for ((what, who), rows) in &mut rows {
            let medians = took.iter().map(|each: &Medians| each.get(&(*what, *who)).copied());
            let ms: Vec<f64> = medians.map(|median| median.unwrap_or(f64::NAN)).collect();
            let zero = ms.first().copied().unwrap_or(f64::NAN);
            let trips = ms.iter().zip(ROUND_TRIPS).skip(1);
            let trips = trips.map(|(ms, trip)| (ms - zero) / trip as f64);
            let values: Vec<f64> = ms.iter().copied().chain(trips).collect();
            tell(&format!("{what:?}, {who:?}"), run, format_args!("{values:.1?}"));
            for (row, value) in rows.iter_mut().zip(values) {
                row.add(Some(value));
            }
        }
    }
    Ok(rows.into_iter().flat_map(|(_, rows)| rows).collect())
}

/// The medians in milliseconds.
type Medians = BTreeMap<(What, Who), f64>;

fn at(seats: &NativeSeats, run: u8) -> Result<Medians> {
    let mut samples: BTreeMap<_, Vec<f64>> = BTreeMap::new();
    for number in 0..TRIES {
        for who in Who::in_turn(run + number) {
            for what in [What::Banner, What::Whole] {
                let took = match what {
                    What::Banner => banner(seats.stream(who, None))?,
                    What::Whole => whole(seats.ssh(who, "true"))?,
                };
                samples.entry((what, who)).or_default().push(took.as_secs_f64() * 1000.0);
            }
        }
    }
    Ok(samples.into_iter().map(|(which, values)| (which, quantile(&values, 50))).collect())
}

fn banner(mut command: Command) -> Result<Duration> {
    let began = Instant::now();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let from = child.stdout.take();
    let _running = Running::from(child);
    let mut banner = [0; 8];
    from.ok_or("no pipe")?.read_exact(&mut banner)?;
    let took = began.elapsed();
    if &banner == b"SSH-2.0-" { Ok(took) } else { Err("no banner of an SSH server".into()) }
}

fn whole(mut command: Command) -> Result<Duration> {
    let began = Instant::now();
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(began.elapsed());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned().into())
}
