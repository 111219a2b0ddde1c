//! Conditions of a route (Envoy `route.v3.RouteMatch`, `HeaderMatcher`, `QueryParameterMatcher`, `StringMatcher`).

use config::{ClaimMatch, HeaderMatch, PathMatch, QueryMatch, RouteMatch, ValueMatch};
use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier as HeaderSpecifier;
use envoy_types::pb::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier as QuerySpecifier;
use envoy_types::pb::envoy::config::route::v3::{self as pb, route_match::PathSpecifier};
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{MetadataMatcher, RegexMatcher, StringMatcher};

use crate::authorization;
use crate::common::{At, Reason, boolean, is_true};

fn regex(regex: &str) -> RegexMatcher {
    RegexMatcher { regex: regex.to_owned(), ..Default::default() }
}

pub(crate) fn encode(matches: &RouteMatch) -> pb::RouteMatch {
    let RouteMatch { path, ignore_case, headers, query, claims } = matches;
    let path = match path {
        PathMatch::Prefix(prefix) => PathSpecifier::Prefix(prefix.clone()),
        PathMatch::Exact(path) => PathSpecifier::Path(path.clone()),
        PathMatch::Regex(text) => PathSpecifier::SafeRegex(regex(text)),
    };
    pb::RouteMatch {
        path_specifier: Some(path),
        case_sensitive: boolean(!ignore_case),
        headers: headers.iter().map(encode_header).collect(),
        query_parameters: query.iter().map(encode_query).collect(),
        dynamic_metadata: claims.iter().map(encode_claim).collect(),
        ..Default::default()
    }
}

pub(crate) fn encode_header(header: &HeaderMatch) -> pb::HeaderMatcher {
    let HeaderMatch { name, value, invert, missing_is_empty } = header;
    let specifier = match string(value) {
        Some(matcher) => HeaderSpecifier::StringMatch(matcher),
        None => HeaderSpecifier::PresentMatch(true),
    };
    pb::HeaderMatcher {
        name: name.clone(),
        invert_match: *invert,
        treat_missing_header_as_empty: *missing_is_empty,
        header_match_specifier: Some(specifier),
    }
}

// Presence is some text.
fn encode_claim(claim: &ClaimMatch) -> MetadataMatcher {
    let ClaimMatch { path, value, invert } = claim;
    let text = string(value).unwrap_or_else(|| StringMatcher {
        match_pattern: Some(MatchPattern::SafeRegex(regex(authorization::ANYTHING))),
        ..Default::default()
    });
    MetadataMatcher { invert: *invert, ..authorization::claim(path, text) }
}

fn decode_claim(metadata: &MetadataMatcher) -> Result<ClaimMatch, Reason> {
    let (path, text) = authorization::read_metadata(metadata)?;
    let value = match decode_string(text)? {
        ValueMatch::Regex(regex) if regex == authorization::ANYTHING => ValueMatch::Present,
        value => value,
    };
    Ok(ClaimMatch { path, value, invert: metadata.invert })
}

fn encode_query(query: &QueryMatch) -> pb::QueryParameterMatcher {
    let specifier = match string(&query.value) {
        Some(matcher) => QuerySpecifier::StringMatch(matcher),
        None => QuerySpecifier::PresentMatch(true),
    };
    pb::QueryParameterMatcher { name: query.name.clone(), query_parameter_match_specifier: Some(specifier) }
}

// `None` for mere presence, which each matcher says in its own field.
pub(crate) fn string(value: &ValueMatch) -> Option<StringMatcher> {
    let pattern = match value {
        ValueMatch::Present => return None,
        ValueMatch::Exact(text) => MatchPattern::Exact(text.clone()),
        ValueMatch::Prefix(text) => MatchPattern::Prefix(text.clone()),
        ValueMatch::Suffix(text) => MatchPattern::Suffix(text.clone()),
        ValueMatch::Contains(text) => MatchPattern::Contains(text.clone()),
        ValueMatch::Regex(text) => MatchPattern::SafeRegex(regex(text)),
    };
    Some(StringMatcher { match_pattern: Some(pattern), ..Default::default() })
}

pub(crate) fn decode(matches: &pb::RouteMatch) -> Result<RouteMatch, Reason> {
    let path = match &matches.path_specifier {
        Some(PathSpecifier::Prefix(prefix)) => PathMatch::Prefix(prefix.clone()),
        Some(PathSpecifier::Path(path)) => PathMatch::Exact(path.clone()),
        Some(PathSpecifier::SafeRegex(regex)) => PathMatch::Regex(regex.regex.clone()),
        Some(_) => return Err("a path condition of a kind that is not obeyed here".into()),
        None => return Err("no path condition".into()),
    };
    // A condition left out would send requests where they must not go.
    let unread = !matches.cookies.is_empty()
        || !matches.filter_state.is_empty()
        || matches.tls_context.is_some()
        || matches.runtime_fraction.is_some()
        || matches.grpc.is_some();
    if unread {
        return Err("a condition of a kind that is not obeyed here".into());
    }
    let headers =
        matches.headers.iter().enumerate().map(|(i, header)| decode_header(header).at(format!("headers[{i}]")));
    let query = matches.query_parameters.iter().enumerate();
    let query = query.map(|(i, query)| decode_query(query).at(format!("query_parameters[{i}]")));
    Ok(RouteMatch {
        path,
        ignore_case: !is_true(&matches.case_sensitive, true),
        headers: headers.collect::<Result<_, _>>()?,
        query: query.collect::<Result<_, _>>()?,
        claims: matches.dynamic_metadata.iter().map(decode_claim).collect::<Result<_, _>>().at("dynamic_metadata")?,
    })
}

#[allow(deprecated, reason = "older control planes still send the single-purpose forms")]
pub(crate) fn decode_header(header: &pb::HeaderMatcher) -> Result<HeaderMatch, Reason> {
    let mut invert = header.invert_match;
    let value = match &header.header_match_specifier {
        None => ValueMatch::Present,
        Some(HeaderSpecifier::PresentMatch(present)) => {
            // `present_match: false` asks for absence.
            invert ^= !present;
            ValueMatch::Present
        }
        Some(HeaderSpecifier::StringMatch(matcher)) => decode_string(matcher)?,
        Some(HeaderSpecifier::ExactMatch(text)) => ValueMatch::Exact(text.clone()),
        Some(HeaderSpecifier::PrefixMatch(text)) => ValueMatch::Prefix(text.clone()),
        Some(HeaderSpecifier::SuffixMatch(text)) => ValueMatch::Suffix(text.clone()),
        Some(HeaderSpecifier::ContainsMatch(text)) => ValueMatch::Contains(text.clone()),
        Some(HeaderSpecifier::SafeRegexMatch(regex)) => ValueMatch::Regex(regex.regex.clone()),
        Some(HeaderSpecifier::RangeMatch(_)) => return Err("a numeric range is not obeyed here".into()),
    };
    Ok(HeaderMatch {
        name: header.name.to_ascii_lowercase(),
        value,
        invert,
        missing_is_empty: header.treat_missing_header_as_empty,
    })
}

fn decode_query(query: &pb::QueryParameterMatcher) -> Result<QueryMatch, Reason> {
    let value = match &query.query_parameter_match_specifier {
        None | Some(QuerySpecifier::PresentMatch(true)) => ValueMatch::Present,
        Some(QuerySpecifier::PresentMatch(false)) => return Err("absence of a parameter is not obeyed here".into()),
        Some(QuerySpecifier::StringMatch(matcher)) => decode_string(matcher)?,
    };
    Ok(QueryMatch { name: query.name.clone(), value })
}

pub(crate) fn decode_string(matcher: &StringMatcher) -> Result<ValueMatch, Reason> {
    if matcher.ignore_case {
        return Err("ignore_case is not obeyed here".into());
    }
    Ok(match &matcher.match_pattern {
        Some(MatchPattern::Exact(text)) => ValueMatch::Exact(text.clone()),
        Some(MatchPattern::Prefix(text)) => ValueMatch::Prefix(text.clone()),
        Some(MatchPattern::Suffix(text)) => ValueMatch::Suffix(text.clone()),
        Some(MatchPattern::Contains(text)) => ValueMatch::Contains(text.clone()),
        Some(MatchPattern::SafeRegex(regex)) => ValueMatch::Regex(regex.regex.clone()),
        _ => return Err("a string condition of a kind that is not obeyed here".into()),
    })
}
