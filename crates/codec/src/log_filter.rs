//! Which requests an access log has (Envoy `AccessLogFilter`), with its native filters only.

use config::{Compare, LogFilter};
use envoy_types::pb::envoy::config::accesslog::v3 as pb;
use envoy_types::pb::envoy::config::accesslog::v3::access_log_filter::FilterSpecifier;
use envoy_types::pb::envoy::config::accesslog::v3::comparison_filter::Op;
use envoy_types::pb::envoy::config::core::v3::RuntimeUInt32;

use crate::common::{At, Reason};
use crate::route_match;

/// Deepest nesting that is read.
const DEPTH_MAX: usize = 16;
/// Envoy wants a runtime key for every number; nothing sets these.
const STATUS_KEY: &str = "sluice.access_log.status";
const DURATION_KEY: &str = "sluice.access_log.duration";

pub(crate) fn encode(filter: &LogFilter) -> pb::AccessLogFilter {
    let many = |filters: &[LogFilter]| filters.iter().map(encode).collect();
    let specifier = match filter {
        LogFilter::Status(how, value) => FilterSpecifier::StatusCodeFilter(pb::StatusCodeFilter {
            comparison: Some(comparison(*how, *value, STATUS_KEY)),
        }),
        LogFilter::Millis(how, value) => FilterSpecifier::DurationFilter(pb::DurationFilter {
            comparison: Some(comparison(*how, *value, DURATION_KEY)),
        }),
        LogFilter::Flags(flags) => FilterSpecifier::ResponseFlagFilter(pb::ResponseFlagFilter { flags: flags.clone() }),
        LogFilter::Header(header) => {
            FilterSpecifier::HeaderFilter(pb::HeaderFilter { header: Some(route_match::encode_header(header)) })
        }
        LogFilter::All(filters) => FilterSpecifier::AndFilter(pb::AndFilter { filters: many(filters) }),
        LogFilter::Any(filters) => FilterSpecifier::OrFilter(pb::OrFilter { filters: many(filters) }),
    };
    pb::AccessLogFilter { filter_specifier: Some(specifier) }
}

fn comparison(how: Compare, value: u32, key: &str) -> pb::ComparisonFilter {
    let op = match how {
        Compare::Eq => Op::Eq,
        Compare::Ne => Op::Ne,
        Compare::Ge => Op::Ge,
        Compare::Le => Op::Le,
    };
    let value = RuntimeUInt32 { default_value: value, runtime_key: key.into() };
    pb::ComparisonFilter { op: op as i32, value: Some(value) }
}

pub(crate) fn decode(filter: &pb::AccessLogFilter) -> Result<LogFilter, Reason> {
    read(filter, 0)
}

fn read(filter: &pb::AccessLogFilter, depth: usize) -> Result<LogFilter, Reason> {
    if depth > DEPTH_MAX {
        return Err(format!("filters within filters, more than {DEPTH_MAX} deep"));
    }
    let many = |filters: &[pb::AccessLogFilter]| -> Result<Vec<LogFilter>, Reason> {
        filters.iter().map(|one| read(one, depth + 1)).collect()
    };
    Ok(match &filter.filter_specifier {
        Some(FilterSpecifier::StatusCodeFilter(status)) => {
            let (how, value) = read_comparison(status.comparison.as_ref()).at("status_code_filter")?;
            LogFilter::Status(how, value)
        }
        Some(FilterSpecifier::DurationFilter(duration)) => {
            let (how, value) = read_comparison(duration.comparison.as_ref()).at("duration_filter")?;
            LogFilter::Millis(how, value)
        }
        Some(FilterSpecifier::ResponseFlagFilter(flags)) => LogFilter::Flags(flags.flags.clone()),
        Some(FilterSpecifier::HeaderFilter(pb::HeaderFilter { header: Some(header) })) => {
            LogFilter::Header(route_match::decode_header(header).at("header_filter")?)
        }
        Some(FilterSpecifier::AndFilter(and)) => LogFilter::All(many(&and.filters)?),
        Some(FilterSpecifier::OrFilter(or)) => LogFilter::Any(many(&or.filters)?),
        _ => return Err("a filter of a kind that is not obeyed here".into()),
    })
}

fn read_comparison(comparison: Option<&pb::ComparisonFilter>) -> Result<(Compare, u32), Reason> {
    let comparison = comparison.ok_or("no comparison")?;
    let how = match Op::try_from(comparison.op) {
        Ok(Op::Eq) => Compare::Eq,
        Ok(Op::Ne) => Compare::Ne,
        Ok(Op::Ge) => Compare::Ge,
        Ok(Op::Le) => Compare::Le,
        Err(_) => return Err(format!("op {} is not known", comparison.op)),
    };
    Ok((how, comparison.value.as_ref().map_or(0, |value| value.default_value)))
}
