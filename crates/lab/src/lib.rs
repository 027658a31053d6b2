//! The lab: throwaway OpenSSH servers, and small networks of namespaces for tests and benches.
//!
//! first, or begin a test with [`needs_lab!`].
//!
//! Whatever the lab starts ends with the process that started it, also when that is killed, and no

pub mod error;
pub mod eventually;
pub mod host;
pub mod keys;
pub mod openssh;
mod process;
pub mod sshd;

pub use error::{Error, Result};
pub use eventually::eventually;
pub use host::{Here, Host};
pub use openssh::OpenSsh;
pub use sshd::Sshd;
