//! Whose tokens are believed (Envoy `jwt_authn.v3.JwtAuthentication`), as istiod writes it: one rule for all paths, a token
//! may be missing.

use std::time::Duration;

use config::{Authentication, JwtIssuer, JwtKeys};
use envoy_types::pb::envoy::config::core::v3::{DataSource, HttpUri, data_source, http_uri};
use envoy_types::pb::envoy::config::route::v3::{RouteMatch, route_match};
use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3 as pb;
use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3::jwt_provider::{
    JwksSourceSpecifier, NormalizePayload,
};
use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3::jwt_requirement::RequiresType;
use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3::requirement_rule::RequirementType;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_filter::ConfigType;
use envoy_types::pb::google::protobuf::Any;

use crate::common::{At, Reason, any, duration, read_any, read_duration};

/// The filter's name, which is also where the payload is found.
pub(crate) const FILTER: &str = "envoy.filters.http.jwt_authn";
/// The payload's name there.
pub(crate) const PAYLOAD: &str = "payload";
/// How long fetched keys are used (Istio's for keys that proxies fetch).
const KEYS_KEPT: Duration = Duration::from_secs(5 * 60);
/// How long fetching keys may take where nothing says so (Istio's).
const FETCH_DEFAULT: Duration = Duration::from_secs(5);

/// The filter.
pub(crate) fn filter(authentication: &Authentication) -> hcm::HttpFilter {
    let names: Vec<&str> = authentication.issuers.iter().map(|issuer| issuer.name.as_str()).collect();
    let message = pb::JwtAuthentication {
        providers: authentication.issuers.iter().map(|issuer| (issuer.name.clone(), encode_issuer(issuer))).collect(),
        rules: vec![rule(&names)],
        bypass_cors_preflight: true,
        ..Default::default()
    };
    let config = any(&message);
    hcm::HttpFilter { name: FILTER.into(), config_type: Some(ConfigType::TypedConfig(config)), ..Default::default() }
}

fn requirement(kind: RequiresType) -> pb::JwtRequirement {
    pb::JwtRequirement { requires_type: Some(kind) }
}

// With several: a valid token of one is enough, else each token must be valid. The first part is for issuers whose tokens
// stand in the same place.
fn rule(names: &[&str]) -> pb::RequirementRule {
    let provider = |name: &&str| requirement(RequiresType::ProviderName((*name).to_owned()));
    let any = |requirements| requirement(RequiresType::RequiresAny(pb::JwtRequirementOrList { requirements }));
    let or_missing =
        |name: &&str| any(vec![provider(name), requirement(RequiresType::AllowMissing(Default::default()))]);
    let requires = match names {
        [name] => or_missing(name),
        names => {
            let all = pb::JwtRequirementAndList { requirements: names.iter().map(or_missing).collect() };
            let all = requirement(RequiresType::RequiresAll(all));
            any(names.iter().map(provider).chain([all]).collect())
        }
    };
    pb::RequirementRule {
        r#match: Some(RouteMatch {
            path_specifier: Some(route_match::PathSpecifier::Prefix("/".into())),
            ..Default::default()
        }),
        requirement_type: Some(RequirementType::Requires(requires)),
    }
}

fn encode_issuer(issuer: &JwtIssuer) -> pb::JwtProvider {
    let JwtIssuer {
        name: _,
        issuer,
        audiences,
        keys,
        from_headers,
        from_params,
        from_cookies,
        payload_header,
        forward,
        claim_headers,
        space_delimited_claims,
    } = issuer;
    let normalize = NormalizePayload { space_delimited_claims: space_delimited_claims.clone() };
    let header = |(name, prefix): &(String, String)| pb::JwtHeader { name: name.clone(), value_prefix: prefix.clone() };
    let claim = |(header, claim): &(String, String)| pb::JwtClaimToHeader {
        header_name: header.clone(),
        claim_name: claim.clone(),
        ..Default::default()
    };
    pb::JwtProvider {
        issuer: issuer.clone(),
        audiences: audiences.clone(),
        forward: *forward,
        from_headers: from_headers.iter().map(header).collect(),
        from_params: from_params.clone(),
        from_cookies: from_cookies.clone(),
        forward_payload_header: payload_header.clone().unwrap_or_default(),
        payload_in_metadata: PAYLOAD.into(),
        // Routes may look at claims (VS16).
        clear_route_cache: true,
        normalize_payload_in_metadata: (!space_delimited_claims.is_empty()).then_some(normalize),
        claim_to_headers: claim_headers.iter().map(claim).collect(),
        jwks_source_specifier: Some(encode_keys(keys)),
        ..Default::default()
    }
}

fn encode_keys(keys: &JwtKeys) -> JwksSourceSpecifier {
    match keys {
        JwtKeys::Inline(text) => JwksSourceSpecifier::LocalJwks(DataSource {
            specifier: Some(data_source::Specifier::InlineString(text.clone())),
            ..Default::default()
        }),
        JwtKeys::Remote { uri, cluster, timeout } => JwksSourceSpecifier::RemoteJwks(pb::RemoteJwks {
            http_uri: Some(HttpUri {
                uri: uri.clone(),
                timeout: Some(duration(*timeout)),
                http_upstream_type: Some(http_uri::HttpUpstreamType::Cluster(cluster.to_string())),
            }),
            cache_duration: Some(duration(KEYS_KEPT)),
            ..Default::default()
        }),
    }
}

/// Issuers of a filter; `None` for another filter.
pub(crate) fn decode(config: &Any) -> Option<Result<Authentication, Reason>> {
    Some(match read_any::<pb::JwtAuthentication>(config)? {
        Ok(message) => decode_message(&message).at("jwt_authn"),
        Err(reason) => Err(reason),
    })
}

fn decode_message(message: &pb::JwtAuthentication) -> Result<Authentication, Reason> {
    let other = || Err("rules of another form than istiod's are not obeyed here".to_owned());
    let [written] = message.rules.as_slice() else { return other() };
    let Some(RequirementType::Requires(pb::JwtRequirement { requires_type: Some(RequiresType::RequiresAny(any)) })) =
        &written.requirement_type
    else {
        return other();
    };
    let names: Vec<&str> = any
        .requirements
        .iter()
        .filter_map(|one| match &one.requires_type {
            Some(RequiresType::ProviderName(name)) => Some(name.as_str()),
            _ => None,
        })
        .collect();
    if names.is_empty() || *written != rule(&names) {
        return other();
    }
    let mut issuers = Vec::with_capacity(names.len());
    for name in names {
        let provider = message.providers.get(name).ok_or_else(|| format!("there is no provider {name:?}"))?;
        issuers.push(decode_issuer(name, provider).at("providers")?);
    }
    Ok(Authentication { issuers })
}

fn decode_issuer(name: &str, provider: &pb::JwtProvider) -> Result<JwtIssuer, Reason> {
    let unread = provider.subjects.is_some()
        || provider.require_expiration
        || provider.max_lifetime.is_some()
        || provider.clock_skew_seconds != 0
        || provider.pad_forward_payload_header;
    if unread {
        return Err(format!("{name:?} has demands on tokens that are not obeyed here"));
    }
    let normalize = provider.normalize_payload_in_metadata.as_ref();
    Ok(JwtIssuer {
        name: name.to_owned(),
        issuer: provider.issuer.clone(),
        audiences: provider.audiences.clone(),
        keys: decode_keys(provider.jwks_source_specifier.as_ref())?,
        from_headers: provider
            .from_headers
            .iter()
            .map(|header| (header.name.to_ascii_lowercase(), header.value_prefix.clone()))
            .collect(),
        from_params: provider.from_params.clone(),
        from_cookies: provider.from_cookies.clone(),
        payload_header: Some(provider.forward_payload_header.clone()).filter(|name| !name.is_empty()),
        forward: provider.forward,
        claim_headers: provider
            .claim_to_headers
            .iter()
            .map(|one| match one.claim_path.is_empty() {
                true => Ok((one.header_name.clone(), one.claim_name.clone())),
                false => Err(format!("claim_to_headers: the path of header {:?} is not obeyed here", one.header_name)),
            })
            .collect::<Result<_, Reason>>()?,
        space_delimited_claims: normalize.map(|normalize| normalize.space_delimited_claims.clone()).unwrap_or_default(),
    })
}

fn decode_keys(keys: Option<&JwksSourceSpecifier>) -> Result<JwtKeys, Reason> {
    match keys {
        Some(JwksSourceSpecifier::LocalJwks(DataSource {
            specifier: Some(data_source::Specifier::InlineString(text)),
            ..
        })) => Ok(JwtKeys::Inline(text.clone())),
        Some(JwksSourceSpecifier::RemoteJwks(pb::RemoteJwks { http_uri: Some(from), .. })) => {
            let Some(http_uri::HttpUpstreamType::Cluster(cluster)) = &from.http_upstream_type else {
                return Err("remote_jwks: no cluster".into());
            };
            let timeout = from.timeout.as_ref().map(read_duration).transpose().at("timeout")?.unwrap_or(FETCH_DEFAULT);
            Ok(JwtKeys::Remote { uri: from.uri.clone(), cluster: cluster.as_str().into(), timeout })
        }
        _ => Err("keys of a kind that are not read here".into()),
    }
}
