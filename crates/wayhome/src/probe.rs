//! Row 1: a look at a road of stock programs, with nothing of wayhome's at either end of it.
//!
//! The system's `ssh` logs in, as the person's own configuration has it; over that login it is seen
//! who holds the port, how the gateway's sshd is set, and which host key is behind the port. `look`
//! gathers what can be known; `sight` says what it means; `table` shows it. Row 6 is looked at from the gateway itself:
//! `stock`.

mod look;
mod sight;
pub mod stock;
mod table;

pub use look::{Wanted, look};
pub use sight::{Sight, Verdict};
pub use table::table;
