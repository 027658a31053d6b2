//! The agent as a service of the machine: what is written for systemd (or launchd), and how it gets
//! there and away again.
//!
//! What is written, and what is done in which order, is decided without touching anything: `unit`,
//! `launchd` and `plan` are pure, and `--dry-run` prints what they say. `apply` does it.

pub mod launchd;
pub mod unit;
