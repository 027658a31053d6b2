//! The native link's hands: TLS to a gateway that runs wayhome. What to do, and when, is decided in
//! `wayhome_core::link`; how it travels stands in docs/protocol.md.
//!
//! - `link`: the hands themselves;
//! - `control`: the control connection, on which the home is registered;
//! - `pool`: the data connections that wait for streams;
//! - `serve`: one stream, from the client's first flight to its end;
//! - `stream`, `target`: the two ends of it, joined;
//! - `home`, `grants`, `streams`: what all native links of an agent share;
//! - `round`: a stream to the own home, for proofs;
//! - `own`: the home's own key at a gateway; `refused`: what a gateway refuses, as a cause.

mod control;
mod grants;
mod home;
mod link;
mod own;
mod pool;
mod refused;
mod round;
mod serve;
mod stream;
mod streams;
mod target;

pub use home::Home;
pub use link::run;
