//! The command line: which command was meant, and how it ends.

use clap::{Parser, Subcommand};

use crate::command;
use crate::error::{Failure, Outcome};
use crate::logging;

/// `ssh home-ubuntu`, from anywhere, and it always works.
///
/// A machine behind NAT dials out to a public gateway and keeps that road open; a laptop reaches it
/// through the gateway. `wayhome try` shows all of it on this machine alone.
#[derive(Debug, Parser)]
#[command(name = "wayhome", version, max_term_width = 100)]
pub struct Cli {
    /// Say more; twice: everything, with what ssh says.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Say only what went wrong.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Agent(command::agent::Args),
    Status(command::status::Args),
    SshConfig(Box<command::ssh_config::Args>),
    Gate(command::gate::Args),
    Import(command::import::Args),
    Try(command::try_road::Args),
}

/// Runs the command that the arguments name. Gives the exit code of one that ran.
pub fn run(cli: Cli) -> Outcome<u8> {
    logging::start(cli.verbose, cli.quiet);
    match cli.command {
        Command::Agent(args) => command::agent::run(args),
        Command::Status(args) => command::status::run(&args),
        Command::SshConfig(args) => command::ssh_config::run(*args),
        Command::Gate(args) => command::gate::run(&args, &mut anstream::stdout())
            .map(|()| 0)
            .map_err(|error| Failure::usage(error.to_string())),
        Command::Import(args) => command::import::run(args),
        Command::Try(args) => command::try_road::run(&args),
    }
}
