//! WorkloadEntry and WorkloadGroup by themselves, and the endpoints of a ServiceEntry (V-100, V-101).

use std::collections::BTreeMap;

use super::{Findings, names, probe};
use crate::{WorkloadEntrySpec, WorkloadGroupSpec};

pub(super) fn check_entry(path: &str, spec: &WorkloadEntrySpec, found: &mut Findings) {
    let field = format!("{path}.address");
    match (spec.address.as_deref().unwrap_or_default(), spec.network.is_some()) {
        ("", false) => found.error(field, "an address is required"),
        ("", true) => found.warn(field, "without an address, only the network's gateway leads there"),
        _ => {}
    }
    check_address(path, spec.address.as_deref().unwrap_or_default(), &spec.ports, found);
    found.labels(&format!("{path}.labels"), &spec.labels);
}

pub(super) fn check_group(spec: &WorkloadGroupSpec, found: &mut Findings) {
    if let Some(metadata) = &spec.metadata {
        found.labels("spec.metadata.labels", &metadata.labels);
    }
    if let Some(probe) = &spec.probe {
        probe::check("spec.probe", probe, found);
    }
    let Some(template) = &spec.template else { return found.error("spec.template", "required, but absent") };
    check_address("spec.template", template.address.as_deref().unwrap_or_default(), &template.ports, found);
    found.labels("spec.template.labels", &template.labels);
}

fn check_address(path: &str, address: &str, ports: &BTreeMap<String, u32>, found: &mut Findings) {
    let field = format!("{path}.address");
    if let Some(socket) = names::unix_path(address) {
        if !socket.starts_with(['/', '@']) {
            found.error(&field, format!("{address:?}: a unix socket is an absolute path, or abstract with '@'"));
        }
        if socket.ends_with('/') {
            found.error(&field, format!("{address:?} is a folder, not a unix socket"));
        }
        if !ports.is_empty() {
            found.error(format!("{path}.ports"), "a unix socket has no ports");
        }
    } else if !address.is_empty() && words::host::ip(address).is_none() {
        found.fqdn(&field, address);
    }
    for (name, number) in ports {
        let field = format!("{path}.ports.{name}");
        found.port(&field, *number);
        if let Some(reason) = super::bad_label(name) {
            found.error(field, format!("{name:?} is not a port name: {reason}"));
        }
    }
}
