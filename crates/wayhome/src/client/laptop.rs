//! What a laptop has before it dials: its key, its gateways, and the pins of its homes.

use std::path::PathBuf;

use wayhome_core::address::NativeAddress;

use super::{Gateway, Goal, Wanted};
use crate::error::{Failure, Outcome};
use crate::pins::{Pins, Whose};
use crate::wire::identity::{Identity, usual_path};

/// By which gateways, and with which key: options of each command that opens streams.
#[derive(Debug, clap::Args)]
pub struct Way {
    /// Try this gateway, and not all that are pinned; may be given more than once
    #[arg(long, value_name = "wayhome://HOST")]
    gateway: Vec<NativeAddress>,
    /// The private key to show, and not this machine's own
    #[arg(short, long, value_name = "FILE")]
    identity: Option<PathBuf>,
}

/// A laptop that is ready to dial.
#[derive(Debug)]
pub struct Laptop {
    /// Its key.
    pub identity: Identity,
    gateways: Vec<Gateway>,
    pins: Pins,
}

impl Laptop {
    /// Finds all that can be missing before anything is tried.
    ///
    /// # Errors
    /// If there is no key here, or no gateway is pinned.
    pub fn new(way: &Way) -> Outcome<Self> {
        let identity = match &way.identity {
            Some(file) => Identity::read(file)?,
            None => usual_identity()?,
        };
        let pins = Pins::ours()?;
        let gateways: Vec<Gateway> = if way.gateway.is_empty() {
            pins.gateways()?.into_iter().map(|(address, key)| Gateway { address, key }).collect()
        } else {
            let pinned = |address: &NativeAddress| {
                let key = pins.needed(&Whose::Gateway(address.clone()))?;
                Ok(Gateway { address: address.clone(), key })
            };
            way.gateway.iter().map(pinned).collect::<Outcome<_>>()?
        };
        if gateways.is_empty() {
            return Err(Failure::usage("no gateway is pinned here").hint(
                "`wayhome keys pin wayhome://gw.example.org 'ssh-ed25519 …'`, with the key that it \
                 shows",
            ));
        }
        Ok(Self { identity, gateways, pins })
    }

    /// What there is to ask for.
    ///
    /// # Errors
    /// If the home is not pinned.
    pub fn wanted(&self, goal: &Goal) -> Outcome<Wanted> {
        let home_key = self.pins.needed(&Whose::Home(goal.home.clone()))?;
        Ok(Wanted { goal: goal.clone(), home_key, gateways: self.gateways.clone() })
    }
}

fn usual_identity() -> Outcome<Identity> {
    let file = usual_path()?;
    if file.symlink_metadata().is_err() {
        return Err(Failure::usage("this machine has no key of its own yet")
            .hint("`wayhome keys` makes one; it needs a grant at the gateway, and one at home"));
    }
    Identity::read(&file)
}
