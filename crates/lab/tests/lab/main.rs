//! The lab proves itself: what it isolates, what it connects and cuts, and that OpenSSH works in it.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests fail by panicking, in their helping functions too"
)]

mod isolation;
mod network;
mod seats;
mod servers;
mod systemd;
