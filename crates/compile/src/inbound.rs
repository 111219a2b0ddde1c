//! Inbound: what a sidecar does with connections to its application (DP04, VS87, DR13, SC18).
//!
//! In: one workload and the service ports that stand for it. Out: listeners, inline tables and clusters that no other
//! workload shares. Never looks at VirtualServices: they act on the caller's side.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use config::{
    BLACKHOLE_CLUSTER, ChainMatch, ClientCertHeader, Cluster, Direction, Discovery, Endpoint, EndpointAddress,
    Endpoints, Filter, FilterChain, Health, INBOUND_PASSTHROUGH_CLUSTER, Listener, ListenerFilters, Locality,
    LocalityEndpoints, Name, Route, RouteMatch, RouteSource, RouteTable, ServiceMeta, TransportMatch, UpstreamProtocol,
    VirtualHost,
};
use words::{Origin, Protocol};

use crate::ingress::App;
use crate::listener::{self, Side};
use crate::mesh::MeshConfig;
use crate::mutual_tls::{self, Taken};
use crate::peer_authentication::{Inbound, Mode};
use crate::policy::Pool;
use crate::scope::{Interception, Scope};
use crate::{cluster, retry, route};

/// Connections to the application come from here, so that capture lets them through (DP05).
const SOURCE_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 6);
/// The same of IPv6; the init container gives it to the pod.
const SOURCE_ADDRESS_V6: Ipv6Addr = Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6);

/// What decides about the inbound side of one workload.
#[derive(Debug)]
pub(crate) struct Inputs<'a> {
    /// The proxy.
    pub(crate) scope: &'a Scope,
    /// By the application's port.
    pub(crate) ports: &'a BTreeMap<u16, InboundPort>,
    /// What it takes of mutual TLS; `None`: it knows none.
    pub(crate) takes: Option<&'a Inbound>,
    /// Mesh-wide settings.
    pub(crate) mesh: &'a MeshConfig,
}

/// A port of the application, and the service port that stands for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct InboundPort {
    /// What it speaks.
    pub(crate) protocol: Protocol,
    /// The service: the oldest one when several have the port.
    pub(crate) service: ServiceMeta,
    /// The object.
    pub(crate) origin: Origin,
    /// The connection pool of the service's DestinationRule or of the Sidecar (DR13, SC14).
    pub(crate) pool: Option<Pool>,
    /// Where the application takes it (SC12).
    pub(crate) to: App,
    /// The address of a socket of its own (SC11); `None`: the pod's.
    pub(crate) bind: Option<IpAddr>,
    /// It has a socket of its own even where traffic is captured.
    pub(crate) bound: bool,
}

impl Inputs<'_> {
    /// Listeners and clusters.
    pub(crate) fn compute(&self) -> (Vec<Listener>, Vec<Cluster>) {
        let mut clusters: Vec<Cluster> = self.ports.iter().map(|(number, port)| self.cluster(*number, port)).collect();
        if self.scope.interception == Interception::None {
            let listeners = self.ports.iter().map(|(number, port)| self.bound(*number, port)).collect();
            return (listeners, clusters);
        }
        clusters.push(self.beyond_capture(cluster::inbound_passthrough(self.mesh)));
        let bound = self.ports.iter().filter(|(_, port)| port.bound);
        let mut listeners: Vec<Listener> = bound.map(|(number, port)| self.bound(*number, port)).collect();
        listeners.push(self.virtual_inbound());
        (listeners, clusters)
    }

    // Of the family of the application's address, and of both where the pod has both.
    fn beyond_capture(&self, made: Cluster) -> Cluster {
        let has_v4 = self.scope.ips.iter().any(IpAddr::is_ipv4);
        let source: IpAddr = if has_v4 { SOURCE_ADDRESS.into() } else { SOURCE_ADDRESS_V6.into() };
        let source_address_v6 = self.scope.is_dual().then_some(SOURCE_ADDRESS_V6);
        Cluster { source_address: Some(source), source_address_v6, ..made }
    }

    fn captured(&self) -> bool {
        self.scope.interception != Interception::None
    }

    fn cluster(&self, number: u16, port: &InboundPort) -> Cluster {
        let name = cluster_name(number);
        let discovery = match self.app(number, port) {
            None => Discovery::OriginalDst,
            Some(address) => Discovery::Static(one_endpoint(name.clone(), address)),
        };
        let mut made = cluster::bare(name, discovery, self.mesh.connect_timeout);
        if self.captured() {
            made = self.beyond_capture(made);
        }
        made.protocol = match port.protocol {
            protocol if protocol.is_http2() => UpstreamProtocol::Http2,
            Protocol::Auto => UpstreamProtocol::SameAsDownstream,
            _ => UpstreamProtocol::Http1,
        };
        if let Some(pool) = &port.pool {
            cluster::obey(pool, &mut made);
        }
        made.service = Some(port.service.clone());
        made
    }

    /// Where the application takes what comes to a port; `None`: where it was dialled. Captured connections keep their
    /// address, else the application is asked where it is known to listen (DP04, SC12).
    fn app(&self, number: u16, port: &InboundPort) -> Option<EndpointAddress> {
        let known = self.scope.app_ip;
        let (ip, number) = match &port.to {
            App::Pipe(path) => return Some(EndpointAddress::Pipe(path.clone())),
            App::Local(local) => (known.unwrap_or(Ipv4Addr::LOCALHOST.into()), *local),
            App::Pod(local) => (known.unwrap_or(self.scope.ip), *local),
            App::Dialled if known.is_none() && self.captured() && !port.bound => return None,
            App::Dialled => (known.unwrap_or(Ipv4Addr::LOCALHOST.into()), number),
        };
        Some(EndpointAddress::Socket(SocketAddr::new(ip, number)))
    }

    /// A listener that binds one port of the application at the proxy's address (no iptables).
    fn bound(&self, number: u16, port: &InboundPort) -> Listener {
        let ip = port.bind.or(self.scope.bind_ip).unwrap_or(self.scope.ip);
        let address = SocketAddr::new(ip, number);
        let mut chains = self.chains(number, port, &listener::name(address));
        let is_rest = chains.last().is_some_and(|last| last.matches == ChainMatch::default());
        let default_chain = (chains.len() > 1 && is_rest).then(|| chains.pop()).flatten();
        let filters = looking(&chains);
        Listener {
            bind_to_port: true,
            direction: Direction::Inbound,
            filters,
            chains,
            default_chain,
            ..listener::captured(address, Some(port.origin.clone()))
        }
    }

    /// The listener that iptables sends inbound connections to. Who dials it directly would go round in circles.
    fn virtual_inbound(&self) -> Listener {
        let listen = self.mesh.proxy_inbound_listen_port;
        let any = listener::any_address(self.scope.ips.iter().all(IpAddr::is_ipv6));
        let mut guard = listener::chain("virtualInbound-blackhole", listener::tcp(BLACKHOLE_CLUSTER.into(), self.mesh));
        guard.matches = to_port(listen);
        let mut chains = vec![guard];
        for (number, port) in self.ports.iter().filter(|(_, port)| !port.bound) {
            for mut chain in self.chains(*number, port, &listener::name(SocketAddr::new(any, *number))) {
                chain.matches.destination_port = Some(*number);
                chains.push(chain);
            }
        }
        // Ports of no service that something else is said of (PA06).
        let said = self.takes.iter().flat_map(|takes| takes.ports.keys());
        for number in said.filter(|number| !self.ports.contains_key(*number) && **number != listen) {
            chains.extend(self.rest(self.mode(*number)).into_iter().map(|mut chain| {
                chain.matches.destination_port = Some(*number);
                chain
            }));
        }
        chains.extend(self.rest(self.takes.map(|takes| takes.mode)));
        // With mutual TLS nothing is left for a default chain: it would also get what the chains of a strict port do not
        // take.
        let is_open = self.takes.is_none();
        let default_chain = is_open.then(|| chains.pop()).flatten();
        Listener {
            name: "virtualInbound".into(),
            also: listener::other_family(SocketAddr::new(any, listen), self.scope.is_dual()),
            bind_to_port: true,
            direction: Direction::Inbound,
            filters: ListenerFilters { original_dst: true, ..listener::sniffing() },
            chains,
            default_chain,
            ..listener::captured(SocketAddr::new(any, listen), None)
        }
    }

    fn mode(&self, number: u16) -> Option<Mode> {
        self.takes.map(|takes| takes.port(number))
    }

    /// The chains of ports of no service.
    fn rest(&self, mode: Option<Mode>) -> Vec<FilterChain> {
        let chain = |taken: Taken| {
            let (name, filter) = match taken.http {
                true => {
                    let table = self.table(INBOUND_PASSTHROUGH_CLUSTER.into(), 0, None);
                    ("virtualInbound-catchall-http", self.http("inbound_passthrough".to_owned(), table))
                }
                false => ("virtualInbound-catchall-tcp", listener::tcp(INBOUND_PASSTHROUGH_CLUSTER.into(), self.mesh)),
            };
            self.secured(taken, listener::chain(name, filter))
        };
        mutual_tls::taken(mode, Protocol::Auto).into_iter().map(chain).collect()
    }

    /// A chain for the connections that are taken, and TLS if they have to be opened.
    fn secured(&self, taken: Taken, chain: FilterChain) -> FilterChain {
        let Taken { matches, secured, http } = taken;
        let alpn: &[&str] = if http { &["h2", "http/1.1"] } else { &[] };
        FilterChain { matches, tls: secured.then(|| mutual_tls::server(alpn, &[], self.mesh)), ..chain }
    }

    /// The chains of one port: HTTP, or bytes, or both by what the first bytes are.
    fn chains(&self, number: u16, port: &InboundPort, name: &Name) -> Vec<FilterChain> {
        let cluster = cluster_name(number);
        let origin = Some(port.origin.clone());
        let bytes = || FilterChain {
            origin: origin.clone(),
            ..listener::chain(name.clone(), listener::tcp(cluster.clone(), self.mesh))
        };
        let requests = || FilterChain {
            origin: origin.clone(),
            ..listener::chain(
                name.clone(),
                self.http(format!("inbound_{name}"), self.table(cluster.clone(), number, Some(port))),
            )
        };
        let chain = |taken: Taken| {
            let chain = if taken.http { requests() } else { bytes() };
            self.secured(taken, chain)
        };
        mutual_tls::taken(self.mode(number), port.protocol).into_iter().map(chain).collect()
    }

    fn http(&self, stat_prefix: String, table: RouteTable) -> Filter {
        let mut filter =
            listener::http(Side::Inbound, stat_prefix, RouteSource::Inline(Arc::new(table)), None, self.mesh);
        if let (Filter::Http(http), Some(_)) = (&mut filter, self.takes) {
            http.client_cert_header = ClientCertHeader::Append;
        }
        filter
    }

    /// Everything to one cluster, without a bound in time.
    fn table(&self, cluster: Name, number: u16, port: Option<&InboundPort>) -> RouteTable {
        // gRPC has retries of its own (TR07).
        let is_grpc = port.is_some_and(|port| matches!(port.protocol, Protocol::Grpc | Protocol::GrpcWeb));
        let operation = match port {
            Some(port) => format!("{}:{}/*", port.service.host, port.service.port),
            None => ":0/*".to_owned(),
        };
        let matches = RouteMatch::any();
        let action = route::forward_to(cluster.clone(), (!is_grpc && port.is_some()).then(retry::inbound));
        let host = VirtualHost {
            name: format!("inbound|http|{number}").into(),
            domains: vec!["*".into()],
            routes: vec![Route { operation, ..Route::new("default", matches, action) }],
            include_attempt_count: false,
            require_tls: false,
            limits: Vec::new(),
        };
        RouteTable { name: cluster, ignore_port: true, virtual_hosts: vec![Arc::new(host)] }
    }
}

/// `inbound|<port>||` (X50).
fn cluster_name(number: u16) -> Name {
    format!("inbound|{number}||").into()
}

/// What must be known of a connection to choose among these chains and whatever is for the rest.
fn looking(chains: &[FilterChain]) -> ListenerFilters {
    let plain = |chain: &FilterChain| chain.tls.is_none() && !chain.matches.application_protocols.is_empty();
    ListenerFilters {
        tls_inspector: chains.iter().any(|chain| chain.matches.transport != TransportMatch::Any),
        http_inspector: chains.iter().any(plain),
        ..ListenerFilters::default()
    }
}

fn to_port(port: u16) -> ChainMatch {
    ChainMatch { destination_port: Some(port), ..ChainMatch::default() }
}

fn one_endpoint(cluster: Name, address: EndpointAddress) -> Endpoints {
    let endpoint = Endpoint { address, weight: 1, health: Health::Healthy, workload: None, mtls: false };
    let locality =
        LocalityEndpoints { locality: Locality::default(), priority: 0, weight: None, endpoints: vec![endpoint] };
    Endpoints { cluster, localities: vec![locality] }
}
