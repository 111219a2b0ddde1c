//! ServiceEntry by itself (V-70 to V-77, as far as routing needs them now).

use super::Findings;
use crate::ServiceEntrySpec;
use crate::service_entry::Resolution;

pub(super) fn check(spec: &ServiceEntrySpec, found: &mut Findings) {
    if spec.hosts.is_empty() {
        found.error("spec.hosts", "a ServiceEntry without hosts");
    }
    for (index, name) in spec.hosts.iter().enumerate() {
        let field = format!("spec.hosts[{index}]");
        found.host(&field, name);
        if name == "*" {
            found.error(field, "\"*\" is not allowed here");
        }
    }
    for (index, port) in spec.ports.iter().enumerate() {
        let path = format!("spec.ports[{index}]");
        found.port(&format!("{path}.number"), port.number);
        if spec.ports[..index].iter().any(|other| other.name == port.name || other.number == port.number) {
            found.error(path, "its name or number is there twice");
        }
    }
    let resolution = spec.resolution.unwrap_or(Resolution::None);
    for (index, endpoint) in spec.endpoints.iter().enumerate() {
        let field = format!("spec.endpoints[{index}].address");
        let address = endpoint.address.as_deref().unwrap_or_default();
        let is_ip = words::host::ip(address).is_some();
        let is_socket = address.starts_with("unix://");
        match resolution {
            Resolution::Static if !is_ip && !is_socket => {
                found.error(field, format!("{address:?} must be an IP address with resolution STATIC; use DNS for names"));
            }
            Resolution::Dns | Resolution::DnsRoundRobin if !is_ip => found.host(&field, address),
            _ => {}
        }
    }
    let resolves = matches!(resolution, Resolution::Dns | Resolution::DnsRoundRobin);
    if resolves && spec.endpoints.is_empty() && spec.hosts.iter().any(|host| host.starts_with('*')) {
        found.error("spec.hosts", "a wildcard cannot be resolved; give endpoints");
    }
}
