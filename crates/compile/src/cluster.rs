//! Clusters: one per service port, and one per subset (X50, DR07 to DR41).
//!
//! In: a service, the DestinationRule that a client obeys for it, the mesh's settings. Out: clusters, and which
//! endpoints each wants by EDS. Knows no routes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use config::{
    BLACKHOLE_CLUSTER, Balancing, ClientTls, Cluster, Discovery, DnsCache, Endpoint, EndpointAddress, Endpoints,
    Health, Http2Bounds, INBOUND_PASSTHROUGH_CLUSTER, Lb, Locality, LocalityEndpoints, LocalityMode, Name,
    PASSTHROUGH_CLUSTER, ServiceMeta, Thresholds, UpstreamProtocol,
};
use words::{Fingerprint, Labels, Protocol};

use crate::client_tls::Tls;
use crate::destination_rule::Merged;
use crate::endpoints;
use crate::load_balancer::Balance;
use crate::locality::{self, Place, Spread};
use crate::mesh::MeshConfig;
use crate::mutual_tls::{Peers, Spoken};
use crate::peer_authentication::Policies;
use crate::policy::{Blocks, Pool, effective};
use crate::server_name;
use crate::service::{Port, Resolution, Service};
use crate::world::Joined;

/// Unused upstream connections of pass-through clusters are closed after this (DP08).
const PASSTHROUGH_IDLE: Duration = Duration::from_secs(300);

/// `outbound|<port>|<subset>|<host>` (X50).
pub(crate) fn name(port: u16, subset: &str, host: &str) -> Name {
    format!("outbound|{port}|{subset}|{host}").into()
}

/// What decides about the clusters of a service. Nothing else is looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inputs<'a> {
    /// The service.
    pub(crate) service: &'a Arc<Service>,
    /// Its content.
    pub(crate) service_print: Fingerprint,
    /// What the client obeys for it.
    pub(crate) rule: Option<&'a Arc<Merged>>,
    /// Mesh-wide settings.
    pub(crate) mesh: &'a MeshConfig,
    /// Their content.
    pub(crate) mesh_print: Fingerprint,
    /// Clients dial pods of headless services themselves and the proxy sees the address they dialled (SE31).
    pub(crate) dialled: bool,
    /// Where they are; looked at only for endpoints that stand in the cluster itself.
    pub(crate) place: Option<&'a Place>,
    /// Also by the server names of services, for gateways that pass TLS through by them (GW17).
    pub(crate) by_server_name: bool,
    /// Workloads whose names are resolved (SE11), with their content.
    pub(crate) selected: Option<(&'a Arc<Joined>, Fingerprint)>,
    /// Secrets that the rule names reach these clients (DR62).
    pub(crate) has_secrets: bool,
    /// Who is on the other side, for clients that know mutual TLS.
    pub(crate) peers: Option<&'a Peers>,
    /// What workloads take, with its content; likewise.
    pub(crate) policies: Option<(&'a Policies, Fingerprint)>,
}

/// A cluster's wish for endpoints.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Wish {
    /// The cluster.
    pub(crate) cluster: Name,
    /// The service port.
    pub(crate) port: Port,
    /// Labels of the subset.
    pub(crate) labels: Labels,
    /// Pods that are not ready are not sent: under panic they would be used (DR57).
    pub(crate) ready_only: bool,
    /// What localities mean, and what decides over them.
    pub(crate) locality: LocalityMode,
    /// Nothing: they all have the first priority.
    pub(crate) spread: Option<Spread>,
}

impl Inputs<'_> {
    /// The memo key.
    pub(crate) fn print(&self) -> Fingerprint {
        let Self { service, service_print, rule, mesh: _, mesh_print, dialled, place, .. } = self;
        let Self { by_server_name, selected, has_secrets, peers, policies, .. } = self;
        // Only endpoints that stand in the cluster itself are marked here.
        let policies = policies.filter(|_| service.resolution.is_by_name()).map(|(_, print)| print);
        let mutual = (peers, policies);
        let place = place.filter(|_| service.resolution == Resolution::Dns);
        let selected = selected.map(|(_, print)| print);
        let rule = rule.map(|rule| rule.print);
        Fingerprint::of(&(
            service_print,
            rule,
            mesh_print,
            dialled,
            place,
            by_server_name,
            selected,
            has_secrets,
            mutual,
        ))
    }

    /// The clusters of every port and subset, and their wishes.
    pub(crate) fn compute(&self) -> (Vec<Cluster>, Vec<Wish>) {
        let mut clusters = Vec::new();
        let mut wishes = Vec::new();
        // Hosts that requests name have no labels (SE09).
        let rule = self.rule.filter(|_| self.service.resolution != Resolution::Dynamic);
        let subsets = rule.map(|rule| rule.subsets.as_slice()).unwrap_or_default();
        let all_endpoints = Labels::new();
        for port in &self.service.ports {
            let policy = self.rule.and_then(|rule| rule.policy.as_ref());
            let whole = ("", &all_endpoints, effective(policy, None, port.number));
            let parts = subsets.iter().filter(|subset| !subset.name.is_empty()).map(|subset| {
                (subset.name.as_str(), &subset.labels, effective(policy, subset.policy.as_ref(), port.number))
            });
            for (subset, labels, blocks) in std::iter::once(whole).chain(parts) {
                let (mode, spread) = locality::effective(&blocks, self.service.distribution, self.mesh);
                let Some(mut cluster) = self.cluster(port, subset, labels, &blocks) else { continue };
                if cluster.discovery != Discovery::OriginalDst {
                    cluster.balancing.locality = mode;
                }
                if let (Discovery::StrictDns(endpoints), Some(spread), Some(place)) =
                    (&mut cluster.discovery, &spread, self.place)
                {
                    spread.arrange(endpoints, place, mode);
                }
                let twin = self.by_server_name.then(|| server_name::twin(&cluster, subset, self.service, port));
                for cluster in std::iter::once(cluster).chain(twin.flatten()) {
                    if matches!(cluster.discovery, Discovery::Eds(_)) {
                        wishes.push(Wish {
                            cluster: cluster.name.clone(),
                            port: port.clone(),
                            labels: labels.clone(),
                            ready_only: cluster.panic_percent > 0,
                            locality: mode,
                            spread: spread.clone(),
                        });
                    }
                    clusters.push(cluster);
                }
            }
        }
        (clusters, wishes)
    }

    /// One cluster, as if localities said nothing; `None` when there is nothing to resolve (SE18).
    fn cluster(&self, port: &Port, subset: &str, labels: &Labels, blocks: &Blocks) -> Option<Cluster> {
        let name = name(port.number, subset, &self.service.host);
        let resolution = match self.service.resolution {
            _ if blocks.balance.as_ref().is_some_and(Balance::is_passthrough) => Resolution::OriginalDst,
            Resolution::Headless if self.dialled => Resolution::OriginalDst,
            Resolution::Headless => Resolution::Endpoints,
            other => other,
        };
        let discovery = match resolution {
            Resolution::Endpoints | Resolution::Headless => Discovery::Eds(name.clone()),
            Resolution::OriginalDst => Discovery::OriginalDst,
            Resolution::Dynamic => Discovery::Dynamic(DnsCache::default()),
            Resolution::Dns => Discovery::StrictDns(self.resolved(port, labels, &name)?),
            Resolution::DnsRoundRobin => {
                let mut all = self.resolved(port, labels, &name)?;
                all.localities.truncate(1);
                all.localities.iter_mut().for_each(|locality| locality.endpoints.truncate(1));
                Discovery::LogicalDns(all)
            }
        };
        let mut cluster = bare(name, discovery, self.mesh.connect_timeout);
        cluster.protocol = protocol(port.protocol, blocks.pool.as_ref());
        if resolution == Resolution::OriginalDst {
            let number = endpoints::target_number(&port.target, &BTreeMap::new());
            cluster.original_port = number.filter(|number| *number != port.number && !self.service.is_kubernetes());
        }
        if let (Some(balance), true) = (&blocks.balance, cluster.lb != Lb::ClusterProvided) {
            cluster.lb = balance.algorithm;
            cluster.balancing.slow_start = balance.slow_start;
        }
        if let Some(pool) = &blocks.pool {
            obey(pool, &mut cluster);
        }
        if let Some(detection) = blocks.outlier.as_ref().filter(|_| cluster.discovery != Discovery::OriginalDst) {
            cluster.outlier = Some(detection.outlier.clone());
            cluster.panic_percent = detection.min_health_percent;
        }
        cluster.thresholds.retry_budget = blocks.retry_budget;
        cluster.tls = match &blocks.tls {
            Some(Tls::Mesh(tls)) => {
                self.spoken(port, subset, &cluster).map(|spoken| spoken.tls(tls.sni.clone(), &tls.names, false))
            }
            Some(tls) => tls.of_cluster(self.has_secrets, &self.service.tls_names, cluster.protocol),
            None => self.automatic(port, subset, &cluster),
        };
        cluster.service = Some(self.meta(subset, port.number));
        cluster.origin = self.rule.map(|rule| rule.origin.clone());
        Some(cluster)
    }

    /// How clients that know mutual TLS speak it to a cluster.
    fn spoken(&self, port: &Port, subset: &str, cluster: &Cluster) -> Option<Spoken<'_>> {
        Some(Spoken {
            port: port.protocol,
            protocol: cluster.protocol,
            server_name: server_name::of(port.number, subset, &self.service.host),
            accounts: &self.peers?.accounts,
            mesh: self.mesh,
        })
    }

    /// Without a word of a rule: mutual TLS to endpoints of the mesh. Where the address is the client's choice nothing is
    /// known of it, so all endpoints must be of the mesh (SE31).
    fn automatic(&self, port: &Port, subset: &str, cluster: &Cluster) -> Option<ClientTls> {
        let peers = self.peers.filter(|peers| peers.auto)?;
        let by_endpoint = match &cluster.discovery {
            Discovery::Dynamic(_) => return None,
            Discovery::OriginalDst if !peers.all => return None,
            Discovery::OriginalDst => false,
            Discovery::Eds(_) | Discovery::Static(_) | Discovery::StrictDns(_) | Discovery::LogicalDns(_) => true,
        };
        Some(self.spoken(port, subset, cluster)?.tls(None, &[], by_endpoint))
    }

    fn resolved(&self, port: &Port, labels: &Labels, cluster: &Name) -> Option<Endpoints> {
        let selected = self.selected.map(|(joined, _)| &**joined);
        let policies = self.policies.map(|(policies, _)| policies);
        endpoints::to_resolve(self.service, selected, port, (labels, policies), cluster)
    }

    fn meta(&self, subset: &str, port: u16) -> ServiceMeta {
        ServiceMeta {
            host: self.service.host.to_string(),
            name: self.service.name.clone(),
            namespace: self.service.namespace.to_string(),
            subset: subset.to_owned(),
            port,
        }
    }
}

/// What is spoken upstream (DR40, DR41, X43).
fn protocol(protocol: Protocol, pool: Option<&Pool>) -> UpstreamProtocol {
    match pool {
        Some(pool) if pool.use_client_protocol => UpstreamProtocol::SameAsDownstream,
        _ if protocol.is_http2() => UpstreamProtocol::Http2,
        Some(pool) if pool.h2_upgrade == Some(true) => UpstreamProtocol::Http2,
        _ if protocol == Protocol::Auto => UpstreamProtocol::SameAsDownstream,
        _ => UpstreamProtocol::Http1,
    }
}

/// Puts the bounds of a connection pool on a cluster (DR30 to DR39).
pub(crate) fn obey(pool: &Pool, cluster: &mut Cluster) {
    let Thresholds { max_connections, max_pending_requests, max_requests, max_retries, retry_budget: _ } =
        &mut cluster.thresholds;
    for (bound, said) in [
        (max_connections, pool.max_connections),
        (max_pending_requests, pool.max_pending_requests),
        (max_requests, pool.max_requests),
        (max_retries, pool.max_retries),
    ] {
        *bound = said.unwrap_or(*bound);
    }
    cluster.connect_timeout = pool.connect_timeout.unwrap_or(cluster.connect_timeout);
    // The TCP bound counts for HTTP only when the HTTP one is not said (DR34).
    cluster.idle_timeout = pool.http_idle_timeout.or(pool.tcp_idle_timeout).or(cluster.idle_timeout);
    cluster.max_connection_duration = pool.max_connection_duration;
    // Where the client decides what is spoken, these do not count (DR42).
    if cluster.protocol == UpstreamProtocol::Http2 {
        cluster.http2 =
            Http2Bounds { max_concurrent_streams: pool.max_concurrent_streams, keepalive: pool.http2_keepalive };
    }
    cluster.max_requests_per_connection = pool.max_requests_per_connection;
    cluster.tcp_keepalive = pool.tcp_keepalive;
}

/// A cluster of one endpoint that no service has: an address, or a name to be resolved.
pub(crate) fn outside(name: Name, host: &str, port: u16, connect_timeout: Duration) -> Cluster {
    let address = match words::host::ip(host) {
        Some(ip) => EndpointAddress::Socket((ip, port).into()),
        None => EndpointAddress::Dns(host.to_owned(), port),
    };
    let is_address = matches!(address, EndpointAddress::Socket(_));
    let endpoint = Endpoint { address, weight: 1, health: Health::Healthy, workload: None, mtls: false };
    let locality =
        LocalityEndpoints { locality: Locality::default(), priority: 0, weight: None, endpoints: vec![endpoint] };
    let endpoints = Endpoints { cluster: name.clone(), localities: vec![locality] };
    let discovery = if is_address { Discovery::Static(endpoints) } else { Discovery::StrictDns(endpoints) };
    bare(name, discovery, connect_timeout)
}

/// A cluster with defaults. One that follows the dialled address balances nothing.
pub(crate) fn bare(name: Name, discovery: Discovery, connect_timeout: Duration) -> Cluster {
    let lb = match discovery {
        Discovery::OriginalDst | Discovery::Dynamic(_) => Lb::ClusterProvided,
        _ => Lb::LeastRequest,
    };
    Cluster {
        name,
        discovery,
        lb,
        balancing: Balancing::default(),
        connect_timeout,
        protocol: UpstreamProtocol::Http1,
        idle_timeout: None,
        max_connection_duration: None,
        http2: Http2Bounds::default(),
        max_requests_per_connection: None,
        tcp_keepalive: None,
        thresholds: Thresholds::default(),
        outlier: None,
        panic_percent: 0,
        source_address: None,
        source_address_v6: None,
        original_port: None,
        tls: None,
        service: None,
        origin: None,
    }
}

/// Where unknown destinations go: wherever they were dialled.
pub(crate) fn passthrough(mesh: &MeshConfig) -> Cluster {
    Cluster {
        protocol: UpstreamProtocol::SameAsDownstream,
        idle_timeout: Some(PASSTHROUGH_IDLE),
        ..bare(PASSTHROUGH_CLUSTER.into(), Discovery::OriginalDst, mesh.connect_timeout)
    }
}

/// The same for inbound connections to ports of no Service.
pub(crate) fn inbound_passthrough(mesh: &MeshConfig) -> Cluster {
    Cluster {
        protocol: UpstreamProtocol::SameAsDownstream,
        ..bare(INBOUND_PASSTHROUGH_CLUSTER.into(), Discovery::OriginalDst, mesh.connect_timeout)
    }
}

/// Nowhere.
pub(crate) fn blackhole(mesh: &MeshConfig) -> Cluster {
    let none = Endpoints { cluster: BLACKHOLE_CLUSTER.into(), localities: Vec::new() };
    bare(BLACKHOLE_CLUSTER.into(), Discovery::Static(none), mesh.connect_timeout)
}
