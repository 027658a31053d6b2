//! Wayhome: `ssh home-ubuntu`, from anywhere. See `ARCHITECTURE.md` for the map.

pub mod agent;
mod burst;
pub mod cli;
pub mod client;
pub mod command;
pub mod config;
pub mod error;
pub mod forward;
pub mod gateway;
pub mod grants;
pub mod import;
mod logging;
pub mod manual;
pub mod paths;
mod patient;
pub mod pins;
pub mod probe;
pub mod relay;
pub mod report;
pub mod secret;
pub mod service;
pub mod ssh_config;
mod supervise;
pub mod trial;
pub mod uninstall;
mod watch;
pub mod wire;
