//! Retry budgets (Envoy `cluster.v3.CircuitBreakers.Thresholds.RetryBudget`).

use config::{RetryBudget, Share};
use envoy_types::pb::envoy::config::cluster::v3::circuit_breakers::thresholds::RetryBudget as Pb;
use envoy_types::pb::envoy::r#type::v3::Percent;

use crate::common::{At, Reason, duration, read_positive, uint32};

/// Envoy's share where nothing is said, in percent.
const ENVOY_PERCENT: f64 = 20.0;
/// Envoy's number of retries that are always allowed.
const ENVOY_MIN: u32 = 3;

pub(crate) fn encode(budget: &RetryBudget) -> Pb {
    let RetryBudget { share, min_concurrency, interval } = *budget;
    Pb {
        budget_percent: Some(Percent { value: share.as_percent() }),
        min_retry_concurrency: uint32(min_concurrency),
        budget_interval: (!interval.is_zero()).then(|| duration(interval)),
    }
}

pub(crate) fn decode(budget: &Pb) -> Result<RetryBudget, Reason> {
    let percent = budget.budget_percent.as_ref().map_or(ENVOY_PERCENT, |percent| percent.value);
    if !(0.0..=100.0).contains(&percent) {
        return Err(format!("budget_percent: {percent} is not between 0 and 100"));
    }
    Ok(RetryBudget {
        // Rounded: what was written as a share comes back a hair above or below it.
        share: Share::per_million((percent * 10_000.0).round() as u32),
        min_concurrency: budget.min_retry_concurrency.as_ref().map_or(ENVOY_MIN, |number| number.value),
        interval: read_positive(&budget.budget_interval).at("budget_interval")?.unwrap_or_default(),
    })
}
