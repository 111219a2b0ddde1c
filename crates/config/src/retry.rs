//! Retry policy of a route (Istio VS80 to VS86, Envoy `route.v3.RetryPolicy`).

use std::time::Duration;

use serde::Serialize;

/// When and how often a request is tried again. A route without one never retries.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct RetryPolicy {
    /// Conditions, any of which asks for another try.
    pub retry_on: RetryOn,
    /// Status codes that ask for another try when [`RetryOn::retriable_status_codes`] is set.
    pub retriable_status_codes: Vec<u16>,
    /// Tries after the first one; at least 1.
    pub num_retries: u32,
    /// Bound on one try; `None`: the route's timeout.
    pub per_try_timeout: Option<Duration>,
    /// How often a pick is repeated to avoid a host that was tried before; Istio sends 5.
    pub host_selection_attempts: u32,
    /// Prefer hosts that this request has not tried (Istio `retryIgnorePreviousHosts`, default true).
    pub avoid_previous_hosts: bool,
    /// Base of the jittered exponential backoff; `None`: 25 ms. The longest wait is ten times the base.
    pub backoff_base: Option<Duration>,
    /// Prefer priorities that this request has not been sent to, looked at anew after every so many tries, at least 1;
    /// `None`: tries go where the load balancer sends them (VS84: 2).
    pub previous_priorities: Option<u32>,
}

/// The condition tokens of `retry_on`, as a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct RetryOn(u32);

macro_rules! conditions {
    ($($bit:literal $name:ident $token:literal $doc:literal;)*) => {
        impl RetryOn {
            $(#[doc = $doc] pub const $name: RetryOn = RetryOn(1 << $bit);)*

            const TOKENS: &[(&str, RetryOn)] = &[$(($token, RetryOn::$name)),*];
        }
    };
}

conditions! {
    0 SERVER_ERROR "5xx" "Any 5xx answer, or none at all.";
    1 GATEWAY_ERROR "gateway-error" "502, 503 or 504.";
    2 RESET "reset" "The upstream gave no answer: disconnect, reset or read timeout.";
    3 RESET_BEFORE_REQUEST "reset-before-request" "As `reset`, only when no request header was sent.";
    4 CONNECT_FAILURE "connect-failure" "No connection could be made.";
    5 REFUSED_STREAM "refused-stream" "HTTP/2 REFUSED_STREAM.";
    6 RETRIABLE_4XX "retriable-4xx" "409.";
    7 RETRIABLE_STATUS_CODES "retriable-status-codes" "A status in the policy's list.";
    8 RETRIABLE_HEADERS "retriable-headers" "A response header of the policy's list.";
    9 ENVOY_RATELIMITED "envoy-ratelimited" "The answer carries x-envoy-ratelimited.";
    10 HTTP3_POST_CONNECT_FAILURE "http3-post-connect-failure" "HTTP/3 only.";
    11 CANCELLED "cancelled" "gRPC status 1.";
    12 DEADLINE_EXCEEDED "deadline-exceeded" "gRPC status 4.";
    13 INTERNAL "internal" "gRPC status 13.";
    14 RESOURCE_EXHAUSTED "resource-exhausted" "gRPC status 8.";
    15 UNAVAILABLE "unavailable" "gRPC status 14.";
}

impl RetryOn {
    /// The condition of one token; `None` for an unknown token.
    pub fn token(token: &str) -> Option<Self> {
        Self::TOKENS.iter().find(|(name, _)| *name == token).map(|(_, on)| *on)
    }

    /// True when all conditions of `other` are in this set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// True when any condition of `other` is in this set.
    pub fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Both sets together.
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// No condition at all.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The comma list that Envoy's `retry_on` holds, in a fixed order.
    pub fn to_list(self) -> String {
        Self::TOKENS.iter().filter(|(_, on)| self.contains(*on)).map(|(name, _)| *name).collect::<Vec<_>>().join(",")
    }

    /// Reads a comma list; unknown tokens are returned beside the set.
    pub fn from_list(list: &str) -> (Self, Vec<&str>) {
        let mut set = Self::default();
        let mut unknown = Vec::new();
        for token in list.split(',').map(str::trim).filter(|token| !token.is_empty()) {
            match Self::token(token) {
                Some(on) => set = set.union(on),
                None => unknown.push(token),
            }
        }
        (set, unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_read_back() {
        let (set, unknown) = RetryOn::from_list("connect-failure, refused-stream,unavailable,503");
        assert_eq!(unknown, ["503"]);
        assert_eq!(set.to_list(), "connect-failure,refused-stream,unavailable");
        assert!(set.intersects(RetryOn::UNAVAILABLE) && !set.contains(RetryOn::RESET));
    }
}
