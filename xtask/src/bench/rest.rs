//! An agent at rest: memory and CPU, with nothing to do but heartbeats, and a proof each two minutes.

use std::thread;
use std::time::Duration;

use wayhome_lab::process;

use super::Bench;
use super::figures::{Row, load};
use super::resources::{Cpu, Memory};
use super::seats::{Login, Seats};
use crate::Result;
use crate::say::say;

/// How long the agent rests before it is looked at.
const REST: Duration = Duration::from_secs(58);

const MINUTE: Duration = Duration::from_secs(60);

pub fn measure(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let mut rows = [
        Row::new("agent at rest: resident", "MB", Some(8.0)),
        Row::new("agent at rest: anonymous", "MB", Some(3.0)),
        Row::new("agent at rest: proportional", "MB", None),
        Row::new("agent at rest: a minute's CPU", "ms", None),
        Row::new("agent at rest: a minute's CPU", "ticks", Some(1.0)),
        Row::new("agent at rest: a minute's CPU with a proof", "ms", None),
        Row::new("its ssh: resident", "MB", None),
        Row::new("its ssh: anonymous", "MB", None),
        Row::new("its ssh: a minute's CPU", "ms", None),
    ];
    // They rest side by side, each in a lab of its own.
    let seats = (0..bench.args.runs)
        .map(|_| Seats::start(bench, Login::Root))
        .collect::<Result<Vec<_>>>()?;
    let mut agents = Vec::new();
    for (run, seats) in seats.iter().enumerate() {
        let log = bench.log(&format!("rest-{}", run + 1));
        let service = "name = \"ssh\"\ntarget = \"localhost:22\"\nproof = \"ssh\"";
        let agent = seats.agent(service, &log, false)?;
        let pid = agent.pid()?;
        let ssh = process::children(pid).first().copied().ok_or("the agent has no ssh")?;
        agents.push((agent, pid, ssh));
    }
    say(format_args!("  {} agents rest for 3 minutes", agents.len()));
    thread::sleep(REST);
    let before = all(&agents, Cpu::of)?;
    thread::sleep(MINUTE);
    let after = all(&agents, Cpu::of)?;
    let memory = all(&agents, Memory::of)?;
    thread::sleep(MINUTE);
    let later = all(&agents, Cpu::of)?;
    for (agent, ..) in &agents {
        if !agent.status().is_some_and(|status| status.all_up()) {
            return Err("an agent was not at rest: its road is not up".into());
        }
    }
    let cpu = before
        .iter()
        .zip(&after)
        .zip(&later)
        .map(|((before, after), later)| (before, after, later));
    for (((b, b_ssh), (a, a_ssh), (l, _)), (own, ssh)) in cpu.zip(&memory) {
        let values = [
            own.resident,
            own.anonymous,
            own.proportional,
            a.ms - b.ms,
            (a.ticks - b.ticks) as f64,
            l.ms - a.ms,
            ssh.resident,
            ssh.anonymous,
            a_ssh.ms - b_ssh.ms,
        ];
        for (row, value) in rows.iter_mut().zip(values) {
            row.add(Some(value));
        }
    }
    say(format_args!("  done (load {:.2})", load()));
    Ok(rows.to_vec())
}

/// What is known of each agent, and of its ssh.
fn all<T, A>(agents: &[(A, u32, u32)], of: impl Fn(u32) -> Result<T>) -> Result<Vec<(T, T)>> {
    agents.iter().map(|(_, agent, ssh)| Ok((of(*agent)?, of(*ssh)?))).collect()
}
