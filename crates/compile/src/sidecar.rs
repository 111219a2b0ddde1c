//! The Sidecar front end: what a workload may call, and what becomes of unknown destinations (SC01 to SC03, SC15).
//!
//! Egress hosts of all listeners count together; ports, binds and ingress listeners are reported, not obeyed yet.

use api::SidecarSpec;
use api::sidecar::{EgressListener, OutboundMode};
use words::{Diagnostic, Fingerprint, Labels, Origin, host};

use crate::mesh::OutboundTrafficPolicy;
use crate::notes::Notes;
use crate::service::Age;

/// A Sidecar by itself.
#[derive(Debug)]
pub(crate) struct Sidecar {
    /// The object.
    pub(crate) origin: Origin,
    /// Its place among others (X30).
    pub(crate) age: Age,
    /// Which workloads; `None` for the namespace (SC01).
    pub(crate) selector: Option<Labels>,
    /// What may be called; `None` for everything.
    pub(crate) egress: Option<Vec<EgressHost>>,
    /// What becomes of unknown destinations; `None`: as the mesh says.
    pub(crate) outbound_traffic_policy: Option<OutboundTrafficPolicy>,
    /// What is wrong with the object itself.
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// The content of all of the above.
    pub(crate) print: Fingerprint,
}

/// `namespace/host` of an egress listener.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct EgressHost {
    /// Takes hosts out instead of in.
    pub(crate) exclude: bool,
    /// The service's namespace; `None` for any.
    pub(crate) namespace: Option<String>,
    /// Lower case; may have a wildcard.
    pub(crate) host: String,
}

/// Lowers a Sidecar.
pub(crate) fn lower(origin: Origin, age: Age, spec: &SidecarSpec) -> Sidecar {
    let SidecarSpec { workload_selector, ingress, egress, inbound_connection_pool, outbound_traffic_policy } = spec;
    let mut notes = Notes::about(&origin);
    notes.not_obeyed(!ingress.is_empty(), || "spec.ingress".into());
    notes.not_obeyed(inbound_connection_pool.is_some(), || "spec.inboundConnectionPool".into());
    let mut hosts = Vec::new();
    for (index, listener) in egress.iter().enumerate() {
        let field = format!("spec.egress[{index}]");
        let EgressListener { port, bind, capture_mode, hosts: written } = listener;
        notes.not_obeyed(port.is_some(), || format!("{field}.port"));
        notes.not_obeyed(bind.is_some(), || format!("{field}.bind"));
        notes.not_obeyed(capture_mode.is_some(), || format!("{field}.captureMode"));
        hosts.extend(written.iter().filter_map(|text| egress_host(text, &origin.namespace)));
    }
    let outbound_traffic_policy = outbound_traffic_policy.as_ref().map(|policy| {
        notes.not_obeyed(policy.egress_proxy.is_some(), || "spec.outboundTrafficPolicy.egressProxy".into());
        // Present but empty is REGISTRY_ONLY (SC15, TR26).
        match policy.mode {
            Some(OutboundMode::AllowAny) => OutboundTrafficPolicy::AllowAny,
            Some(OutboundMode::RegistryOnly) | None => OutboundTrafficPolicy::RegistryOnly,
        }
    });
    let selector = workload_selector.as_ref().map(|selector| selector.labels.clone());
    let egress = (!egress.is_empty()).then_some(hosts);
    let diagnostics = notes.into_found();
    let print = Fingerprint::of(&(&origin, &age, &selector, &egress, outbound_traffic_policy, &diagnostics));
    Sidecar { origin, age, selector, egress, outbound_traffic_policy, diagnostics, print }
}

/// `~/*` takes nothing in; a `~` before a namespace takes hosts out (SC03).
fn egress_host(text: &str, own: &str) -> Option<EgressHost> {
    let (namespace, host) = text.split_once('/')?;
    let (exclude, namespace) = match namespace.strip_prefix('~') {
        Some("") if host == "*" => return None,
        Some(rest) => (true, rest),
        None => (false, namespace),
    };
    let namespace = match namespace {
        "*" | "" => None,
        "." => Some(own.to_owned()),
        name => Some(name.to_owned()),
    };
    Some(EgressHost { exclude, namespace, host: host.to_ascii_lowercase() })
}

impl Sidecar {
    /// True when a service of `namespace` may be called.
    pub(crate) fn imports(&self, namespace: &str, host: &str) -> bool {
        let Some(egress) = &self.egress else { return true };
        let takes = |one: &&EgressHost| {
            one.namespace.as_deref().is_none_or(|wanted| wanted == namespace) && host::overlaps(&one.host, host)
        };
        let (excluded, included): (Vec<&EgressHost>, Vec<&EgressHost>) = egress.iter().partition(|one| one.exclude);
        included.iter().copied().any(|one| takes(&one)) && !excluded.iter().copied().any(|one| takes(&one))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sidecar(hosts: &[&str]) -> Sidecar {
        let egress = hosts.iter().filter_map(|text| egress_host(text, "own")).collect();
        Sidecar {
            origin: Origin::new("Sidecar", "own", "s"),
            age: Age::default(),
            selector: None,
            egress: Some(egress),
            outbound_traffic_policy: None,
            diagnostics: Vec::new(),
            print: Fingerprint::default(),
        }
    }

    #[test]
    fn sc03_egress_hosts_take_in_and_out() {
        let picky = sidecar(&["./*", "prod/*.foo.com", "~prod/a.foo.com"]);
        assert!(picky.imports("own", "x"));
        assert!(picky.imports("prod", "b.foo.com"));
        assert!(!picky.imports("prod", "a.foo.com"));
        assert!(!picky.imports("prod", "x"));
        assert!(!sidecar(&["~/*"]).imports("own", "x"));
    }
}
