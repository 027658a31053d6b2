//! What all outages have in common: a road that has been up for a while, somebody who touches the port
//! all the while, proof that the outage is one, and the moment at which the road is proven again.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::Bench;
use super::figures::{Row, tell};
use super::prober::{self, Back};
use super::seats::{Login, PORT, Seats};
use crate::Result;

/// How long the road is awaited.
const LIMIT: Duration = Duration::from_secs(60);

/// How long the road was up before. Shorter, and it would not count as having been up; and it moves
/// the outage against the heartbeats, which come each 5 s.
const UP: Duration = Duration::from_millis(11_000);
const UP_MORE: Duration = Duration::from_millis(1_100);

/// After this, the road must still be there.
const STAYS: Duration = Duration::from_secs(3);

/// The service, in the agent's configuration.
const SSH: &str = "name = \"ssh\"\ntarget = \"localhost:22\"\nproof = \"ssh\"";

/// Who keeps the road.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keeper {
    /// The agent.
    Wayhome,
    /// autossh.
    Stock,
}

/// Somebody who makes an outage, and ends it.
pub type Impair<'a> = dyn Fn(&Seats, &Checks) -> Result<Instant> + 'a;

/// Measures an outage, for each login and for the stock tools.
pub fn measure(
    bench: &Bench<'_>,
    name: &str,
    what: &str,
    bar: f64,
    impair: &Impair<'_>,
) -> Result<Vec<Row>> {
    let mut cases: Vec<(Keeper, Login)> =
        bench.logins().into_iter().map(|login| (Keeper::Wayhome, login)).collect();
    if bench.args.stock && name != "restart" {
        cases.push((Keeper::Stock, Login::Root));
    }
    let mut rows = Vec::new();
    for (keeper, login) in cases {
        let who = match keeper {
            Keeper::Wayhome => login.name().to_owned(),
            Keeper::Stock => format!("autossh, {}", login.name()),
        };
        let bar = (keeper == Keeper::Wayhome).then_some(bar);
        let mut row = Row::new(format!("{what}: {who}"), "s", bar);
        row.limit = Some(LIMIT);
        let mut banners = Vec::new();
        for run in 0..bench.args.runs {
            let log = bench.log(&format!("{name}-{}-{}", who.replace([' ', ','], ""), run + 1));
            let measured = once(bench, keeper, login, run, &log, impair)?;
            let proven = measured.as_ref().map(|measured| measured.proven.as_secs_f64());
            match &measured {
                Some(measured) => {
                    banners.push(format!("{:.2}", measured.banner.as_secs_f64()));
                    tell(&row.what, run, format_args!("{:.2} s", measured.proven.as_secs_f64()));
                }
                None => tell(&row.what, run, format_args!("not within {} s", LIMIT.as_secs())),
            }
            row.add(proven);
        }
        row.note = format!("banner {}", banners.join(" "));
        rows.push(row);
    }
    Ok(rows)
}

struct Measured {
    banner: Duration,
    proven: Duration,
}

fn once(
    bench: &Bench<'_>,
    keeper: Keeper,
    login: Login,
    run: u8,
    log: &Path,
    impair: &Impair<'_>,
) -> Result<Option<Measured>> {
    let seats = Seats::start(bench, login)?;
    let (_agent, _stock) = match keeper {
        Keeper::Wayhome => (Some(seats.agent(SSH, log, true)?), None),
        Keeper::Stock => (None, Some(seats.stock(log)?)),
    };
    let checks = Checks {
        key: seats.home.host_key_line(),
        keyscan: bench.openssh.ssh_keyscan().to_owned(),
        holder: seats.holder(PORT)?,
    };
    checks.road_is_up(&seats)?;
    // Nothing is waited for: the road is up for some time.
    thread::sleep(UP + UP_MORE * u32::from(run));

    let gateway = seats.lab.gateway();
    let (end, touched) = (AtomicBool::new(false), AtomicU32::new(0));
    let outage = thread::scope(|scope| {
        scope.spawn(|| gateway.in_network(|| prober::touch(&end, &touched)));
        let outage = outage(&seats, &checks, impair);
        end.store(true, Ordering::Relaxed);
        outage
    });
    let (ended, back) = outage?;
    if touched.load(Ordering::Relaxed) == 0 {
        return Err("nobody could touch the port".into());
    }
    let Some(back) = back else { return Ok(None) };
    if keeper == Keeper::Wayhome {
        thread::sleep(STAYS);
        checks.road_is_up(&seats).map_err(|why| format!("the road came back and went: {why}"))?;
    }
    Ok(Some(Measured { banner: back.banner - ended, proven: back.proven - ended }))
}

/// Makes the outage; when it ended, and when the road was back.
fn outage(seats: &Seats, checks: &Checks, impair: &Impair<'_>) -> Result<(Instant, Option<Back>)> {
    let ended = impair(seats, checks)?;
    let back = seats
        .lab
        .gateway()
        .in_network(|| prober::until_proven(&checks.keyscan, &checks.key, ended + LIMIT))?;
    Ok((ended, back))
}

/// What is known of the road before the outage, and questions by which an outage proves itself.
pub struct Checks {
    key: String,
    keyscan: PathBuf,
    holder: String,
}

impl Checks {
    fn road_is_up(&self, seats: &Seats) -> Result<()> {
        let is_up = seats.lab.gateway().in_network(|| prober::has_key(&self.keyscan, &self.key))?;
        if is_up {
            Ok(())
        } else {
            Err("the home's host key does not come through the port".into())
        }
    }

    /// Packets from home vanish, and nobody is told.
    pub fn home_meets_silence(&self, seats: &Seats) -> Result<()> {
        match seats.lab.home().connect(seats.door()?, Duration::from_millis(600)) {
            Err(why) if why.kind() == Some(std::io::ErrorKind::TimedOut) => Ok(()),
            Err(why) => Err(format!("the cut is not silent: {why}").into()),
            Ok(_) => Err("the cut has a hole".into()),
        }
    }

    /// The gateway knows nothing of it: the same session holds the port, takes connections, and brings
    /// nothing.
    pub fn old_session_holds_the_port(&self, seats: &Seats) -> Result<()> {
        // A native gateway finds after some heartbeats that nobody is there, and closes the port.
        let holder = seats.holder(PORT)?;
        if holder != self.holder && !(seats.is_native() && holder.is_empty()) {
            return Err(format!("the port went from `{}` to `{holder}`", self.holder).into());
        }
        match seats.lab.gateway().in_network(|| prober::banner(Duration::from_millis(500)))? {
            None => Ok(()),
            Some(banner) => Err(format!("`{banner}` came through the cut").into()),
        }
    }

    /// Nobody listens at the gateway, neither on the port nor for ssh.
    pub fn gateway_is_gone(&self, seats: &Seats) -> Result<()> {
        let holder = seats.holder(PORT)?;
        if !holder.is_empty() {
            return Err(format!("the port is still held: {holder}").into());
        }
        match seats.lab.home().connect(seats.door()?, Duration::from_millis(600)) {
            Err(why) if why.kind() == Some(std::io::ErrorKind::ConnectionRefused) => Ok(()),
            Err(why) => Err(format!("the gateway does not refuse: {why}").into()),
            Ok(_) => Err("the gateway's sshd is still there".into()),
        }
    }
}
