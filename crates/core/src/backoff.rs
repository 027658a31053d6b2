//! How long to wait before trying again: exponential, with full jitter, under a cap.
//!
//! Full jitter (a delay anywhere between nothing and the bound) spreads a thousand homes that lost
//! their gateway at one moment over the whole of the bound, instead of letting them return as one.

use core::time::Duration;

/// An endless series of delays, each drawn between zero and a bound that doubles up to a cap.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    bound: Duration,
    random: Random,
}

impl Backoff {
    /// A series whose first delay lies below `first`.
    pub fn new(first: Duration, seed: u64) -> Self {
        Self { first, bound: first, random: Random::new(seed) }
    }

    /// The next delay: at most `cap`.
    pub fn next(&mut self, cap: Duration) -> Duration {
        let bound = self.bound.min(cap);
        // A smaller cap, for another kind of failure, does not undo what has been learned.
        self.bound = self.bound.max(bound.saturating_mul(2).min(cap.max(self.first)));
        self.random.below(bound)
    }

    /// A delay of `middle`, give or take half of it: for slow probes, which must not fall into step.
    pub fn around(&mut self, middle: Duration) -> Duration {
        middle / 2 + self.random.below(middle)
    }

    /// A delay anywhere between nothing and `bound`, outside of the series: for those who lost one
    /// thing at one moment.
    pub fn spread(&mut self, bound: Duration) -> Duration {
        self.random.below(bound)
    }

    /// Starts the series over. Only for a road that *was up*: a gateway that accepts and then drops
    /// each attempt must not be hammered.
    pub fn reset(&mut self) {
        self.bound = self.first;
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): enough to spread delays, and nothing secret hangs on it.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: Duration) -> Duration {
        let micros = u64::try_from(bound.as_micros()).unwrap_or(u64::MAX).saturating_add(1);
        // The remainder's bias is far below what a delay could show.
        Duration::from_micros(self.next() % micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FIRST: Duration = Duration::from_millis(250);

    proptest! {
        #[test]
        fn never_above_the_cap(seed: u64, caps in prop::collection::vec(0u64..100_000, 1..50)) {
            let mut backoff = Backoff::new(FIRST, seed);
            for cap in caps.into_iter().map(Duration::from_millis) {
                prop_assert!(backoff.next(cap) <= cap);
            }
        }

        #[test]
        fn a_slow_probe_stays_near_its_middle(seed: u64, seconds in 1u64..10_000) {
            let middle = Duration::from_secs(seconds);
            let delay = Backoff::new(FIRST, seed).around(middle);
            prop_assert!(delay >= middle / 2 && delay <= middle / 2 + middle);
        }

        #[test]
        fn reset_starts_over(seed: u64, rounds in 1usize..20) {
            let mut backoff = Backoff::new(FIRST, seed);
            for _ in 0..rounds {
                backoff.next(Duration::from_secs(60));
            }
            backoff.reset();
            prop_assert!(backoff.next(Duration::from_secs(60)) <= FIRST);
        }
    }

    #[test]
    fn the_jitter_is_full() {
        let cap = Duration::from_secs(1);
        let mut backoff = Backoff::new(FIRST, 7);
        for _ in 0..3 {
            backoff.next(cap);
        }
        let delays: std::vec::Vec<_> = (0..10_000).map(|_| backoff.next(cap)).collect();
        let mean = delays.iter().sum::<Duration>() / 10_000;
        assert!((mean.as_secs_f64() - 0.5).abs() < 0.02, "mean {mean:?}");
        assert!(delays.iter().any(|d| *d < cap / 50), "some are short");
        assert!(delays.iter().any(|d| *d > cap / 50 * 49), "some are long");
    }
}
