//! Circuit-breaker bounds of one cluster (DR30, DR35, DR36, DR38): what is over a bound is refused, 503 with flag UO.
//!
//! The bounds are per proxy. A bound that is not set costs nothing; one that is set is counted in an atomic that all
//! workers share, so that it is exact whatever the number of workers.

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
        let Thresholds { max_connections, max_pending_requests, max_requests, max_retries } = *thresholds;
        Self {
            connections: Limit::new(max_connections),
            pending: Limit::new(max_pending_requests),
            requests: Limit::new(max_requests),
            retries: Limit::new(max_retries),
        }
    }
}

/// One bound.
#[derive(Debug, Default)]
pub struct Limit(Option<Bounded>);

#[derive(Debug)]
struct Bounded {
    most: u32,
    used: Arc<AtomicU32>,
}

/// A place below a bound, given back when dropped.
#[derive(Debug)]
pub struct Permit(Option<Arc<AtomicU32>>);

impl Limit {
    /// At most `most` at a time; `u32::MAX` is no bound.
    pub fn new(most: u32) -> Self {
        Self((most != u32::MAX).then(|| Bounded { most, used: Arc::default() }))
    }

    /// A place, or `None` when all are taken.
    pub fn take(&self) -> Option<Permit> {
        let Some(Bounded { most, used }) = &self.0 else { return Some(Permit(None)) };
        let before = used.fetch_add(1, Ordering::Relaxed);
        if before >= *most {
            used.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
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
