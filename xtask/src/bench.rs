//! `cargo xtask bench`: what the road costs and how soon it is back, measured in the lab with a release
//! build. One file for each measurement; the bars are those of the design.

mod address;
mod compare;
mod cut;
mod figures;
mod native;
mod outage;
mod port;
mod prober;
mod resources;
mod rest;
mod restart;
mod seats;
mod soak;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use wayhome_lab::{Lab, OpenSsh};

use crate::say::say;
use crate::{Result, cargo, finish, openssh10, packages, target};
use figures::Table;

/// What to measure, and how often.
#[derive(clap::Args)]
pub struct Args {
    /// How often each measurement is repeated
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=60))]
    runs: u8,
    /// Only this measurement (may be repeated)
    #[arg(long, value_enum)]
    only: Vec<Measurement>,
    /// Only this way of logging in at the gateway (may be repeated)
    #[arg(long, value_enum)]
    login: Vec<seats::Login>,
    /// Also measure how soon stock autossh is back, for up to a minute each time
    #[arg(long)]
    stock: bool,
    /// For how long the gateway's sshd is down before it is started again
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = time)]
    down: Duration,
    /// Fail if a bar is not met
    #[arg(long)]
    gate: bool,
    /// Instead of measuring: compare two earlier results, folders or files; the second is target/bench
    /// unless it is named. With --gate, fail if anything got worse beyond the spread of both
    #[arg(long, value_names = ["OLD", "NEW"], num_args = 1..=2)]
    compare: Vec<PathBuf>,
    /// Instead of measuring: hold a road for this long (`30m`) against OpenSSH 10 with its penalties
    #[arg(long, value_name = "TIME", value_parser = time)]
    soak: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Measurement {
    /// A new connection through the port
    Port,
    /// Memory and CPU of an agent at rest
    Rest,
    /// From a new address to a proven road
    Address,
    /// From the end of a silent cut to a proven road
    Cut,
    /// From the return of the gateway's sshd to a proven road
    Restart,
    /// The native road: throughput, and the gateway's CPU for it
    Bulk,
    /// The native road: an echo beside a stream that fills the line
    Echo,
    /// The native road: the gateway's memory for homes that do nothing
    Idle,
    /// The native road: the first byte of an ssh session, and a whole one
    First,
    /// Loopback ports, beside ssh -R and other tunnels on PATH: connections, throughput, CPU, memory
    Ports,
    /// The native road: 10,000 homes at one gateway, and their return after it was killed
    Storm,
}

/// What every measurement is told.
struct Bench<'a> {
    args: &'a Args,
    /// The program to measure.
    wayhome: PathBuf,
    openssh: OpenSsh,
    /// Where results and logs go.
    folder: PathBuf,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    if let [old, rest @ ..] = args.compare.as_slice() {
        let latest = target().join("bench");
        let none_is_worse = compare::run(old, rest.first().unwrap_or(&latest))?;
        let failed = args.gate && !none_is_worse;
        return Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS });
    }
    if !packages::bring(packages::TEST)? || (args.stock && !packages::bring(packages::STOCK)?) {
        return Ok(ExitCode::FAILURE);
    }
    Lab::supported()?;
    say(format_args!("Building a release of wayhome"));
    let built = finish(cargo().args(["build", "--quiet", "--release", "-p", "wayhome"]))?;
    if built != ExitCode::SUCCESS {
        return Ok(built);
    }
    let folder = target().join("bench");
    std::fs::create_dir_all(folder.join("logs"))?;
    let wayhome = target().join("release/wayhome");
    let bench = Bench { args, wayhome, openssh: OpenSsh::system()?, folder };
    if let Some(span) = args.soak {
        return soak::run(&bench, span);
    }
    let version = bench.openssh.version()?;
    let about = format!("OpenSSH {}.{} in all seats", version.major, version.minor);
    let mut table = Table::default();
    for measurement in bench.measurements() {
        let rows = match measurement {
            Measurement::Address => address::measure(&bench)?,
            Measurement::Cut => cut::measure(&bench)?,
            Measurement::Restart => restart::measure(&bench)?,
            Measurement::Rest => rest::measure(&bench)?,
            Measurement::Port => port::measure(&bench)?,
            Measurement::Bulk => native::bulk::measure(&bench)?,
            Measurement::Echo => native::echo::measure(&bench)?,
            Measurement::Idle => native::idle::measure(&bench)?,
            Measurement::First => native::first::measure(&bench)?,
            Measurement::Ports => native::ports::measure(&bench)?,
            Measurement::Storm => native::storm::measure(&bench)?,
        };
        let name = format!("{measurement:?}").to_lowercase();
        figures::write(&bench.folder.join(name).with_extension("json"), &about, &rows)?;
        table.extend(rows);
    }
    table.show();
    say(format_args!("Written to `{}`; the agents' logs are there too.", bench.folder.display()));
    let failed = args.gate && !table.all_met();
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

impl Bench<'_> {
    fn measurements(&self) -> Vec<Measurement> {
        use clap::ValueEnum;
        let all = Measurement::value_variants().iter().copied();
        all.filter(|each| self.args.only.is_empty() || self.args.only.contains(each)).collect()
    }

    fn logins(&self) -> Vec<seats::Login> {
        use clap::ValueEnum;
        let all = seats::Login::value_variants().iter().copied();
        all.filter(|each| self.args.login.is_empty() || self.args.login.contains(each)).collect()
    }

    /// Where an agent's log is kept.
    fn log(&self, name: &str) -> PathBuf {
        self.folder.join("logs").join(name).with_extension("log")
    }
}

/// OpenSSH 10, which some measurements need.
fn openssh_10() -> Result<OpenSsh> {
    match openssh10::bring()? {
        openssh10::Brought::At(folder) => Ok(OpenSsh::backports(Path::new(&folder))?),
        openssh10::Brought::NotHere(why) => Err(format!("no OpenSSH 10: {why}").into()),
    }
}

/// `90s`, `30m`, `2h`.
fn time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no time; write `90s`, `30m` or `2h`");
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        _ => return Err(wrong()),
    };
    let number: u32 = text.trim_end_matches(unit).parse().map_err(|_| wrong())?;
    Ok(Duration::from_secs(seconds) * number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_times() {
        assert_eq!(time("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(time("30m"), Ok(Duration::from_secs(1800)));
        assert_eq!(time("2h"), Ok(Duration::from_secs(7200)));
        for wrong in ["", "s", "30", "1d", "-1s", "1.5h"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }
}
