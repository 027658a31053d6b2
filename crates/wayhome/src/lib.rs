//! Wayhome: `ssh home-ubuntu`, from anywhere. See `ARCHITECTURE.md` for the map.

pub mod command;
pub mod ssh_config;
