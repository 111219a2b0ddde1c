//! Keys of consistent hashing (Envoy `RouteAction.HashPolicy`, and `type.v3.HashPolicy` of the TCP proxy).

use config::{HashCookie, HashKey};
use envoy_types::pb::envoy::config::route::v3::route_action::HashPolicy;
use envoy_types::pb::envoy::config::route::v3::route_action::hash_policy::{
    ConnectionProperties, Cookie, CookieAttribute, Header, PolicySpecifier, QueryParameter,
};
use envoy_types::pb::envoy::r#type::v3 as kind;

use crate::common::{At, Reason, duration, read_duration};

pub(crate) fn encode(key: &HashKey) -> HashPolicy {
    let specifier = match key {
        HashKey::Header(name) => PolicySpecifier::Header(Header { header_name: name.clone(), ..Default::default() }),
        HashKey::Cookie(cookie) => PolicySpecifier::Cookie(encode_cookie(cookie)),
        HashKey::SourceIp => PolicySpecifier::ConnectionProperties(ConnectionProperties { source_ip: true }),
        HashKey::Query(name) => PolicySpecifier::QueryParameter(QueryParameter { name: name.clone() }),
    };
    HashPolicy { terminal: false, policy_specifier: Some(specifier) }
}

fn encode_cookie(cookie: &HashCookie) -> Cookie {
    let HashCookie { name, path, ttl, attributes } = cookie;
    let attribute = |(name, value): &(String, String)| CookieAttribute { name: name.clone(), value: value.clone() };
    Cookie {
        name: name.clone(),
        path: path.clone(),
        ttl: ttl.map(duration),
        attributes: attributes.iter().map(attribute).collect(),
    }
}

/// The keys; what is not understood is noted and adds nothing.
pub(crate) fn decode(policies: &[HashPolicy], notes: &mut Vec<String>) -> Result<Vec<HashKey>, Reason> {
    let mut keys = Vec::with_capacity(policies.len());
    for (index, policy) in policies.iter().enumerate() {
        if policy.terminal {
            notes.push(format!("hash_policy[{index}]: terminal is not obeyed; keys are mixed"));
        }
        match &policy.policy_specifier {
            Some(PolicySpecifier::Header(header)) => {
                if header.regex_rewrite.is_some() {
                    notes.push(format!("hash_policy[{index}]: regex_rewrite is not obeyed"));
                }
                keys.push(HashKey::Header(header.header_name.to_ascii_lowercase()));
            }
            Some(PolicySpecifier::Cookie(cookie)) => {
                keys.push(HashKey::Cookie(decode_cookie(cookie).at(format!("[{index}]"))?));
            }
            Some(PolicySpecifier::ConnectionProperties(properties)) => {
                keys.extend(properties.source_ip.then_some(HashKey::SourceIp));
            }
            Some(PolicySpecifier::QueryParameter(parameter)) => keys.push(HashKey::Query(parameter.name.clone())),
            Some(PolicySpecifier::FilterState(_)) | None => {
                notes.push(format!("hash_policy[{index}]: a key of a kind that is not obeyed"));
            }
        }
    }
    Ok(keys)
}

fn decode_cookie(cookie: &Cookie) -> Result<HashCookie, Reason> {
    let attributes = cookie.attributes.iter();
    Ok(HashCookie {
        name: cookie.name.clone(),
        path: cookie.path.clone(),
        ttl: cookie.ttl.as_ref().map(read_duration).transpose().at("ttl")?,
        attributes: attributes.map(|one| (one.name.clone(), one.value.clone())).collect(),
    })
}

/// The TCP proxy's key.
pub(crate) fn by_source_ip() -> kind::HashPolicy {
    let source_ip = kind::hash_policy::PolicySpecifier::SourceIp(kind::hash_policy::SourceIp {});
    kind::HashPolicy { policy_specifier: Some(source_ip) }
}

/// True when a TCP proxy hashes the client's address; other keys are noted.
pub(crate) fn has_source_ip(policies: &[kind::HashPolicy], notes: &mut Vec<String>) -> bool {
    let is_source_ip = |policy: &kind::HashPolicy| {
        matches!(policy.policy_specifier, Some(kind::hash_policy::PolicySpecifier::SourceIp(_)))
    };
    if !policies.iter().all(is_source_ip) {
        notes.push("tcp_proxy: a hash policy of a kind that is not obeyed".into());
    }
    policies.iter().any(is_source_ip)
}
