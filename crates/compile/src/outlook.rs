//! What a class of sidecars may call, and through which of its listeners (SC02 to SC09).
//!
//! In: the registry, the class's Sidecar, destinations of VirtualServices. Out: services, with the ports that count. A
//! service that no listener takes in is nowhere in what such a proxy gets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use words::{Fingerprint, Protocol};

use crate::class::Class;
use crate::registry::{Registry, Seen, Visible};
use crate::service::{Port, Resolution, Service};
use crate::sidecar::Egress;

/// The outlook of a class.
#[derive(Debug)]
pub(crate) struct Outlook {
    /// Everything that may be called: clusters are made of it, and destinations are found in it.
    pub(crate) whole: Arc<Visible>,
    /// By listener, those with a port first; one for everything without a Sidecar.
    pub(crate) views: Vec<View>,
    /// The content of all of the above.
    pub(crate) print: Fingerprint,
}

/// What one egress listener shows.
#[derive(Debug)]
pub(crate) struct View {
    /// The Sidecar's listener; `None` without a Sidecar, or when it names no hosts.
    pub(crate) egress: Option<Egress>,
    /// Its services.
    pub(crate) visible: Arc<Visible>,
    /// It has a socket of its own.
    pub(crate) bound: bool,
    /// Its one address; `None`: every service's own, or all addresses.
    pub(crate) bind: Option<IpAddr>,
    /// Ports that other listeners have declared (SC07).
    locked: BTreeSet<u16>,
}

/// Ports of a host that VirtualServices name; `None`: all of them, because some destination names no port (SC08).
pub(crate) type Destinations = BTreeMap<Arc<str>, Option<BTreeSet<u16>>>;

impl Outlook {
    /// Everything that a namespace sees.
    pub(crate) fn open(registry: &Registry, class: &Class) -> Self {
        let whole = Arc::new(registry.visible(&class.namespace, |_| true));
        let view = View {
            egress: None,
            visible: whole.clone(),
            bound: class.binds,
            bind: class.binds.then(|| loopback(class.v6)),
            locked: BTreeSet::new(),
        };
        let print = Fingerprint::of(&(whole.print, view.bind));
        Self { whole, views: vec![view], print }
    }

    /// What a Sidecar's listeners take in.
    pub(crate) fn of(registry: &Registry, class: &Class, egress: &[Egress], named: &Destinations) -> Self {
        let taken = |service: &Service| egress.iter().any(|one| takes(one, service));
        let whole = registry
            .visible(&class.namespace, |service| taken(service) || named.contains_key(&service.host))
            .with_ports(|service, port| {
                egress.iter().any(|one| takes(one, service) && shows(one, port)) || names(named, service, port)
            });
        let declared: BTreeSet<u16> = egress.iter().filter_map(|one| one.port).map(|port| port.number).collect();
        let views: Vec<View> = egress.iter().map(|one| View::of(one, &whole, class, &declared)).collect();
        let prints: Vec<_> = views.iter().map(|view| (&view.egress, view.visible.print, view.bound)).collect();
        let print = Fingerprint::of(&(whole.print, prints));
        Self { whole: Arc::new(whole), views, print }
    }

    /// True when some listener has a socket of its own.
    pub(crate) fn binds(&self) -> bool {
        self.views.iter().any(|view| view.bound)
    }
}

fn takes(egress: &Egress, service: &Service) -> bool {
    let has_port = service.is_alias() || service.ports.iter().any(|port| shows(egress, port));
    has_port && egress.takes_service(&service.namespace, &service.host)
}

/// A listener with a port shows that port of a service only; a forward proxy shows all of them (SC04).
fn shows(egress: &Egress, port: &Port) -> bool {
    egress.is_forward_proxy() || egress.port.is_none_or(|declared| declared.number == port.number)
}

fn names(named: &Destinations, service: &Service, port: &Port) -> bool {
    named.get(&service.host).is_some_and(|ports| ports.as_ref().is_none_or(|ports| ports.contains(&port.number)))
}

fn loopback(v6: bool) -> IpAddr {
    match v6 {
        true => Ipv6Addr::LOCALHOST.into(),
        false => Ipv4Addr::LOCALHOST.into(),
    }
}

impl View {
    fn of(egress: &Egress, whole: &Visible, class: &Class, declared: &BTreeSet<u16>) -> Self {
        let visible = whole.narrowed(|service| takes(egress, service)).with_ports(|_, port| shows(egress, port));
        // Without capture nothing reaches a listener that has no socket (SC18).
        let bound = egress.bound || class.binds || (!class.captured && egress.port.is_some());
        Self {
            visible: Arc::new(visible),
            bound,
            bind: egress.bind.or(bound.then(|| loopback(class.v6))),
            locked: if egress.port.is_none() { declared.clone() } else { BTreeSet::new() },
            egress: Some(egress.clone()),
        }
    }

    /// The port that the Sidecar declares.
    pub(crate) fn port(&self) -> Option<u16> {
        self.egress.as_ref()?.port.map(|port| port.number)
    }

    /// What is spoken on a service's port: what the Sidecar declares, else what the service does.
    pub(crate) fn protocol(&self, port: &Port) -> Protocol {
        let declared = self.egress.as_ref().and_then(|egress| egress.port);
        declared.map_or(port.protocol, |declared| declared.protocol)
    }

    /// True when it declares HTTP for its port: there is a listener even for no service.
    pub(crate) fn is_http(&self) -> bool {
        self.egress.as_ref().and_then(|egress| egress.port).is_some_and(|port| port.protocol.is_http())
    }

    /// A forward proxy for all ports.
    pub(crate) fn is_forward_proxy(&self) -> bool {
        self.egress.as_ref().is_some_and(Egress::is_forward_proxy)
    }

    /// True when this listener carries the port.
    pub(crate) fn carries(&self, port: u16) -> bool {
        !self.locked.contains(&port)
    }

    /// A detected port of a service has a table of its own, unless it shares a listener with others (X43).
    pub(crate) fn has_own_table(&self, seen: &Seen, port: &Port, dns: bool) -> bool {
        self.protocol(port) == Protocol::Auto
            && self.bind.is_none()
            && (seen.has_addresses(dns) || seen.service().resolution == Resolution::Headless)
    }
}
