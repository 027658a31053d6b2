//! `cargo xtask bench --soak 30m`: a road held for long against OpenSSH 10, whose penalties for addresses
//! that connect and leave too often are as they come, at the gateway and at home.

use std::fs;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::Bench;
use super::figures::load;
use super::prober;
use super::resources::{Cpu, Memory};
use super::seats::{Agent, Login, Seats};
use crate::Result;
use crate::say::say;

/// How often the logs are read.
const LOOK: Duration = Duration::from_millis(250);

/// How often the agent is asked, and how often the person is told.
const ASK: Duration = Duration::from_secs(5);
const TELL: Duration = Duration::from_secs(300);

/// No two proofs may be closer.
const LEAST_SPACING: f64 = 60.0;

/// What sshd says when it has had enough of an address.
const PENALTIES: [&str; 2] = ["activating", "Not allowed at this time"];

/// Holds the road, and says whether all was well.
pub fn run(bench: &Bench<'_>, span: Duration) -> Result<ExitCode> {
    let server = super::openssh_10()?;
    let seats = Seats::with(bench, Login::Root, &server)?;
    let version = server.version()?;
    say(format_args!(
        "Holding a road for {} s; OpenSSH {}.{}",
        span.as_secs(),
        version.major,
        version.minor
    ));
    let service = "name = \"ssh\"\ntarget = \"localhost:22\"\nproof = \"ssh\"";
    let agent = seats.agent(service, &bench.log("soak"), false)?;
    let began = Instant::now();
    let pid = agent.pid()?;
    let (memory, cpu) = (Memory::of(pid)?, Cpu::of(pid)?);
    let watched = watch(&seats, &agent, began, span);
    let (memory_after, cpu_after) = (Memory::of(pid)?, Cpu::of(pid)?);

    // Only now, for such a connection is one more that comes and leaves.
    let key = seats.home.host_key_line();
    let keyscan = bench.openssh.ssh_keyscan();
    let mut troubles = watched.troubles;
    if !seats.lab.gateway().in_network(|| prober::has_key(keyscan, &key))? {
        troubles.push("at the end the host key did not come through the port".to_owned());
    }
    for (whose, log) in [("gateway", seats.gateway_log()), ("home", seats.home.log())] {
        fs::write(bench.log(&format!("soak-{whose}")), &log)?;
        let bad = log.lines().filter(|line| PENALTIES.iter().any(|penalty| line.contains(penalty)));
        troubles.extend(bad.map(|line| format!("the {whose}'s sshd: {line}")));
    }
    let spacings: Vec<f64> = watched.proofs.windows(2).filter_map(spacing).collect();
    let closest = spacings.iter().copied().fold(f64::INFINITY, f64::min);
    if closest < LEAST_SPACING {
        troubles.push(format!("two proofs were only {closest:.1} s apart"));
    }
    let minutes = began.elapsed().as_secs_f64() / 60.0;
    let cpu_ms = (cpu_after.ms - cpu.ms) / minutes;
    say(format_args!(
        "{minutes:.1} minutes: asked {} times, {} connections at home, least spacing {closest:.1} s; \
         resident {:.2} -> {:.2} MB, anonymous {:.2} -> {:.2} MB, CPU {cpu_ms:.1} ms a minute, load {:.2}",
        watched.asked,
        watched.proofs.len(),
        memory.resident,
        memory_after.resident,
        memory.anonymous,
        memory_after.anonymous,
        load(),
    ));
    let found = json!({
        "minutes": minutes, "asked": watched.asked, "proofs_s": watched.proofs,
        "least_spacing_s": closest, "troubles": troubles, "cpu_ms_per_minute": cpu_ms,
        "resident_mb": [memory.resident, memory_after.resident],
        "anonymous_mb": [memory.anonymous, memory_after.anonymous],
    });
    fs::write(bench.folder.join("soak.json"), serde_json::to_string_pretty(&found)? + "\n")?;
    for trouble in &troubles {
        say(format_args!("  TROUBLE: {trouble}"));
    }
    Ok(if troubles.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Watched {
    /// When connections came to the home's sshd, in seconds. The agent's first two come before.
    proofs: Vec<f64>,
    /// How often the agent was asked, and said that all is up.
    asked: u32,
    troubles: Vec<String>,
}

fn watch(seats: &Seats, agent: &Agent<'_>, began: Instant, span: Duration) -> Watched {
    let connections = || seats.home.log().matches("Connection from ").count();
    let mut seen = connections();
    let mut watched = Watched { proofs: Vec::new(), asked: 0, troubles: Vec::new() };
    let (mut ask, mut tell) = (Duration::ZERO, TELL);
    while began.elapsed() < span {
        thread::sleep(LOOK);
        let now = began.elapsed();
        let all = connections();
        watched.proofs.extend((seen..all).map(|_| now.as_secs_f64()));
        seen = all;
        if now >= ask {
            ask = now + ASK;
            watched.asked += 1;
            match agent.status() {
                Some(status)
                    if status.all_up() && status.links.iter().all(|link| link.reconnects == 0) => {}
                status => watched.troubles.push(format!("after {} s: {status:?}", now.as_secs())),
            }
        }
        if now >= tell {
            tell = now + TELL;
            let (minutes, proofs) = (now.as_secs() / 60, watched.proofs.len());
            say(format_args!(
                "  {minutes} minutes, {proofs} proofs, {} troubles",
                watched.troubles.len()
            ));
        }
    }
    watched
}

fn spacing(pair: &[f64]) -> Option<f64> {
    match pair {
        [first, second] => Some(second - first),
        _ => None,
    }
}
