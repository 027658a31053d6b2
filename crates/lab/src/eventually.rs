//! Waiting for something to become true: asked again and again until a deadline, never slept for.

use std::thread;
use std::time::{Duration, Instant};

/// Short enough not to add to what is measured, long enough to leave two cores to the measured.
const PAUSE: Duration = Duration::from_millis(10);

/// Asks until the answer is yes, at least once; `false` if the time ran out first.
pub fn eventually(within: Duration, mut is_true: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + within;
    loop {
        if is_true() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(PAUSE);
    }
}

/// Asserts that an expression becomes true within a time:
/// `assert_eventually!(port_is_open(), within = Duration::from_secs(2), "no listener on {port}")`.
#[macro_export]
macro_rules! assert_eventually {
    ($condition:expr, within = $within:expr $(,)?) => {
        $crate::assert_eventually!($condition, within = $within, "{}", stringify!($condition))
    };
    ($condition:expr, within = $within:expr, $($text:tt)+) => {{
        let within: ::std::time::Duration = $within;
        assert!(
            $crate::eventually(within, || $condition),
            "not within {within:?}: {}",
            format_args!($($text)+),
        );
    }};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn becomes_true() {
        let mut asked = 0;
        assert_eventually!(
            {
                asked += 1;
                asked == 3
            },
            within = Duration::from_secs(5),
            "asked {asked} times"
        );
    }

    #[test]
    fn asks_once_even_without_time_and_then_gives_up() {
        let mut asked = 0;
        let answer = eventually(Duration::ZERO, || {
            asked += 1;
            false
        });
        assert!(!answer);
        assert_eq!(asked, 1);
    }
}
