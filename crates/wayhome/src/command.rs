//! One module for each command: its arguments beside its function.

pub mod gate;
