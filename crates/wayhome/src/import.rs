//! Import: what an old tunnel did (an `ssh -R` or autossh command line, or the systemd unit that runs
//! one), as an `agent.toml`; and the switch from one to the other.
//!
//! Reading is pure: `words` and `unit` and `exec` know systemd, `shell` a shell, `ssh_args` and
//! `options` know ssh, and `tunnel` makes of it what an agent can be told. Only `find` looks at the
//! machine.
//!
//! The switch: `take_over` is what a person sees, `switch` does it in a service of its own, `record` is
//! what both of them know.

pub mod exec;
pub mod find;
pub mod manager;
pub mod notes;
pub mod options;
pub mod record;
pub mod render;
pub mod shell;
pub mod specifiers;
pub mod ssh_args;
pub mod switch;
pub mod take_over;
pub mod tunnel;
pub mod unit;
pub mod words;
