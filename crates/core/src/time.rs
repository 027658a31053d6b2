//! Time as the decisions see it: a span since the program began, handed in by whoever has a clock.

use core::ops::{Add, Sub};
use core::time::Duration;

/// A moment: the monotonic time since the program began.
///
/// `core` has no clock. The agent makes these from its own; tests count them up by hand, so that a
/// day of faults runs in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(Duration);

impl Time {
    /// The beginning.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// The moment that lies `span` after the beginning.
    pub const fn after_start(span: Duration) -> Self {
        Self(span)
    }

    /// How long this moment lies after `earlier`; zero if it lies before.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }
}

impl Sub<Duration> for Time {
    type Output = Self;

    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(span))
    }
}
