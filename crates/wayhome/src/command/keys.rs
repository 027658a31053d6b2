//! `wayhome keys`

use std::path::Path;

use serde::Serialize;
use wayhome_core::key::Key;

use crate::error::{Failure, Outcome};
use crate::pins::{Pins, Whose};
use crate::wire::identity::{Identity, fingerprint, public_half, usual_path};
use crate::{paths, report};

/// This machine's key on the native road, and the keys of others that are pinned here.
///
/// Without a command it shows this machine's own key, and makes one if there is none: for the
/// `grants.toml` of a gateway or a home, or to be pinned on a laptop.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "\
Examples:
  wayhome keys
  wayhome keys pin wayhome://gw.example.org 'ssh-ed25519 AAAA…'
  wayhome keys pin home-ubuntu 'ssh-ed25519 AAAA…'
  wayhome keys unpin home-ubuntu
  wayhome keys list")]
pub struct Args {
    /// Print JSON, for scripts.
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Pin(Pin),
    Unpin(Unpin),
    List(List),
}

/// Pin the key of a gateway or of a home: no other is let pass for it.
///
/// Take the key from a person or a machine that you trust, and not from the network. A pin that
/// exists is never changed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wayhome keys pin wayhome://gw.example.org 'ssh-ed25519 AAAA…'
  wayhome keys pin home-ubuntu 'ssh-ed25519 AAAA…'")]
struct Pin {
    /// A gateway (`wayhome://gw.example.org`) or a home (`home-ubuntu`)
    #[arg(value_name = "WHOSE")]
    whose: Whose,
    /// Its public key, as `wayhome keys` shows it there
    #[arg(value_name = "KEY")]
    key: Key,
}

/// Remove a pin.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wayhome keys unpin home-ubuntu")]
struct Unpin {
    /// A gateway (`wayhome://gw.example.org`) or a home (`home-ubuntu`)
    #[arg(value_name = "WHOSE")]
    whose: Whose,
}

/// Show the pins: the gateways', and then the homes'.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wayhome keys list
  wayhome keys list --json")]
struct List {
    /// Print JSON, for scripts.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome<u8> {
    match &args.command {
        None => show(args.json)?,
        Some(Command::Pin(args)) => pin(args)?,
        Some(Command::Unpin(args)) => unpin(args)?,
        Some(Command::List(args)) => list(args.json)?,
    }
    Ok(0)
}

/// This machine's own key, for scripts.
#[derive(Serialize)]
struct Own<'a> {
    key: Key,
    fingerprint: String,
    identity: &'a Path,
}

fn show(json: bool) -> Outcome {
    let path = usual_path()?;
    if let Some(folder) = path.parent() {
        paths::private_dir(folder)?;
    }
    let (identity, is_new) = Identity::read_or_make(&path)?;
    let key = identity.key();
    let own = Own { key, fingerprint: fingerprint(&key), identity: &path };
    if is_new {
        report::note(format_args!("made a key for this machine: `{}`", path.display()));
    }
    if json {
        return print(to_json(&own)?);
    }
    report::note(format_args!("{} `{}`", own.fingerprint, public_half(&path).display()));
    print(format!("{key}\n"))
}

fn pin(Pin { whose, key }: &Pin) -> Outcome {
    if Pins::ours()?.add(whose, *key)? {
        report::note(format_args!("pinned `{whose}`: {}", fingerprint(key)));
    } else {
        report::note(format_args!("`{whose}` has this pin already"));
    }
    Ok(())
}

fn unpin(Unpin { whose }: &Unpin) -> Outcome {
    if !Pins::ours()?.remove(whose)? {
        return Err(Failure::usage(format!("`{whose}` is not pinned here"))
            .hint("`wayhome keys list` shows what is"));
    }
    report::note(format_args!("`{whose}` is not pinned any more"));
    Ok(())
}

/// A pin, for scripts.
#[derive(Serialize)]
struct Pinned {
    name: String,
    key: Key,
    fingerprint: String,
}

#[derive(Serialize)]
struct AllPins {
    gateways: Vec<Pinned>,
    homes: Vec<Pinned>,
}

fn list(json: bool) -> Outcome {
    fn all<N: ToString>(pins: Vec<(N, Key)>) -> Vec<Pinned> {
        let pinned = |(name, key): (N, Key)| Pinned {
            name: name.to_string(),
            key,
            fingerprint: fingerprint(&key),
        };
        pins.into_iter().map(pinned).collect()
    }
    let pins = Pins::ours()?;
    let pins = AllPins { gateways: all(pins.gateways()?), homes: all(pins.homes()?) };
    if json {
        return print(to_json(&pins)?);
    }
    let all = pins.gateways.iter().chain(&pins.homes);
    print(all.map(|pin| format!("{} {}\n", pin.name, pin.key)).collect())
}

fn to_json(value: &impl Serialize) -> Outcome<String> {
    let text = serde_json::to_string_pretty(value);
    text.map(|text| text + "\n")
        .map_err(|error| Failure::new("the keys cannot be written as JSON").because(&error))
}

fn print(text: String) -> Outcome {
    report::print(text).map_err(|error| Failure::new("the keys cannot be written").because(&error))
}
