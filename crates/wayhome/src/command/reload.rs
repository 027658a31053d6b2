//! `wayhome reload`

use wayhome_core::name::Name;

use crate::agent::control::{self, Asked, Reloaded};
use crate::command::agent::runtime;
use crate::error::{Failure, Outcome};
use crate::report;

/// Let the running agent read its configuration again, and say what is different.
///
/// Only what changed is touched: no other service, no link, no open stream. The agent also does this
/// by itself when the file is saved, and at SIGHUP.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wayhome reload")]
pub struct Args {
    /// The agent with this name, where several run.
    #[arg(long)]
    name: Option<Name>,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome<u8> {
    let socket = control::socket(args.name.as_ref())?;
    let reloaded = runtime()?.block_on(control::ask::<Reloaded>(&socket, Asked::Reload));
    let reloaded = reloaded.map_err(|error| {
        Failure::usage(format!("the agent at `{}` does not answer", socket.display()))
            .because(&error)
    })?;
    match reloaded {
        Reloaded::Taken(changes) if changes.is_empty() => report::note("nothing is different"),
        Reloaded::Taken(changes) => changes.iter().for_each(report::note),
        Reloaded::Refused(why) => {
            report::note("the configuration was not taken over; the one before runs on");
            return Err(Failure::usage(why));
        }
        Reloaded::NoFile => {
            return Err(Failure::usage("the agent was started without a configuration file")
                .hint("write one, and start it with `wayhome agent run --config FILE`"));
        }
    }
    Ok(0)
}
