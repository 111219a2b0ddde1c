//! The retry policy of one request: the route's, and what an internal request asks for besides.

use std::borrow::Cow;

use config::{RetryOn, RetryPolicy};
use http::{HeaderMap, HeaderName};

use crate::internal;

/// Most retries that a request may ask for itself.
const ASKED_MAX: u32 = 10;

/// The policy for a request; what it asks for itself is read and taken out (Envoy `x-envoy-retry-on` and the like; only
/// internal requests still have these headers).
pub fn policy<'a>(
    route: Option<&'a RetryPolicy>,
    headers: &mut HeaderMap,
    may_ask: bool,
) -> Option<Cow<'a, RetryPolicy>> {
    if !may_ask || !internal::asks_for_retries(headers) {
        return route.map(Cow::Borrowed);
    }
    let mut take = |name: &HeaderName| headers.remove(name).and_then(|value| value.to_str().ok().map(str::to_owned));
    let on = take(&internal::RETRY_ON).unwrap_or_default();
    let grpc_on = take(&internal::RETRY_GRPC_ON).unwrap_or_default();
    let most = take(&internal::MAX_RETRIES).and_then(|text| text.trim().parse::<u32>().ok());
    let codes = take(&internal::RETRIABLE_CODES).unwrap_or_default();
    let asked = RetryOn::from_list(&on).0.union(RetryOn::from_list(&grpc_on).0);
    let mut policy = route.cloned().unwrap_or_else(none);
    policy.retry_on = policy.retry_on.union(asked);
    policy.retriable_status_codes.extend(codes.split(',').filter_map(|code| code.trim().parse::<u16>().ok()));
    policy.num_retries = most.map_or(policy.num_retries, |most| most.min(ASKED_MAX));
    (!policy.retry_on.is_empty() && policy.num_retries > 0).then_some(Cow::Owned(policy))
}

// What a route without retries retries: nothing, but once if it is asked to.
fn none() -> RetryPolicy {
    RetryPolicy {
        retry_on: RetryOn::default(),
        retriable_status_codes: Vec::new(),
        num_retries: 1,
        per_try_timeout: None,
        host_selection_attempts: 1,
        avoid_previous_hosts: false,
        backoff_base: None,
        previous_priorities: None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap {
        let each = all.iter();
        each.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn without_headers_the_route_decides() {
        assert_eq!(policy(None, &mut headers(&[]), true), None);
        let route = none();
        assert!(matches!(policy(Some(&route), &mut headers(&[("x-a", "1")]), true), Some(Cow::Borrowed(_))));
    }

    #[test]
    fn what_is_asked_for_comes_on_top_and_does_not_travel() {
        let mut asked = headers(&[("x-envoy-retry-on", "5xx,reset"), ("x-envoy-max-retries", "3"), ("x-b", "2")]);
        let policy = policy(None, &mut asked, true).unwrap();
        assert_eq!((policy.num_retries, policy.retry_on.to_list().as_str()), (3, "5xx,reset"));
        assert_eq!(asked.len(), 1);
    }

    #[test]
    fn a_bound_alone_asks_for_nothing() {
        assert_eq!(policy(None, &mut headers(&[("x-envoy-max-retries", "3")]), true), None);
    }
}
