//! Services: one shape for Kubernetes Services and ServiceEntries, and the registry that decides which one a client means by
//! a host name (X30, X31, SE15, SE30).
//!
//! In: services lowered one by one. Out: per client namespace, one service per host. Knows no endpoints.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use config::{Cidr, EndpointAddress, Locality};
use rustc_hash::FxHashMap;
use words::{Fingerprint, Labels, Origin, Protocol};

use crate::visibility::Export;

/// ExternalName chains longer than this are taken for loops.
const ALIAS_HOPS_MAX: usize = 16;

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
    /// Only endpoints on the client's node (DR80).
    pub(crate) local_only: bool,
    /// Gateways that it selects listen on its target ports (GW03).
    pub(crate) gateway_ports: bool,
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
}

/// All services of the mesh.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    /// By host, oldest first, Kubernetes before others of the same namespace; one per namespace.
    by_host: BTreeMap<Arc<str>, Vec<Known>>,
    /// The content of all of them.
    pub(crate) print: Fingerprint,
    /// Some service sends only to endpoints of the client's node.
    pub(crate) any_local: bool,
}

impl Registry {
    /// Sorts services in, in any order.
    pub(crate) fn new(services: impl Iterator<Item = Known>) -> Self {
        let mut all: Vec<Known> = services.collect();
        all.sort_by(|a, b| rank(&a.service).cmp(&rank(&b.service)));
        let print = Fingerprint::of(&all.iter().map(|known| known.print).collect::<Vec<_>>());
        let mut made = Self { print: print, ..Self::default() };
        for known in all {
            made.any_local |= known.service.local_only;
            let list = made.by_host.entry(known.service.host.clone()).or_default();
            // Kubernetes beats others of its namespace, else the oldest wins; the sort put them in that order (X31).
            if !list.iter().any(|other| other.service.namespace == known.service.namespace) {
                list.push(known);
            }
        }
        made
    }

    /// Every service, by host.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Known> {
        self.by_host.values().flatten()
    }

    /// The services of a host, whoever sees them.
    pub(crate) fn of_host(&self, host: &str) -> &[Known] {
        self.by_host.get(host).map_or(&[], Vec::as_slice)
    }

    /// What clients of a namespace see: one service per host, those that `wanted` takes.
    pub(crate) fn visible(&self, namespace: &str, wanted: impl Fn(&Service) -> bool) -> Visible {
        let mut made = Visible::default();
        let mut aliases: Vec<&Known> = Vec::new();
        for list in self.by_host.values() {
            let mut seen =
                list.iter().filter(|known| known.service.export.includes(namespace) && wanted(&known.service));
            // Own namespace, else Kubernetes over ServiceEntry, else the oldest (X31).
            let Some(chosen) = seen
                .clone()
                .find(|known| &*known.service.namespace == namespace)
                .or_else(|| seen.clone().find(|known| known.service.is_kubernetes()).or_else(|| seen.next()))
            else {
                continue;
            };
            match chosen.service.is_alias() {
                true => aliases.push(chosen),
                false => made.add(chosen.clone()),
            }
        }
        made.add_aliases(&aliases);
        let content: Vec<_> = made
            .services
            .iter()
            .map(|seen| (seen.known.print, seen.aliases.iter().map(|a| a.print).collect::<Vec<_>>()))
            .collect();
        made.print = Fingerprint::of(&content);
        made
    }
}

fn rank(service: &Service) -> (bool, &Age, &Arc<str>) {
    (!service.is_kubernetes(), &service.age, &service.host)
}

/// What clients of one namespace see.
#[derive(Debug, Default)]
pub(crate) struct Visible {
    /// By host.
    pub(crate) services: Vec<Seen>,
    by_host: FxHashMap<Arc<str>, usize>,
    /// The content of all of them.
    pub(crate) print: Fingerprint,
}

/// A service and its other names.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The service.
    pub(crate) known: Known,
    /// ExternalName Services that stand for it.
    pub(crate) aliases: Vec<Known>,
}

impl Seen {
    /// The service itself.
    pub(crate) fn service(&self) -> &Arc<Service> {
        &self.known.service
    }
}

impl Visible {
    fn add(&mut self, known: Known) {
        self.by_host.insert(known.service.host.clone(), self.services.len());
        self.services.push(Seen { known, aliases: Vec::new() });
    }

    fn add_aliases(&mut self, aliases: &[&Known]) {
        let targets: FxHashMap<&str, &Arc<str>> = aliases
            .iter()
            .filter_map(|known| match &known.service.source {
                Source::Alias(target) => Some((&*known.service.host, target)),
                _ => None,
            })
            .collect();
        for alias in aliases {
            let mut host: &str = &alias.service.host;
            for _ in 0..ALIAS_HOPS_MAX {
                let Some(target) = targets.get(host) else { break };
                host = target;
                if let Some(index) = self.by_host.get(host).copied() {
                    // Destinations may name the alias too (SE30).
                    self.by_host.insert(alias.service.host.clone(), index);
                    self.services[index].aliases.push((*alias).clone());
                    break;
                }
            }
        }
    }

    /// The service that a host names; aliases lead to their target.
    pub(crate) fn find(&self, host: &str) -> Option<&Seen> {
        self.by_host.get(host).and_then(|index| self.services.get(*index))
    }
}
