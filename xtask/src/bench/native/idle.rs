//! The gateway's memory for homes that do nothing: 2,000 of them, each with its control connection and
//! a pool of two. Beside it, what an idle `ssh -N -R` takes there.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use wayhome_lab::net::GATEWAY;

use super::seats::NativeSeats;
use crate::bench::Bench;
use crate::bench::figures::{Row, tell};
use crate::bench::resources::{Memory, kernel_slab};
use crate::bench::seats::Running;
use crate::{Result, cargo, finish, target};

/// How many homes.
const HOMES: u32 = 2000;

/// How many idle `ssh -N -R`.
const STOCK: u16 = 20;

/// Long enough for each home to have sent two heartbeats, and for what the handshakes left to be freed.
const SETTLE: Duration = Duration::from_secs(12);

pub fn measure(bench: &Bench<'_>) -> Result<Vec<Row>> {
    finish(cargo().args(["build", "--quiet", "--release", "-p", "wayhome", "--example", "homes"]))?;
    let mut rows = [
        Row::new("an idle home: gateway's anonymous memory", "KB", Some(30.0)),
        Row::new("an idle home: kernel's sockets and files", "KB", None)
            .note("the gateway's half, of three connections"),
        Row::new("an idle home: in both", "KB", None),
        Row::new("the gateway without them: anonymous", "KB", None),
        Row::new("2,000 homes come", "s", None),
        Row::new("an idle ssh -N -R: private memory of its sshd", "KB", None),
        Row::new("an idle ssh -N -R: its share of all memory", "KB", None),
    ];
    for run in 0..bench.args.runs {
        let seats = NativeSeats::start(bench, HOMES, &format!("idle-{}", run + 1))?;
        let stock = stock(bench, &seats)?;
        let values = [&ours(&seats)?[..], &stock].concat();
        tell("idle homes", run, format_args!("{values:.1?}"));
        for (row, value) in rows.iter_mut().zip(values) {
            row.add(Some(value));
        }
    }
    Ok(rows.to_vec())
}

fn ours(seats: &NativeSeats) -> Result<[f64; 5]> {
    let anonymous = || {
        Ok::<_, Box<dyn std::error::Error>>(Memory::of(seats.gateway_pid()?)?.anonymous * 1024.0)
    };
    let (before, slab) = (anonymous()?, kernel_slab()?);
    let (_homes, came) = homes(seats)?;
    thread::sleep(SETTLE);
    let each = |kilobytes: f64| kilobytes / f64::from(HOMES);
    let own = each(anonymous()? - before);
    // The other ends are on this machine too.
    let kernel = each(kernel_slab()? - slab) / 2.0;
    Ok([own, kernel, own + kernel, before, came])
}

/// The homes, on the laptop, where no router keeps count of their connections; and how long they took.
fn homes(seats: &NativeSeats) -> Result<(Running, f64)> {
    let key = seats.gateway_key();
    let mut command = seats.lab.laptop().command(target().join("release/examples/homes"));
    command.args(["/var/lib/wayhome/identity", &format!("{GATEWAY}:7222"), key]);
    command.arg(HOMES.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child: Child = command.spawn()?;
    let from = child.stdout.take().ok_or("no pipe")?;
    let running = Running::from(child);
    let mut line = String::new();
    BufReader::new(from).read_line(&mut line)?;
    let came = line.trim().parse().map_err(|_| "the homes did not come; see the gateway's log")?;
    Ok((running, came))
}

/// Private and proportional memory of what serves one idle connection.
fn stock(bench: &Bench<'_>, seats: &NativeSeats) -> Result<[f64; 2]> {
    let before = seats.gateway_sessions();
    let mut connections = Vec::new();
    for number in 0..STOCK {
        let port = 3000 + number;
        let mut ssh = seats.lab.home().command("ssh");
        ssh.args(["-N", "-i", "/tmp/key", "-o", "BatchMode=yes"])
            .args(["-o", "ExitOnForwardFailure=yes", "-o", "UserKnownHostsFile=/tmp/known_hosts"])
            .args(["-R", &format!("{port}:localhost:22"), &format!("amy@{GATEWAY}")]);
        connections.push(Running::start(ssh, &bench.log("idle-ssh"))?);
        seats.until_listening(port)?;
    }
    thread::sleep(Duration::from_secs(1));
    let sessions = seats.gateway_sessions();
    let (mut private, mut share) = (0.0, 0.0);
    for pid in sessions.into_iter().filter(|pid| !before.contains(pid)) {
        let memory = Memory::of(pid)?;
        private += memory.private;
        share += memory.proportional;
    }
    Ok([private, share].map(|megabytes| megabytes * 1024.0 / f64::from(STOCK)))
}
