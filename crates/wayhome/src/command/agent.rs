//! `wayhome agent`

use std::path::PathBuf;

use wayhome_core::address::Address;
use wayhome_core::name::Name;
use wayhome_core::service::Service;
use wayhome_core::status::Snapshot;

use crate::agent::check::{self, Verdict};
use crate::agent::control::{self, Asked};
use crate::agent::ssh::pin::FirstContact;
use crate::command::signals::Signals;
use crate::config::{Arguments, Config};
use crate::error::{Failure, Outcome};
use crate::{agent, paths, report};

/// The daemon at home: dials out to each gateway, and keeps the road open.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Run(Box<Run>),
    Kick(Kick),
    Check(Check),
}

/// Try a configuration: read it, look at its keys, and log in to each gateway once.
///
/// As a service would, which has no ssh-agent and nobody to ask. Nothing is forwarded or changed.
#[derive(Debug, clap::Args)]
struct Check {
    /// The configuration.
    #[arg(short, long, value_name = "FILE", default_value = "/etc/wayhome/agent.toml")]
    config: PathBuf,
    /// Print JSON, for scripts.
    #[arg(long)]
    json: bool,
}

/// Tell the running agent to try now what it waits to try: after something was mended.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wayhome agent kick")]
struct Kick {
    /// The agent with this name, where several run.
    #[arg(long)]
    name: Option<Name>,
}

/// Runs the agent in the foreground, until ^C or TERM.
///
/// What it takes is what `ssh -R` takes; or a configuration file.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wayhome agent run root@203.0.113.10 -R 2222:localhost:22 -i ~/.ssh/wayhome
  wayhome agent run --config /etc/wayhome/agent.toml")]
struct Run {
    /// The gateway: `user@host`, `ssh://user@host:port`, or a `Host` of your ~/.ssh/config.
    #[arg(value_name = "GATEWAY", required_unless_present = "config")]
    address: Option<Address>,
    /// A forward, as ssh has it: PORT:HOST:HOSTPORT. Repeats. It listens on the gateway's loopback.
    #[arg(short = 'R', value_name = "FORWARD", value_parser = Service::from_forward)]
    forwards: Vec<Service>,
    /// The private key to log in with.
    #[arg(short, long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// The file with the gateway's pinned host key.
    #[arg(long, value_name = "FILE")]
    known_hosts: Option<PathBuf>,
    /// The home's name; this machine's host name if not given.
    #[arg(long)]
    name: Option<Name>,
    /// Allow a forward whose bind address is not loopback: it is open to the whole internet.
    #[arg(long)]
    public: bool,
    /// Read all of it from this file instead.
    #[arg(short, long, value_name = "FILE",
        conflicts_with_all = ["address", "forwards", "identity", "known_hosts", "name", "public"])]
    config: Option<PathBuf>,
    /// Pin a new gateway's host key without asking. For scripts: whoever answers first is trusted.
    #[arg(long)]
    accept_new: bool,
}

/// Runs the command.
pub fn run(args: Args) -> Outcome<u8> {
    match args.command {
        Command::Run(run) => run_agent(*run),
        Command::Kick(kick) => run_kick(&kick),
        Command::Check(check) => run_check(&check),
    }
}

fn run_kick(kick: &Kick) -> Outcome<u8> {
    let socket = control::socket(kick.name.as_ref())?;
    let kicked = runtime()?.block_on(control::ask::<Snapshot>(&socket, Asked::Kick));
    kicked.map(|_| 0).map_err(|error| {
        Failure::usage(format!("the agent at `{}` does not answer", socket.display()))
            .because(&error)
    })
}

fn run_check(args: &Check) -> Outcome<u8> {
    let config = check::read(&args.config)?;
    let checked = runtime()?.block_on(async {
        let mut signals = Signals::listen()?;
        tokio::select! {
            biased;
            // The login is dropped with this, wherever it was, and that cleans up.
            code = signals.next() => Ok(Err(code)),
            checked = check::check(&config) => checked.map(Ok),
        }
    })?;
    let checked = match checked {
        Ok(checked) => checked,
        Err(code) => return Ok(code),
    };
    let text = if args.json {
        serde_json::to_string(&checked).map_err(|error| unwritten(&error))? + "\n"
    } else {
        checked.iter().map(|one| format!("{one}\n")).collect()
    };
    report::data("the result", text)?;
    Ok(u8::from(checked.iter().any(|one| one.verdict != Verdict::LoggedIn)))
}

fn unwritten(error: &dyn std::error::Error) -> Failure {
    Failure::new("the result cannot be written").because(error)
}

fn run_agent(run: Run) -> Outcome<u8> {
    let first = match (run.accept_new, agent::notify::is_expected()) {
        (true, _) => FirstContact::Accept,
        (false, true) => FirstContact::Known,
        (false, false) => FirstContact::Ask,
    };
    let config = match &run.config {
        Some(file) => Config::from_file(file)?,
        None => Config::from_arguments(Arguments {
            address: run.address,
            forwards: run.forwards,
            identity: run.identity,
            known_hosts: run.known_hosts,
            name: run.name,
            public: run.public,
        })?,
    };
    let file = run.config.as_deref().map(paths::absolute).transpose()?;
    runtime()?.block_on(agent::run(config, file, first)).map(|()| 0)
}

/// The runtime of all commands: one thread. `supervise` relies on it, and a second one would cost
/// memory that an agent at rest does not need.
pub fn runtime() -> Outcome<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new("the runtime cannot be started").because(&error))
}
