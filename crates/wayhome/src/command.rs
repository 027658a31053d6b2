//! The commands: one file for each, with its arguments beside what it does.

pub mod ssh_config;
