//! What an HTTP rule does: redirect, answer, rewrite, retry, mirror, fault, CORS (V-28 to V-37).

use super::{Findings, destination, header, http_match};
use crate::http_actions::{
    Abort, CorsPolicy, Delay, DirectResponse, Fault, HeaderOperations, HttpRedirect, HttpRewrite,
};
use crate::{HttpRetry, HttpRoute, StringMatch};

/// Largest body of a direct response, in bytes (V-31).
const BODY_BYTES_MAX: usize = 1 << 20;
/// A body beyond this costs every proxy memory.
const BODY_BYTES_LARGE: usize = 100 << 10;
/// What may be retried, besides status codes (V-34).
const CONDITIONS: [&str; 16] = [
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "envoy-ratelimited",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];
/// Methods of a CORS policy (V-36).
const METHODS: [&str; 10] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*"];
/// gRPC's status codes by name (V-37).
const GRPC_CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Everything that a rule does, apart from where it forwards to.
pub(super) fn check(path: &str, rule: &HttpRoute, found: &mut Findings) {
    check_combination(path, rule, found);
    if let Some(redirect) = &rule.redirect {
        check_redirect(path, redirect, rule, found);
    }
    if let Some(response) = &rule.direct_response {
        check_response(&format!("{path}.directResponse"), response, found);
    }
    if let Some(rewrite) = &rule.rewrite {
        check_rewrite(&format!("{path}.rewrite"), rewrite, found);
    }
    check_authority(path, rule, found);
    check_retries(&format!("{path}.retries"), rule.retries.as_ref(), found);
    found.duration(&format!("{path}.timeout"), rule.timeout.as_ref());
    check_mirrors(path, rule, found);
    check_cors(&format!("{path}.corsPolicy"), rule.cors_policy.as_ref(), found);
    check_fault(&format!("{path}.fault"), rule.fault.as_ref(), found);
}

// V-27, V-28.
fn check_combination(path: &str, rule: &HttpRoute, found: &mut Findings) {
    let actions = [
        ("route", !rule.route.is_empty()),
        ("redirect", rule.redirect.is_some()),
        ("directResponse", rule.direct_response.is_some()),
        ("delegate", rule.delegate.is_some()),
    ];
    if actions.iter().all(|(_, set)| !set) {
        found.error(path, "one of route, redirect, directResponse or delegate is required");
    }
    found.at_most_one(path, &actions);
    let own = [("redirect", rule.redirect.is_some()), ("directResponse", rule.direct_response.is_some())];
    let others = [("fault", rule.fault.is_some()), ("rewrite", rule.rewrite.is_some())];
    for (action, _) in own.iter().filter(|(_, set)| *set) {
        for (other, _) in others.iter().filter(|(_, set)| *set) {
            found
                .error(format!("{path}.{other}"), format!("{other} has no effect beside {action}, which answers here"));
        }
    }
}

// V-30.
fn check_redirect(path: &str, redirect: &HttpRedirect, rule: &HttpRoute, found: &mut Findings) {
    let HttpRedirect { uri, prefix_rewrite, authority, port, derive_port, scheme, redirect_code } = redirect;
    let field = format!("{path}.redirect");
    let set = [uri, prefix_rewrite, authority, scheme].iter().any(|text| !text.as_deref().unwrap_or("").is_empty());
    if !set && port.is_none() && derive_port.is_none() {
        found.error(&field, "one of uri, prefixRewrite, authority, port, derivePort or scheme is required");
    }
    found.at_most_one(&field, &[("uri", uri.is_some()), ("prefixRewrite", prefix_rewrite.is_some())]);
    if prefix_rewrite.is_some() {
        let whole = |uri: &StringMatch| uri.exact.is_some() || uri.regex.is_some();
        let matches = rule.r#match.iter().enumerate();
        for (index, _) in matches.filter(|(_, block)| block.uri.as_ref().is_some_and(whole)) {
            found.error(format!("{path}.match[{index}].uri"), "redirect.prefixRewrite needs a match on a prefix");
        }
    }
    if let Some(code) = redirect_code.filter(|code| *code != 0 && !(300..=399).contains(code)) {
        found.error(format!("{field}.redirectCode"), format!("{code} is not within 300 to 399"));
    }
    if let Some(scheme) = scheme.as_deref().filter(|scheme| !["", "http", "https"].contains(scheme)) {
        found.error(format!("{field}.scheme"), format!("{scheme:?} is neither \"http\" nor \"https\""));
    }
    if let Some(port) = port {
        found.port(&format!("{field}.port"), *port);
    }
}

// V-31.
fn check_response(path: &str, response: &DirectResponse, found: &mut Findings) {
    if !(200..=600).contains(&response.status) {
        found.error(format!("{path}.status"), format!("{} is not within 200 to 600", response.status));
    }
    let Some(body) = &response.body else { return };
    let bytes = body.string.as_ref().map(String::len).or(body.bytes.as_ref().map(|text| text.len() / 4 * 3));
    match bytes.unwrap_or(0) {
        bytes if bytes > BODY_BYTES_MAX => {
            found.error(format!("{path}.body"), format!("{bytes} bytes are more than {BODY_BYTES_MAX}"));
        }
        bytes if bytes > BODY_BYTES_LARGE => {
            found.warn(
                format!("{path}.body"),
                format!("{bytes} bytes in every proxy; more than {BODY_BYTES_LARGE} is much"),
            );
        }
        _ => {}
    }
}

// V-32.
fn check_rewrite(path: &str, rewrite: &HttpRewrite, found: &mut Findings) {
    let HttpRewrite { uri, authority, uri_regex_rewrite } = rewrite;
    let set = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    if !set(uri) && !set(authority) && uri_regex_rewrite.is_none() {
        found.error(path, "one of uri, uriRegexRewrite or authority is required");
    }
    found.at_most_one(path, &[("uri", set(uri)), ("uriRegexRewrite", uri_regex_rewrite.is_some())]);
    let Some(regex) = uri_regex_rewrite else { return };
    let path = format!("{path}.uriRegexRewrite");
    if !set(&regex.r#match) || !set(&regex.rewrite) {
        return found.error(path, "both match and rewrite are required");
    }
    found.regex(&format!("{path}.match"), regex.r#match.as_deref().unwrap_or_default());
}

// V-33.
fn check_authority(path: &str, rule: &HttpRoute, found: &mut Findings) {
    let request = rule.headers.as_ref().and_then(|headers| headers.request.as_ref());
    let names = |values: fn(&HeaderOperations) -> &std::collections::BTreeMap<String, String>| {
        request.is_some_and(|request| values(request).keys().any(|name| header::is_authority(name)))
    };
    let set = [
        ("rewrite.authority", rule.rewrite.as_ref().is_some_and(|rewrite| rewrite.authority.is_some())),
        ("headers.request.set", names(|request| &request.set)),
        ("headers.request.add", names(|request| &request.add)),
    ];
    let set: Vec<&str> = set.iter().filter(|(_, is_set)| *is_set).map(|(name, _)| *name).collect();
    if set.len() > 1 {
        found.error(path, format!("the authority is written twice, by {}", set.join(" and ")));
    }
}

// V-34.
fn check_retries(path: &str, retries: Option<&HttpRetry>, found: &mut Findings) {
    let Some(retries) = retries else { return };
    let HttpRetry { attempts, per_try_timeout, backoff, retry_on, retry_remote_localities, .. } = retries;
    let attempts = attempts.unwrap_or(0);
    if attempts < 0 {
        found.error(format!("{path}.attempts"), format!("{attempts} is negative"));
    }
    let retry_on = retry_on.as_deref().unwrap_or_default();
    let others = per_try_timeout.is_some() || !retry_on.is_empty() || retry_remote_localities.is_some();
    if attempts == 0 && others {
        let message = "attempts is 0 or absent, which turns retries off; then nothing else may be set";
        found.error(format!("{path}.attempts"), message);
    }
    found.duration(&format!("{path}.perTryTimeout"), per_try_timeout.as_ref());
    found.duration(&format!("{path}.backoff"), backoff.as_ref());
    let is_status = |token: &str| token.parse().is_ok_and(|code: u32| (100..=599).contains(&code));
    for token in retry_on.split(',').filter(|_| !retry_on.is_empty()) {
        if !CONDITIONS.contains(&token) && !is_status(token) {
            found.error(format!("{path}.retryOn"), format!("{token:?} is neither a condition nor a status code"));
        }
    }
}

// V-29.
fn check_mirrors(path: &str, rule: &HttpRoute, found: &mut Findings) {
    found.at_most_one(path, &[("mirror", rule.mirror.is_some()), ("mirrors", !rule.mirrors.is_empty())]);
    if rule.mirror.is_some() {
        destination::check(&format!("{path}.mirror"), rule.mirror.as_ref(), found);
    }
    for (index, mirror) in rule.mirrors.iter().enumerate() {
        let path = format!("{path}.mirrors[{index}]");
        destination::check(&format!("{path}.destination"), mirror.destination.as_ref(), found);
        if let Some(value) = mirror.percentage.as_ref().and_then(|percent| percent.value) {
            found.percent(&format!("{path}.percentage.value"), value);
        }
    }
    if let Some(value) = rule.mirror_percentage.as_ref().and_then(|percent| percent.value) {
        found.percent(&format!("{path}.mirrorPercentage.value"), value);
    }
    let Some(percent) = rule.mirror_percent else { return };
    let field = format!("{path}.mirrorPercent");
    if percent > 100 {
        found.error(&field, format!("{percent} is more than 100 percent"));
    }
    found.deprecated(
        field,
        "mirror_percent is deprecated and holds only whole numbers",
        "write mirrorPercentage: {value: …}",
    );
}

// V-36.
fn check_cors(path: &str, cors: Option<&CorsPolicy>, found: &mut Findings) {
    let Some(cors) = cors else { return };
    for (index, origin) in cors.allow_origins.iter().enumerate() {
        let field = format!("{path}.allowOrigins[{index}]");
        let texts = [("exact", &origin.exact), ("prefix", &origin.prefix)];
        for (name, _) in texts.iter().filter(|(_, text)| text.as_deref() == Some("")) {
            found.error(format!("{field}.{name}"), "an empty origin");
        }
        if *origin == StringMatch::default() {
            found.error(&field, "an empty origin");
        }
        http_match::check_string(&field, origin, true, found);
    }
    for (index, _) in cors.allow_origin.iter().enumerate().filter(|(_, origin)| origin.is_empty()) {
        found.error(format!("{path}.allowOrigin[{index}]"), "an empty origin");
    }
    for (index, method) in cors.allow_methods.iter().enumerate() {
        if !METHODS.contains(&method.as_str()) {
            found.error(
                format!("{path}.allowMethods[{index}]"),
                format!("{method:?} is none of {}", METHODS.join(", ")),
            );
        }
    }
    for (list, names) in [("allowHeaders", &cors.allow_headers), ("exposeHeaders", &cors.expose_headers)] {
        for (index, name) in names.iter().enumerate().filter(|(_, name)| !header::is_token(name)) {
            found.error(format!("{path}.{list}[{index}]"), format!("{name:?} is not a header's name"));
        }
    }
    // The answer to a preflight counts it in seconds.
    let whole = |age: std::time::Duration| age.subsec_nanos() == 0;
    match cors.max_age.as_ref().map(|age| (age, age.get())) {
        Some((age, Some(value))) if !whole(value) => {
            found.error(format!("{path}.maxAge"), format!("{:?} is no whole number of seconds", age.0));
        }
        _ => found.duration(&format!("{path}.maxAge"), cors.max_age.as_ref()),
    }
}

// V-37.
fn check_fault(path: &str, fault: Option<&Fault>, found: &mut Findings) {
    let Some(Fault { delay, abort }) = fault else { return };
    if delay.is_none() && abort.is_none() {
        found.error(path, "one of delay and abort is required");
    }
    if let Some(delay) = delay {
        check_delay(&format!("{path}.delay"), delay, found);
    }
    if let Some(abort) = abort {
        check_abort(&format!("{path}.abort"), abort, found);
    }
}

fn check_delay(path: &str, delay: &Delay, found: &mut Findings) {
    found.duration(&format!("{path}.fixedDelay"), delay.fixed_delay.as_ref());
    if delay.exponential_delay.is_some() {
        found.error(format!("{path}.exponentialDelay"), "no proxy knows it; fixedDelay works");
    }
    if let Some(value) = delay.percentage.as_ref().and_then(|percent| percent.value) {
        found.percent(&format!("{path}.percentage.value"), value);
    }
    if let Some(percent) = delay.percent.filter(|percent| !(0..=100).contains(percent)) {
        found.error(format!("{path}.percent"), format!("{percent} is not within 0 to 100"));
    }
}

fn check_abort(path: &str, abort: &Abort, found: &mut Findings) {
    let Abort { http_status, grpc_status, http2_error, percentage } = abort;
    if http2_error.is_some() {
        found.error(format!("{path}.http2Error"), "no proxy knows it; httpStatus and grpcStatus work");
    }
    if let Some(status) = grpc_status.as_deref().filter(|status| !GRPC_CODES.contains(status)) {
        found.error(format!("{path}.grpcStatus"), format!("{status:?} is no gRPC status such as UNAVAILABLE"));
    }
    if let Some(status) = http_status.filter(|status| !(200..=600).contains(status)) {
        found.error(format!("{path}.httpStatus"), format!("{status} is not within 200 to 600"));
    }
    if http_status.is_none() && grpc_status.is_none() && http2_error.is_none() {
        found.warn(path, "an abort without httpStatus or grpcStatus does nothing");
    }
    if let Some(value) = percentage.as_ref().and_then(|percent| percent.value) {
        found.percent(&format!("{path}.percentage.value"), value);
    }
}
