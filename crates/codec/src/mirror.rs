//! Copies of requests (Envoy `route.v3.RouteAction.RequestMirrorPolicy`).

use config::{Mirror, Share};
use envoy_types::pb::envoy::config::route::v3::route_action::RequestMirrorPolicy;

use crate::common::{At, Reason, boolean};
use crate::share;

pub(crate) fn encode(mirror: &Mirror) -> RequestMirrorPolicy {
    let Mirror { cluster, share, shadow_host } = mirror;
    RequestMirrorPolicy {
        cluster: cluster.to_string(),
        runtime_fraction: Some(share::encode_runtime(*share)),
        // Istio's: a copy is no part of the trace (VS51).
        trace_sampled: boolean(false),
        disable_shadow_host_suffix_append: !shadow_host,
        ..Default::default()
    }
}

/// `None` for one that is not obeyed, which `notes` then says.
pub(crate) fn decode(policy: &RequestMirrorPolicy, notes: &mut Vec<String>) -> Result<Option<Mirror>, Reason> {
    if policy.cluster.is_empty() {
        notes.push("a mirror whose cluster a header names is not obeyed".into());
        return Ok(None);
    }
    if !policy.request_headers_mutations.is_empty() || !policy.host_rewrite_literal.is_empty() {
        notes.push(format!("mirror to {:?}: changes of the copy's headers are not obeyed", policy.cluster));
    }
    let share = match &policy.runtime_fraction {
        // All, when nothing is said.
        None => Share::ALL,
        Some(fraction) => share::decode(fraction.default_value.as_ref()).at("runtime_fraction")?,
    };
    let shadow_host = !policy.disable_shadow_host_suffix_append;
    Ok(Some(Mirror { cluster: policy.cluster.as_str().into(), share, shadow_host }))
}
