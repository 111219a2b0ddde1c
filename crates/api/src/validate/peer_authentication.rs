//! PeerAuthentication by itself (V-102).

use super::{Findings, selector};
use crate::peer_authentication::PeerAuthenticationSpec;

pub(super) fn check(spec: &PeerAuthenticationSpec, found: &mut Findings) {
    let PeerAuthenticationSpec { selector, mtls: _, port_level_mtls } = spec;
    let labels = selector.as_ref().map(|selector| &selector.match_labels);
    selector::check("spec.selector.matchLabels", labels, "the whole namespace", found);
    let Some(ports) = port_level_mtls else { return };
    if labels.is_none_or(|labels| labels.is_empty()) {
        found.error("spec.portLevelMtls", "portLevelMtls requires selector: ports are those of a workload");
    }
    if ports.is_empty() {
        found.error("spec.portLevelMtls", "portLevelMtls names no port");
    }
    for port in ports.keys() {
        if port.parse::<u16>().is_ok_and(|number| number > 0) {
            continue;
        }
        found.error(format!("spec.portLevelMtls.{port}"), format!("{port:?} is not a port between 1 and 65535"));
    }
}
