//! The native road, laptop → gateway → home, each time beside stock OpenSSH (`ssh -J` over `ssh -N -R`)
//! on the same machines, taking turns.

pub mod bulk;
pub mod echo;
pub mod first;
pub mod idle;
mod peers;
pub mod ports;
mod seats;
pub mod storm;
mod targets;
