//! Whether a try's outcome asks for another one (Envoy `x-envoy-retry-on` and `x-envoy-retry-grpc-on`).

use config::{RetryOn, RetryPolicy};

/// How a try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No connection could be made: nothing was sent.
    ConnectFailure,
    /// The stream was refused (HTTP/2 REFUSED_STREAM): the application has not seen it.
    RefusedStream,
    /// The upstream hung up, reset, or the try timed out, before any response byte.
    Reset {
        /// No byte of the request had been written.
        before_request: bool,
    },
    /// Response headers came.
    Status {
        /// Status code.
        code: u16,
        /// `grpc-status` of the response headers.
        grpc_status: Option<u16>,
    },
}

/// True when the policy asks for another try after this outcome. The caller counts the tries.
pub fn wants_retry(policy: &RetryPolicy, outcome: Outcome) -> bool {
    let on = policy.retry_on;
    match outcome {
        // Envoy: `5xx` includes no answer at all; `gateway-error` does not include a failed connection.
        Outcome::ConnectFailure => on.intersects(
            RetryOn::CONNECT_FAILURE
                .union(RetryOn::SERVER_ERROR)
                .union(RetryOn::RESET)
                .union(RetryOn::RESET_BEFORE_REQUEST),
        ),
        Outcome::RefusedStream => on.intersects(
            RetryOn::REFUSED_STREAM
                .union(RetryOn::SERVER_ERROR)
                .union(RetryOn::RESET)
                .union(RetryOn::RESET_BEFORE_REQUEST),
        ),
        Outcome::Reset { before_request } => {
            on.intersects(RetryOn::RESET.union(RetryOn::SERVER_ERROR))
                || before_request && on.contains(RetryOn::RESET_BEFORE_REQUEST)
        }
        Outcome::Status { code, grpc_status } => status(policy, code) || grpc_status.is_some_and(|code| grpc(on, code)),
    }
}

fn status(policy: &RetryPolicy, code: u16) -> bool {
    let on = policy.retry_on;
    (500..600).contains(&code) && on.contains(RetryOn::SERVER_ERROR)
        || matches!(code, 502..=504) && on.contains(RetryOn::GATEWAY_ERROR)
        || code == 409 && on.contains(RetryOn::RETRIABLE_4XX)
        || on.contains(RetryOn::RETRIABLE_STATUS_CODES) && policy.retriable_status_codes.contains(&code)
}

fn grpc(on: RetryOn, code: u16) -> bool {
    on.contains(match code {
        1 => RetryOn::CANCELLED,
        4 => RetryOn::DEADLINE_EXCEEDED,
        8 => RetryOn::RESOURCE_EXHAUSTED,
        13 => RetryOn::INTERNAL,
        14 => RetryOn::UNAVAILABLE,
        _ => return false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(list: &str, codes: &[u16]) -> RetryPolicy {
        RetryPolicy {
            retry_on: RetryOn::from_list(list).0,
            retriable_status_codes: codes.to_vec(),
            num_retries: 2,
            per_try_timeout: None,
            host_selection_attempts: 5,
            avoid_previous_hosts: true,
            backoff_base: None,
        }
    }

    fn code(code: u16) -> Outcome {
        Outcome::Status { code, grpc_status: None }
    }

    #[test]
    fn the_default_never_repeats_what_the_application_answered() {
        let default = policy("connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes", &[]);
        assert!(wants_retry(&default, Outcome::ConnectFailure));
        assert!(wants_retry(&default, Outcome::RefusedStream));
        assert!(!wants_retry(&default, code(503)));
        assert!(!wants_retry(&default, Outcome::Reset { before_request: false }));
        assert!(wants_retry(&default, Outcome::Status { code: 200, grpc_status: Some(14) }));
        assert!(!wants_retry(&default, Outcome::Status { code: 200, grpc_status: Some(13) }));
    }

    #[test]
    fn each_token_means_what_it_says() {
        assert!(wants_retry(&policy("5xx", &[]), code(500)) && !wants_retry(&policy("5xx", &[]), code(404)));
        assert!(
            wants_retry(&policy("gateway-error", &[]), code(502))
                && !wants_retry(&policy("gateway-error", &[]), code(500))
        );
        assert!(
            wants_retry(&policy("retriable-4xx", &[]), code(409))
                && !wants_retry(&policy("retriable-4xx", &[]), code(404))
        );
        assert!(wants_retry(&policy("retriable-status-codes", &[418]), code(418)));
        assert!(!wants_retry(&policy("5xx", &[418]), code(418)), "the list counts only with its token");
        let before = Outcome::Reset { before_request: true };
        assert!(wants_retry(&policy("reset-before-request", &[]), before));
        assert!(!wants_retry(&policy("reset-before-request", &[]), Outcome::Reset { before_request: false }));
        assert!(!wants_retry(&policy("connect-failure", &[]), before));
    }
}
