//! Wayhome against real programs and real files: OpenSSH's client and server, shells, the kernel.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "tests fail by panicking, in their helping functions too"
)]

mod agent;
mod causes;
mod cli;
mod connect;
mod gate;
mod gate_key;
mod gate_shells;
mod gateway;
mod import;
mod native;
mod row_one;
mod row_six;
mod seats;
mod service;
mod ssh_config;
mod trial;
mod uninstall;
