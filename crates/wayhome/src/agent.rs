//! The daemon at home. So far: what its ssh link runs at the gateway.

pub mod ssh;
