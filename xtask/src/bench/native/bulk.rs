//! Throughput, and the gateway's CPU for it. Raw: a stream to a target that swallows all, or from one
//! that gives without an end. With ssh inside: what people do.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use wayhome_lab::eventually;

use super::seats::{NativeSeats, Who};
use super::targets::{CHUNK, Target};
use crate::Result;
use crate::bench::Bench;
use crate::bench::figures::{Row, tell};
use crate::bench::seats::{Running, SOON};

/// How long a stream flows before it is looked at: buffers are full by then, and windows grown.
const WARM_UP: Duration = Duration::from_secs(1);

/// How long it is looked at.
const WINDOW: Duration = Duration::from_secs(4);

const WAYS: [&str; 2] = ["a raw stream", "ssh inside"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Towards {
    Home,
    Laptop,
}

/// What flowed.
#[derive(Clone, Copy, Debug, Default)]
struct Flow {
    /// Millions of bytes each second.
    rate: f64,
    /// CPU seconds at the gateway for each 10⁹ bytes.
    cost: f64,
}

pub fn measure(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for towards in [Towards::Home, Towards::Laptop] {
        for way in WAYS {
            let what =
                |what: &str| format!("{way} to {}: {what}", format!("{towards:?}").to_lowercase());
            rows.push([
                Row::new(what("stock"), "MB/s", None),
                Row::new(what("wayhome"), "MB/s", None),
                Row::new(what("wayhome / stock"), "x", None).at_least(2.0),
                Row::new(what("stock, gateway's CPU"), "s/GB", None),
                Row::new(what("wayhome, gateway's CPU"), "s/GB", None),
                Row::new(what("gateway's CPU, wayhome / stock"), "x", Some(0.25)),
            ]);
        }
    }
    let seats = NativeSeats::start(bench, 0, "bulk")?;
    for run in 0..bench.args.runs {
        let mut row = rows.iter_mut();
        for towards in [Towards::Home, Towards::Laptop] {
            for (inside, way) in WAYS.iter().enumerate() {
                let [mut stock, mut ours] = [Flow::default(); 2];
                for who in Who::in_turn(run) {
                    let flow = flow(&seats, who, towards, inside == 1)?;
                    *if who == Who::Stock { &mut stock } else { &mut ours } = flow;
                }
                let told = format!("{ours:.2?}, stock {stock:.2?}");
                tell(&format!("{way} to {towards:?}"), run, told);
                let ratio = (ours.rate / stock.rate, ours.cost / stock.cost);
                let values = [stock.rate, ours.rate, ratio.0, stock.cost, ours.cost, ratio.1];
                for (row, value) in row.next().into_iter().flatten().zip(values) {
                    row.add(Some(value));
                }
            }
        }
    }
    Ok(rows.into_iter().flatten().collect())
}

fn flow(seats: &NativeSeats, who: Who, towards: Towards, ssh_inside: bool) -> Result<Flow> {
    let command = match (ssh_inside, towards) {
        (true, Towards::Home) => seats.ssh(who, "exec cat > /dev/null"),
        (true, Towards::Laptop) => seats.ssh(who, "exec cat /dev/zero"),
        (false, Towards::Home) => seats.stream(who, Some(Target::Sink)),
        (false, Towards::Laptop) => seats.stream(who, Some(Target::Source)),
    };
    let flow = observe(seats, who, towards, command);
    // What is on its way ends at its own pace.
    thread::sleep(WARM_UP / 2);
    flow
}

fn observe(seats: &NativeSeats, who: Who, towards: Towards, mut command: Command) -> Result<Flow> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let (to, from) = (child.stdin.take(), child.stdout.take());
    let (Some(mut to), Some(mut from)) = (to, from) else { return Err("no pipes".into()) };
    let running = Running::from(child);
    let moved = AtomicU64::new(0);
    let count = || moved.load(Ordering::Relaxed);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut bytes = vec![0; CHUNK];
            while let Ok(more) = match towards {
                Towards::Home => to.write(&bytes),
                Towards::Laptop => from.read(&mut bytes),
            } {
                if more == 0 {
                    return;
                }
                moved.fetch_add(more as u64, Ordering::Relaxed);
            }
        });
        // More than pipes and windows hold: it flows all the way.
        let flows = eventually(SOON, || count() > 16 << 20);
        thread::sleep(WARM_UP);
        let look = || -> Result<_> { Ok((Instant::now(), count(), seats.gateway_cpu(who)?)) };
        let before = look();
        thread::sleep(WINDOW);
        let after = look();
        drop(running);
        let ((began, had, spent), (ended, has, more)) = (before?, after?);
        if !flows || has == had {
            return Err(format!("nothing flowed to {towards:?} by way of {who:?}").into());
        }
        let bytes = (has - had) as f64;
        let rate = bytes / 1e6 / (ended - began).as_secs_f64();
        Ok(Flow { rate, cost: (more - spent) / (bytes / 1e9) })
    })
}
