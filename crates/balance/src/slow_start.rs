//! New hosts get their share little by little (Envoy `SlowStartConfig`, Istio DR25).
//!
//! A host's age counts from when it was first seen healthy. While any host is young, hosts are taken in turns by their
//! weights, those of young ones reduced; when none is, the usual picks are made again.

use std::time::Duration;

use config::SlowStart;
use config::balancing::MILLION;

/// When the hosts of a set came, in milliseconds of the worker's clock.
#[derive(Debug, Default)]
pub(crate) struct Ages {
    /// By place in the set; `None` before the host was healthy.
    pub(crate) since: Vec<Option<u64>>,
    /// Until then some host is young.
    pub(crate) until: u64,
}

impl Ages {
    /// The ages of hosts that came at some times; nothing without slow start.
    pub(crate) fn new(slow_start: Option<SlowStart>, since: impl Iterator<Item = Option<u64>>) -> Self {
        let Some(slow_start) = slow_start else { return Self::default() };
        let since: Vec<Option<u64>> = since.collect();
        let newest = since.iter().flatten().max();
        Self { until: newest.map_or(0, |newest| newest.saturating_add(millis(slow_start.window))), since }
    }

    /// What the weight of a host is multiplied by now.
    pub(crate) fn factor(&self, slow_start: Option<SlowStart>, host: u32, now: u64) -> f64 {
        match (slow_start, self.since.get(host as usize)) {
            (Some(slow_start), Some(Some(since))) => factor(slow_start, now.saturating_sub(*since)),
            _ => 1.0,
        }
    }
}

fn factor(slow_start: SlowStart, age: u64) -> f64 {
    let SlowStart { window, aggression_millionths, minimum_millionths } = slow_start;
    let window = millis(window);
    if age >= window {
        return 1.0;
    }
    let aggression = f64::from(aggression_millionths) / f64::from(MILLION);
    let part = (age.max(1) as f64 / window as f64).powf(1.0 / aggression);
    part.max(f64::from(minimum_millionths) / f64::from(MILLION)).max(f64::MIN_POSITIVE)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slow(aggression: f64, minimum: f64) -> SlowStart {
        SlowStart {
            window: Duration::from_secs(10),
            aggression_millionths: (aggression * 1e6) as u32,
            minimum_millionths: (minimum * 1e6) as u32,
        }
    }

    #[test]
    fn dr25_the_factor_grows_from_the_minimum_to_one() {
        let factors = [0, 1000, 5000, 9000, 10_000, 99_000].map(|age| factor(slow(1.0, 0.1), age));
        assert_eq!(factors, [0.1, 0.1, 0.5, 0.9, 1.0, 1.0]);
        assert!(factor(slow(1.0, 0.0), 0) > 0.0, "a share of nothing would wait for ever");
    }

    #[test]
    fn dr25_aggression_above_one_grows_faster_at_first() {
        let half = |aggression| factor(slow(aggression, 0.0), 2500);
        assert_eq!([half(1.0), half(2.0), half(0.5)], [0.25, 0.5, 0.0625]);
    }

    #[test]
    fn young_until_the_newest_host_is_old() {
        let ages = Ages::new(Some(slow(1.0, 0.1)), [Some(5), None, Some(70)].into_iter());
        assert_eq!(ages.until, 10_070);
        assert_eq!(Ages::new(None, [Some(5)].into_iter()).until, 0);
    }
}
