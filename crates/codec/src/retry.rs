//! Retry policies (Envoy `route.v3.RetryPolicy`).

use config::{RetryOn, RetryPolicy};
use envoy_types::pb::envoy::config::route::v3::{RetryPolicy as Pb, retry_policy};
use envoy_types::pb::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;

use crate::common::{At, Reason, any, duration, read_positive, uint32};

const PREVIOUS_HOSTS: &str = "envoy.retry_host_predicates.previous_hosts";

pub(crate) fn encode(policy: &RetryPolicy) -> Pb {
    let RetryPolicy {
        retry_on,
        retriable_status_codes,
        num_retries,
        per_try_timeout,
        host_selection_attempts,
        avoid_previous_hosts,
        backoff_base,
    } = policy;
    let predicate = || retry_policy::RetryHostPredicate {
        name: PREVIOUS_HOSTS.into(),
        config_type: Some(retry_policy::retry_host_predicate::ConfigType::TypedConfig(any(&PreviousHostsPredicate {}))),
    };
    Pb {
        retry_on: retry_on.to_list(),
        num_retries: uint32(*num_retries),
        per_try_timeout: per_try_timeout.map(duration),
        retry_host_predicate: avoid_previous_hosts.then(predicate).into_iter().collect(),
        host_selection_retry_max_attempts: i64::from(*host_selection_attempts),
        retriable_status_codes: retriable_status_codes.iter().copied().map(u32::from).collect(),
        retry_back_off: backoff_base
            .map(|base| retry_policy::RetryBackOff { base_interval: Some(duration(base)), ..Default::default() }),
        ..Default::default()
    }
}

pub(crate) fn decode(policy: &Pb, notes: &mut Vec<String>) -> Result<RetryPolicy, Reason> {
    let (retry_on, unknown) = RetryOn::from_list(&policy.retry_on);
    notes.extend(unknown.iter().map(|token| format!("retry_on {token:?} is not known and never holds")));
    let base = policy.retry_back_off.as_ref().map(|backoff| read_positive(&backoff.base_interval)).transpose();
    Ok(RetryPolicy {
        retry_on,
        retriable_status_codes: policy
            .retriable_status_codes
            .iter()
            .filter_map(|code| u16::try_from(*code).ok())
            .collect(),
        // Envoy's default.
        num_retries: policy.num_retries.as_ref().map_or(1, |number| number.value),
        per_try_timeout: read_positive(&policy.per_try_timeout).at("per_try_timeout")?,
        host_selection_attempts: u32::try_from(policy.host_selection_retry_max_attempts).unwrap_or(0),
        avoid_previous_hosts: policy.retry_host_predicate.iter().any(|predicate| predicate.name == PREVIOUS_HOSTS),
        backoff_base: base.at("retry_back_off.base_interval")?.flatten(),
    })
}
