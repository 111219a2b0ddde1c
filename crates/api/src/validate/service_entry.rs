//! ServiceEntry by itself (V-70 to V-80).

use words::{Protocol, Severity, host};

use super::{ADDRESSES_REQUIRED, Findings, bad_label, names, selector, workload};
use crate::service_entry::{Resolution, ServiceLocation};
use crate::{Meta, ServiceEntrySpec, ServicePort, WorkloadEntrySpec};

/// Set to `false`, it keeps the control plane from giving the hosts an address (SE16).
const AUTO_ADDRESS: &str = "networking.istio.io/enable-autoallocate-ip";
/// Sends the traffic through a waypoint, which resolves nothing by itself.
const USE_WAYPOINT: &str = "istio.io/use-waypoint";

pub(super) fn check(metadata: &Meta, spec: &ServiceEntrySpec, found: &mut Findings) {
    let resolution = spec.resolution.unwrap_or(Resolution::None);
    check_hosts(&spec.hosts, resolution, found);
    check_addresses(&spec.addresses, resolution, found);
    for (index, port) in spec.ports.iter().enumerate() {
        check_port(&format!("spec.ports[{index}]"), port, &spec.ports[..index], found);
    }
    check_sources(spec, found);
    for (index, endpoint) in spec.endpoints.iter().enumerate() {
        workload::check_entry(&format!("spec.endpoints[{index}]"), endpoint, found);
    }
    match resolution {
        Resolution::None => check_none(spec, found),
        Resolution::Static => check_static(spec, found),
        Resolution::Dns | Resolution::DnsRoundRobin => check_dns(spec, resolution, found),
        Resolution::DynamicDns => check_dynamic(metadata, spec, found),
    }
    check_shared_ports(spec, resolution, found);
    check_virtual_addresses(metadata, spec, resolution, found);
    let labels = spec.workload_selector.as_ref().map(|selector| &selector.labels);
    selector::check("spec.workloadSelector.labels", labels, "the whole namespace", found);
    found.export_to(&spec.export_to, true);
}

// V-70.
fn check_hosts(hosts: &[String], resolution: Resolution, found: &mut Findings) {
    if hosts.is_empty() {
        found.error("spec.hosts", "a ServiceEntry without hosts");
    }
    for (index, name) in hosts.iter().enumerate() {
        let field = format!("spec.hosts[{index}]");
        if name == "*" {
            found.error(&field, "\"*\" is not allowed here");
        }
        found.host(&field, name);
        let is_partial = name.starts_with('*') && name != "*" && !name.starts_with("*.");
        if is_partial && resolution != Resolution::DynamicDns {
            found.warn(
                field,
                format!("{name:?}: a wildcard for a part of a label matches fewer requests than it seems to"),
            );
        }
    }
}

// V-72.
fn check_addresses(addresses: &[String], resolution: Resolution, found: &mut Findings) {
    found.subnets("spec.addresses", addresses);
    for (index, address) in addresses.iter().enumerate().filter(|(_, address)| address.contains('/')) {
        if !matches!(resolution, Resolution::None | Resolution::Static) {
            let message = format!("the range {address:?} needs resolution NONE or STATIC");
            found.error(format!("spec.addresses[{index}]"), message);
        }
    }
}

// V-73.
fn check_port(path: &str, port: &ServicePort, before: &[ServicePort], found: &mut Findings) {
    found.port(&format!("{path}.number"), port.number);
    if let Some(target) = port.target_port {
        found.port(&format!("{path}.targetPort"), target);
    }
    if let Some(reason) = bad_label(&port.name) {
        found.error(format!("{path}.name"), format!("{:?} is not a port name: {reason}", port.name));
    }
    let protocol = port.protocol.as_deref().unwrap_or_default();
    if !protocol.is_empty() {
        found.protocol(&format!("{path}.protocol"), protocol);
    }
    if before.iter().any(|other| other.name == port.name || other.number == port.number) {
        found.error(path, "its name or number is there twice");
    }
}

// V-71.
fn check_sources(spec: &ServiceEntrySpec, found: &mut Findings) {
    if spec.workload_selector.is_some() && !spec.endpoints.is_empty() {
        found.error("spec.endpoints", "workloadSelector is set too; endpoints come from one of them");
    }
}

// V-75.
fn check_none(spec: &ServiceEntrySpec, found: &mut Findings) {
    if !spec.endpoints.is_empty() {
        found.error("spec.endpoints", "resolution NONE uses the address that was dialled; STATIC uses endpoints");
    }
    if spec.workload_selector.is_some() {
        let message = "resolution NONE uses the address that was dialled; the selected workloads are not used";
        found.deprecated("spec.workloadSelector", message, "write resolution: STATIC");
    }
}

// V-76.
fn check_static(spec: &ServiceEntrySpec, found: &mut Findings) {
    for (index, endpoint) in spec.endpoints.iter().enumerate() {
        let path = format!("spec.endpoints[{index}]");
        check_port_names(&path, endpoint, &spec.ports, found);
        // An endpoint behind another network's gateway may go without.
        let Some(address) = endpoint.address.as_deref().filter(|address| !address.is_empty()) else { continue };
        if names::unix_path(address).is_some() {
            if spec.ports.len() != 1 {
                found
                    .error(format!("{path}.address"), "a unix socket serves one port; the entry must have exactly one");
            }
        } else if host::ip(address).is_none() && names::bad_fqdn(address).is_none() {
            let message = format!("{address:?} must be an IP address with resolution STATIC; use DNS for names");
            found.error(format!("{path}.address"), message);
        }
    }
}

fn check_port_names(path: &str, endpoint: &WorkloadEntrySpec, ports: &[ServicePort], found: &mut Findings) {
    for name in endpoint.ports.keys().filter(|name| !ports.iter().any(|port| port.name == **name)) {
        found.error(format!("{path}.ports.{name}"), format!("the entry has no port {name:?}"));
    }
}

// V-77.
fn check_dns(spec: &ServiceEntrySpec, resolution: Resolution, found: &mut Findings) {
    if spec.endpoints.is_empty() && spec.workload_selector.is_none() {
        for (index, _) in spec.hosts.iter().enumerate().filter(|(_, host)| host.starts_with('*')) {
            found.error(format!("spec.hosts[{index}]"), "a wildcard cannot be resolved; give endpoints");
        }
    }
    if resolution == Resolution::DnsRoundRobin && spec.endpoints.len() > 1 {
        found.error("spec.endpoints", "resolution DNS_ROUND_ROBIN takes one endpoint; DNS takes several");
    }
    for (index, endpoint) in spec.endpoints.iter().enumerate() {
        let address = endpoint.address.as_deref().unwrap_or_default();
        if names::unix_path(address).is_some() {
            let field = format!("spec.endpoints[{index}].address");
            found.error(field, format!("{address:?} cannot be resolved; use STATIC"));
        }
    }
    let has_tcp =
        spec.ports.iter().any(|port| port.protocol.as_deref().and_then(Protocol::parse) == Some(Protocol::Tcp));
    if spec.hosts.len() > 1 && !spec.addresses.is_empty() && has_tcp {
        found.warn("spec.hosts", "TCP names no host: with one address for several hosts only the first is served");
    }
}

// V-78.
fn check_dynamic(metadata: &Meta, spec: &ServiceEntrySpec, found: &mut Findings) {
    for (index, name) in spec.hosts.iter().enumerate().filter(|(_, name)| !name.starts_with('*')) {
        found.error(format!("spec.hosts[{index}]"), format!("{name:?} is no wildcard; DNS resolves single hosts"));
    }
    if !spec.addresses.is_empty() {
        found.error("spec.addresses", "resolution DYNAMIC_DNS resolves each request's host; no addresses");
    }
    if !spec.endpoints.is_empty() {
        found.error("spec.endpoints", "resolution DYNAMIC_DNS resolves each request's host; no endpoints");
    }
    let allowed = [Protocol::Http, Protocol::Http2, Protocol::Grpc, Protocol::Tls];
    for (index, port) in spec.ports.iter().enumerate() {
        let protocol = port.protocol.as_deref().and_then(Protocol::parse);
        if !protocol.is_some_and(|protocol| allowed.contains(&protocol)) {
            let message = "resolution DYNAMIC_DNS needs a port that names its host: HTTP, HTTP2, GRPC or TLS";
            found.error(format!("spec.ports[{index}].protocol"), message);
        }
    }
    if spec.location == Some(ServiceLocation::MeshInternal) && metadata.labels.contains_key(USE_WAYPOINT) {
        found.error("spec.location", format!("MESH_INTERNAL does not go with the label {USE_WAYPOINT}"));
    }
}

// V-79: what is neither HTTP nor TLS does not say which host it is for.
fn check_shared_ports(spec: &ServiceEntrySpec, resolution: Resolution, found: &mut Findings) {
    if spec.hosts.len() < 2 || resolution == Resolution::None {
        return;
    }
    for (index, port) in spec.ports.iter().enumerate() {
        let protocol = port.protocol.as_deref().and_then(Protocol::parse);
        if !protocol.is_some_and(|protocol| protocol.is_http() || protocol.is_tls()) {
            let message =
                "several hosts can share a port only when its protocol is HTTP or TLS, or with resolution NONE";
            found.error(format!("spec.ports[{index}].protocol"), message);
        }
    }
}

// V-74: without an address of its own, such a port is indistinguishable from that of any other host.
fn check_virtual_addresses(metadata: &Meta, spec: &ServiceEntrySpec, resolution: Resolution, found: &mut Findings) {
    let is_wild = spec.hosts.iter().any(|host| host.starts_with('*')) && resolution != Resolution::DynamicDns;
    let opted_out = metadata.labels.get(AUTO_ADDRESS).is_some_and(|value| value.eq_ignore_ascii_case("false"));
    let gets_addresses = resolution != Resolution::None && !is_wild && !opted_out;
    if !spec.addresses.is_empty() || gets_addresses {
        return;
    }
    for (index, port) in spec.ports.iter().enumerate() {
        let protocol = port.protocol.as_deref().unwrap_or_default();
        if protocol.is_empty() || Protocol::parse(protocol) == Some(Protocol::Tcp) {
            let message = format!(
                "port {} serves TCP, or what is found out, and the entry has no address of its own",
                port.number
            );
            let fix = "give addresses, or declare another protocol";
            found.add(ADDRESSES_REQUIRED, Severity::Warning, format!("spec.ports[{index}]"), message, fix);
        }
    }
}
