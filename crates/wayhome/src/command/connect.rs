//! `wayhome connect`

use std::io;

use crate::client::{self, Failed, Goal, Grant, Laptop, Trouble, Way, stdio};
use crate::command::agent::runtime;
use crate::error::{FAILED, Failure, Outcome};
use crate::report;

/// On the laptop: a stream to a home's service, on standard input and output, for ssh's ProxyCommand.
///
/// It goes through whichever gateway answers first, and is encrypted from here to the home: no
/// gateway can read it. Nothing is written to standard output before the home has proven its pinned
/// key. `wayhome keys` shows this machine's key, and pins those of others.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ssh -o ProxyCommand='wayhome connect home-ubuntu' fan@home-ubuntu
  wayhome connect home-ubuntu:web < request > answer")]
pub struct Args {
    /// The home, and its service if that is not `ssh`
    #[arg(value_name = "HOME[:SERVICE]")]
    goal: Goal,
    #[command(flatten)]
    way: Way,
}

/// Runs the command. It says on one line what went wrong: a person reads it who ran ssh.
pub fn run(args: &Args) -> Outcome<u8> {
    match connect(args) {
        Ok(()) => Ok(0),
        Err(None) => Ok(FAILED),
        Err(Some(failure)) => {
            report::failure_on_one_line(&failure);
            Ok(failure.code())
        }
    }
}

/// Nothing is to be said if nobody is there any more who wanted the stream.
fn connect(args: &Args) -> Result<(), Option<Failure>> {
    let laptop = Laptop::new(&args.way)?;
    let wanted = laptop.wanted(&args.goal)?;
    let runtime = runtime()?;
    let ended = runtime.block_on(async {
        let unusable = |why: io::Error| {
            Failure::usage("standard input or output cannot be used").because(&why)
        };
        let stream = client::open(&laptop.identity, &wanted).await;
        let stream = stream.map_err(|failed| Some(failed.failure(&args.goal)))?;
        let input = stdio::input().map_err(unusable)?;
        let output = stdio::output().map_err(unusable)?;
        let gateway = stream.gateway;
        client::pass(stream.tls, Grant::Awaited, input, output).await.map_err(|trouble| {
            match trouble {
                Trouble::Output(why) if why.kind() == io::ErrorKind::BrokenPipe => None,
                trouble => Some(Failed { gateway, trouble }.failure(&args.goal)),
            }
        })
    });
    // A thread may still wait for a terminal, and nobody waits for it.
    runtime.shutdown_background();
    ended
}
