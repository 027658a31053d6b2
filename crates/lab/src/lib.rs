//! The lab: throwaway OpenSSH servers, and small networks of namespaces for tests and benches.
//!
//! [`sshd`] and [`keys`] work on any machine, for any user; `wayhome try` uses them. [`machine`]
//! and [`net`] need root and a Linux with namespaces and nftables: ask [`net::Lab::supported`]
//! first, or begin a test with [`needs_lab!`]. [`systemd`] boots whole computers in those networks.
//!
//! Whatever the lab starts ends with the process that started it, also when that is killed, and no
//! file, interface or user of the machine is changed.

#[cfg(feature = "delay")]
pub mod delay;
pub mod error;
pub mod eventually;
pub mod host;
pub mod keys;
pub mod machine;
pub mod net;
pub mod openssh;
pub mod process;
pub mod sshd;
pub mod systemd;

pub use error::{Error, Result};
pub use eventually::eventually;
pub use host::{Here, Host};
pub use machine::Machine;
pub use net::Lab;
pub use openssh::OpenSsh;
pub use sshd::Sshd;
