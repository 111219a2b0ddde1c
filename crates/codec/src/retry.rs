//! Retry policies (Envoy `route.v3.RetryPolicy`).

use config::{RetryOn, RetryPolicy};
use envoy_types::pb::envoy::config::route::v3::{RetryPolicy as Pb, retry_policy};
use envoy_types::pb::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use envoy_types::pb::envoy::extensions::retry::priority::previous_priorities::v3::PreviousPrioritiesConfig;

use crate::common::{At, Reason, any, duration, read_any, read_positive, uint32};

const PREVIOUS_HOSTS: &str = "envoy.retry_host_predicates.previous_hosts";
const PREVIOUS_PRIORITIES: &str = "envoy.retry_priorities.previous_priorities";

pub(crate) fn encode(policy: &RetryPolicy) -> Pb {
    let RetryPolicy {
        retry_on,
        retriable_status_codes,
        num_retries,
        per_try_timeout,
        host_selection_attempts,
        avoid_previous_hosts,
        backoff_base,
        previous_priorities,
    } = policy;
    let predicate = || retry_policy::RetryHostPredicate {
        name: PREVIOUS_HOSTS.into(),
        config_type: Some(retry_policy::retry_host_predicate::ConfigType::TypedConfig(any(&PreviousHostsPredicate {}))),
    };
    let priorities = |frequency: u32| {
        let config = PreviousPrioritiesConfig { update_frequency: i32::try_from(frequency).unwrap_or(i32::MAX) };
        retry_policy::RetryPriority {
            name: PREVIOUS_PRIORITIES.into(),
            config_type: Some(retry_policy::retry_priority::ConfigType::TypedConfig(any(&config))),
        }
    };
    Pb {
        retry_on: retry_on.to_list(),
        num_retries: uint32(*num_retries),
        per_try_timeout: per_try_timeout.map(duration),
        retry_host_predicate: avoid_previous_hosts.then(predicate).into_iter().collect(),
        retry_priority: previous_priorities.map(priorities),
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
        previous_priorities: decode_priorities(policy.retry_priority.as_ref(), notes).at("retry_priority")?,
    })
}

fn decode_priorities(
    priority: Option<&retry_policy::RetryPriority>,
    notes: &mut Vec<String>,
) -> Result<Option<u32>, Reason> {
    let Some(retry_policy::RetryPriority { name, config_type }) = priority else { return Ok(None) };
    let typed = config_type.as_ref().map(|retry_policy::retry_priority::ConfigType::TypedConfig(typed)| typed);
    match typed.and_then(read_any::<PreviousPrioritiesConfig>).transpose()? {
        Some(config) => Ok(u32::try_from(config.update_frequency).ok().filter(|frequency| *frequency > 0)),
        None => {
            notes.push(format!("retry priority {name:?} is not obeyed"));
            Ok(None)
        }
    }
}
