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
    /// One of our own bounds refused the try (flag UO). More tries would only make it worse: never retried.
    Overflow,
    /// Response headers came with `x-envoy-ratelimited`; only its own token retries those, whatever the status.
    RateLimited,
    /// Response headers came.
    Status {
        /// Status code.
        code: u16,
        /// `grpc-status` of the response headers.
        grpc_status: Option<u16>,
    },
}

/// True when another try shall be made after `tries_so_far` of them, the first included, of which the last ended so.
/// What the caller knows besides (a retry bound, a body that cannot be sent again, the route's timeout) may forbid it.
pub fn should_retry(policy: &RetryPolicy, outcome: Outcome, tries_so_far: u32) -> bool {
    tries_so_far <= policy.num_retries && wants_retry(policy, outcome)
}

/// True when the policy asks for another try after this outcome, were there no bound on tries.
pub fn wants_retry(policy: &RetryPolicy, outcome: Outcome) -> bool {
    let on = policy.retry_on;
    // Without an answer the client would get a 503, so both tokens for those ask for a retry (Envoy counts every reset
    // as a 5xx and as a gateway error).
    let no_answer = || on.intersects(RetryOn::SERVER_ERROR.union(RetryOn::GATEWAY_ERROR).union(RetryOn::RESET));
    let unsent = || on.contains(RetryOn::RESET_BEFORE_REQUEST);
    match outcome {
        Outcome::ConnectFailure => on.contains(RetryOn::CONNECT_FAILURE) || unsent() || no_answer(),
        // The request's head was sent, so `reset-before-request` does not cover it.
        Outcome::RefusedStream => on.contains(RetryOn::REFUSED_STREAM) || no_answer(),
        Outcome::Reset { before_request } => before_request && unsent() || no_answer(),
        Outcome::Overflow => false,
        Outcome::RateLimited => on.contains(RetryOn::ENVOY_RATELIMITED),
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
            previous_priorities: None,
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

    #[test]
    fn no_answer_is_a_5xx_and_a_gateway_error() {
        let outcomes = [
            Outcome::ConnectFailure,
            Outcome::RefusedStream,
            Outcome::Reset { before_request: false },
            Outcome::Reset { before_request: true },
        ];
        // Which of them each token retries.
        for (token, wanted) in [
            ("5xx", [true; 4]),
            ("gateway-error", [true; 4]),
            ("reset", [true; 4]),
            ("connect-failure", [true, false, false, false]),
            ("refused-stream", [false, true, false, false]),
            ("reset-before-request", [true, false, false, true]),
            ("retriable-4xx", [false; 4]),
            ("unavailable", [false; 4]),
        ] {
            assert_eq!(outcomes.map(|outcome| wants_retry(&policy(token, &[]), outcome)), wanted, "{token}");
        }
    }

    #[test]
    fn what_we_refused_ourselves_is_never_retried() {
        let all = policy("5xx,gateway-error,reset,connect-failure,refused-stream,retriable-4xx", &[503]);
        assert!(!wants_retry(&all, Outcome::Overflow) && !wants_retry(&all, Outcome::RateLimited));
        assert!(wants_retry(&policy("envoy-ratelimited", &[]), Outcome::RateLimited));
    }

    #[test]
    fn two_retries_are_three_tries() {
        let policy = policy("5xx", &[]);
        let after: Vec<_> = (1..=4).map(|tries| should_retry(&policy, code(500), tries)).collect();
        assert_eq!(after, [true, true, false, false]);
    }
}
