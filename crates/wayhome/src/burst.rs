//! Events that come in bursts and mean one thing: told once, when they have ceased.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

/// A burst, as far as it has come. The wait for its end may be dropped and begun again: it loses
/// nothing, and does not start over.
#[derive(Debug)]
pub struct Burst {
    /// After this long without another event it is over.
    quiet: Duration,
    /// A burst that goes on for ever is told that often all the same.
    longest: Duration,
    /// Its first and its last event.
    seen: Option<(Instant, Instant)>,
}

impl Burst {
    /// None has begun.
    pub fn new(quiet: Duration, longest: Duration) -> Self {
        Self { quiet, longest, seen: None }
    }

    /// Waits until one has begun and is over. `event` waits for the next event.
    pub async fn over(&mut self, mut event: impl AsyncFnMut() -> io::Result<()>) -> io::Result<()> {
        loop {
            match self.seen {
                None => event().await?,
                Some((first, last)) => {
                    let due = (last + self.quiet).min(first + self.longest);
                    let Ok(seen) = timeout_at(due, event()).await else {
                        self.seen = None;
                        return Ok(());
                    };
                    seen?;
                }
            }
            let now = Instant::now();
            self.seen = Some((self.seen.map_or(now, |(first, _)| first), now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use tokio::time::{advance, sleep, timeout};

    const QUIET: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(1);

    fn runtime() -> tokio::runtime::Runtime {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().start_paused(true).build().unwrap()
    }

    #[test]
    fn many_events_are_told_once() {
        runtime().block_on(async {
            let (mut burst, mut events) = (Burst::new(QUIET, LONGEST), 5);
            let began = Instant::now();
            let told = burst.over(async || {
                if events == 0 {
                    pending::<()>().await;
                }
                events -= 1;
                sleep(QUIET / 2).await;
                Ok(())
            });
            told.await.unwrap();
            assert_eq!(began.elapsed(), QUIET / 2 * 5 + QUIET);
        });
    }

    #[test]
    fn an_endless_one_is_told_too() {
        runtime().block_on(async {
            let began = Instant::now();
            let mut burst = Burst::new(QUIET, LONGEST);
            let told = burst.over(async || {
                sleep(QUIET / 2).await;
                Ok(())
            });
            told.await.unwrap();
            assert!(began.elapsed() <= LONGEST + QUIET, "{:?}", began.elapsed());
        });
    }

    #[test]
    fn a_wait_that_is_dropped_again_and_again_comes_to_its_end() {
        runtime().block_on(async {
            let (mut burst, mut events) = (Burst::new(QUIET, LONGEST), 1);
            let mut event = async || {
                if events == 0 {
                    pending::<()>().await;
                }
                events -= 1;
                Ok(())
            };
            let mut dropped = 0;
            while timeout(Duration::from_millis(10), burst.over(&mut event)).await.is_err() {
                dropped += 1;
                assert!(dropped < 20, "it never ends");
                advance(Duration::from_millis(1)).await;
            }
        });
    }
}
