//! What goes wrong on purpose, what is copied, limited, bounded and left alone, as JSON.

use config::{Abort, AbortStatus, Delay, Fault, Mirror, Outlier, RateKey, RateLimit, Share, TcpKeepalive, Thresholds};
use serde_json::{Value, json};

use super::{seconds, set};

/// A share of a million.
fn share(share: Share) -> Value {
    json!({"numerator": share.count(), "denominator": "MILLION"})
}

pub(super) fn fault(fault: &Fault) -> Value {
    let mut out = json!({});
    let delay = |Delay { fixed, share: of }: &Delay| json!({"fixed_delay": seconds(*fixed), "percentage": share(*of)});
    set(&mut out, "delay", fault.delay.as_ref().map(delay));
    let abort = |Abort { status, share: of }: &Abort| match status {
        AbortStatus::Http(code) => json!({"http_status": code, "percentage": share(*of)}),
        AbortStatus::Grpc(code) => json!({"grpc_status": code, "percentage": share(*of)}),
    };
    set(&mut out, "abort", fault.abort.as_ref().map(abort));
    out
}

pub(super) fn mirror(mirror: &Mirror) -> Value {
    let Mirror { cluster, share: of, shadow_host } = mirror;
    let mut out = json!({"cluster": cluster.as_ref(), "runtime_fraction": {"default_value": share(*of)}});
    set(&mut out, "disable_shadow_host_suffix_append", (!shadow_host).then_some(json!(true)));
    out
}

pub(super) fn limit(limit: &RateLimit) -> Value {
    let RateLimit { name, key, requests, interval, burst } = limit;
    let mut out = json!({
        "stat_prefix": name.as_ref(),
        "token_bucket": {"max_tokens": burst, "tokens_per_fill": requests, "fill_interval": seconds(*interval)},
    });
    let key = key.as_ref().map(|key| match key {
        RateKey::Header(name) => json!({"request_headers": {"header_name": name}}),
        RateKey::SourceAddress => json!({"remote_address": {}}),
    });
    set(&mut out, "key", key);
    out
}

pub(super) fn thresholds(thresholds: &Thresholds) -> Value {
    let Thresholds { max_connections, max_pending_requests, max_requests, max_retries, retry_budget } = thresholds;
    let mut out = json!({
        "max_connections": max_connections,
        "max_pending_requests": max_pending_requests,
        "max_requests": max_requests,
        "max_retries": max_retries,
    });
    let budget = retry_budget.as_ref().map(|budget| {
        json!({
            "budget_percent": {"value": budget.share.as_percent()},
            "min_retry_concurrency": budget.min_concurrency,
            "budget_interval": seconds(budget.interval),
        })
    });
    set(&mut out, "retry_budget", budget);
    out
}

pub(super) fn outlier(outlier: &Outlier) -> Value {
    let mut out = json!({
        "consecutive_5xx": outlier.consecutive_5xx,
        "consecutive_gateway_failure": outlier.consecutive_gateway,
        "interval": seconds(outlier.interval),
        "base_ejection_time": seconds(outlier.base_ejection_time),
        "max_ejection_percent": outlier.max_ejection_percent,
    });
    if let Some(count) = outlier.consecutive_local {
        out["split_external_local_origin_errors"] = json!(true);
        out["consecutive_local_origin_failure"] = json!(count);
    }
    set(&mut out, "error_codes", (!outlier.error_codes.is_empty()).then(|| json!(outlier.error_codes)));
    out
}

pub(super) fn keepalive(keepalive: &TcpKeepalive) -> Value {
    let mut out = json!({});
    set(&mut out, "keepalive_probes", keepalive.probes.map(|count| json!(count)));
    set(&mut out, "keepalive_time", keepalive.time_seconds.map(|time| json!(time)));
    set(&mut out, "keepalive_interval", keepalive.interval_seconds.map(|time| json!(time)));
    json!({"tcp_keepalive": out})
}
