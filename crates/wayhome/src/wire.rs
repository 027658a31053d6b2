//! The native road as it travels: keys, TLS, frames and messages. `docs/protocol.md` is the
//! specification. Who may do what is not decided here.

pub mod frame;
pub mod identity;
pub mod inner;
pub mod leg;
pub mod messages;
pub mod pieces;
pub mod session;
pub mod tls;

/// The longest first flight of an inner TLS that is passed on: with the hybrid key exchange it has
/// about 1,700 bytes.
pub const MAX_FLIGHT: usize = 8192;
