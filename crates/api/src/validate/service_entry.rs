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
    found.export_to(&spec.export_to, true);
    let resolution = spec.resolution.unwrap_or(Resolution::None);
    check_sources(spec, resolution, found);
    for (index, endpoint) in spec.endpoints.iter().enumerate() {
        super::workload::check_entry(&format!("spec.endpoints[{index}]"), endpoint, found);
        let field = format!("spec.endpoints[{index}].address");
        // An endpoint behind another network's gateway may go without.
        let Some(address) = endpoint.address.as_deref() else { continue };
        let is_ip = words::host::ip(address).is_some();
        let is_socket = address.starts_with("unix://");
        match resolution {
            Resolution::Static if !is_ip && !is_socket => {
                found.error(
                    field,
                    format!("{address:?} must be an IP address with resolution STATIC; use DNS for names"),
                );
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

// Where endpoints may come from, by resolution: V-71, V-72, V-75, V-77, as the CRD's CEL rules have them.
fn check_sources(spec: &ServiceEntrySpec, resolution: Resolution, found: &mut Findings) {
    if spec.workload_selector.is_some() && !spec.endpoints.is_empty() {
        found.error("spec.endpoints", "workloadSelector is set too; endpoints come from one of them");
    }
    if resolution == Resolution::None && !spec.endpoints.is_empty() {
        found.error("spec.endpoints", "resolution NONE uses the address that was dialled; STATIC uses endpoints");
    }
    if resolution == Resolution::DnsRoundRobin && spec.endpoints.len() > 1 {
        found.error("spec.endpoints", "resolution DNS_ROUND_ROBIN takes one endpoint; DNS takes several");
    }
    for (index, address) in spec.addresses.iter().enumerate() {
        let field = format!("spec.addresses[{index}]");
        let (ip, length) = address.split_once('/').map_or((address.as_str(), None), |(ip, length)| (ip, Some(length)));
        let bits = words::host::ip(ip).map(|ip| if ip.is_ipv4() { 32 } else { 128 });
        let fits =
            bits.is_some_and(|bits| length.is_none_or(|text| text.parse().is_ok_and(|length: u32| length <= bits)));
        if !fits {
            found.error(&field, format!("{address:?} is neither an address nor a range"));
        }
        if length.is_some() && !matches!(resolution, Resolution::None | Resolution::Static) {
            found.error(field, format!("the range {address:?} needs resolution NONE or STATIC"));
        }
    }
}
