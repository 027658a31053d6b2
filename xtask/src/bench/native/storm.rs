//! Ten thousand homes at one gateway: what each costs it, and how soon all are back when it was killed.

use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::process::{ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use wayhome_core::status::gateway::GatewaySnapshot;
use wayhome_lab::net::GATEWAY;
use wayhome_lab::{Lab, Machine, eventually};

use crate::bench::Bench;
use crate::bench::figures::{Row, tell};
use crate::bench::resources::{Cpu, Memory, kernel_slab};
use crate::bench::seats::{Running, SOON};
use crate::{Result, cargo, finish, target};

/// How many homes.
const HOMES: usize = 10_000;

/// From how many addresses: a provider's NAT has many behind one.
const ADDRESSES: usize = 200;

/// Long enough for what the handshakes left to be freed.
const SETTLE: Duration = Duration::from_secs(15);

/// How long the CPU of those who do nothing is counted.
const IDLE: Duration = Duration::from_secs(30);

/// Between the end of the old gateway and the start of the new one: as a service manager has it.
const DOWN: Duration = Duration::from_secs(1);

pub fn measure(bench: &Bench<'_>) -> Result<Vec<Row>> {
    finish(cargo().args(["build", "--quiet", "--release", "-p", "wayhome", "--example", "storm"]))?;
    let mut rows = [
        Row::new("10,000 homes come for the first time", "s", None),
        Row::new("each of 10,000: gateway's anonymous memory", "KB", Some(30.0)),
        Row::new("each of 10,000: kernel's sockets and files", "KB", None)
            .note("the gateway's half; of 1.9 connections"),
        Row::new("each of 10,000: gateway's CPU", "ms/min", None).note("a heartbeat each 5 s"),
        Row::new("gateway killed: 10,000 homes registered again", "s", Some(15.0))
            .note("from the kill, of which it was down for 1 s"),
        Row::new("and with all that they hold", "s", Some(15.0)),
        Row::new("refused or evicted meanwhile", "", Some(0.0)),
        Row::new("gateway's CPU until all are back", "s", None),
    ];
    for run in 0..bench.args.runs {
        let values = once(bench, run)?;
        tell("10,000 homes", run, format_args!("{values:.2?}"));
        for (row, value) in rows.iter_mut().zip(values) {
            row.add(Some(value));
        }
    }
    Ok(rows.to_vec())
}

fn once(bench: &Bench<'_>, run: u8) -> Result<[f64; 8]> {
    let lab = Lab::three_seats()?;
    let (gateway, laptop) = (lab.gateway(), lab.laptop());
    gateway.sh("mkdir -p -m 700 /var/lib/wayhome /etc/wayhome")?;
    let wayhome = gateway.bring(&bench.wayhome)?;
    let keys = gateway.sh(&format!("{} keys 2>/dev/null", wayhome.display()))?;
    let folder = tempfile::tempdir_in("/dev/shm")?;
    let storm = target().join("release/examples/storm");
    let mut make = Command::new(&storm);
    let grants = made_by(make.args(["grants", &HOMES.to_string()]).arg(folder.path()))?;
    fs::write(gateway.file("/etc/wayhome/grants.toml"), grants)?;
    gateway.sh("chmod 600 /etc/wayhome/grants.toml")?;
    let addresses: Vec<String> =
        (0..ADDRESSES).map(|number| format!("198.51.100.{}", 20 + number)).collect();
    let added = addresses.iter().map(|ip| format!("ip address add {ip}/24 dev eth0\n"));
    laptop.sh(&added.collect::<String>())?;

    let mut running = start(bench, gateway, &wayhome, run)?;
    let (before, slab) = (Memory::of(running.pid()?)?.anonymous, kernel_slab()?);
    let mut command = laptop.command(&storm);
    command.args(["run", &HOMES.to_string()]).arg(folder.path());
    command.arg(format!("{GATEWAY}:7222")).arg(keys.trim()).args(&addresses);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let from = child.stdout.take().ok_or("no pipe")?;
    let _homes = Running::from(child);
    let mut told = BufReader::new(from).lines();
    let here = next(&mut told, "here")?;
    thread::sleep(SETTLE);
    let each = |kilobytes: f64| kilobytes / HOMES as f64;
    let own = each((Memory::of(running.pid()?)?.anonymous - before) * 1024.0);
    let kernel = each(kernel_slab()? - slab) / 2.0;
    let cpu = Cpu::of(running.pid()?)?.ms;
    thread::sleep(IDLE);
    let idle = each(Cpu::of(running.pid()?)?.ms - cpu) * 60.0 / IDLE.as_secs_f64();

    drop(running);
    next(&mut told, "lost")?;
    thread::sleep(DOWN);
    running = start(bench, gateway, &wayhome, run)?;
    let back = next(&mut told, "back")?;
    let [all, registered, refused] = back.as_slice() else { return Err("no figures".into()) };
    let spent = Cpu::of(running.pid()?)?.ms / 1000.0;
    let evicted = status(gateway, &wayhome)?.strangers.evicted as f64;
    let here = here.first().copied().unwrap_or(f64::NAN);
    Ok([here, own, kernel, idle, *registered, *all, refused + evicted, spent])
}

fn start(
    bench: &Bench<'_>,
    gateway: &Machine,
    wayhome: &std::path::Path,
    run: u8,
) -> Result<Running> {
    let mut command = gateway.command(wayhome);
    command.args(["--quiet", "gateway", "run"]).env("NO_COLOR", "1");
    let running = Running::start(command, &bench.log(&format!("storm-{}-gateway", run + 1)))?;
    let answers = || status(gateway, wayhome).is_ok();
    if eventually(SOON, answers) { Ok(running) } else { Err("the gateway does not answer".into()) }
}

fn status(gateway: &Machine, wayhome: &std::path::Path) -> Result<GatewaySnapshot> {
    let output =
        gateway.command(wayhome).args(["status", "--json"]).stdin(Stdio::null()).output()?;
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn made_by(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() { Ok(output.stdout) } else { Err("no keys were made".into()) }
}

/// The figures on the next line, which begins with this word.
fn next(told: &mut Lines<BufReader<ChildStdout>>, word: &str) -> Result<Vec<f64>> {
    let line = told.next().ok_or("the homes have ended; see the gateway's log")??;
    let mut words = line.split(' ');
    if words.next() != Some(word) {
        return Err(format!("`{line}` where `{word}` was to come").into());
    }
    Ok(words.map(str::parse).collect::<std::result::Result<_, _>>()?)
}
