//! How long to wait before connecting again.
//!
//! In: failures, successes, and a uniform draw. Out: a pause that doubles from the base to the cap, drawn from its upper
//! half, so that proxies that lost one control plane do not come back in step. Never sleeps or draws itself.

use std::time::Duration;

use crate::limits::{BACKOFF_BASE, BACKOFF_MAX};

/// The pauses of one client.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next pause; `draw` is uniform over all `u32`.
    pub fn next(&mut self, draw: u32) -> Duration {
        // 20 doublings are far beyond the cap, and far below an overflow.
        let longest = BACKOFF_BASE.saturating_mul(1 << self.failures.min(20)).min(BACKOFF_MAX);
        self.failures = self.failures.saturating_add(1);
        longest / 2 + longest.mul_f64(f64::from(draw) / f64::from(u32::MAX) / 2.0)
    }

    /// It worked: the next pause is short again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_the_cap_and_jitter_fills_the_upper_half() {
        let mut backoff = Backoff::default();
        let longest: Vec<u128> = (0..9).map(|_| backoff.next(u32::MAX).as_millis()).collect();
        assert_eq!(longest, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(backoff.next(0), BACKOFF_MAX / 2);
        backoff.reset();
        assert_eq!(backoff.next(0), BACKOFF_BASE / 2);
    }
}
