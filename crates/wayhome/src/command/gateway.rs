//! `wayhome gateway`

use std::path::PathBuf;

use crate::error::{Failure, Outcome};
use crate::gateway;
use crate::gateway::config::Config;

/// The meeting place: homes and clients dial in here, and are joined.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Run(Run),
}

/// Runs the gateway in the foreground, until ^C or TERM.
///
/// Who may do what stands in its grants.toml, which is read again whenever it changes. What clients
/// and homes say to each other it cannot read.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wayhome gateway run
  wayhome gateway run --config /etc/wayhome/gateway.toml")]
struct Run {
    /// The configuration; /etc/wayhome/gateway.toml if there is one, and else the defaults.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome<u8> {
    let Command::Run(run) = &args.command;
    let config = Config::read(run.config.as_deref())?;
    runtime()?.block_on(gateway::run(config)).map(|()| 0)
}

/// A thread for each processor: that one peer's handshake or stream keeps one of them busy must not
/// keep the others waiting.
fn runtime() -> Outcome<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new("the runtime cannot be started").because(&error))
}
