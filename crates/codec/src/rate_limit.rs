//! The HTTP local rate limit filter (Envoy `local_ratelimit.v3.LocalRateLimit`): silent in the chain, set by virtual host
//! or route.
//!
//! Every limit is a descriptor of its own: `generic_key` has the limit's name, and where clients are told apart a second
//! entry without a value stands for a bucket per value. The actions that make a request's descriptors are those of the
//! virtual host or route (`route.v3.RateLimit`).

use std::collections::BTreeMap;
use std::time::Duration;

use config::{RateKey, RateLimit, VirtualHost};
use envoy_types::pb::envoy::config::core::v3::RuntimeFractionalPercent;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::config::route::v3::rate_limit::action;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3 as common;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use envoy_types::pb::envoy::extensions::filters::http::local_ratelimit::v3::LocalRateLimit;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::envoy::r#type::v3::{FractionalPercent, TokenBucket, fractional_percent};
use envoy_types::pb::google::protobuf::Any;

use crate::common::{At, Reason, any, boolean, duration, read_any, read_duration, uint32};

/// The filter's name, which is also its key in a virtual host or route.
pub(crate) const FILTER: &str = "envoy.filters.http.local_ratelimit";
const STAT_PREFIX: &str = "http_local_rate_limiter";
const NAME_KEY: &str = "generic_key";
const ADDRESS_KEY: &str = "remote_address";
/// Before a header's name in the key of its entry.
const HEADER_KEY: &str = "header:";
/// How often the bucket is filled that Envoy wants beside the descriptors; intervals of limits are multiples of it.
const FILL: Duration = Duration::from_millis(50);

/// The filter in the chain: without a bucket it does nothing.
pub(crate) fn filter() -> hcm::HttpFilter {
    let silent = LocalRateLimit { stat_prefix: STAT_PREFIX.into(), ..Default::default() };
    hcm::HttpFilter {
        name: FILTER.into(),
        config_type: Some(hcm::http_filter::ConfigType::TypedConfig(any(&silent))),
        ..Default::default()
    }
}

/// Settings of a virtual host or route; `None` without limits.
pub(crate) fn encode<'a>(limits: impl Iterator<Item = &'a RateLimit>) -> Option<Any> {
    let descriptors: Vec<_> = limits.map(encode_limit).collect();
    if descriptors.is_empty() {
        return None;
    }
    let all = || RuntimeFractionalPercent {
        default_value: Some(FractionalPercent {
            numerator: 100,
            denominator: fractional_percent::DenominatorType::Hundred as i32,
        }),
        ..Default::default()
    };
    Some(any(&LocalRateLimit {
        stat_prefix: STAT_PREFIX.into(),
        token_bucket: Some(bucket(u32::MAX, u32::MAX, FILL)),
        filter_enabled: Some(all()),
        filter_enforced: Some(all()),
        descriptors,
        enable_x_ratelimit_headers: common::XRateLimitHeadersRfcVersion::DraftVersion03 as i32,
        vh_rate_limits: common::VhRateLimitsOptions::Include as i32,
        always_consume_default_token_bucket: boolean(false),
        ..Default::default()
    }))
}

fn encode_limit(limit: &RateLimit) -> common::LocalRateLimitDescriptor {
    let RateLimit { name, key, requests, interval, burst } = limit;
    let mut entries = vec![Entry { key: NAME_KEY.into(), value: name.to_string() }];
    entries.extend(key.as_ref().map(|key| Entry { key: entry_key(key), value: String::new() }));
    let token_bucket = Some(bucket(*burst, *requests, *interval));
    common::LocalRateLimitDescriptor { entries, token_bucket, ..Default::default() }
}

fn entry_key(key: &RateKey) -> String {
    match key {
        RateKey::Header(name) => format!("{HEADER_KEY}{name}"),
        RateKey::SourceAddress => ADDRESS_KEY.into(),
    }
}

fn bucket(max_tokens: u32, per_fill: u32, interval: Duration) -> TokenBucket {
    TokenBucket { max_tokens, tokens_per_fill: uint32(per_fill), fill_interval: Some(duration(interval)) }
}

/// What makes the descriptors of requests to a virtual host: for its own limits and those of its routes.
pub(crate) fn actions(host: &VirtualHost) -> Vec<route::RateLimit> {
    let limits = host.limits.iter().chain(host.routes.iter().flat_map(|route| &route.limits));
    let by_name: BTreeMap<_, _> = limits.map(|limit| (&limit.name, limit)).collect();
    by_name.into_values().map(action_of).collect()
}

fn action_of(limit: &RateLimit) -> route::RateLimit {
    let name = action::GenericKey { descriptor_value: limit.name.to_string(), ..Default::default() };
    let key = limit.key.as_ref().map(|key| match key {
        RateKey::Header(header) => action::ActionSpecifier::RequestHeaders(action::RequestHeaders {
            header_name: header.clone(),
            descriptor_key: entry_key(key),
            ..Default::default()
        }),
        RateKey::SourceAddress => action::ActionSpecifier::RemoteAddress(action::RemoteAddress {}),
    });
    let specifiers = std::iter::once(action::ActionSpecifier::GenericKey(name)).chain(key);
    let actions = specifiers.map(|one| route::rate_limit::Action { action_specifier: Some(one) }).collect();
    route::RateLimit { actions, ..Default::default() }
}

/// Limits of a virtual host's or route's settings; what is not ours is named in `notes`.
pub(crate) fn decode(settings: Option<&Any>, notes: &mut Vec<String>) -> Result<Vec<RateLimit>, Reason> {
    let Some(message) = settings.and_then(read_any::<LocalRateLimit>).transpose()? else { return Ok(Vec::new()) };
    let mut limits = Vec::with_capacity(message.descriptors.len());
    for (index, descriptor) in message.descriptors.iter().enumerate() {
        match decode_limit(descriptor).at(format!("descriptors[{index}]"))? {
            Some(limit) => limits.push(limit),
            None => notes.push(format!("rate limit: descriptors[{index}] is of a kind that is not obeyed here")),
        }
    }
    if message.descriptors.is_empty() {
        notes.push("rate limit: only limits by descriptor are obeyed here".into());
    }
    Ok(limits)
}

fn decode_limit(descriptor: &common::LocalRateLimitDescriptor) -> Result<Option<RateLimit>, Reason> {
    let (name, key) = match descriptor.entries.as_slice() {
        [name] if name.key == NAME_KEY => (&name.value, None),
        [name, key] if name.key == NAME_KEY && key.value.is_empty() => match key.key.strip_prefix(HEADER_KEY) {
            Some(header) => (&name.value, Some(RateKey::Header(header.to_owned()))),
            None if key.key == ADDRESS_KEY => (&name.value, Some(RateKey::SourceAddress)),
            None => return Ok(None),
        },
        _ => return Ok(None),
    };
    let bucket = descriptor.token_bucket.as_ref().ok_or("no token_bucket")?;
    let interval = read_duration(bucket.fill_interval.as_ref().ok_or("no fill_interval")?).at("fill_interval")?;
    let requests = bucket.tokens_per_fill.as_ref().map_or(1, |tokens| tokens.value);
    if requests == 0 || bucket.max_tokens == 0 || interval.is_zero() {
        return Err("a bucket without tokens".into());
    }
    Ok(Some(RateLimit { name: name.as_str().into(), key, requests, interval, burst: bucket.max_tokens }))
}
