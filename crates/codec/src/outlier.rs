//! Outlier detection (Envoy `cluster.v3.OutlierDetection`, and the status codes that count in
//! `upstreams.http.v3.HttpProtocolOptions.OutlierDetection`).

use std::time::Duration;

use config::Outlier;
use envoy_types::pb::envoy::config::cluster::v3 as pb;
use envoy_types::pb::envoy::config::common::matcher::v3::{HttpHeadersMatch, MatchPredicate, match_predicate};
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options as protocol;
use envoy_types::pb::envoy::r#type::matcher::v3::{StringMatcher, string_matcher};
use envoy_types::pb::google::protobuf as google;

use crate::common::{At, Reason, duration, read_positive, uint32};

const STATUS: &str = ":status";

pub(crate) fn encode(outlier: &Outlier) -> pb::OutlierDetection {
    let Outlier {
        consecutive_5xx,
        consecutive_gateway,
        consecutive_local,
        error_codes: _,
        interval,
        base_ejection_time,
        max_ejection_percent,
    } = outlier;
    let enforced = |count: u32| uint32(if count > 0 { 100 } else { 0 });
    pb::OutlierDetection {
        consecutive_5xx: uint32(*consecutive_5xx),
        enforcing_consecutive_5xx: enforced(*consecutive_5xx),
        consecutive_gateway_failure: uint32(*consecutive_gateway),
        enforcing_consecutive_gateway_failure: enforced(*consecutive_gateway),
        split_external_local_origin_errors: consecutive_local.is_some(),
        consecutive_local_origin_failure: consecutive_local.and_then(uint32),
        enforcing_consecutive_local_origin_failure: consecutive_local.and_then(enforced),
        interval: Some(duration(*interval)),
        base_ejection_time: Some(duration(*base_ejection_time)),
        max_ejection_percent: uint32(*max_ejection_percent),
        // Rates over time are off in Istio (DR53).
        enforcing_success_rate: uint32(0),
        enforcing_local_origin_success_rate: uint32(0),
        ..Default::default()
    }
}

/// The status codes that are errors; `None` for 5xx.
pub(crate) fn encode_codes(outlier: &Outlier) -> Option<protocol::OutlierDetection> {
    let mut rules = outlier.error_codes.iter().map(|code| one_code(*code));
    let matcher = match outlier.error_codes.len() {
        0 => return None,
        1 => rules.next(),
        _ => Some(match_predicate::Rule::OrMatch(match_predicate::MatchSet {
            rules: rules.map(|rule| MatchPredicate { rule: Some(rule) }).collect(),
        })),
    };
    Some(protocol::OutlierDetection { error_matcher: Some(MatchPredicate { rule: matcher }) })
}

fn one_code(code: u16) -> match_predicate::Rule {
    let exact = string_matcher::MatchPattern::Exact(code.to_string());
    let header = route::HeaderMatcher {
        name: STATUS.into(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(StringMatcher {
            match_pattern: Some(exact),
            ..Default::default()
        })),
        ..Default::default()
    };
    match_predicate::Rule::HttpResponseHeadersMatch(HttpHeadersMatch { headers: vec![header] })
}

pub(crate) fn decode(
    outlier: &pb::OutlierDetection,
    codes: Option<&protocol::OutlierDetection>,
    notes: &mut Vec<String>,
) -> Result<Outlier, Reason> {
    let default = Outlier::default();
    let number = |value: &Option<google::UInt32Value>, absent: u32| value.as_ref().map_or(absent, |value| value.value);
    // A chance below 100 % cannot be said here: any chance counts as certain.
    let enforced = |count: u32, chance: &Option<google::UInt32Value>, absent: u32| match number(chance, absent) {
        0 => 0,
        _ => count,
    };
    let time = |value, absent: Duration| Ok::<_, Reason>(read_positive(value)?.unwrap_or(absent));
    if number(&outlier.enforcing_success_rate, 100) > 0 || number(&outlier.enforcing_failure_percentage, 0) > 0 {
        notes.push("outlier_detection: success rates and failure percentages are not obeyed here".into());
    }
    let local = number(&outlier.consecutive_local_origin_failure, 5);
    Ok(Outlier {
        consecutive_5xx: enforced(number(&outlier.consecutive_5xx, 5), &outlier.enforcing_consecutive_5xx, 100),
        consecutive_gateway: enforced(
            number(&outlier.consecutive_gateway_failure, 5),
            &outlier.enforcing_consecutive_gateway_failure,
            0,
        ),
        consecutive_local: outlier
            .split_external_local_origin_errors
            .then(|| enforced(local, &outlier.enforcing_consecutive_local_origin_failure, 100)),
        error_codes: codes.map(decode_codes).transpose().at("error_matcher")?.unwrap_or_default(),
        interval: time(&outlier.interval, default.interval).at("interval")?,
        base_ejection_time: time(&outlier.base_ejection_time, default.base_ejection_time).at("base_ejection_time")?,
        max_ejection_percent: number(&outlier.max_ejection_percent, default.max_ejection_percent).min(100),
    })
}

fn decode_codes(codes: &protocol::OutlierDetection) -> Result<Vec<u16>, Reason> {
    match codes.error_matcher.as_ref().and_then(|matcher| matcher.rule.as_ref()) {
        None => Ok(Vec::new()),
        Some(match_predicate::Rule::OrMatch(any)) => {
            any.rules.iter().map(|rule| read_code(rule.rule.as_ref())).collect()
        }
        one => Ok(vec![read_code(one)?]),
    }
}

fn read_code(rule: Option<&match_predicate::Rule>) -> Result<u16, Reason> {
    let unread = || Reason::from("only exact status codes are obeyed here");
    let Some(match_predicate::Rule::HttpResponseHeadersMatch(headers)) = rule else { return Err(unread()) };
    let [header] = headers.headers.as_slice() else { return Err(unread()) };
    let exact = match &header.header_match_specifier {
        Some(HeaderMatchSpecifier::StringMatch(matcher)) => match &matcher.match_pattern {
            Some(string_matcher::MatchPattern::Exact(code)) if !matcher.ignore_case => code.parse().ok(),
            _ => None,
        },
        _ => None,
    };
    exact.filter(|_| header.name == STATUS && !header.invert_match).ok_or_else(unread)
}
