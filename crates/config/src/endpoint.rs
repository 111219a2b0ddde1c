//! Endpoints by locality and priority (EDS, Envoy `config.endpoint.v3`).

use std::net::SocketAddr;

use serde::Serialize;

use crate::Name;

/// All endpoints of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Endpoints {
    /// The cluster's name.
    pub cluster: Name,
    /// Groups in a fixed order (priority, then locality).
    pub localities: Vec<LocalityEndpoints>,
}

/// Endpoints that share locality and priority.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct LocalityEndpoints {
    /// Where they are.
    pub locality: Locality,
    /// 0 is used first.
    pub priority: u32,
    /// Share among localities of one priority; `None` without locality weights.
    pub weight: Option<u32>,
    /// In a fixed order.
    pub endpoints: Vec<Endpoint>,
}

/// Region, zone, subzone; empty when unknown (DR71).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Locality {
    /// `topology.kubernetes.io/region`.
    pub region: String,
    /// `topology.kubernetes.io/zone`.
    pub zone: String,
    /// `topology.istio.io/subzone`.
    pub subzone: String,
}

/// One place that answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Endpoint {
    /// Where it listens.
    pub address: EndpointAddress,
    /// Its share within the locality; at least 1.
    pub weight: u32,
    /// Whether it should get requests.
    pub health: Health,
    /// The workload, for metrics.
    pub workload: Option<Workload>,
    /// A proxy of the mesh takes its connections, by TLS if asked (Istio's `tlsMode: istio`; PA04).
    pub mtls: bool,
}

/// Where an endpoint listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum EndpointAddress {
    /// An address and port.
    Socket(SocketAddr),
    /// A name to resolve, and a port; only in DNS clusters.
    Dns(String, u16),
    /// A Unix socket's path (`@name` for an abstract one).
    Pipe(String),
}

/// What the control plane knows of an endpoint's health (DR57, TR85).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Health {
    /// Ready.
    Healthy,
    /// Not ready: used only under panic.
    Unhealthy,
    /// Terminating: no new requests.
    Draining,
}

/// The workload behind an endpoint, Istio's metadata `istio.workload`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Workload {
    /// The workload's name, `reviews-v1`.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// `service.istio.io/canonical-name`, or label `app`.
    pub canonical_name: String,
    /// `service.istio.io/canonical-revision`, or label `version`.
    pub canonical_revision: String,
    /// The cluster it runs in, `Kubernetes`.
    pub cluster_id: String,
}

impl Endpoints {
    /// Every endpoint, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Endpoint> {
        self.localities.iter().flat_map(|locality| &locality.endpoints)
    }
}

impl std::fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            EndpointAddress::Socket(address) => write!(f, "{address}"),
            EndpointAddress::Dns(name, port) => write!(f, "{name}:{port}"),
            EndpointAddress::Pipe(path) => write!(f, "unix://{path}"),
        }
    }
}
