//! Why a road is not up: each cause with whose fault it is, what to do, and how to retry.
//!
//! A cause is a value, never a string to be searched: whoever meets a failure in the world names it
//! here, and everything that speaks of it (status, logs, exit codes, the retry policy) reads this.
//!
//! - `cause`: the causes, and how each reads;
//! - `table`: what follows from each: a row of kind, fault, retry and remedy;
//! - `retry`: how long to wait;
//! - `detail`: a stranger's words, bounded and harmless.

mod cause;
mod detail;
mod retry;
mod table;
#[cfg(test)]
pub(crate) mod tests;

pub use cause::Cause;
pub use detail::Detail;
pub use retry::Retry;
use serde::{Deserialize, Serialize};

/// Where to look first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// This machine, or its configuration.
    Home,
    /// The network between.
    Network,
    /// The gateway, or its configuration.
    Gateway,
    /// What stands behind a service at home.
    Target,
}
