//! `wayhome service`

use std::path::PathBuf;

use crate::agent::ssh::pin::FirstContact;
use crate::error::{Failure, Outcome};
use crate::report;
use crate::service::install::{self, Request};
use crate::service::launchd::Job;
use crate::service::unit::RunsAs;
use crate::service::{self, account, gateway, status, uninstall};

/// Let the agent or the gateway run as a service: started with the machine, and watched over by systemd.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    #[command(subcommand)]
    Install(Install),
    #[command(subcommand)]
    Uninstall(Uninstall),
    #[command(subcommand)]
    Status(Status),
}

/// Install a service and start it.
#[derive(Debug, clap::Subcommand)]
enum Install {
    Agent(Box<InstallAgent>),
    Gateway(InstallGateway),
}

/// Install the gateway's service, and start it.
///
/// It runs as a user of its own, `wayhome-gateway`, who can read nothing but its key and
/// /etc/wayhome/gateway.toml and grants.toml there, and may listen on ports below 1024 without being
/// root. The grants have to be there; the configuration need not be. The key of a gateway that root ran
/// by hand is taken over: homes and laptops have pinned it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  sudo wayhome service install gateway")]
struct InstallGateway {
    /// Write below DIR, for an image of another machine; nothing is started.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Only show what would be done.
    #[arg(long)]
    dry_run: bool,
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
    /// Print a job for a Mac's launchd instead, and change nothing. It is untested there.
    #[arg(long, conflicts_with = "root")]
    launchd: bool,
    #[command(flatten)]
    place: Place,
}

/// Stop a service and take away what `install` wrote.
#[derive(Debug, clap::Subcommand)]
enum Uninstall {
    Agent(UninstallAgent),
    Gateway(UninstallGateway),
}

/// Stop the gateway's service and take away what `install` wrote, and only that.
///
/// The configuration, the key and the user `wayhome-gateway` stay, so that it can be installed again;
/// `--purge` takes the key and the user away too, and a configuration that nobody has edited.
#[derive(Debug, clap::Args)]
struct UninstallGateway {
    /// Also the key, and the user that was made.
    #[arg(long)]
    purge: bool,
    /// Take it out of an image of another machine, below DIR.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Only show what would be done.
    #[arg(long)]
    dry_run: bool,
}

/// Stop the agent's service and take away what `install` wrote, and only that.
///
/// The configuration, keys, pins and the user `wayhome` stay, so that it can be installed again;
/// `--purge` takes them away too.
#[derive(Debug, clap::Args)]
struct UninstallAgent {
    /// Also the configuration, the copied keys, the pins, and the user that was made.
    #[arg(long)]
    purge: bool,
    #[command(flatten)]
    place: Place,
}

/// How a service is.
#[derive(Debug, clap::Subcommand)]
enum Status {
    Agent(StatusAgent),
    Gateway(StatusGateway),
}

/// How the gateway's service is: installed, started with the machine, running; and then its homes.
#[derive(Debug, clap::Args)]
struct StatusGateway {
    /// Look below DIR, at an image of another machine.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Print JSON, for scripts.
    #[arg(long)]
    json: bool,
}

/// How the agent's service is: installed, started with the machine, running; and then its roads.
#[derive(Debug, clap::Args)]
struct StatusAgent {
    /// The service of your own, and not the system's.
    #[arg(long)]
    user: bool,
    /// Look below DIR, at an image of another machine.
    #[arg(long, value_name = "DIR", conflicts_with = "user")]
    root: Option<PathBuf>,
    /// Print JSON, for scripts.
    #[arg(long)]
    json: bool,
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
        Command::Install(Install::Gateway(InstallGateway { root, dry_run })) => {
            gateway::install(&gateway::Request { root, dry_run }).map(|()| 0)
        }
        Command::Uninstall(Uninstall::Gateway(UninstallGateway { purge, root, dry_run })) => {
            gateway::uninstall(&gateway::Request { root, dry_run }, purge).map(|_| 0)
        }
        Command::Status(Status::Gateway(args)) => gateway::show(args.root, args.json),
        Command::Uninstall(Uninstall::Agent(args)) => uninstall::uninstall(&uninstall::Request {
            is_own: args.place.user,
            root: args.place.root,
            purge: args.purge,
            dry_run: args.place.dry_run,
        })
        .map(|_| 0),
        Command::Status(Status::Agent(args)) => {
            status::show(&status::Request { is_own: args.user, root: args.root, json: args.json })
        }
    }
}

fn install(args: InstallAgent) -> Outcome<u8> {
    let runs_as = match (args.place.user, args.runs_as) {
        (true, _) => RunsAs::Me,
        (false, Some(name)) => RunsAs::Person(name),
        (false, None) => RunsAs::Own,
    };
    if args.launchd || cfg!(target_os = "macos") {
        return print_job(args.config, &runs_as);
    }
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

/// There is no account that a Mac would make for it; the person's own is named.
fn print_job(config: Option<PathBuf>, runs_as: &RunsAs) -> Outcome<u8> {
    let config = match config {
        Some(file) => std::path::absolute(&file).map_err(|error| {
            Failure::usage(format!("there is no such path as `{}`", file.display())).because(&error)
        })?,
        None => service::config_place(runs_as)?,
    };
    let person = || account::person().map(|person| person.name);
    let user = match runs_as {
        RunsAs::Me => None,
        RunsAs::Person(name) => Some(name.clone()),
        RunsAs::Own => person(),
    };
    let program = std::env::current_exe()
        .map_err(|error| Failure::new("the path of this program is not known").because(&error))?;
    report::data("the job", Job { program, config, user }.render())?;
    Ok(0)
}
