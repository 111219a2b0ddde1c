//! The Sidecar front end: what a workload may call and through which listeners, which ports it serves, and what becomes of
//! unknown destinations (SC01 to SC18).
//!
//! In: one object. Out: a [`Sidecar`] by itself. Which services its listeners take in, `outlook.rs` decides.

use std::net::IpAddr;

use api::sidecar::{CaptureMode, EgressListener, OutboundMode, SidecarPort};
use api::{ConnectionPool, SidecarSpec};
use words::{Diagnostic, Fingerprint, Labels, Origin, Protocol, host};

use crate::cluster;
use crate::ingress::{self, Ingress};
use crate::mesh::MeshConfig;
use crate::notes::Notes;
use crate::passthrough::Unknown;
use crate::policy::Pool;
use crate::service::Age;
use crate::traffic_policy::lower_pool;

/// A Sidecar by itself.
#[derive(Debug)]
pub(crate) struct Sidecar {
    /// The object.
    pub(crate) origin: Origin,
    /// Its place among others (X30).
    pub(crate) age: Age,
    /// Which workloads; `None` for the namespace (SC01).
    pub(crate) selector: Option<Labels>,
    /// What may be called, those with a port first (SC02); `None` for everything.
    pub(crate) egress: Option<Vec<Egress>>,
    /// Ports that are served instead of those of Services; empty: those (SC10).
    pub(crate) ingress: Vec<Ingress>,
    /// Bounds on inbound traffic (SC14).
    pub(crate) inbound_pool: Option<Pool>,
    /// What becomes of unknown destinations; `None`: as the mesh says.
    pub(crate) unknown: Option<Unknown>,
    /// What is wrong with the object itself.
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// The content of all of the above.
    pub(crate) print: Fingerprint,
}

/// An egress listener.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Egress {
    /// `None`: every port that no other listener declares (SC07).
    pub(crate) port: Option<EgressPort>,
    /// Its address; `None`: that of each service, or every one (SC05).
    pub(crate) bind: Option<IpAddr>,
    /// It has a socket of its own, whatever captures the rest (SC06).
    pub(crate) bound: bool,
    /// What it takes in.
    pub(crate) hosts: Vec<EgressHost>,
}

/// The port of an egress listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct EgressPort {
    /// Its number.
    pub(crate) number: u16,
    /// What is spoken there; HTTP_PROXY is a forward proxy for all ports (SC04).
    pub(crate) protocol: Protocol,
}

/// `namespace/host` of an egress listener.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct EgressHost {
    /// Takes hosts out instead of in.
    exclude: bool,
    /// The service's namespace; `None` for any.
    namespace: Option<String>,
    /// Lower case; may have a wildcard.
    host: String,
}

/// Lowers a Sidecar.
pub(crate) fn lower(origin: Origin, age: Age, spec: &SidecarSpec, mesh: &MeshConfig) -> Sidecar {
    let SidecarSpec { workload_selector, ingress, egress, inbound_connection_pool, outbound_traffic_policy } = spec;
    let mut notes = Notes::about(&origin);
    let selector = workload_selector.as_ref().map(|selector| selector.labels.clone());
    let egress = (!egress.is_empty()).then(|| lower_egress(egress, &origin.namespace, &mut notes));
    let ingress = ingress::lower(ingress, &mut notes);
    let inbound_pool = inbound_connection_pool
        .as_deref()
        .map(|pool: &ConnectionPool| lower_pool(pool, "spec.inboundConnectionPool", &mut notes));
    let unknown = outbound_traffic_policy.as_ref().map(|policy| lower_unknown(policy, &origin, mesh, &mut notes));
    let diagnostics = notes.into_found();
    let print = Fingerprint::of(&(&origin, &age, &selector, &egress, &ingress, &inbound_pool, &unknown, &diagnostics));
    Sidecar { origin, age, selector, egress, ingress, inbound_pool, unknown, diagnostics, print }
}

fn lower_egress(written: &[EgressListener], own: &str, notes: &mut Notes) -> Vec<Egress> {
    let mut lowered: Vec<Egress> = Vec::with_capacity(written.len());
    for (index, listener) in written.iter().enumerate() {
        let field = format!("spec.egress[{index}]");
        let EgressListener { port, bind, capture_mode, hosts } = listener;
        let port = match port {
            None => None,
            Some(port) => match lower_port(port) {
                Ok(port) if lowered.iter().flat_map(|other| other.port).any(|other| other.number == port.number) => {
                    notes.ignored(
                        format!("{field}.port"),
                        format!("port {} stands twice; the first one counts", port.number),
                    );
                    continue;
                }
                Ok(port) => Some(port),
                Err(reason) => {
                    notes.ignored(format!("{field}.port"), format!("{reason}; the listener is left out"));
                    continue;
                }
            },
        };
        let Ok(bind) = address(bind.as_deref()) else {
            // A Unix socket, or nothing that can be listened on.
            let bind = bind.as_deref().unwrap_or_default();
            notes.ignored(format!("{field}.bind"), format!("{bind:?} is no IP address; the listener is left out"));
            continue;
        };
        let hosts = hosts.iter().filter_map(|text| egress_host(text, own)).collect();
        lowered.push(Egress { port, bind, bound: *capture_mode == Some(CaptureMode::None), hosts });
    }
    // The one for all other ports comes last, wherever it was written.
    lowered.sort_by_key(|egress| egress.port.is_none());
    lowered
}

fn lower_port(port: &SidecarPort) -> Result<EgressPort, String> {
    let number = port.number.and_then(|number| u16::try_from(number).ok()).filter(|number| *number != 0);
    let number = number.ok_or("a port between 1 and 65535 is missing")?;
    Ok(EgressPort { number, protocol: protocol(port, number) })
}

/// The protocol of a port that a Sidecar declares.
pub(crate) fn protocol(port: &SidecarPort, number: u16) -> Protocol {
    Protocol::of_port(Some(port.protocol.as_deref().unwrap_or_default()), "", number)
}

/// An IP address; an empty text is none, anything else an error.
pub(crate) fn address(text: Option<&str>) -> Result<Option<IpAddr>, ()> {
    match text.filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => host::ip(text).map(Some).ok_or(()),
    }
}

/// Present but empty is REGISTRY_ONLY (SC15, TR26); a proxy for the unknown only with ALLOW_ANY (SC16).
fn lower_unknown(
    policy: &api::sidecar::OutboundTrafficPolicy,
    origin: &Origin,
    mesh: &MeshConfig,
    notes: &mut Notes,
) -> Unknown {
    const FIELD: &str = "spec.outboundTrafficPolicy.egressProxy";
    let allowed = policy.mode == Some(OutboundMode::AllowAny);
    let Some(proxy) = &policy.egress_proxy else {
        return if allowed { Unknown::Through } else { Unknown::Refused };
    };
    if !allowed {
        notes.ignored(FIELD, "it needs mode ALLOW_ANY");
        return Unknown::Refused;
    }
    let port = proxy.port.as_ref().and_then(|port| port.number).and_then(|number| u16::try_from(number).ok());
    let Some(port) = port.filter(|port| *port != 0) else {
        notes.ignored(format!("{FIELD}.port"), "a port between 1 and 65535 is missing");
        return Unknown::Through;
    };
    let host = host::resolve_short(&proxy.host, &origin.namespace, &mesh.domain);
    Unknown::To(cluster::name(port, proxy.subset.as_deref().unwrap_or_default(), &host))
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

impl Egress {
    /// True when a service of `namespace` may be called.
    pub(crate) fn takes_service(&self, namespace: &str, host: &str) -> bool {
        self.takes(namespace, |wanted| host::is_subset(host, wanted))
    }

    /// True when a VirtualService of `namespace` with this host counts (VS70).
    pub(crate) fn takes_routing(&self, namespace: &str, host: &str) -> bool {
        self.takes(namespace, |wanted| host::overlaps(wanted, host))
    }

    fn takes(&self, namespace: &str, fits: impl Fn(&str) -> bool) -> bool {
        let named =
            |one: &&EgressHost| one.namespace.as_deref().is_none_or(|wanted| wanted == namespace) && fits(&one.host);
        let mut taken = self.hosts.iter().filter(named).peekable();
        taken.peek().is_some() && taken.all(|one| !one.exclude)
    }

    /// A forward proxy for all ports (SC04).
    pub(crate) fn is_forward_proxy(&self) -> bool {
        self.port.is_some_and(|port| port.protocol == Protocol::HttpProxy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn egress(hosts: &[&str]) -> Egress {
        let hosts = hosts.iter().filter_map(|text| egress_host(text, "own")).collect();
        Egress { port: None, bind: None, bound: false, hosts }
    }

    #[test]
    fn sc03_egress_hosts_take_in_and_out() {
        let picky = egress(&["./*", "prod/*.foo.com", "~prod/a.foo.com"]);
        assert!(picky.takes_service("own", "x"));
        assert!(picky.takes_service("prod", "b.foo.com"));
        assert!(!picky.takes_service("prod", "a.foo.com"));
        assert!(!picky.takes_service("prod", "x"));
        assert!(!egress(&["~/*"]).takes_service("own", "x"));
        assert!(!egress(&["*/*", "~/x"]).takes_service("any", "x"));
        assert!(!egress(&["*/*", "~prod/*"]).takes_service("prod", "y"));
        assert!(egress(&["*/*", "~prod/*"]).takes_service("own", "y"));
    }

    #[test]
    fn vs70_virtual_services_come_in_by_overlap_and_services_as_wholes() {
        let one = egress(&["*/a.foo.com"]);
        assert!(one.takes_routing("x", "*.foo.com"));
        assert!(!one.takes_service("x", "*.foo.com"));
    }
}
