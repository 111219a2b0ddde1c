//! RateLimitPolicy by itself.

use std::time::Duration;

use super::Findings;
use crate::rate_limit::{RateLimitKey, RateLimitPolicySpec, RateLimitRule};

/// Shortest interval: Envoy refills no faster.
const INTERVAL_MIN: Duration = Duration::from_millis(50);
/// Longest interval.
const INTERVAL_MAX: Duration = Duration::from_secs(24 * 3600);

pub(super) fn check(spec: &RateLimitPolicySpec, found: &mut Findings) {
    if spec.hosts.is_empty() {
        found.error("spec.hosts", "at least one host is needed");
    }
    for (index, host) in spec.hosts.iter().enumerate() {
        if let Some(reason) = super::bad_host(host) {
            found.error(format!("spec.hosts[{index}]"), format!("{host:?} is not a host: {reason}"));
        }
    }
    if spec.limits.is_empty() {
        found.error("spec.limits", "at least one limit is needed");
    }
    for (index, limit) in spec.limits.iter().enumerate() {
        check_limit(&format!("spec.limits[{index}]"), limit, found);
    }
}

fn check_limit(field: &str, limit: &RateLimitRule, found: &mut Findings) {
    let RateLimitRule { routes: _, key, requests, interval, burst } = limit;
    if requests.unwrap_or(0) == 0 {
        found.error(format!("{field}.requests"), "at least 1 request is needed");
    }
    if *burst == Some(0) {
        found.error(format!("{field}.burst"), "at least 1 request is needed");
    }
    if let Some(interval) = interval
        && !interval.get().is_some_and(|interval| (INTERVAL_MIN..=INTERVAL_MAX).contains(&interval))
    {
        found.error(format!("{field}.interval"), format!("{:?} is not a duration from 50ms to 24h", interval.0));
    }
    let Some(RateLimitKey { header, source_address }) = key else { return };
    match (header, source_address) {
        (Some(_), Some(_)) | (None, None) => {
            found.error(format!("{field}.key"), "exactly one of header and sourceAddress is needed")
        }
        (Some(name), None) if http_name(name).is_none() => {
            found.error(format!("{field}.key.header"), format!("{name:?} is not a header's name"))
        }
        _ => {}
    }
}

// RFC 9110 5.6.2: a token.
fn http_name(name: &str) -> Option<&str> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (!name.is_empty() && name.bytes().all(is_token)).then_some(name)
}
