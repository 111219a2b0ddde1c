//! Circuit-breaker bounds of one cluster (DR30, DR35, DR36, DR38): what is over a bound is refused, 503 with flag UO.
//!
//! The bounds are per proxy, so all its workers share one count. A bound that is not set, Istio's default (TR05), is
//! not counted and costs nothing; one that is set costs one atomic each way and is exact with any number of workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use config::Thresholds;

/// The bounds of one cluster, shared by the workers.
#[derive(Debug, Default)]
pub struct Limits {
    /// Open connections.
    pub connections: Limit,
    /// Requests that wait for a connection.
    pub pending: Limit,
    /// Requests under way.
    pub requests: Limit,
    /// Retries under way.
    pub retries: Limit,
}

impl Limits {
    /// The bounds of a cluster.
    pub fn new(thresholds: &Thresholds) -> Self {
        Self::default().with(thresholds)
    }

    /// The same counts under other bounds, for a cluster that was changed. A bound that was not set before begins to
    /// count now: what is under way already is not seen.
    pub fn with(&self, thresholds: &Thresholds) -> Self {
        let Thresholds { max_connections, max_pending_requests, max_requests, max_retries, retry_budget: _ } =
            *thresholds;
        Self {
            connections: self.connections.with(max_connections),
            pending: self.pending.with(max_pending_requests),
            requests: self.requests.with(max_requests),
            retries: self.retries.with(max_retries),
        }
    }
}

/// One bound; the default is none.
#[derive(Debug, Default)]
pub struct Limit(Option<Bounded>);

#[derive(Debug)]
struct Bounded {
    most: u32,
    used: Arc<AtomicU32>,
}

/// A place below a bound, given back when dropped.
#[derive(Debug)]
#[must_use = "the place is given back at once"]
pub struct Permit(Option<Arc<AtomicU32>>);

impl Limit {
    /// At most `most` at a time; `u32::MAX` is no bound.
    pub fn new(most: u32) -> Self {
        Self::default().with(most)
    }

    fn with(&self, most: u32) -> Self {
        let used = || self.0.as_ref().map(|bounded| bounded.used.clone()).unwrap_or_default();
        Self((most != u32::MAX).then(|| Bounded { most, used: used() }))
    }

    /// A place, or `None` when all are taken.
    pub fn take(&self) -> Option<Permit> {
        let Some(Bounded { most, used }) = &self.0 else { return Some(Permit(None)) };
        // Not an addition that is taken back: between the two, another worker would be refused without need.
        let one_more = |count: u32| (count < *most).then_some(count + 1);
        used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Permit(Some(used.clone())))
    }

    /// Places taken, when the bound is set.
    pub fn used(&self) -> Option<u32> {
        self.0.as_ref().map(|bounded| bounded.used.load(Ordering::Relaxed))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(used) = &self.0 {
            used.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_refuses_and_gives_back() {
        let limit = Limit::new(1);
        let permit = limit.take().unwrap();
        assert!(limit.take().is_none() && limit.used() == Some(1));
        drop(permit);
        assert!(limit.take().is_some());
        assert!(Limit::new(0).take().is_none());
    }

    #[test]
    fn no_bound_is_not_counted() {
        let limits = Limits::new(&Thresholds::default());
        let permits: Vec<_> = (0..10).map(|_| limits.requests.take()).collect();
        assert!(permits.iter().all(Option::is_some) && limits.requests.used().is_none());
    }

    #[test]
    fn a_changed_bound_keeps_its_count() {
        let bound = |max_requests| Thresholds { max_requests, ..Thresholds::default() };
        let before = Limits::new(&bound(5));
        let permits: Vec<_> = (0..3).map(|_| before.requests.take().unwrap()).collect();
        let after = before.with(&bound(2));
        assert!(after.requests.take().is_none());
        drop(permits);
        assert!(after.requests.take().is_some());
    }

    #[test]
    fn workers_together_never_exceed_a_bound() {
        let limit = Limit::new(3);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        let _permit = limit.take();
                        assert!(limit.used().is_some_and(|used| used <= 3));
                    }
                });
            }
        });
        assert_eq!(limit.used(), Some(0));
    }
}
