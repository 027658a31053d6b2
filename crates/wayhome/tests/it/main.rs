//! Wayhome against real programs: OpenSSH's client and server, shells, and the kernel's `/proc`.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "tests fail by panicking, in their helping functions too"
)]

mod gate;
mod gate_key;
mod gate_shells;
mod gateway;
