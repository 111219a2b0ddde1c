//! Circuit-breaker bounds of one cluster (DR30, DR35, DR36, DR38): what is over a bound is refused, 503 with flag UO.
//!
//! The bounds are per proxy, so all its workers share one count. A bound that is not set, Istio's default (TR05), is
//! not counted and costs nothing; one that is set costs one atomic each way and is exact with any number of workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use config::Thresholds;

use crate::budget::Budget;

/// The bounds of one cluster, shared by the workers.
#[derive(Debug, Default)]
pub struct Limits {
    /// Open connections.
    pub connections: Limit,
    /// Requests that wait for a connection.
    pub pending: Limit,
    /// Requests under way.
    pub requests: Limit,
    /// Retries under way; asked for with [`Limits::retry`].
    retries: Limit,
    /// What bounds retries instead of a number.
    budget: Option<Budget>,
}

impl Limits {
    /// The bounds of a cluster.
    pub fn new(thresholds: &Thresholds) -> Self {
        Self::default().with(thresholds)
    }

    /// The same counts under other bounds, for a cluster that was changed. A bound that was not set before begins to
    /// count now: what is under way already is not seen.
    pub fn with(&self, thresholds: &Thresholds) -> Self {
        let Thresholds { max_connections, max_pending_requests, max_requests, max_retries, retry_budget } = *thresholds;
        // A budget is a share of what is under way, so that is counted even without bounds of its own.
        let counts = retry_budget.is_some();
        Self {
            connections: self.connections.with(max_connections, false),
            pending: self.pending.with(max_pending_requests, counts),
            requests: self.requests.with(max_requests, counts),
            retries: self.retries.with(if counts { u32::MAX } else { max_retries }, counts),
            budget: retry_budget.map(Budget::new),
        }
    }

    /// A request begins; counted where a budget looks at it. `now` is the time since a moment that stays the same.
    pub fn begin(&self, now: impl FnOnce() -> Duration) {
        if let Some(budget) = &self.budget {
            budget.begin(now());
        }
    }

    /// A place for a retry, or `None` when there may be no more of them.
    pub fn retry(&self, now: impl FnOnce() -> Duration) -> Option<Permit> {
        let Some(budget) = &self.budget else { return self.retries.take() };
        let under_way = [&self.requests, &self.pending].into_iter().filter_map(Limit::used).map(u64::from).sum();
        let most = budget.most(under_way, now());
        self.retries.take_below(u32::try_from(most).unwrap_or(u32::MAX))
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
        Self::default().with(most, false)
    }

    // `counts`: also without a bound.
    fn with(&self, most: u32, counts: bool) -> Self {
        let used = || self.0.as_ref().map(|bounded| bounded.used.clone()).unwrap_or_default();
        Self((most != u32::MAX || counts).then(|| Bounded { most, used: used() }))
    }

    /// A place, or `None` when all are taken.
    pub fn take(&self) -> Option<Permit> {
        self.take_below(u32::MAX)
    }

    /// A place while fewer than `most` are taken, and fewer than the bound.
    fn take_below(&self, below: u32) -> Option<Permit> {
        let Some(Bounded { most, used }) = &self.0 else { return Some(Permit(None)) };
        let most = (*most).min(below);
        // Not an addition that is taken back: between the two, another worker would be refused without need.
        let one_more = |count: u32| (count < most).then_some(count + 1);
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
    fn dr67_a_budget_counts_requests_that_have_no_bound() {
        let budget = config::RetryBudget {
            share: config::Share::percent(50.0).unwrap(),
            min_concurrency: 1,
            interval: Duration::ZERO,
        };
        let limits = Limits::new(&Thresholds { max_retries: 0, retry_budget: Some(budget), ..Thresholds::default() });
        let now = || Duration::ZERO;
        let first = limits.retry(now);
        assert!(first.is_some() && limits.retry(now).is_none());
        let requests: Vec<_> = (0..4).map(|_| limits.requests.take()).collect();
        assert!(limits.retry(now).is_some());
        drop(requests);
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
