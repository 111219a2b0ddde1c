//! WorkloadEntry and WorkloadGroup by themselves, and the endpoints of a ServiceEntry (V-100, the CRD's CEL rules).

use super::Findings;
use crate::{WorkloadEntrySpec, WorkloadGroupSpec};

pub(super) fn check_entry(path: &str, spec: &WorkloadEntrySpec, found: &mut Findings) {
    if spec.address.is_none() && spec.network.is_none() {
        found.error(format!("{path}.address"), "an address is required");
    }
    check_address(path, spec.address.as_deref().unwrap_or_default(), &spec.ports, found);
}

pub(super) fn check_group(spec: &WorkloadGroupSpec, found: &mut Findings) {
    let Some(template) = &spec.template else { return found.error("spec.template", "required, but absent") };
    check_address("spec.template", template.address.as_deref().unwrap_or_default(), &template.ports, found);
}

fn check_address(path: &str, address: &str, ports: &std::collections::BTreeMap<String, u32>, found: &mut Findings) {
    if let Some(socket) = address.strip_prefix("unix://") {
        let field = format!("{path}.address");
        if !socket.starts_with(['/', '@']) {
            found.error(&field, format!("{address:?}: a unix socket is an absolute path, or abstract with '@'"));
        }
        if socket.ends_with('/') {
            found.error(&field, format!("{address:?} is a folder, not a unix socket"));
        }
        if !ports.is_empty() {
            found.error(format!("{path}.ports"), "a unix socket has no ports");
        }
    }
    for (name, number) in ports {
        let field = format!("{path}.ports.{name}");
        found.port(&field, *number);
        if let Some(reason) = super::bad_label(name) {
            found.error(field, format!("{name:?} is not a port name: {reason}"));
        }
    }
}
