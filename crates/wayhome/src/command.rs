//! The commands, one file each.

pub mod agent;
pub mod status;
