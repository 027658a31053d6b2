//! Wayhome on computers with a real systemd, installed as the README says. Each test puts a home, a
//! gateway or a network through something, and nobody helps; that `ssh home-ubuntu` works again on a
//! laptop with nothing but OpenSSH is what counts, and how long that took is printed.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests fail by panicking, in their helping functions too"
)]

mod boots;
mod disk;
mod gateway;
mod processes;
mod road;
mod service;
mod take_over;
