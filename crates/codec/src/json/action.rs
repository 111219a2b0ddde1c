//! What a route does besides forwarding, as JSON: redirects, answers, rewrites, header changes, CORS.

use config::{
    CorsPolicy, HeaderChanges, HeaderPut, PathRewrite, PutHow, Redirect, RedirectPath, Respond, Rewrite, Weighted,
};
use serde_json::{Value, json};

use super::{matcher, set};

pub(super) fn respond(action: &Respond) -> Value {
    json!({"status": action.status, "body": {"inline_string": String::from_utf8_lossy(&action.body)}})
}

pub(super) fn redirect(action: &Redirect) -> Value {
    let Redirect { scheme, host, port, path, status } = action;
    let code = match status {
        302 => "FOUND",
        303 => "SEE_OTHER",
        307 => "TEMPORARY_REDIRECT",
        308 => "PERMANENT_REDIRECT",
        _ => "MOVED_PERMANENTLY",
    };
    let mut out = json!({"response_code": code});
    set(&mut out, "scheme_redirect", scheme.as_ref().map(|scheme| json!(scheme)));
    set(&mut out, "host_redirect", host.as_ref().map(|host| json!(host)));
    set(&mut out, "port_redirect", port.map(|port| json!(port)));
    match path {
        None => {}
        Some(RedirectPath::Whole(path)) => out["path_redirect"] = json!(path),
        Some(RedirectPath::Matched(prefix)) => out["prefix_rewrite"] = json!(prefix),
    }
    out
}

pub(super) fn rewrite(rewrite: &Rewrite, out: &mut Value) {
    match &rewrite.path {
        None => {}
        Some(PathRewrite::Matched(text)) => out["prefix_rewrite"] = json!(text),
        Some(PathRewrite::Regex { pattern, substitution }) => {
            out["regex_rewrite"] = json!({"pattern": {"regex": pattern}, "substitution": substitution});
        }
    }
    set(out, "host_rewrite_literal", rewrite.authority.as_ref().map(|name| json!(name)));
}

pub(super) fn header_changes(changes: &HeaderChanges, out: &mut Value) {
    for (way, edits) in [("request", &changes.request), ("response", &changes.response)] {
        let puts: Vec<Value> = edits.put.iter().map(put).collect();
        set(out, &format!("{way}_headers_to_add"), (!puts.is_empty()).then(|| json!(puts)));
        let names = &edits.remove;
        set(out, &format!("{way}_headers_to_remove"), (!names.is_empty()).then(|| json!(names)));
    }
}

fn put(put: &HeaderPut) -> Value {
    let how = match put.how {
        PutHow::Append => "APPEND_IF_EXISTS_OR_ADD",
        PutHow::IfAbsent => "ADD_IF_ABSENT",
        PutHow::Overwrite => "OVERWRITE_IF_EXISTS_OR_ADD",
        PutHow::IfPresent => "OVERWRITE_IF_EXISTS",
    };
    json!({"header": {"key": put.name, "value": put.value}, "append_action": how})
}

pub(super) fn weighted(one: &Weighted) -> Value {
    let mut out = json!({"name": one.cluster.as_ref(), "weight": one.weight});
    if let Some(changes) = &one.headers {
        header_changes(changes, &mut out);
    }
    set(&mut out, "host_rewrite_literal", one.authority.as_ref().map(|name| json!(name)));
    out
}

pub(super) fn cors(cors: &CorsPolicy) -> Value {
    let origins: Vec<Value> = cors.allow_origins.iter().map(matcher).collect();
    let mut out = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy",
        "allow_origin_string_match": origins, "forward_not_matching_preflights": cors.forward_unmatched
    });
    for (name, text) in [
        ("allow_methods", &cors.allow_methods),
        ("allow_headers", &cors.allow_headers),
        ("expose_headers", &cors.expose_headers),
        ("max_age", &cors.max_age),
    ] {
        set(&mut out, name, (!text.is_empty()).then(|| json!(text)));
    }
    set(&mut out, "allow_credentials", cors.allow_credentials.then_some(json!(true)));
    out
}
