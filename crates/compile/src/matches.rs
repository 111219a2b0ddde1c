//! Match blocks of an HTTP rule: conditions on a request, and conditions on the proxy that are decided when its tables
//! are made (VS10 to VS24).
//!
//! In: one block as written. Out: a [`RuleMatch`], or why the rule cannot be served.

use api::{HttpMatchRequest, StringMatch};
use config::{ClaimMatch, HeaderMatch, PathMatch, QueryMatch, RouteMatch, ValueMatch, check::REGEX_BYTES_MAX};
use regex::Regex;

use crate::gateway_name;
use crate::intent::{RuleMatch, StaticFilter};
use crate::notes::LeftOut;
use crate::text;

/// Lowers one block; `field` is its path in the object.
pub(crate) fn lower(block: &HttpMatchRequest, field: &str, namespace: &str) -> Result<RuleMatch, LeftOut> {
    let HttpMatchRequest {
        name,
        uri,
        scheme,
        method,
        authority,
        headers,
        without_headers,
        query_params,
        ignore_uri_case,
        port,
        source_labels,
        source_namespace,
        gateways,
        stat_prefix,
    } = block;
    let mut request = RouteMatch::any();
    if let Some(uri) = uri {
        request.path = path(uri, &format!("{field}.uri"))?;
    }
    request.ignore_case = ignore_uri_case.unwrap_or(false);
    for (key, value) in headers {
        let at = format!("{field}.headers[{key}]");
        if let Some(claim) = claim(key, value, false, &at)? {
            request.claims.push(claim);
            continue;
        }
        request.headers.push(header(key, value, false, at)?);
    }
    for (key, value) in without_headers {
        let at = format!("{field}.withoutHeaders[{key}]");
        if let Some(claim) = claim(key, value, true, &at)? {
            request.claims.push(claim);
            continue;
        }
        request.headers.push(header(key, value, true, at)?);
    }
    for (pseudo, condition, leaf) in
        [(":method", method, "method"), (":authority", authority, "authority"), (":scheme", scheme, "scheme")]
    {
        let Some(condition) = condition else { continue };
        request.headers.push(header(pseudo, condition, false, format!("{field}.{leaf}"))?);
    }
    for (key, condition) in query_params {
        if key.is_empty() {
            return Err(LeftOut::because(format!("{field}.queryParams"), "a parameter has no name"));
        }
        let value = value(condition, &format!("{field}.queryParams[{key}]"))?;
        request.query.push(QueryMatch { name: key.clone(), value });
    }
    let filter = StaticFilter {
        port: port.filter(|port| *port != 0),
        source_labels: source_labels.clone(),
        source_namespace: source_namespace.clone().filter(|namespace| !namespace.is_empty()),
        gateways: gateways.iter().map(|name| gateway_name::resolve(name, namespace)).collect(),
    };
    let stat_prefix = stat_prefix.clone().unwrap_or_default();
    Ok(RuleMatch { name: name.clone().unwrap_or_default(), request, filter, stat_prefix })
}

fn path(condition: &StringMatch, field: &str) -> Result<PathMatch, LeftOut> {
    let StringMatch { exact, prefix, regex } = condition;
    Ok(match (exact, prefix, regex) {
        (Some(exact), _, _) => PathMatch::Exact(exact.clone()),
        (None, Some(prefix), _) => PathMatch::Prefix(prefix.clone()),
        (None, None, Some(regex)) => PathMatch::Regex(checked(regex, field)?),
        (None, None, None) => PathMatch::Prefix("/".into()),
    })
}

// `@request.auth.claims.a.b` or `@request.auth.claims[a][b]`, on what a valid token says (VS16).
fn claim(key: &str, condition: &StringMatch, invert: bool, field: &str) -> Result<Option<ClaimMatch>, LeftOut> {
    const CLAIMS: &str = "@request.auth.claims";
    let begins = |(prefix, _): &(&str, &str)| prefix.eq_ignore_ascii_case(CLAIMS);
    let Some((prefix, rest)) = key.split_at_checked(CLAIMS.len()).filter(begins) else { return Ok(None) };
    let listed = rest.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let names: Vec<String> = match (rest.strip_prefix('.'), listed) {
        (Some(dotted), _) => dotted.split('.').map(str::to_owned).collect(),
        (None, Some(listed)) => listed.split("][").map(str::to_owned).collect(),
        (None, None) => Vec::new(),
    };
    if names.is_empty() || names.iter().any(String::is_empty) {
        return Err(LeftOut::because(field, format!("{prefix} is followed by .name or [name]")));
    }
    Ok(Some(ClaimMatch { path: names, value: value(condition, field)?, invert }))
}

fn header(key: &str, condition: &StringMatch, invert: bool, field: String) -> Result<HeaderMatch, LeftOut> {
    if !is_header_name(key) {
        return Err(LeftOut::because(field, format!("{key:?} is not a header's name")));
    }
    let value = value(condition, &field)?;
    // withoutHeaders: an absent header counts as empty, but for presence (VS17).
    let missing_is_empty = invert && value != ValueMatch::Present;
    Ok(HeaderMatch { name: key.to_ascii_lowercase(), value, invert, missing_is_empty })
}

/// An RFC 9110 token, or a pseudo header (V-04). Anything else a proxy refuses together with the whole table.
pub(crate) fn is_header_name(key: &str) -> bool {
    const PSEUDO: [&str; 5] = [":method", ":scheme", ":authority", ":path", ":status"];
    PSEUDO.contains(&key) || text::is_token(key)
}

/// An empty condition is presence, and so is the regex `*` (TR42).
pub(crate) fn value(condition: &StringMatch, field: &str) -> Result<ValueMatch, LeftOut> {
    let StringMatch { exact, prefix, regex } = condition;
    Ok(match (exact, prefix, regex.as_deref()) {
        (Some(exact), _, _) => ValueMatch::Exact(exact.clone()),
        (None, Some(prefix), _) if prefix.is_empty() => ValueMatch::Present,
        (None, Some(prefix), _) => ValueMatch::Prefix(prefix.clone()),
        (None, None, None | Some("*")) => ValueMatch::Present,
        (None, None, Some(regex)) => ValueMatch::Regex(checked(regex, field)?),
    })
}

pub(crate) fn checked(regex: &str, field: &str) -> Result<String, LeftOut> {
    let field = format!("{field}.regex");
    if regex.len() > REGEX_BYTES_MAX {
        let message = format!("a regex of {} bytes is longer than {REGEX_BYTES_MAX}", regex.len());
        return Err(LeftOut::because(field, message));
    }
    match Regex::new(regex) {
        Ok(_) => Ok(regex.to_owned()),
        Err(error) => {
            // The parser's last line says what is wrong; the lines above draw the place.
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default().trim().trim_start_matches("error: ");
            Err(LeftOut::because(field, format!("regex {regex:?} does not compile: {reason}")))
        }
    }
}
