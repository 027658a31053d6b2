//! The commands: one file for each, with its arguments beside what it does.

pub mod agent;
pub mod gate;
pub mod import;
pub mod ssh_config;
pub mod status;
pub mod try_road;
