//! How long to wait before a retry: exponential with full jitter (Envoy `RetryBackOff`, Istio VS86).

use std::time::Duration;

/// Envoy's base when the route gives none.
pub const BASE_DEFAULT: Duration = Duration::from_millis(25);
/// The longest wait is this many times the base.
const CAP_TIMES: u32 = 10;

/// The wait before retry number `retry` (from 1): uniform between 0 and `base * (2^retry - 1)`, at most ten times the
/// base.
pub fn wait(base: Option<Duration>, retry: u32, draw: u32) -> Duration {
    let base = base.unwrap_or(BASE_DEFAULT);
    let growth = 2_u32.saturating_pow(retry.min(31)).saturating_sub(1).min(CAP_TIMES);
    let most = base.saturating_mul(growth);
    most.mul_f64(f64::from(draw) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_and_stops_growing() {
        let most = |retry| wait(None, retry, u32::MAX).as_millis();
        assert_eq!([most(1), most(2), most(3), most(4), most(40)], [25, 75, 175, 250, 250]);
        assert_eq!(wait(None, 3, 0), Duration::ZERO);
        assert_eq!(wait(Some(Duration::from_secs(1)), 1, u32::MAX), Duration::from_secs(1));
    }
}
