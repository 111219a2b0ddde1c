//! Cross-origin rules: the filter in the chain, and the policy on a route (Envoy `filters.http.cors.v3`).

use std::collections::HashMap;

use config::CorsPolicy;
use envoy_types::pb::envoy::extensions::filters::http::cors::v3 as pb;
use envoy_types::pb::google::protobuf::Any;

use crate::common::{At, Reason, any, boolean, is_true, read_any};
use crate::route_match::{decode_string, string};

/// The name of the filter, and of its entry on routes.
pub(crate) const NAME: &str = "envoy.filters.http.cors";

/// The filter's own configuration: everything stands on routes.
pub(crate) fn filter() -> Any {
    any(&pb::Cors {})
}

pub(crate) fn encode(cors: &CorsPolicy) -> Any {
    let CorsPolicy {
        allow_origins,
        allow_methods,
        allow_headers,
        expose_headers,
        max_age,
        allow_credentials,
        forward_unmatched,
    } = cors;
    any(&pb::CorsPolicy {
        allow_origin_string_match: allow_origins.iter().filter_map(string).collect(),
        allow_methods: allow_methods.clone(),
        allow_headers: allow_headers.clone(),
        expose_headers: expose_headers.clone(),
        max_age: max_age.clone(),
        allow_credentials: allow_credentials.then(|| boolean(true)).flatten(),
        forward_not_matching_preflights: boolean(*forward_unmatched),
        ..Default::default()
    })
}

/// The policy among a route's filter settings, if there is one.
pub(crate) fn decode(
    settings: &HashMap<String, Any>,
    notes: &mut Vec<String>,
) -> Result<Option<Box<CorsPolicy>>, Reason> {
    let Some(policy) = settings.get(NAME).and_then(read_any::<pb::CorsPolicy>) else { return Ok(None) };
    let policy = policy.at(NAME)?;
    let share = |share: &Option<_>| share.is_some();
    if share(&policy.filter_enabled) && !is_whole(&policy) || policy.shadow_enabled.is_some() {
        notes.push("cors: a share of requests is not obeyed here; the policy holds for all".into());
    }
    let origins = policy.allow_origin_string_match.iter().map(decode_string);
    Ok(Some(Box::new(CorsPolicy {
        allow_origins: origins.collect::<Result<_, _>>().at("allow_origin_string_match")?,
        allow_methods: policy.allow_methods,
        allow_headers: policy.allow_headers,
        expose_headers: policy.expose_headers,
        max_age: policy.max_age,
        allow_credentials: is_true(&policy.allow_credentials, false),
        forward_unmatched: is_true(&policy.forward_not_matching_preflights, true),
    })))
}

// istiod says 100 of 100 on every policy.
fn is_whole(policy: &pb::CorsPolicy) -> bool {
    let share = policy.filter_enabled.as_ref().and_then(|enabled| enabled.default_value.as_ref());
    share.is_some_and(|share| share.numerator == 100 && share.denominator == 0)
}
