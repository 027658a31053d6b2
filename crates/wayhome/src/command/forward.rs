//! `wayhome forward`

use std::sync::Arc;

use serde::Serialize;

use crate::client::{Laptop, Way};
use crate::command::agent::runtime;
use crate::command::signals::Signals;
use crate::error::{Failure, Outcome};
use crate::forward::local::{Listener, Local};
use crate::forward::{Forward, To, pairs};
use crate::report;

/// On the laptop: homes' services at ports or sockets of this machine, until ^C or TERM.
///
/// Each connection becomes a stream of its own, encrypted from here to the home, which judges each of
/// them. The ports are on loopback, where every user of this machine can reach them; a socket is for
/// its owner alone. With -D it is a SOCKS 5 proxy whose names are homes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wayhome forward home-ubuntu:web 8080
  wayhome forward home-ubuntu:web 8080 home-ubuntu:db ./db.sock attic
  wayhome forward -D 1080")]
pub struct Args {
    /// A home's service, and the port, address or socket for it here; may be repeated.
    /// Without LOCAL it is a free port, which is printed
    #[arg(value_name = "HOME:SERVICE [LOCAL]", required_unless_present = "dynamic")]
    forwards: Vec<String>,
    /// A SOCKS 5 proxy here: `home-ubuntu` is a home, `web.home-ubuntu` its service `web`
    #[arg(short = 'D', long, value_name = "[ADDRESS:]PORT")]
    dynamic: Vec<Local>,
    /// Print what listens where as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    way: Way,
}

/// What leads where, for a script.
#[derive(Serialize)]
struct Shown {
    forwards: Vec<Lead>,
}

#[derive(Serialize)]
struct Lead {
    /// Where to, or that each caller says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    home: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    kind: &'static str,
    listen: Vec<String>,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome<u8> {
    let mut wanted: Vec<(To, Local)> = pairs::read(&args.forwards)?
        .into_iter()
        .map(|(goal, local)| (To::Service(goal), local))
        .collect();
    wanted.extend(args.dynamic.iter().map(|local| (To::Asked, local.clone())));
    let laptop = Laptop::new(&args.way)?;
    for (to, local) in &wanted {
        if let To::Service(goal) = to {
            laptop.wanted(goal)?;
        }
        if local.is_public() {
            report::warning(format_args!(
                "whoever reaches this machine reaches `{local}`, and gets home with its key"
            ));
        }
    }
    runtime()?.block_on(async {
        let mut signals = Signals::listen()?;
        let mut listening = Vec::new();
        for (to, local) in wanted {
            // All of them, or none.
            listening.push((to, local.listen()?));
        }
        show(&listening, args.json)?;
        let forward = Arc::new(Forward::new(laptop));
        for (to, listeners) in listening {
            for listener in listeners {
                tokio::spawn(Arc::clone(&forward).keep(listener, to.clone()));
            }
        }
        signals.next().await;
        Ok(0)
    })
}

/// Says what leads where: it is ready.
fn show(listening: &[(To, Vec<Listener>)], as_json: bool) -> Outcome {
    let leads = listening.iter().map(|(to, listeners)| {
        let (kind, goal) = match to {
            To::Service(goal) => ("service", Some(goal)),
            To::Asked => ("socks", None),
        };
        Lead {
            home: goal.map(|goal| goal.home.to_string()),
            service: goal.map(|goal| goal.service.to_string()),
            kind,
            listen: listeners.iter().map(|at| at.place().to_string()).collect(),
        }
    });
    let shown = Shown { forwards: leads.collect() };
    let text = if as_json {
        let json = serde_json::to_string(&shown);
        json.map_err(|why| Failure::new("it cannot be put as JSON").because(&why))? + "\n"
    } else {
        let line = |lead: &Lead| match (&lead.home, &lead.service) {
            (Some(home), Some(service)) => {
                format!("{home}:{service} is at {}\n", lead.listen.join(" and "))
            }
            _ => format!("all homes are behind the SOCKS proxy {}\n", lead.listen.join(" and ")),
        };
        shown.forwards.iter().map(line).collect()
    };
    report::data("what listens where", text)
}
