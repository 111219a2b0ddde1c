//! Services: one shape for Kubernetes Services and ServiceEntries.
//!
//! In: what the front ends lower. Out: values without behaviour. Which of several services of a host is meant,
//! `registry.rs` decides.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use config::{Cidr, EndpointAddress, Locality};
use words::{Fingerprint, Labels, Origin, Protocol};

use crate::auto_address::AutoAddress;
use crate::visibility::Export;

/// Which endpoints of a Service, or of the Services of a Namespace, are preferred (DR70).
const TRAFFIC_DISTRIBUTION: &str = "networking.istio.io/traffic-distribution";

/// A service, whoever declared it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Service {
    /// Complete and lower case; a ServiceEntry's may have a wildcard.
    pub(crate) host: Arc<str>,
    /// The Service's name, or the host of a ServiceEntry.
    pub(crate) name: String,
    /// Where it was declared.
    pub(crate) namespace: Arc<str>,
    /// By what it was declared.
    pub(crate) source: Source,
    /// The object.
    pub(crate) origin: Origin,
    /// When, and then by name and namespace (X30).
    pub(crate) age: Age,
    /// Its ports, UDP ones left out.
    pub(crate) ports: Vec<Port>,
    /// Virtual addresses.
    pub(crate) addresses: Vec<Cidr>,
    /// Where endpoints come from.
    pub(crate) resolution: Resolution,
    /// Who sees it.
    pub(crate) export: Export,
    /// Labels of its pods (and WorkloadEntries); empty for none.
    pub(crate) selector: Labels,
    /// Endpoints that stand in the ServiceEntry itself.
    pub(crate) inline: Vec<InlineEndpoint>,
    /// It gets an address when it has none (SE16).
    pub(crate) auto_address: bool,
    /// Only endpoints on the client's node (DR80).
    pub(crate) local_only: bool,
    /// Which endpoints are preferred.
    pub(crate) distribution: Option<Distribution>,
    /// Gateways that it selects listen on its target ports (GW03).
    pub(crate) gateway_ports: bool,
    /// Names that its certificates may have (`subjectAltNames` of a ServiceEntry, DR63).
    pub(crate) tls_names: Vec<String>,
}

/// The order in which objects count: oldest first, then name, then namespace (X30).
pub(crate) type Age = (String, Arc<str>, Arc<str>);

/// An object's place in that order. Objects of a directory have no age and go by name.
pub(crate) fn age(meta: &api::Meta) -> Age {
    (meta.creation_timestamp.clone(), meta.name.as_str().into(), meta.namespace.as_str().into())
}

/// By what a service was declared.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Source {
    /// A Kubernetes Service.
    Kubernetes,
    /// A ServiceEntry; `external` for MESH_EXTERNAL.
    ServiceEntry {
        /// Outside the mesh.
        external: bool,
    },
    /// A Kubernetes Service of type ExternalName: another name of this host (SE30).
    Alias(Arc<str>),
}

/// `trafficDistribution`: the nearest endpoints first (DR78).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Distribution {
    /// `PreferClose`, `PreferSameZone`: those of the client's network, region and zone.
    SameZone,
    /// `PreferSameNode`: also of its subzone and node.
    SameNode,
}

impl Distribution {
    /// Reads the field, else Istio's annotation; anything else is no preference.
    pub(crate) fn parse(field: Option<&str>, annotations: &Labels) -> Option<Self> {
        match field {
            Some("PreferClose" | "PreferSameZone") => return Some(Self::SameZone),
            Some("PreferSameNode") => return Some(Self::SameNode),
            _ => {}
        }
        match annotations.get(TRAFFIC_DISTRIBUTION)?.to_ascii_lowercase().as_str() {
            "preferclose" | "prefersamezone" => Some(Self::SameZone),
            "prefersamenode" => Some(Self::SameNode),
            _ => None,
        }
    }
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Port {
    /// What clients dial.
    pub(crate) number: u16,
    /// Its name; may be empty for a single port.
    pub(crate) name: String,
    /// What it speaks.
    pub(crate) protocol: Protocol,
    /// Where pods listen.
    pub(crate) target: Target,
}

/// Where pods listen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    /// At this port.
    Number(u16),
    /// At the container port of this name.
    Name(String),
}

/// Where endpoints come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Resolution {
    /// Pods and given addresses (EDS).
    Endpoints,
    /// `clusterIP: None`: clients dial pods themselves (SE31).
    Headless,
    /// All addresses that names resolve to (SE07).
    Dns,
    /// The first address a name resolves to (SE08).
    DnsRoundRobin,
    /// Wherever the client dialled (SE05).
    OriginalDst,
    /// The host that each request names, resolved then (SE09).
    Dynamic,
}

impl Resolution {
    /// Endpoints stand in the cluster itself, by name.
    pub(crate) fn is_by_name(self) -> bool {
        matches!(self, Self::Dns | Self::DnsRoundRobin)
    }
}

/// An endpoint of a ServiceEntry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct InlineEndpoint {
    /// Address, name or socket path; the port in it is not used.
    pub(crate) address: InlineAddress,
    /// Ports by the service port's name (WE02).
    pub(crate) ports: BTreeMap<String, u16>,
    /// For subsets.
    pub(crate) labels: Labels,
    /// Share, at least 1.
    pub(crate) weight: u32,
    /// Where it is.
    pub(crate) locality: Locality,
    /// Its identity without trust domain, when it is known.
    pub(crate) account: Option<Arc<str>>,
    /// It has a proxy that takes mutual TLS.
    pub(crate) mtls: bool,
}

/// An endpoint's address without its port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum InlineAddress {
    /// An IP address.
    Ip(IpAddr),
    /// A name to resolve.
    Name(String),
    /// A Unix socket.
    Pipe(String),
}

impl InlineAddress {
    /// Reads an address as a WorkloadEntry writes it (WE01); `None` when it is empty.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("unix://") {
            return (!path.is_empty()).then(|| Self::Pipe(path.to_owned()));
        }
        match text.parse() {
            Ok(ip) => Some(Self::Ip(ip)),
            Err(_) => (!text.is_empty()).then(|| Self::Name(text.to_ascii_lowercase())),
        }
    }

    /// With a port.
    pub(crate) fn at(&self, port: u16) -> EndpointAddress {
        match self {
            Self::Ip(ip) => EndpointAddress::Socket((*ip, port).into()),
            Self::Name(name) => EndpointAddress::Dns(name.clone(), port),
            Self::Pipe(path) => EndpointAddress::Pipe(path.clone()),
        }
    }
}

impl Service {
    /// The port with this number.
    pub(crate) fn port(&self, number: u16) -> Option<&Port> {
        self.ports.iter().find(|port| port.number == number)
    }

    /// True for another name of a service, which has no cluster of its own.
    pub(crate) fn is_alias(&self) -> bool {
        matches!(self.source, Source::Alias(_))
    }

    /// True when names of selected workloads are resolved (SE11, WE01).
    pub(crate) fn selects_names(&self) -> bool {
        let by_name = matches!(self.resolution, Resolution::Dns | Resolution::DnsRoundRobin);
        by_name && !self.selector.is_empty() && !self.is_kubernetes()
    }

    /// True for Kubernetes Services.
    pub(crate) fn is_kubernetes(&self) -> bool {
        !matches!(self.source, Source::ServiceEntry { .. })
    }
}

/// A service with the fingerprint of its content.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// The service.
    pub(crate) service: Arc<Service>,
    /// Its content.
    pub(crate) print: Fingerprint,
    /// The address that it got because it has none.
    pub(crate) auto: Option<AutoAddress>,
}

impl Known {
    /// The same with fewer ports.
    pub(crate) fn with_ports(&self, wanted: impl Fn(&Port) -> bool) -> Self {
        if self.service.ports.iter().all(&wanted) {
            return self.clone();
        }
        let ports: Vec<Port> = self.service.ports.iter().filter(|port| wanted(port)).cloned().collect();
        let print = Fingerprint::of(&(self.print, ports.iter().map(|port| port.number).collect::<Vec<_>>()));
        let service = Arc::new(Service { ports, ..(*self.service).clone() });
        Self { service, print, auto: self.auto }
    }
}

impl Known {
    /// The same service with a preference.
    pub(crate) fn distributed(&self, distribution: Distribution) -> Self {
        let service = Service { distribution: Some(distribution), ..(*self.service).clone() };
        let print = Fingerprint::of(&(self.print, distribution));
        Self { service: Arc::new(service), print, auto: self.auto }
    }
}
