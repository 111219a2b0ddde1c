//! What an HTTP rule matches (V-04, V-07, V-08, V-24, V-38).

use super::{Findings, bad_label, header};
use crate::{HttpMatchRequest, StringMatch};

/// The pseudo-headers that a match may name (V-04).
const PSEUDO: [&str; 5] = [":authority", ":method", ":path", ":scheme", ":status"];
/// How the key of a match on a verified token begins (V-25).
pub(super) const CLAIM: &str = "@request.auth.claims";

pub(super) fn check(path: &str, block: &HttpMatchRequest, found: &mut Findings) {
    let scalars =
        [("uri", &block.uri), ("scheme", &block.scheme), ("method", &block.method), ("authority", &block.authority)];
    for (name, value) in scalars.iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
        check_string(&format!("{path}.{name}"), value, *name == "uri", found);
    }
    let maps =
        [("headers", &block.headers), ("withoutHeaders", &block.without_headers), ("queryParams", &block.query_params)];
    for (name, map) in maps {
        for (key, value) in map {
            let field = format!("{path}.{name}.{key}");
            // A literal `*` in withoutHeaders means presence and is no regex (TR42).
            if !(name == "withoutHeaders" && value.regex.as_deref() == Some("*")) {
                check_string(&field, value, false, found);
            }
            if key.is_empty() {
                found.error(format!("{path}.{name}"), "an empty name");
            } else if name != "queryParams" && !is_header(key) {
                found.error(field, format!("{key:?} is not a header's name"));
            }
        }
    }
    check_place(path, block.port, &block.gateways, found);
    check_source(path, &block.source_labels, block.source_namespace.as_deref(), found);
}

fn is_header(key: &str) -> bool {
    header::is_token(key) || PSEUDO.contains(&key) || key.starts_with(CLAIM)
}

/// Where a match applies.
pub(super) fn check_place(path: &str, port: Option<u32>, gateways: &[String], found: &mut Findings) {
    if let Some(port) = port {
        found.port(&format!("{path}.port"), port);
    }
    found.gateways(&format!("{path}.gateways"), gateways);
}

/// Whom a match is for.
pub(super) fn check_source(path: &str, labels: &words::Labels, namespace: Option<&str>, found: &mut Findings) {
    found.labels(&format!("{path}.sourceLabels"), labels);
    if let Some(reason) = namespace.filter(|name| !name.is_empty()).and_then(bad_label) {
        let namespace = namespace.unwrap_or_default();
        found.error(format!("{path}.sourceNamespace"), format!("{namespace:?} is not a namespace: {reason}"));
    }
}

pub(super) fn check_string(path: &str, value: &StringMatch, empty_prefix_allowed: bool, found: &mut Findings) {
    if value.prefix.as_deref() == Some("") && !empty_prefix_allowed {
        found.error(format!("{path}.prefix"), "an empty prefix matches everything; leave the condition out");
    }
    if let Some(regex) = &value.regex {
        found.regex(&format!("{path}.regex"), regex);
    }
}
