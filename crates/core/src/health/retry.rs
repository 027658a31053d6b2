//! How a cause is retried: the policy, and its delays.
//!
//! The delays grow and are jittered by [`Backoff`], which only a road that was up starts over. Here
//! stand the bounds, each with the reason for its value.

use core::time::Duration;

use crate::backoff::Backoff;

/// The longest wait after an attempt that never reached the gateway's sshd.
const SOON: Duration = Duration::from_secs(1);

/// The same, where nothing can be knocked at: then each attempt is a whole login at a jump host.
const SOON_UNKNOCKED: Duration = Duration::from_secs(5);

/// The longest wait after an attempt that reached it and was turned away: sshd (9.8 and later) and
/// its guards ban addresses that come too often.
const GENTLY: Duration = Duration::from_secs(30);

/// The shortest wait after sshd said that nobody is let in: its bans last for 15 s at least
/// (`PerSourcePenalties min:15s`), and who comes earlier only asks in vain.
const SLOWLY_LEAST: Duration = Duration::from_secs(15);

/// What is added to that, at most. A ban may last for ten minutes (`max:600s`); ten questions in that
/// time are no hammer, and an hour's wait would be none of a road that heals by itself.
const SLOWLY: Duration = Duration::from_secs(60);

/// Between two probes of a link that waits for a person, give or take half of it.
const HALTED: Duration = Duration::from_secs(300);

/// How a cause is retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// It passes by itself: try again within a second, always.
    Soon,
    /// The gateway was reached and did not want us: back off, up to half a minute.
    Gently,
    /// The gateway says that it lets nobody in for now: wait longer than its shortest ban.
    Slowly,
    /// Only a person can mend it: halt, say so, and probe slowly.
    Halt,
}

impl Retry {
    /// The wait before the next attempt. `knockable`: a plain TCP connect comes before each login.
    pub fn wait(self, backoff: &mut Backoff, knockable: bool) -> Duration {
        match self {
            Self::Soon if knockable => backoff.next(SOON),
            Self::Soon => backoff.next(SOON_UNKNOCKED),
            Self::Gently => backoff.next(GENTLY),
            Self::Slowly => SLOWLY_LEAST + backoff.next(SLOWLY),
            Self::Halt => backoff.around(HALTED),
        }
    }

    /// Within what [`Self::wait`] always lies: for those who check it.
    pub fn bounds(self, knockable: bool) -> (Duration, Duration) {
        match self {
            Self::Soon if knockable => (Duration::ZERO, SOON),
            Self::Soon => (Duration::ZERO, SOON_UNKNOCKED),
            Self::Gently => (Duration::ZERO, GENTLY),
            Self::Slowly => (SLOWLY_LEAST, SLOWLY_LEAST + SLOWLY),
            Self::Halt => (HALTED / 2, HALTED / 2 + HALTED),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_wait_lies_within_its_bounds_whatever_came_before(
            seed: u64,
            knockable: bool,
            history in prop::collection::vec(0usize..4, 0..40),
        ) {
            let all = [Retry::Soon, Retry::Gently, Retry::Slowly, Retry::Halt];
            let mut backoff = Backoff::new(Duration::from_millis(250), seed);
            for retry in history.into_iter().map(|which| all[which]).chain(all) {
                let (least, most) = retry.bounds(knockable);
                let wait = retry.wait(&mut backoff, knockable);
                prop_assert!(wait >= least && wait <= most, "{retry:?}: {wait:?}");
            }
        }
    }

    #[test]
    fn who_is_turned_away_again_and_again_waits_longer() {
        let mean = |skipped: usize| {
            let sum: Duration = (0..500)
                .map(|seed| {
                    let mut backoff = Backoff::new(Duration::from_millis(250), seed);
                    for _ in 0..skipped {
                        Retry::Gently.wait(&mut backoff, true);
                    }
                    Retry::Gently.wait(&mut backoff, true)
                })
                .sum();
            sum / 500
        };
        assert!(mean(0) < Duration::from_millis(250));
        assert!(mean(4) > mean(0) * 8, "{:?} after {:?}", mean(4), mean(0));
        assert!(mean(20) > Duration::from_secs(12), "{:?}", mean(20));
    }
}
