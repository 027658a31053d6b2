//! The commands: one file for each, with its arguments beside what it does.

pub mod agent;
pub mod completions;
pub mod connect;
pub mod forward;
pub mod gate;
pub mod gateway;
pub mod import;
pub mod keys;
pub mod man;
pub mod open;
pub mod reload;
pub mod service;
mod signals;
pub mod ssh_config;
pub mod status;
pub mod try_road;
pub mod uninstall;
