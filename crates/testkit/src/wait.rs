//! Waiting for a condition, with a deadline that says what was last seen. Never a bare sleep.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::Instant;

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Asks until the answer is `Ok`, or fails with the last `Err` once `limit` has passed.
pub async fn until<T, E, F, Fut>(what: &str, limit: Duration, mut ask: F) -> Result<T>
where
    E: Display,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let started = Instant::now();
    loop {
        let last = match ask().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        if started.elapsed() > limit {
            bail!("{what}: not within {limit:?}; last: {last:#}");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
