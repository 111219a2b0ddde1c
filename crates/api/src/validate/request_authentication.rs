//! RequestAuthentication by itself (V-103).

use serde_json::Value;

use super::{Findings, authorization_policy, selector};
use crate::request_authentication::{ClaimToHeader, JwtRule, RequestAuthenticationSpec};

/// Most bytes of keys in an object.
const KEYS_BYTES_MAX: usize = 1 << 20;
/// Members of a JSON Web Key that are secret (RFC 7518, section 6).
const SECRET_MEMBERS: [&str; 7] = ["d", "p", "q", "dp", "dq", "qi", "k"];

pub(super) fn check(spec: &RequestAuthenticationSpec, found: &mut Findings) {
    let RequestAuthenticationSpec { selector, target_ref, target_refs, jwt_rules } = spec;
    authorization_policy::check_scope(selector.as_ref(), target_ref.as_ref(), target_refs, found);
    let labels = selector.as_ref().map(|selector| &selector.match_labels);
    selector::check("spec.selector.matchLabels", labels, "the whole namespace", found);
    for (index, rule) in jwt_rules.iter().enumerate() {
        check_rule(&format!("spec.jwtRules[{index}]"), rule, found);
    }
}

fn check_rule(path: &str, rule: &JwtRule, found: &mut Findings) {
    let JwtRule {
        issuer,
        audiences,
        jwks_uri,
        jwks_uri_alias,
        jwks,
        from_headers,
        from_params,
        from_cookies,
        output_payload_to_header: _,
        forward_original_token: _,
        output_claim_to_headers,
        timeout,
        space_delimited_claims,
    } = rule;
    found.at_most_one(
        path,
        &[("jwks", jwks.is_some()), ("jwksUri", jwks_uri.is_some()), ("jwks_uri", jwks_uri_alias.is_some())],
    );
    if issuer.as_deref().unwrap_or_default().is_empty() && rule.keys_uri().is_none() && jwks.is_none() {
        found.error(path, "one of issuer, jwksUri and jwks is needed");
    }
    if let Some(uri) = rule.keys_uri()
        && let Some(reason) = bad_uri(uri)
    {
        found.error(format!("{path}.jwksUri"), format!("{uri:?}: {reason}"));
    }
    if let Some(jwks) = jwks {
        check_keys(&format!("{path}.jwks"), jwks, found);
    }
    let lists = [
        ("audiences", audiences),
        ("fromParams", from_params),
        ("fromCookies", from_cookies),
        ("spaceDelimitedClaims", space_delimited_claims),
    ];
    for (name, list) in lists {
        for (index, _) in list.iter().enumerate().filter(|(_, text)| text.is_empty()) {
            found.error(format!("{path}.{name}[{index}]"), "it is empty");
        }
    }
    for (index, header) in from_headers.iter().enumerate() {
        if header.name.as_deref().unwrap_or_default().is_empty() {
            found.error(format!("{path}.fromHeaders[{index}].name"), "a header has a name");
        }
    }
    for (index, one) in output_claim_to_headers.iter().enumerate() {
        check_output(&format!("{path}.outputClaimToHeaders[{index}]"), one, found);
    }
    found.duration(&format!("{path}.timeout"), timeout.as_ref());
}

fn check_output(field: &str, one: &ClaimToHeader, found: &mut Findings) {
    let ClaimToHeader { header, claim } = one;
    if header.as_deref().unwrap_or_default().is_empty() || claim.as_deref().unwrap_or_default().is_empty() {
        return found.error(field, "header and claim are both needed");
    }
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if let Some(header) = header.as_deref().filter(|header| !header.bytes().all(is_letter)) {
        found.error(format!("{field}.header"), format!("{header:?} may hold only letters, digits, '-' and '_'"));
    }
}

fn bad_uri(uri: &str) -> Option<&'static str> {
    let rest = uri.strip_prefix("https://").or_else(|| uri.strip_prefix("http://"));
    let Some(rest) = rest else { return Some("it must begin with http:// or https://") };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if host.is_empty() {
        return Some("it names no host");
    }
    host.contains('@').then_some("it has a user's name")
}

fn check_keys(field: &str, jwks: &str, found: &mut Findings) {
    if jwks.len() > KEYS_BYTES_MAX {
        return found.error(field, format!("{} bytes are more than {KEYS_BYTES_MAX}", jwks.len()));
    }
    let Ok(read) = serde_json::from_str::<Value>(jwks) else {
        return found.error(field, "it is not JSON");
    };
    let Some(keys) = read.get("keys").and_then(Value::as_array).filter(|keys| !keys.is_empty()) else {
        return found.error(field, "it has no keys (RFC 7517: {\"keys\": […]})");
    };
    for (index, key) in keys.iter().enumerate() {
        if let Some(member) = SECRET_MEMBERS.iter().find(|member| key.get(**member).is_some()) {
            found.warn(
                field,
                format!("key {index} has {member:?}, which belongs to a secret key; write the public one"),
            );
        }
    }
}
