//! How a WorkloadGroup finds out health (V-101, TR83).

use super::{Findings, header};
use crate::workload::{HttpProbe, Probe};

pub(super) fn check(path: &str, probe: &Probe, found: &mut Findings) {
    let numbers = [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ];
    for (name, value) in numbers.iter().filter_map(|(name, value)| Some((name, value.filter(|value| *value < 0)?))) {
        found.error(format!("{path}.{name}"), format!("{value} is negative"));
    }
    if let Some(http) = &probe.http_get {
        check_http(&format!("{path}.httpGet"), http, found);
    }
    if let Some(tcp) = &probe.tcp_socket {
        found.port(&format!("{path}.tcpSocket.port"), tcp.port);
    }
    if let Some(exec) = &probe.exec
        && (exec.command.is_empty() || exec.command.iter().all(String::is_empty))
    {
        found.error(format!("{path}.exec.command"), "a command is required");
    }
    if probe.grpc.is_some() {
        found.error(format!("{path}.grpc"), "Istio refuses gRPC probes; use httpGet, tcpSocket or exec");
    } else if probe.http_get.is_none() && probe.tcp_socket.is_none() && probe.exec.is_none() {
        found.error(path, "one of httpGet, tcpSocket or exec is required");
    }
}

fn check_http(path: &str, http: &HttpProbe, found: &mut Findings) {
    found.port(&format!("{path}.port"), http.port);
    let scheme = http.scheme.as_deref().unwrap_or_default();
    if !["", "HTTP", "HTTPS"].contains(&scheme) {
        found.error(format!("{path}.scheme"), format!("{scheme:?} is neither HTTP nor HTTPS"));
    }
    for (index, one) in http.http_headers.iter().enumerate() {
        let name = one.name.as_deref().unwrap_or_default();
        if !header::is_token(name) {
            found.error(format!("{path}.httpHeaders[{index}].name"), format!("{name:?} is not a header's name"));
        }
    }
}
