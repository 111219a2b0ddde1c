//! Retry policies (VS80 to VS87, TR01).
//!
//! In: a `retries` block, or none. Out: what the proxy obeys, or none for "never again".

use api::HttpRetry;
use config::{RetryOn, RetryPolicy};

use crate::mesh::DefaultRetries;
use crate::notes::Notes;

/// Tries after the first when nothing is said.
const ATTEMPTS: u32 = 2;
/// How often a pick is repeated to avoid a host tried before.
const HOST_SELECTION_ATTEMPTS: u32 = 5;

/// Tries after which other priorities are looked for (VS84).
const PRIORITIES_AFTER: u32 = 2;

/// What every HTTP route has without a `retries` block (TR01).
pub(crate) fn default(choice: DefaultRetries) -> Option<RetryPolicy> {
    (choice != DefaultRetries::Off).then(|| policy(choice))
}

// Without retries by default, a block that names no condition means Istio's.
fn policy(choice: DefaultRetries) -> RetryPolicy {
    RetryPolicy {
        retry_on: match choice {
            DefaultRetries::Istio | DefaultRetries::Off => istio_conditions(),
            DefaultRetries::Safe => safe_conditions(),
        },
        retriable_status_codes: Vec::new(),
        num_retries: ATTEMPTS,
        per_try_timeout: None,
        host_selection_attempts: HOST_SELECTION_ATTEMPTS,
        avoid_previous_hosts: true,
        backoff_base: None,
        previous_priorities: None,
    }
}

/// What inbound routes have (VS87, TR07): only when the application saw nothing of the request.
pub(crate) fn inbound() -> RetryPolicy {
    RetryPolicy { retry_on: RetryOn::RESET_BEFORE_REQUEST, ..policy(DefaultRetries::Istio) }
}

// No status code is retried: the list is empty.
fn istio_conditions() -> RetryOn {
    [
        RetryOn::CONNECT_FAILURE,
        RetryOn::REFUSED_STREAM,
        RetryOn::UNAVAILABLE,
        RetryOn::CANCELLED,
        RetryOn::RETRIABLE_STATUS_CODES,
    ]
    .into_iter()
    .fold(RetryOn::default(), RetryOn::union)
}

// Only where no application has seen anything of the request.
fn safe_conditions() -> RetryOn {
    RetryOn::CONNECT_FAILURE.union(RetryOn::REFUSED_STREAM).union(RetryOn::RESET_BEFORE_REQUEST)
}

/// A block as written. Attempts that are absent or not above 0 turn retries off (VS81).
pub(crate) fn lower(block: &HttpRetry, field: &str, choice: DefaultRetries, notes: &mut Notes) -> Option<RetryPolicy> {
    let HttpRetry {
        attempts,
        per_try_timeout,
        backoff,
        retry_on,
        retry_remote_localities,
        retry_ignore_previous_hosts,
    } = block;
    let num_retries = u32::try_from(attempts.unwrap_or(0)).ok().filter(|attempts| *attempts > 0)?;
    let mut policy = RetryPolicy {
        num_retries,
        avoid_previous_hosts: retry_ignore_previous_hosts.unwrap_or(true),
        previous_priorities: (*retry_remote_localities == Some(true)).then_some(PRIORITIES_AFTER),
        ..policy(choice)
    };
    policy.per_try_timeout =
        crate::timeout::lower(per_try_timeout.as_ref(), || format!("{field}.perTryTimeout"), notes);
    policy.backoff_base = crate::timeout::lower(backoff.as_ref(), || format!("{field}.backoff"), notes);
    if let Some(list) = retry_on.as_deref().filter(|list| !list.trim().is_empty()) {
        read_conditions(list, &format!("{field}.retryOn"), &mut policy, notes);
    }
    Some(policy)
}

/// Tokens are trimmed; numbers are status codes and switch `retriable-status-codes` on (VS83).
fn read_conditions(list: &str, field: &str, policy: &mut RetryPolicy, notes: &mut Notes) {
    let (conditions, others) = RetryOn::from_list(list);
    policy.retry_on = conditions;
    for other in others {
        match other.parse::<u16>() {
            Ok(status @ 100..=599) => {
                policy.retriable_status_codes.push(status);
                policy.retry_on = policy.retry_on.union(RetryOn::RETRIABLE_STATUS_CODES);
            }
            _ => notes.ignored(field, format!("{other:?} is neither a condition nor a status code")),
        }
    }
}
