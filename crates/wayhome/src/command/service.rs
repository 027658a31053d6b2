//! `wayhome service`

use std::path::PathBuf;

use crate::agent::ssh::pin::FirstContact;
use crate::error::Outcome;
use crate::service::install::{self, Request};
use crate::service::unit::RunsAs;

/// Let the agent run as a service: started with the machine, and watched over by systemd.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    #[command(subcommand)]
    Install(Install),
}

/// Install a service and start it.
#[derive(Debug, clap::Subcommand)]
enum Install {
    Agent(Box<InstallAgent>),
}

/// Install the agent's service, after it has logged in once in its own sandbox.
///
/// It gets a user of its own, `wayhome`, or runs as the one named with `--as`; never as root. A
/// configuration that lies elsewhere is copied to /etc/wayhome/agent.toml, and the keys that it names
/// to /var/lib/wayhome/keys. What could not work at boot is refused, with what to do: a passphrase, a
/// security key, an ssh-agent of a login. A gateway that cannot be reached just now is a warning.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  sudo wayhome service install agent --config agent.toml")]
struct InstallAgent {
    /// The configuration, if not the one that is in its place: /etc/wayhome/agent.toml.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Run as this user, whose ~/.ssh then counts.
    #[arg(long = "as", value_name = "USER", conflicts_with = "user")]
    runs_as: Option<String>,
    /// Pin a new gateway's host key without asking. For scripts: whoever answers first is trusted.
    #[arg(long)]
    accept_new: bool,
    /// Do not log in before.
    #[arg(long)]
    no_dial: bool,
    #[command(flatten)]
    place: Place,
}

// Which service manager is meant. (No doc comment: clap would show it.)
#[derive(Debug, clap::Args)]
struct Place {
    /// A service of your own, of your user's service manager, and not of the system's.
    #[arg(long)]
    user: bool,
    /// Write below DIR, for an image of another machine; nothing is started.
    #[arg(long, value_name = "DIR", conflicts_with = "user")]
    root: Option<PathBuf>,
    /// Only show what would be done.
    #[arg(long)]
    dry_run: bool,
}

/// Runs the command.
pub fn run(args: Args) -> Outcome<u8> {
    match args.command {
        Command::Install(Install::Agent(args)) => install(*args),
    }
}

fn install(args: InstallAgent) -> Outcome<u8> {
    let runs_as = match (args.place.user, args.runs_as) {
        (true, _) => RunsAs::Me,
        (false, Some(name)) => RunsAs::Person(name),
        (false, None) => RunsAs::Own,
    };
    install::install(&Request {
        config: args.config,
        runs_as,
        root: args.place.root,
        first: if args.accept_new { FirstContact::Accept } else { FirstContact::Ask },
        dial: !args.no_dial,
        dry_run: args.place.dry_run,
    })
    .map(|()| 0)
}
