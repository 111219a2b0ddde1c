//! VirtualService by itself (V-20 to V-43).

use words::host;

use super::redundant::Block;
use super::{Findings, bad_label, destination, header, http_action, http_match, names, redundant};
use crate::virtual_service::{RouteDestination, TcpRoute, TlsRoute};
use crate::{HttpRoute, VirtualServiceSpec};

pub(super) fn check(spec: &VirtualServiceSpec, found: &mut Findings) {
    let VirtualServiceSpec { hosts, gateways, http, tls, tcp, export_to } = spec;
    // V-20, V-21.
    if http.is_empty() && tls.is_empty() && tcp.is_empty() {
        found.error("spec", "one of http, tls or tcp is required");
    }
    if hosts.is_empty() && !(gateways.is_empty() && tls.is_empty() && tcp.is_empty()) {
        found.error("spec.hosts", "a VirtualService without hosts is a delegate: no gateways, tls or tcp");
    }
    let in_mesh = gateways.is_empty() || gateways.iter().any(|gateway| gateway == "mesh");
    check_hosts(hosts, in_mesh, found);
    found.gateways("spec.gateways", gateways);
    found.export_to(export_to, false);
    for (index, rule) in http.iter().enumerate() {
        let path = format!("spec.http[{index}]");
        check_rule(&path, rule, hosts.is_empty(), found);
        if in_mesh {
            check_claims(&path, rule, found);
        }
    }
    for (index, rule) in tls.iter().enumerate() {
        check_tls(&format!("spec.tls[{index}]"), rule, hosts, found);
    }
    for (index, rule) in tcp.iter().enumerate() {
        check_tcp(&format!("spec.tcp[{index}]"), rule, found);
    }
    redundant::check_http(http, found);
    redundant::check("spec.tls", tls.iter().map(|rule| rule.r#match.iter().map(Block::whole).collect()), found);
    redundant::check("spec.tcp", tcp.iter().map(|rule| rule.r#match.iter().map(Block::whole).collect()), found);
}

// V-22, V-23.
fn check_hosts(hosts: &[String], in_mesh: bool, found: &mut Findings) {
    for (index, name) in hosts.iter().enumerate() {
        let field = format!("spec.hosts[{index}]");
        if in_mesh || !is_sni_of_service(name) {
            found.host(&field, name);
        }
        if name == "*" && in_mesh {
            found.error(&field, "\"*\" is not allowed for the mesh; name the host, or bind to a gateway only");
        }
        if hosts[..index].iter().any(|other| host::overlaps(&other.to_lowercase(), &name.to_lowercase())) {
            found.error(&field, format!("{name:?} overlaps another host of the same VirtualService"));
        }
    }
}

// `outbound_.9080_.v1_.reviews.default.svc.cluster.local`: how a sidecar names a service to an east-west gateway.
fn is_sni_of_service(name: &str) -> bool {
    let parts: Vec<&str> = name.splitn(4, "_.").collect();
    let ["outbound", port, subset, host] = parts.as_slice() else { return false };
    let number = port.parse().is_ok_and(|port: u32| (1..=65535).contains(&port));
    number && (subset.is_empty() || bad_label(subset).is_none()) && names::bad_fqdn(host).is_none()
}

fn check_rule(path: &str, rule: &HttpRoute, is_delegate: bool, found: &mut Findings) {
    // V-27.
    if is_delegate && rule.delegate.is_some() {
        found.error(format!("{path}.delegate"), "a delegate cannot delegate (one level only)");
    }
    for (index, block) in rule.r#match.iter().enumerate() {
        http_match::check(&format!("{path}.match[{index}]"), block, found);
    }
    destination::check_split(&format!("{path}.route"), rule.route.iter().map(Into::into), found);
    for (index, route) in rule.route.iter().enumerate() {
        header::check(&format!("{path}.route[{index}].headers"), route.headers.as_ref(), found);
    }
    header::check(&format!("{path}.headers"), rule.headers.as_ref(), found);
    http_action::check(path, rule, found);
}

// V-25: only a gateway verifies tokens before it routes.
fn check_claims(path: &str, rule: &HttpRoute, found: &mut Findings) {
    for (index, block) in rule.r#match.iter().enumerate() {
        for (name, map) in [("headers", &block.headers), ("withoutHeaders", &block.without_headers)] {
            for key in map.keys().filter(|key| key.starts_with(http_match::CLAIM)) {
                let field = format!("{path}.match[{index}].{name}.{key}");
                found.error(field, "claims of a token are matched at gateways only; bind to gateways, without mesh");
            }
        }
    }
}

// V-39.
fn check_tls(path: &str, rule: &TlsRoute, hosts: &[String], found: &mut Findings) {
    if rule.r#match.is_empty() {
        found.error(format!("{path}.match"), "a TLS rule without match");
    }
    for (index, block) in rule.r#match.iter().enumerate() {
        let path = format!("{path}.match[{index}]");
        if block.sni_hosts.is_empty() {
            found.error(format!("{path}.sniHosts"), "a TLS match without sniHosts");
        }
        for (index, sni) in block.sni_hosts.iter().enumerate() {
            check_sni(&format!("{path}.sniHosts[{index}]"), sni, hosts, found);
        }
        found.subnets(&format!("{path}.destinationSubnets"), &block.destination_subnets);
        http_match::check_place(&path, block.port, &block.gateways, found);
        http_match::check_source(&path, &block.source_labels, block.source_namespace.as_deref(), found);
    }
    check_routes(path, &rule.route, found);
}

fn check_sni(field: &str, sni: &str, hosts: &[String], found: &mut Findings) {
    if host::ip(sni).is_some() {
        return found.warn(field, format!("{sni:?} is an address, and clients send no addresses as server names"));
    }
    if !is_sni_of_service(sni) {
        found.host(field, sni);
    }
    let lower = sni.to_lowercase();
    // A short host is compared complete, as it acts; Istio compares it as written and refuses this.
    let in_own_namespace = format!(".{}.svc.", found.namespace());
    let covers = |host: &String| {
        let host = host.to_lowercase();
        let rest = lower.strip_prefix(&host).filter(|_| !host.contains('.'));
        host::is_subset(&lower, &host) || rest.is_some_and(|rest| rest.starts_with(&in_own_namespace))
    };
    if !hosts.iter().any(covers) {
        found.error(field, format!("{sni:?} is within none of the hosts of the VirtualService"));
    }
}

// V-40.
fn check_tcp(path: &str, rule: &TcpRoute, found: &mut Findings) {
    for (index, block) in rule.r#match.iter().enumerate() {
        let path = format!("{path}.match[{index}]");
        found.subnets(&format!("{path}.destinationSubnets"), &block.destination_subnets);
        if let Some(subnet) = block.source_subnet.as_ref().filter(|subnet| !names::is_subnet(subnet)) {
            found.error(format!("{path}.sourceSubnet"), format!("{subnet:?} is neither an address nor a range"));
        }
        http_match::check_place(&path, block.port, &block.gateways, found);
        http_match::check_source(&path, &block.source_labels, block.source_namespace.as_deref(), found);
    }
    check_routes(path, &rule.route, found);
}

fn check_routes(path: &str, routes: &[RouteDestination], found: &mut Findings) {
    if routes.is_empty() {
        found.error(format!("{path}.route"), "a rule without route");
    }
    destination::check_split(&format!("{path}.route"), routes.iter().map(Into::into), found);
}
