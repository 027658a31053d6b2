//! Several ways at once, each a little after the one before it; the first that succeeds wins, and
//! the others are dropped where they are (as RFC 8305 has it for the addresses of one name).

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

/// Runs them, the next one after `stagger`, or as soon as one has failed.
///
/// # Errors
/// If all fail: every error, in the order of the attempts.
pub async fn first<T, E, F>(
    attempts: impl IntoIterator<Item = F>,
    stagger: Duration,
) -> Result<T, Vec<E>>
where
    F: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    let mut attempts = attempts.into_iter().enumerate();
    let mut running = JoinSet::new();
    let mut failed = Vec::new();
    loop {
        let next = attempts.next();
        let patience = if next.is_some() { stagger } else { Duration::MAX };
        if let Some((place, attempt)) = next {
            running.spawn(async move { attempt.await.map_err(|error| (place, error)) });
        }
        match timeout(patience, running.join_next()).await {
            Ok(Some(Ok(Ok(won)))) => return Ok(won),
            Ok(Some(Ok(Err(lost)))) => failed.push(lost),
            // None is running, and the loop has seen above that none is left to begin.
            Ok(None) => break,
            // A slip of ours in one way does not close the others.
            Ok(Some(Err(broken))) => tracing::error!("an attempt broke off: {broken}"),
            // Time for the next one.
            Err(_) => {}
        }
    }
    failed.sort_by_key(|(place, _)| *place);
    Err(failed.into_iter().map(|(_, error)| error).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{Instant, sleep};

    const STAGGER: Duration = Duration::from_millis(100);

    /// Takes so long, in milliseconds, and then succeeds or not.
    async fn attempt(takes: u64, succeeds: bool) -> Result<u64, u64> {
        sleep(Duration::from_millis(takes)).await;
        if succeeds { Ok(takes) } else { Err(takes) }
    }

    async fn raced(attempts: &[(u64, bool)]) -> (Result<u64, Vec<u64>>, u128) {
        let began = Instant::now();
        let attempts: Vec<_> = attempts.iter().map(|(takes, ok)| attempt(*takes, *ok)).collect();
        (first(attempts, STAGGER).await, began.elapsed().as_millis())
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_that_succeeds_wins_and_none_waits_for_one_that_failed() {
        assert_eq!(raced(&[(50, true), (1, true)]).await, (Ok(50), 50));
        assert_eq!(raced(&[(5000, true), (30, true)]).await, (Ok(30), 130));
        assert_eq!(raced(&[(10, false), (30, true)]).await, (Ok(30), 40));
        assert_eq!(raced(&[(150, true), (200, true)]).await, (Ok(150), 150));
        assert_eq!(raced(&[(300, false), (20, false)]).await, (Err(vec![300, 20]), 300));
        assert_eq!(raced(&[]).await, (Err(vec![]), 0));
    }
}
