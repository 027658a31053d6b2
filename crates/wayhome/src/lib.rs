//! Wayhome: `ssh home-ubuntu`, from anywhere. See `ARCHITECTURE.md` for the map.

pub mod agent;
pub mod command;
