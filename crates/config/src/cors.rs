//! Cross-origin rules (Istio VS110 to VS114, Envoy `extensions.filters.http.cors.v3.CorsPolicy`).

use serde::Serialize;

use crate::ValueMatch;

/// Which other origins may read answers, and how a preflight is answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct CorsPolicy {
    /// One of them must match the Origin header; an exact `*` matches all.
    pub allow_origins: Vec<ValueMatch>,
    /// `access-control-allow-methods` of a preflight's answer; empty for none.
    pub allow_methods: String,
    /// `access-control-allow-headers` of a preflight's answer; empty for none.
    pub allow_headers: String,
    /// `access-control-expose-headers` of an answer; empty for none.
    pub expose_headers: String,
    /// `access-control-max-age` of a preflight's answer, seconds; empty for none.
    pub max_age: String,
    /// Say `access-control-allow-credentials: true`.
    pub allow_credentials: bool,
    /// True: a preflight of an origin that is not allowed goes to the upstream. False: it is answered here, without
    /// CORS headers (VS114).
    pub forward_unmatched: bool,
}
