//! When to renew: at half of a certificate's life, give or take, so that proxies that began together do not come together;
//! and how long to wait after a failure, so that what is left of the life is enough for several more attempts.

use std::time::{Duration, SystemTime};

/// A renewal is this share of half a life early or late, at most.
const JITTER: f64 = 0.1;
/// The first pause after a failure; the shortest there is.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
/// The longest.
pub const PAUSE_MAX: Duration = Duration::from_secs(60);
/// What is left of a life is enough for this many pauses.
const ATTEMPTS_LEFT: u32 = 10;

/// When to renew a certificate that was issued at `issued`; `draw` is a uniform number from 0 to 1. The life counts from the
/// issue, not from the certificate's own beginning, which lies before it.
pub fn renew_at(issued: SystemTime, not_after: SystemTime, draw: f64) -> SystemTime {
    let half = not_after.duration_since(issued).unwrap_or_default() / 2;
    let draw = if draw.is_finite() { draw.clamp(0.0, 1.0) } else { 0.5 };
    issued + half.mul_f64(1.0 - JITTER + 2.0 * JITTER * draw)
}

/// The pause after so many failures in a row (1 is the first), with so much of the life left; `draw` from 0 to 1.
pub fn pause(failures: u32, left: Duration, draw: f64) -> Duration {
    let doubled = PAUSE_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(PAUSE_MAX);
    let draw = if draw.is_finite() { draw.clamp(0.0, 1.0) } else { 0.5 };
    let bound = if left.is_zero() { PAUSE_MAX } else { (left / ATTEMPTS_LEFT).max(PAUSE_FIRST) };
    doubled.min(bound).mul_f64(0.5 + draw / 2.0)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_day_is_renewed_around_noon() {
        let (issued, end) = (UNIX_EPOCH, UNIX_EPOCH + Duration::from_secs(24 * 3600));
        let hours = |draw| renew_at(issued, end, draw).duration_since(issued).unwrap().as_secs_f64() / 3600.0;
        assert!(
            (hours(0.0) - 10.8).abs() < 1e-6 && (hours(0.5) - 12.0).abs() < 1e-6 && (hours(1.0) - 13.2).abs() < 1e-6
        );
    }

    #[test]
    fn pauses_grow_and_leave_room_for_more_attempts() {
        let plenty = Duration::from_secs(12 * 3600);
        let pauses: Vec<u64> = (1..10).map(|failures| pause(failures, plenty, 1.0).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(pause(9, Duration::from_secs(100), 1.0), Duration::from_secs(10));
        assert_eq!(pause(9, Duration::from_secs(2), 1.0), Duration::from_secs(1));
        assert_eq!(pause(9, Duration::ZERO, 1.0), PAUSE_MAX);
    }

    proptest! {
        #[test]
        fn a_renewal_lies_within_the_life(life in 0u64..400_000_000, draw: f64) {
            let end = UNIX_EPOCH + Duration::from_secs(life);
            let at = renew_at(UNIX_EPOCH, end, draw);
            prop_assert!(at >= UNIX_EPOCH && at <= end);
            prop_assert!(pause(life as u32, Duration::from_secs(life), draw) <= PAUSE_MAX);
        }
    }
}
