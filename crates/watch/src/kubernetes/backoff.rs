//! How long to wait before the next attempt: doubling, bounded, with jitter so that replicas do not come back in step.
//!
//! In: failures and successes. Out: pauses. Sleeps not.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// The first pause.
const FIRST: Duration = Duration::from_millis(100);
/// The longest.
pub const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Pauses after failures in a row.
#[derive(Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The pause after another failure.
    pub(crate) fn next(&mut self) -> Duration {
        let full = FIRST.saturating_mul(1 << self.failures.min(16)).min(PAUSE_MAX);
        self.failures = self.failures.saturating_add(1);
        jittered(full)
    }

    /// It went well.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Between half of a pause and all of it.
pub(crate) fn jittered(full: Duration) -> Duration {
    // Each `RandomState` has other keys: enough to spread pauses, and nothing more is needed.
    let random = RandomState::new().hash_one(0) >> 32;
    full / 2 + full.mul_f64(random as f64 / f64::from(u32::MAX)) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_bound_and_start_over_after_success() {
        let mut backoff = Backoff::default();
        for full in [100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000] {
            let pause = backoff.next().as_millis();
            assert!((full / 2..=full).contains(&pause), "{pause} of {full}");
        }
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}
