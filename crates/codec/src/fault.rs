//! The HTTP fault filter (Envoy `fault.v3.HTTPFault`): empty in the chain, set route by route, as istiod sends it.

use std::collections::HashMap;

use config::{Abort, AbortStatus, Delay, Fault};
use envoy_types::pb::envoy::extensions::filters::common::fault::v3::{FaultDelay, fault_delay};
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::{FaultAbort, HttpFault, fault_abort};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::google::protobuf::Any;

use crate::common::{At, Reason, any, duration, read_any, read_duration};
use crate::share;

/// The filter's name, which is also its key in a route.
pub(crate) const FILTER: &str = "envoy.filters.http.fault";

/// The filter in the chain; routes without settings of their own pass through it.
pub(crate) fn filter() -> hcm::HttpFilter {
    hcm::HttpFilter {
        name: FILTER.into(),
        config_type: Some(hcm::http_filter::ConfigType::TypedConfig(any(&HttpFault::default()))),
        ..Default::default()
    }
}

/// A route's settings.
pub(crate) fn encode(fault: &Fault) -> HashMap<String, Any> {
    let Fault { delay, abort } = fault;
    let message = HttpFault {
        delay: delay.as_ref().map(encode_delay),
        abort: abort.as_ref().map(encode_abort),
        ..Default::default()
    };
    HashMap::from([(FILTER.into(), any(&message))])
}

fn encode_delay(delay: &Delay) -> FaultDelay {
    FaultDelay {
        percentage: Some(share::encode(delay.share)),
        fault_delay_secifier: Some(fault_delay::FaultDelaySecifier::FixedDelay(duration(delay.fixed))),
    }
}

fn encode_abort(abort: &Abort) -> FaultAbort {
    let error = match abort.status {
        AbortStatus::Http(status) => fault_abort::ErrorType::HttpStatus(status.into()),
        AbortStatus::Grpc(code) => fault_abort::ErrorType::GrpcStatus(code.into()),
    };
    FaultAbort { percentage: Some(share::encode(abort.share)), error_type: Some(error), ..Default::default() }
}

/// A route's settings; settings of other filters are named in `notes`.
pub(crate) fn decode(settings: &HashMap<String, Any>, notes: &mut Vec<String>) -> Result<Option<Fault>, Reason> {
    let Some(written) = settings.get(FILTER) else { return Ok(None) };
    let Some(message) = read_any::<HttpFault>(written).transpose()? else {
        notes.push(format!("fault settings of type {:?} are not obeyed", written.type_url));
        return Ok(None);
    };
    let narrowed = !message.headers.is_empty()
        || !message.upstream_cluster.is_empty()
        || !message.downstream_nodes.is_empty()
        || message.max_active_faults.is_some()
        || message.response_rate_limit.is_some();
    if narrowed {
        notes.push("fault: only delay and abort are obeyed, for every request of the route".into());
    }
    let delay = message.delay.as_ref().map(|delay| decode_delay(delay, notes)).transpose().at("delay")?.flatten();
    let abort = message.abort.as_ref().map(|abort| decode_abort(abort, notes)).transpose().at("abort")?.flatten();
    Ok((delay.is_some() || abort.is_some()).then_some(Fault { delay, abort }))
}

fn decode_delay(delay: &FaultDelay, notes: &mut Vec<String>) -> Result<Option<Delay>, Reason> {
    let Some(fault_delay::FaultDelaySecifier::FixedDelay(fixed)) = &delay.fault_delay_secifier else {
        notes.push("fault: a delay that a header asks for is not obeyed".into());
        return Ok(None);
    };
    let fixed = read_duration(fixed).at("fixed_delay")?;
    Ok((!fixed.is_zero()).then_some(Delay { fixed, share: share::decode(delay.percentage.as_ref())? }))
}

fn decode_abort(abort: &FaultAbort, notes: &mut Vec<String>) -> Result<Option<Abort>, Reason> {
    let number = |value: u32| u16::try_from(value).map_err(|_| format!("status {value} is none"));
    let status = match abort.error_type {
        Some(fault_abort::ErrorType::HttpStatus(status)) => AbortStatus::Http(number(status)?),
        Some(fault_abort::ErrorType::GrpcStatus(code)) => AbortStatus::Grpc(number(code)?),
        _ => {
            notes.push("fault: an abort that a header asks for is not obeyed".into());
            return Ok(None);
        }
    };
    Ok(Some(Abort { status, share: share::decode(abort.percentage.as_ref())? }))
}
