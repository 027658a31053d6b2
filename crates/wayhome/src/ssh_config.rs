//! The laptop's side of stock OpenSSH: what makes `ssh home-ubuntu` work where nothing is installed.
//!
//! At home, [`render`] turns the [`Roads`] that lead there into a text for `~/.ssh/config` and
//! `~/.ssh/known_hosts`. On the laptop a person pastes it, or [`install`] writes it. The text crosses
//! from one machine to the other by mail or chat, so [`parse`] trusts none of it: it reads values
//! back into the same types, and what is written is rendered anew from those.
//!
//! A road that leads through `wayhome connect` is written by the laptop for itself (`native`).
//!
//! Which roads there are, [`gather`] finds out. Nothing here prints.

pub mod gather;
mod include;
pub mod install;
mod native;
mod parse;
mod render;
#[cfg(test)]
mod round_trip;
mod values;

pub use native::NativeRoad;
pub use parse::{MAX_TEXT, ParseError, Printed, parse};
pub use render::{GatewayRoad, HomeRoad, Roads, RoadsError, render};
pub use values::{Alias, HostName, KeyPath, UserName, ValueError};
