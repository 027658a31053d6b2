//! Wayhome's decisions.
//!
//! Facts go in, decisions come out. There is no runtime, no socket, no file, no environment and no
//! clock in here: `now` is an argument. The crate is `no_std`, so the compiler keeps it so.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod address;
pub mod admission;
pub mod backoff;
pub mod grant;
pub mod health;
pub mod host_key;
pub mod key;
pub mod known_hosts;
pub mod link;
pub mod liveness;
pub mod load;
pub mod name;
pub mod refusal;
pub mod route;
pub mod secret;
pub mod service;
pub mod status;
pub mod switch;
pub mod time;
