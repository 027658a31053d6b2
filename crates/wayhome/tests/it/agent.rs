//! The agent against real sshds, over networks that are cut, and next to everything that might be in
//! the way at a gateway.

mod contact;
mod neighbours;
mod places;
mod recovery;
mod reload;
mod road;
mod supervision;
