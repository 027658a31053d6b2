//! `wayhome connect`

use std::io;
use std::path::PathBuf;

use wayhome_core::address::NativeAddress;

use crate::client::{self, Failed, Gateway, Goal, Trouble, Wanted, stdio};
use crate::command::agent::runtime;
use crate::error::{FAILED, Failure, Outcome};
use crate::pins::{Pins, Whose};
use crate::report;
use crate::wire::identity::{Identity, usual_path};

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
    /// Try this gateway, and not all that are pinned; may be given more than once
    #[arg(long, value_name = "wayhome://HOST")]
    gateway: Vec<NativeAddress>,
    /// The private key to show, and not this machine's own
    #[arg(short, long, value_name = "FILE")]
    identity: Option<PathBuf>,
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
    let (identity, wanted) = prepare(args)?;
    let runtime = runtime()?;
    let ended = runtime.block_on(async {
        let unusable = |why: io::Error| {
            Failure::usage("standard input or output cannot be used").because(&why)
        };
        let stream = client::open(&identity, &wanted).await;
        let stream = stream.map_err(|failed| Some(failed.failure(&args.goal)))?;
        let input = stdio::input().map_err(unusable)?;
        let output = stdio::output().map_err(unusable)?;
        let gateway = stream.gateway;
        client::pass(stream.tls, input, output).await.map_err(|trouble| match trouble {
            Trouble::Output(why) if why.kind() == io::ErrorKind::BrokenPipe => None,
            trouble => Some(Failed { gateway, trouble }.failure(&args.goal)),
        })
    });
    // A thread may still wait for a terminal, and nobody waits for it.
    runtime.shutdown_background();
    ended
}

/// All that can be wrong before anything is tried.
fn prepare(args: &Args) -> Outcome<(Identity, Wanted)> {
    let identity = match &args.identity {
        Some(file) => Identity::read(file)?,
        None => usual_identity()?,
    };
    let pins = Pins::ours()?;
    let gateways: Vec<Gateway> = if args.gateway.is_empty() {
        pins.gateways()?.into_iter().map(|(address, key)| Gateway { address, key }).collect()
    } else {
        let pinned = |address: &NativeAddress| {
            let key = pins.needed(&Whose::Gateway(address.clone()))?;
            Ok(Gateway { address: address.clone(), key })
        };
        args.gateway.iter().map(pinned).collect::<Outcome<_>>()?
    };
    if gateways.is_empty() {
        return Err(Failure::usage("no gateway is pinned here").hint(
            "`wayhome keys pin wayhome://gw.example.org 'ssh-ed25519 …'`, with the key that it shows",
        ));
    }
    let goal = args.goal.clone();
    let home_key = pins.needed(&Whose::Home(goal.home.clone()))?;
    Ok((identity, Wanted { goal, home_key, gateways }))
}

fn usual_identity() -> Outcome<Identity> {
    let file = usual_path()?;
    if file.symlink_metadata().is_err() {
        return Err(Failure::usage("this machine has no key of its own yet")
            .hint("`wayhome keys` makes one; it needs a grant at the gateway, and one at home"));
    }
    Identity::read(&file)
}
