//! Retry budgets (DR67).
//!
//! In: a `retryBudget` block. Out: what the proxy obeys, with Istio's defaults.

use config::{RetryBudget, Share};

use crate::fault::whole;
use crate::notes::Notes;

/// Share of the requests, in percent, when none is said.
const PERCENT: f64 = 20.0;
/// Retries that are always allowed, when no number is said.
const MIN_CONCURRENCY: u32 = 3;

/// Lowers a block. A share that is none counts as not said: Istio's validation does not look at it (DR67).
pub(crate) fn lower(block: &api::traffic_policy::RetryBudget, field: &str, notes: &mut Notes) -> RetryBudget {
    let api::traffic_policy::RetryBudget { percent, min_retry_concurrency, budget_interval } = block;
    let share = whole(percent.unwrap_or(PERCENT), || format!("{field}.percent"), notes);
    let interval = match budget_interval.as_ref().map(|written| (written, written.get())) {
        None => None,
        Some((written, None)) => {
            notes.ignored(format!("{field}.budgetInterval"), format!("{:?} is not a duration", written.0));
            None
        }
        Some((_, read)) => read,
    };
    RetryBudget {
        share: share.or_else(|| Share::percent(PERCENT)).unwrap_or_default(),
        min_concurrency: min_retry_concurrency.unwrap_or(MIN_CONCURRENCY),
        interval: interval.unwrap_or_default(),
    }
}
