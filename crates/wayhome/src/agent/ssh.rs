//! The ssh link's hands: the system's own `ssh`, run as a child and spoken to over its control
//! socket. What to do, and when, is decided in `wayhome_core::link`.

pub mod ask;
mod certificate;
pub mod diagnose;
pub mod forward;
pub mod hold;
mod knock;
pub mod known;
pub mod link;
pub mod master;
pub mod mux;
pub mod pin;
pub mod proof;
pub mod reach;
pub mod script;
mod version;
