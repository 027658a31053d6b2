//! The ssh link: the system's `ssh`, supervised.

pub mod script;
