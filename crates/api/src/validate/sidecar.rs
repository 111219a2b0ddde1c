//! Sidecar by itself (V-90 to V-93).

use words::Protocol;

use super::{Findings, bad_label, names, pool, selector, server_tls};
use crate::gateway::ServerTlsMode;
use crate::sidecar::{CaptureMode, EgressListener, IngressListener, OutboundMode, OutboundTrafficPolicy, SidecarPort};
use crate::{ServerTls, SidecarSpec};

pub(super) fn check(spec: &SidecarSpec, found: &mut Findings) {
    let SidecarSpec { workload_selector, ingress, egress, inbound_connection_pool, outbound_traffic_policy } = spec;
    let says_something = !ingress.is_empty() || !egress.is_empty();
    if !says_something && inbound_connection_pool.is_none() && outbound_traffic_policy.is_none() {
        found.error("spec", "one of ingress, egress, outboundTrafficPolicy or inboundConnectionPool is required");
    }
    let labels = workload_selector.as_ref().map(|selector| &selector.labels);
    selector::check("spec.workloadSelector.labels", labels, "the whole namespace", found);
    pool::check("spec.inboundConnectionPool", inbound_connection_pool.as_deref(), found);
    for (index, listener) in ingress.iter().enumerate() {
        check_ingress(&format!("spec.ingress[{index}]"), listener, &ingress[..index], found);
    }
    check_egress(egress, found);
    if let Some(policy) = outbound_traffic_policy {
        check_outbound(policy, found);
    }
}

fn number(port: Option<&SidecarPort>) -> u32 {
    port.and_then(|port| port.number).unwrap_or(0)
}

fn protocol(port: Option<&SidecarPort>) -> Option<Protocol> {
    Protocol::parse(port.and_then(|port| port.protocol.as_deref()).unwrap_or_default())
}

// V-91.
fn check_ingress(path: &str, listener: &IngressListener, before: &[IngressListener], found: &mut Findings) {
    let Some(port) = &listener.port else { return found.error(format!("{path}.port"), "a listener without port") };
    found.port(&format!("{path}.port.number"), number(Some(port)));
    check_port(&format!("{path}.port"), port, found);
    if before.iter().any(|other| number(other.port.as_ref()) == number(Some(port))) {
        found.error(format!("{path}.port.number"), "the port is there twice");
    }
    let bind = listener.bind.as_deref().unwrap_or_default();
    if !bind.is_empty() && words::host::ip(bind).is_none() {
        found.error(format!("{path}.bind"), format!("{bind:?} is not an address"));
    }
    let endpoint = listener.default_endpoint.as_deref().unwrap_or_default();
    if !is_endpoint(endpoint) {
        let message = format!("{endpoint:?} is neither 127.0.0.1:8080 nor 0.0.0.0:8080 nor unix:///path");
        found.error(format!("{path}.defaultEndpoint"), message);
    }
    if let Some(tls) = &listener.tls {
        check_tls(&format!("{path}.tls"), tls, protocol(Some(port)), found);
    }
    pool::check(&format!("{path}.connectionPool"), listener.connection_pool.as_ref(), found);
    let has_http_pool = listener.connection_pool.as_ref().is_some_and(|pool| pool.http.is_some());
    if has_http_pool && !protocol(Some(port)).is_some_and(Protocol::is_http) {
        found.warn(format!("{path}.connectionPool.http"), "the port does not speak HTTP; this has no effect");
    }
}

fn check_port(path: &str, port: &SidecarPort, found: &mut Findings) {
    found.protocol(&format!("{path}.protocol"), port.protocol.as_deref().unwrap_or_default());
    if let Some(reason) = port.name.as_deref().filter(|name| !name.is_empty()).and_then(bad_label) {
        found.error(format!("{path}.name"), format!("not a port name: {reason}"));
    }
    if port.target_port.is_some() {
        found.error(format!("{path}.targetPort"), "a Sidecar has no target ports; defaultEndpoint says where to");
    }
}

fn is_endpoint(endpoint: &str) -> bool {
    if endpoint.is_empty() {
        return true;
    }
    if let Some(path) = names::unix_path(endpoint) {
        return path.starts_with(['/', '@']);
    }
    let Some((host, port)) = endpoint.rsplit_once(':') else { return false };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let known = ["", "127.0.0.1", "0.0.0.0", "::1", "::"].contains(&host);
    known && port.parse().is_ok_and(|port: u32| (1..=65535).contains(&port))
}

fn check_tls(path: &str, tls: &ServerTls, protocol: Option<Protocol>, found: &mut Findings) {
    let refused = [
        ("subjectAltNames", !tls.subject_alt_names.is_empty()),
        ("httpsRedirect", tls.https_redirect == Some(true)),
        ("credentialName", tls.credential_name.as_deref().is_some_and(|name| !name.is_empty())),
        ("credentialNames", !tls.credential_names.is_empty()),
        ("tlsCertificates", !tls.tls_certificates.is_empty()),
    ];
    for (name, _) in refused.iter().filter(|(_, set)| *set) {
        found.error(format!("{path}.{name}"), format!("a Sidecar has no {name}; certificates come from files"));
    }
    if matches!(tls.mode, Some(ServerTlsMode::IstioMutual | ServerTlsMode::AutoPassthrough)) {
        found.error(format!("{path}.mode"), "a Sidecar terminates TLS with SIMPLE, MUTUAL or OPTIONAL_MUTUAL");
    }
    if !protocol.is_some_and(Protocol::is_tls) {
        found.error(path, "a tls block needs a port of protocol HTTPS or TLS");
    }
    server_tls::check(path, tls, found);
}

// V-92.
fn check_egress(egress: &[EgressListener], found: &mut Findings) {
    for (index, listener) in egress.iter().enumerate() {
        let path = format!("spec.egress[{index}]");
        match &listener.port {
            None if index + 1 < egress.len() => {
                found.error(
                    format!("{path}.port"),
                    "a listener without port takes all ports; it must be the only one, and the last",
                );
            }
            None => check_bind_without_port(&path, listener, found),
            Some(port) => check_egress_port(&path, listener, port, &egress[..index], found),
        }
        check_hosts(&format!("{path}.hosts"), &listener.hosts, found);
    }
}

fn check_bind_without_port(path: &str, listener: &EgressListener, found: &mut Findings) {
    if listener.bind.as_deref().is_some_and(|bind| !bind.is_empty()) {
        found.error(format!("{path}.bind"), "an address to bind needs a port");
    }
}

fn check_egress_port(
    path: &str,
    listener: &EgressListener,
    port: &SidecarPort,
    before: &[EgressListener],
    found: &mut Findings,
) {
    let bind = listener.bind.as_deref().unwrap_or_default();
    let field = format!("{path}.port.number");
    match (names::unix_path(bind).is_some(), number(Some(port))) {
        (true, 0) if listener.capture_mode == Some(CaptureMode::Iptables) => {
            found.error(format!("{path}.captureMode"), "iptables captures no unix socket; use DEFAULT or NONE");
        }
        (true, 0) => {}
        (true, _) => found.error(field, "a unix socket has no port; write 0"),
        (false, 0) => found.error(field, "port 0 needs a unix socket to bind"),
        (false, number) => {
            found.port(&field, number);
            if before.iter().any(|other| self::number(other.port.as_ref()) == number) {
                found.error(field, "the port is there twice");
            }
            if !bind.is_empty() && words::host::ip(bind).is_none() {
                found.error(
                    format!("{path}.bind"),
                    format!("{bind:?} is neither an address nor a socket such as unix:///run/x.sock"),
                );
            }
        }
    }
    check_port(&format!("{path}.port"), port, found);
}

fn check_hosts(path: &str, hosts: &[String], found: &mut Findings) {
    if hosts.is_empty() {
        found.error(path, "a listener without hosts");
    }
    for (index, host) in hosts.iter().enumerate() {
        let field = format!("{path}[{index}]");
        let Some((namespace, name)) = host.split_once('/') else {
            found.error(
                field,
                format!("{host:?} is not namespace/host, such as \"./*\" or \"prod/reviews.prod.svc.cluster.local\""),
            );
            continue;
        };
        check_namespace(&field, namespace, found);
        found.host(&field, name);
        if !name.contains('.') && name != "*" {
            found.error(&field, format!("{name:?} is a short name; a Sidecar needs the full one"));
        }
        if name.starts_with('*') && name != "*" && !name.starts_with("*.") {
            found.error(&field, format!("{name:?}: a wildcard must be a whole label"));
        }
        if hosts[..index].contains(host) {
            found.warn(&field, format!("{host:?} is there twice"));
        }
        if host == "*/*" && hosts.len() > 1 {
            found.warn(field, "\"*/*\" is everything; the others add nothing");
        }
    }
}

// `~` is nobody; `~name` excludes a namespace.
fn check_namespace(field: &str, namespace: &str, found: &mut Findings) {
    let name = namespace.strip_prefix('~').unwrap_or(namespace);
    let is_word = ["*", "."].contains(&name) || (name.is_empty() && namespace == "~");
    if let Some(reason) = bad_label(name).filter(|_| !is_word) {
        found.error(field, format!("{namespace:?} is not a namespace: {reason}"));
    }
}

// V-93.
fn check_outbound(policy: &OutboundTrafficPolicy, found: &mut Findings) {
    let Some(proxy) = &policy.egress_proxy else { return };
    let path = "spec.outboundTrafficPolicy.egressProxy";
    if policy.mode != Some(OutboundMode::AllowAny) {
        found.error(path, "an egress proxy needs mode ALLOW_ANY");
    }
    found.fqdn(&format!("{path}.host"), &proxy.host);
    match proxy.port.as_ref().and_then(|port| port.number) {
        Some(number) => found.port(&format!("{path}.port.number"), number),
        None => found.error(format!("{path}.port"), "a port is required"),
    }
}
